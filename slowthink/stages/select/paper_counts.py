"""The counts that a paper reports for each step of its selection, compared with ours.

{"title": "s1K", "share_same_sources": 0.93, "steps": [{"step": "chosen", "paper": 1000, …}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from slowthink.serialise import load_yaml
from slowthink.stages.select.methods import matches_any
from slowthink.stages.select.selection import Candidate


def compare_to_paper(
    method: str, candidates: Sequence[Candidate], ours: Mapping[str, int]
) -> dict[str, Any] | None:
    """The paper's counts and ours by step. None if the method is of no paper, or no candidate is
    from the paper's sources."""
    text = resources.files("slowthink.stages.select").joinpath("papers.yaml").read_text("utf-8")
    paper: dict[str, Any] | None = load_yaml(text).get(method)
    if paper is None:
        return None
    num_same = sum(matches_any(candidate.source, paper["sources"]) for candidate in candidates)
    if not num_same:
        return None
    steps = [step | {"ours": ours.get(step["step"])} for step in paper["steps"]]
    return paper | {"steps": steps, "share_same_sources": round(num_same / len(candidates), 4)}
