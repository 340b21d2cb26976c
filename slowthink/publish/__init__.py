"""A run's training set or model as a repository of the Hugging Face hub, with its card.

publication = prepare(Path("runs/quickstart"), "data", repo="me/quickstart-chains")
upload(publication, token=os.environ["HF_TOKEN"])

`sources` says where the rows come from and whether they may be published, `facts` what the cards
say, `cards` and the templates how, `results` what leaderboards read, `folder` writes the files, and
`hub` sends them.
"""

from slowthink.publish.folder import Publication, PublishedFile, What, prepare
from slowthink.publish.hub import upload

__all__ = ["Publication", "PublishedFile", "What", "prepare", "upload"]
