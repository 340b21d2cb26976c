"""Ids of vLLM in fp32 against the transformers engine, over the settings of
`benchmarks.conformance`, and the measured error of the logits that says what a near tie is.

The checkout decides how precise fp32 is; the flags are recorded. TF32, in matrix products or in
Triton's kernels, shows as an error of the logits above 1e-3 and so as wide near ties.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.conformance import (
    Comparison,
    LiteralLoop,
    compare,
    logit_error,
    open_engines,
    settings_for,
)
from benchmarks.gpu.common import model_name, use_vllm
from benchmarks.gpu.forcing import session_facts
from benchmarks.gpu.machine import precision_facts
from benchmarks.gpu.part import PartReport
from benchmarks.names import Point, Sampling

SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=40)
SHORT_SETTINGS = ("waits", "minimum", "sampled")
_RESERVE_SECONDS = 8.0


def measure(report: PartReport) -> None:
    """Compare the engines, one setting after the other, for as long as there is time."""
    use_vllm(report)
    model, num, cap = model_name(report), 3 if report.short else 8, 12 if report.short else 48
    vllm, embedded = open_engines(model)
    report.figures("engine", session_facts(vllm))
    report.figures("precision", precision_facts())
    literal = LiteralLoop(model, vllm.eos_ids)
    error = logit_error(vllm, literal, num=num, num_tokens=cap)
    report.figures("logit_error", asdict(error) | {"near_tie": error.near_tie})
    report.headline("error of the logits, vLLM", error.vllm)
    report.headline("error of the logits, batch", error.batch)
    report.headline("near tie below", error.near_tie)
    for name, setting in all_settings(cap).items():
        if report.short and name not in SHORT_SETTINGS:
            continue
        if report.seconds_left < _RESERVE_SECONDS:
            report.note(f"{name}: skipped, the time was up")
            continue
        sampling = SAMPLING if name == "sampled" else None
        try:
            comparison = compare(
                vllm, setting, literal, num=num, other=embedded, by_loop=False,
                near_tie=error.near_tie, sampling=sampling,
            )["transformers"]  # fmt: skip
        except Exception as failure:  # a setting that fails is a figure; the next may hold
            report.headline(f"equal, {name}", f"{type(failure).__name__}: {str(failure)[:120]}")
            continue
        report.figures(name, vars(comparison))
        report.headline(f"equal, {name}", _summary(comparison))


def all_settings(cap: int) -> dict[str, dict[str, Any]]:
    """The settings of `benchmarks.conformance`, and a sampled one."""
    sampled = {"points": (Point(cap // 4), Point(cap, 1)), "min_thinking_tokens": 4}
    return settings_for(cap) | {"sampled": sampled}


def _summary(comparison: Comparison) -> str:
    text = f"{comparison.equal} of {comparison.requests}"
    near, different = len(comparison.near_ties), len(comparison.different)
    text += f", {near} near ties" if near else ""
    return text + (f", {different} that no near tie explains" if different else "")
