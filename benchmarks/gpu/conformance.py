"""Ids of vLLM in fp32 against the transformers engine, over the settings of
`benchmarks.conformance`, and the measured error of the logits that says what a near tie is.

On a GPU vLLM runs as it does by default first (CUDA graphs, torch.compile, batches of its own
sizes), then, in the time that is left, eagerly with prompts in chunks; on a CPU only the latter.
Every row names the path.

The checkout decides how precise fp32 is; the flags are recorded. TF32, in matrix products or in
Triton's kernels, shows as an error of the logits above 1e-3 and so as wide near ties.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from benchmarks.conformance import (
    Comparison,
    LiteralLoop,
    LogitError,
    compare,
    logit_error,
    open_embedded,
    open_vllm,
    settings_for,
    vllm_paths,
)
from benchmarks.gpu.common import model_name, use_vllm
from benchmarks.gpu.forcing import session_facts
from benchmarks.gpu.machine import precision_facts
from benchmarks.gpu.part import PartReport
from benchmarks.names import Point, Sampling, Session

SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=40)
SHORT_SETTINGS = ("waits", "minimum", "sampled")
_RESERVE_SECONDS = 8.0
_EAGER_START_SECONDS = 20.0
"""What starting vLLM without compilation and measuring its errors take; an estimate."""


def measure(report: PartReport) -> None:
    """Compare the engines on each of vLLM's paths, for as long as there is time.

    A path that fails is a row, so that the next may hold; the part then fails at its end.
    """
    use_vllm(report)
    report.figures("precision", precision_facts())
    failures = []
    with open_embedded(model := model_name(report)) as embedded:
        for path in vllm_paths():
            if path != vllm_paths()[0] and report.seconds_left < _EAGER_START_SECONDS:
                report.note(f"vLLM, {path}: skipped, {report.seconds_left:.0f} s were left")
                continue
            try:
                _Path(report, path).compare(model, embedded)
            except Exception as failure:
                report.headline(f"vLLM ({path})", _failure_text(failure))
                failures.append(failure)
    if failures:
        raise failures[0]


class _Path:
    """The figures of one of vLLM's paths."""

    def __init__(self, report: PartReport, name: str) -> None:
        self.report, self.name = report, name
        self.num, self.cap = (3, 12) if report.short else (8, 48)
        self._figures: dict[str, Any] = {}

    def compare(self, model: str, embedded: Session) -> None:
        """Compare one setting after the other."""
        started = time.monotonic()
        with open_vllm(model, self.name) as vllm:
            self._add("engine", session_facts(vllm))
            self._add("start_seconds", round(time.monotonic() - started, 1))
            literal = LiteralLoop(model, vllm.eos_ids)
            error = logit_error(vllm, literal, num=self.num, num_tokens=self.cap)
            self._add_error(error)
            for setting in all_settings(self.cap):
                if self.report.short and setting not in SHORT_SETTINGS:
                    continue
                if self.report.seconds_left < _RESERVE_SECONDS:
                    self.report.note(f"{setting} ({self.name}): skipped, the time was up")
                    continue
                self._compare_setting(setting, vllm, embedded, literal, error.near_tie)

    def _compare_setting(
        self, name: str, vllm: Session, embedded: Session, literal: LiteralLoop, near_tie: float
    ) -> None:
        sampling = SAMPLING if name == "sampled" else None
        try:
            comparison = compare(
                vllm, all_settings(self.cap)[name], literal, num=self.num, other=embedded,
                by_loop=False, near_tie=near_tie, sampling=sampling,
            )["transformers"]  # fmt: skip
        except Exception as failure:  # a setting that fails is a figure; the next may hold
            self._headline(f"equal, {name}", _failure_text(failure))
            return
        self._add(name, vars(comparison))
        self._headline(f"equal, {name}", _summary(comparison))

    def _add_error(self, error: LogitError) -> None:
        self._add("logit_error", asdict(error) | {"near_tie": error.near_tie})
        self._headline("error of the logits, vLLM", error.vllm)
        self._headline("error of the logits, batch", error.batch)
        self._headline("near tie below", error.near_tie)

    def _add(self, name: str, value: Any) -> None:
        self._figures[name] = value
        self.report.figures(self.name, self._figures)

    def _headline(self, name: str, value: float | str) -> None:
        self.report.headline(f"{name} ({self.name})", value)


def all_settings(cap: int) -> dict[str, dict[str, Any]]:
    """The settings of `benchmarks.conformance`, and a sampled one."""
    sampled = {"points": (Point(cap // 4), Point(cap, 1)), "min_thinking_tokens": 4}
    return settings_for(cap) | {"sampled": sampled}


def _failure_text(failure: Exception) -> str:
    return f"{type(failure).__name__}: {str(failure)[:120]}"


def _summary(comparison: Comparison) -> str:
    text = f"{comparison.equal} of {comparison.requests}"
    near, different = len(comparison.near_ties), len(comparison.different)
    text += f", {near} near ties" if near else ""
    return text + (f", {different} that no near tie explains" if different else "")
