"""What the cards say of a run, as plain data, read from its manifests and tables.

`Facts.read(Path("runs/quickstart")).teachers[0]` is `TeacherRow(name="solution", model=None, …)`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slowthink.data.tables import missing_stage, read_records
from slowthink.engines.models import EMBEDDED
from slowthink.forcing.formats import AUTO, FORMATS
from slowthink.pipeline.contract import quantiles
from slowthink.publish.sources import RowSource, row_sources
from slowthink.records import Split, ThinkingFormat, Trace, group_by
from slowthink.stages.report.data import FinishedStages, headline, open_run
from slowthink.stages.report.excerpts import read_columns
from slowthink.stages.trace import chains_table

EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_LICENCE = "apache-2.0"


@dataclass(frozen=True, kw_only=True)
class TeacherRow:
    """The chains of one author in the training set."""

    name: str
    model: str | None
    """None: imported or worked solutions."""
    revision: str | None
    num_chains: int
    num_thinking_tokens: int
    run: Mapping[str, Any]
    """What the stage trace counted of this teacher's requests: tokens, cost; may be empty."""


@dataclass(frozen=True)
class Facts:
    """A run, as its cards describe it."""

    run: FinishedStages
    traces: Sequence[Trace]
    """The training set."""

    @classmethod
    def read(cls, root: Path, *, needs: str) -> Facts:
        """The facts of a run whose stage `needs` is finished; raises DataError if it is not."""
        run = open_run(root)
        if needs not in run.folders:
            raise missing_stage(root, needs)
        return cls(run, _training_set(run))

    @cached_property
    def head(self) -> Mapping[str, Any]:
        """The run's main figures, as `slowthink report RUN --json` prints them."""
        return headline(self.run.root)

    @cached_property
    def sources(self) -> list[RowSource]:
        """Where the problems of the training set come from."""
        return row_sources(self.traces, self.run.settings)

    @cached_property
    def test_ids(self) -> frozenset[str]:
        """Problems that are held out or were evaluated on."""
        pool, evaluated = (
            read_columns(self.run.folders.get(stage, Path()) / "data.parquet", columns)
            for stage, columns in (("pool", ("id", "split")), ("evaluate", ("problem_id",)))
        )
        held_out = {row["id"] for row in pool if row["split"] == Split.HELDOUT.value}
        return frozenset(held_out | {row["problem_id"] for row in evaluated})

    @property
    def num_problems(self) -> int:
        """Problems of the training set; each has one chain or several."""
        return len({trace.problem.id for trace in self.traces})

    @property
    def languages(self) -> list[str]:
        """Languages of the problems, the most frequent first."""
        counts = Counter(trace.problem.language for trace in self.traces)
        return [language for language, _ in counts.most_common()]

    @property
    def thinking_tokens(self) -> Mapping[str, float]:
        """Quantiles of the chains' thinking tokens."""
        return quantiles([trace.num_thinking_tokens for trace in self.traces])

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Level and number of chains; empty if none has a level."""
        counts = Counter(trace.level for trace in self.traces if trace.level is not None)
        return sorted(counts.items())

    @property
    def scores(self) -> list[dict[str, Any]]:
        """Each score of the chains: version, settings, which values are better, and its quantiles
        over the training set."""
        configs = (self.run.settings.get("trace") or {}).get("scores") or []
        known: dict[str, dict[str, Any]] = {c["kind"]: {"settings": c} for c in configs}
        known |= _score_metadata(self.run.folders.get("trace", Path()) / chains_table.FILE)
        values = group_by(_score_values(self.traces), lambda pair: pair[0])
        return [
            {"name": name, **known.get(name, {}), **quantiles([value for _, value in pairs])}
            for name, pairs in values.items()
            if "." not in name
        ]

    @property
    def teachers(self) -> list[TeacherRow]:
        """Authors of the chains, those with most chains first."""
        runs = {run["teacher"]: run for run in self.run.facts("trace").get("teacher_runs") or []}
        groups = group_by(self.traces, _author)
        rows = [
            TeacherRow(
                name=name, model=model, revision=revision, num_chains=len(group),
                num_thinking_tokens=sum(trace.num_thinking_tokens for trace in group),
                run=runs.get(name, {}),
            )
            for (name, model, revision), group in groups.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row.num_chains, row.name))

    @property
    def base(self) -> str:
        """The base model: its id on the hub, or the name of its folder."""
        model = str(self.run.settings.get("model") or "")
        if model == EMBEDDED:
            return EMBEDDED_HUB_ID
        return Path(model).name if self.base_is_local else model

    @property
    def base_is_local(self) -> bool:
        """Whether the base model is a folder, whose name says nothing to others."""
        model = str(self.run.settings.get("model") or "")
        return model.startswith((".", "/", "~")) or Path(model).exists()

    @property
    def base_licence(self) -> str | None:
        """The base model's licence; None if it is not known here."""
        return EMBEDDED_LICENCE if self.base == EMBEDDED_HUB_ID else None

    @property
    def is_adapter(self) -> bool:
        """Whether the trained model is adapters beside the base model's weights."""
        return "model/adapter_config.json" in self.run.manifests["train"]["files"]

    @property
    def thinking_format(self) -> ThinkingFormat | None:
        """The format that the model was trained on; None if it is the template's own."""
        name = (self.run.settings.get("chat") or {}).get("format") or AUTO
        custom = self.run.settings.get("formats") or {}
        if name in custom:
            return ThinkingFormat(name=name, **custom[name])
        return FORMATS.get(name)

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of slowthink, Python and the libraries."""
        merged: dict[str, str] = {}
        for manifest in self.run.manifests.values():
            merged |= manifest.get("versions") or {}
        return merged


def _training_set(run: FinishedStages) -> list[Trace]:
    """The chains selected, or those of `train.input`; [] if the run's training set is elsewhere."""
    if "select" in run.folders:
        return read_records(run.folders["select"], Trace)
    path = (run.settings.get("train") or {}).get("input")
    return read_records(Path(path), Trace) if path and Path(path).exists() else []


def _author(trace: Trace) -> tuple[str, str | None, str | None]:
    origin = json.loads(trace.provenance)
    return trace.teacher, origin.get("model"), origin.get("revision")


def _score_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Version, settings and `better` of each score, by the metadata of the table of all chains."""
    import pyarrow.parquet as pq

    if not path.exists():
        return {}
    described = {field.name: field.metadata for field in pq.read_schema(path) if field.metadata}
    return {
        name: {
            "version": metadata[b"version"].decode(), "better": metadata[b"better"].decode(),
            "settings": json.loads(metadata[b"settings"]),
        }
        for name, metadata in described.items()
        if b"settings" in metadata
    }  # fmt: skip


def _score_values(traces: Iterable[Trace]) -> Iterable[tuple[str, float]]:
    return ((name, value) for trace in traces for name, value in json.loads(trace.scores).items())
