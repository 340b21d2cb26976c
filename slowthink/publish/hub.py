"""Uploading to the Hugging Face hub: all files are one commit, so that no reader sees half of it.

Files are sent before the commit, and those that the hub has are skipped by their hashes. So an
upload that was interrupted continues when it is called again. HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from slowthink.errors import ConfigError, EngineError, SlowthinkError, missing_extra
from slowthink.publish.folder import Publication

AGAIN = "What was sent is kept on the hub: run the same command again to continue."
REMEDIES = {
    400: "expected a card that it can read. Change what it names, or --license",
    401: "expected a valid token. Make one with the right to write at HUB/settings/tokens, and set "
    "HF_TOKEN to it",
    403: "expected a token that may write to this repository. Name one of your own with --repo, or "
    "set HF_TOKEN to a token with the right to write",
    404: "expected a repository, or the right to make it. Check --repo, and the token in HF_TOKEN",
    409: "expected a repository that nobody else changes meanwhile. Run the same command again",
    412: "expected a repository that nobody else changes meanwhile. Run the same command again",
    413: "expected files that the hub takes. Ask it for a higher limit, or publish fewer rows",
    429: "expected fewer requests. Wait some minutes, then run the same command again",
}
"""What to do about a status of the hub."""


def upload(publication: Publication, *, token: str, public: bool = False) -> str:
    """Upload all files as one commit, and return its address.

    A repository that does not exist is made, private unless `public`. The token is sent to the hub
    and kept nowhere. Raises ConfigError for a publication that is refused or lacks a licence, or
    for the token, and EngineError if the hub cannot be reached or refuses.
    """
    _check(publication)
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError:
        raise missing_extra("huggingface_hub", extra="local") from None
    api = HfApi(token=token, library_name="slowthink")
    kind = "dataset" if publication.what == "data" else "model"
    with _explained(publication.repo, api.endpoint, token):
        api.create_repo(publication.repo, repo_type=kind, private=not public, exist_ok=True)
        operations = [
            CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=file.source)
            for file in publication.files
        ]
        commit = api.create_commit(
            publication.repo, operations, repo_type=kind,
            commit_message=f"Upload {publication.what} with slowthink",
        )  # fmt: skip
    return str(commit.commit_url)


def _check(publication: Publication) -> None:
    if publication.refusals:
        raise ConfigError(f"publish: refused. {' '.join(publication.refusals)}")
    if publication.licence is None:
        raise ConfigError(
            f"publish: {publication.what} without a licence; expected one that the sources allow. "
            "Read the warnings, then name it: --license NAME, e.g. apache-2.0"
        )


@contextmanager
def _explained(repo: str, endpoint: str, token: str) -> Iterator[None]:
    """Turn the hub client's errors into ours; the token never stands in a message."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    def clean(text: object) -> str:
        return " ".join(str(text).split()).replace(token, "***")[:300]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client warns of what the hub says of the card
            yield
    except HFValidationError as error:
        raise ConfigError(
            f"--repo {repo}: {clean(error)}; expected NAME or USER/NAME. Name another."
        ) from None
    except OfflineModeIsEnabled:
        raise ConfigError(
            "publish: HF_HUB_OFFLINE is set; expected a network. Unset it, then run this again."
        ) from None
    except SlowthinkError:
        raise
    except Exception as error:  # httpx's, RuntimeError of a file, ValueError of the card
        if isinstance(error, MemoryError):
            raise
        raise _hub_error(error, repo, endpoint, clean) from None


def _hub_error(
    error: Exception, repo: str, endpoint: str, clean: Callable[[object], str]
) -> SlowthinkError:
    """The error for what the client raised: by the hub's status, if there is one."""
    cause: Any = error
    while getattr(cause, "response", None) is None and cause.__cause__ is not None:
        cause = cause.__cause__
    response = getattr(cause, "response", None)
    if response is not None:
        status = int(response.status_code)
        remedy = REMEDIES.get(status, "expected the files to be taken. Try again later")
        said = getattr(cause, "server_message", None) or cause
        kind = ConfigError if status in (400, 401, 403, 404) else EngineError
        text = remedy.replace("HUB", endpoint)
        return kind(f"{repo}: the hub answers {status} ({clean(said)}); {text}. {AGAIN}")
    return EngineError(
        f"{repo}: {endpoint}: {clean(cause)}; expected a hub that can be reached and takes the "
        f"files. Check the network and HF_ENDPOINT. {AGAIN}"
    )
