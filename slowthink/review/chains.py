"""The chains that people review: those of a run's trace stage, problems drawn by a seed.

reviewed = load_chains(Path("runs/q"), num_problems=25, seed=0)
reviewed.items     # chains first, then one pair of chains for each problem that has two
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from slowthink.data.reviews import PAIR, Judgement
from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.records import Trace, group_by, item_seed
from slowthink.stages.trace import chains_table


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewChain:
    """A chain, and what a reviewer sees of it only afterwards."""

    id: str
    problem_id: str
    question: str
    """With the options, if it has any."""
    thinking: str
    response: str
    teacher: str
    verdict: str
    level: int | None = None
    """Of the trace stage."""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge: a chain, or a pair of chains of one problem."""

    chains: tuple[ReviewChain, ...]

    @property
    def kind(self) -> str:
        """chain | pair."""
        return "chain" if len(self.chains) == 1 else "pair"

    @property
    def id(self) -> str:
        """The chain's id, or both joined."""
        return PAIR.join(sorted(chain.id for chain in self.chains))


@dataclass(frozen=True)
class ReviewSet:
    """The chains of a run, and the items drawn from them."""

    chains: Mapping[str, ReviewChain]
    """All that may be judged, by id."""
    items: Mapping[str, Item]
    """Those to judge, by id, in order."""

    def item(self, id: str) -> Item | None:
        """The item of this id, drawn or not; None if the run has no such chains."""
        chains = [self.chains.get(part) for part in id.split(PAIR)]
        known = tuple(chain for chain in chains if chain is not None)
        if len(known) != len(chains) or len(known) > 2:
            return None
        item = self.items.get(id) or Item(known)
        return item if len({chain.problem_id for chain in known}) == 1 and item.id == id else None

    def with_chains_of(self, item: Item) -> list[str]:
        """Ids of the items to judge that have one of this item's chains."""
        return [id for chain in item.chains for id in self._items_of.get(chain.id, ())]

    @cached_property
    def _items_of(self) -> dict[str, list[str]]:
        """Ids of the items to judge, by chain."""
        pairs = [(chain.id, id) for id, item in self.items.items() for chain in item.chains]
        return {
            chain: [id for _, id in same]
            for chain, same in group_by(pairs, lambda pair: pair[0]).items()
        }

    def check(self, judgements: Iterable[Judgement], *, where: Path) -> int:
        """Number of judged items that the run does not have. Raises DataError if that is all."""
        items = {judgement.item for judgement in judgements}
        unknown = sum(self.item(id) is None for id in items)
        if items and unknown == len(items):
            raise DataError(
                f"{where}: none of its {unknown} judged chains is in this run's trace stage; "
                "expected the reviews of this run. Nothing was changed. Name the run they are of, "
                "move the file away, or add the chains that trace dropped: --all"
            )
        return unknown


def load_chains(
    root: Path, *, num_problems: int | None = None, seed: int = 0, all_chains: bool = False
) -> ReviewSet:
    """The kept chains of a run, or all that it matched to a problem; `num_problems` (None: all) are
    drawn by the seed. Raises DataError if the run has no traces."""
    chains = {chain.id: chain for chain in map(_from_trace, read_records(root / "trace", Trace))}
    if all_chains:
        chains |= {chain.id: chain for chain in _dropped_chains(root / "trace" / chains_table.FILE)}
    by_problem = group_by(chains.values(), lambda chain: chain.problem_id)
    drawn = sorted(by_problem, key=lambda id: item_seed(seed, "review", id))[:num_problems]
    shuffled = [
        sorted(by_problem[id], key=lambda chain: item_seed(seed, "review", chain.id))
        for id in drawn
    ]
    rounds = max(map(len, shuffled), default=0)
    singles = [Item((same[n],)) for n in range(rounds) for same in shuffled if n < len(same)]
    pairs = [Item((same[0], same[1])) for same in shuffled if len(same) > 1]
    return ReviewSet(chains, {item.id: item for item in (*singles, *pairs)})


def sides(item: Item, reviewer: str) -> Sequence[ReviewChain]:
    """The chains of an item as a reviewer sees them: left and right by a seed of the name."""
    return item.chains[:: -1 if item_seed(0, item.id, reviewer) % 2 else 1]


def _from_trace(trace: Trace) -> ReviewChain:
    return ReviewChain(
        id=trace.key, problem_id=trace.problem.id, teacher=trace.teacher, level=trace.level,
        question="\n".join([trace.problem.question, *trace.problem.choices]),
        thinking=trace.thinking, response=trace.response, verdict=trace.grade.verdict.value,
        scores=_numbers(json.loads(trace.scores)),
    )  # fmt: skip


def _dropped_chains(path: Path) -> list[ReviewChain]:
    """The chains of `chains.parquet` that were not kept."""
    import pyarrow.parquet as pq

    if not path.is_file() or "thinking" not in pq.read_schema(path).names:
        raise DataError(
            f"{path}: has no texts of chains that were dropped; expected them for --all. "
            "Leave --all out, or make the traces anew: slowthink trace RUN --update"
        )
    rows: list[dict[str, Any]] = pq.read_table(path, filters=[("kept", "=", False)]).to_pylist()
    schema = pq.read_schema(path)
    names = [n for n in schema.names if (schema.field(n).metadata or {}).get(b"better")]
    return [
        ReviewChain(
            id=row["chain_id"], problem_id=row["problem_id"], question=row["question"],
            thinking=row["thinking"], response=row["response"], teacher=row["teacher"],
            verdict=row["verdict"] or f"dropped: {row['reason']}", level=row["level"],
            scores=_numbers({name: row[name] for name in names}),
        )
        for row in rows
        if row["thinking"] is not None
    ]  # fmt: skip


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in scores.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
