"""The plan of a run as text: what is missing first, then a line per stage, then the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]


def plan_text(estimates: Json, *, settings: bool = False) -> str:
    """The plan of `plan_run`; with `settings`, all settings of the recipe below it."""
    import yaml

    from slowthink.pipeline.resolve import choice_text

    lines = [f"{estimates['recipe']['name']}: writes to {estimates['out']}"]
    if needed := estimates["needed"]:
        lines.append("needed before the run:")
        lines += [f"  {i['path']} is missing ({i['setting']}): {i['remedy']}" for i in needed]
    if names := estimates["downloads"]:
        lines.append(f"downloaded from the Hub, unless offline: {', '.join(names)}")
    for stage, figures in estimates["plan"].items():
        lines.append(f"  {stage:9} {_stage_text(stage, figures, estimates['status'][stage])}")
        lines += [f"  {'':9} {line}" for line in _details(figures)]
    lines += [
        f"auto: {choice_text(setting, choice['value'], choice['reason'])}"
        for setting, choice in estimates["auto"].items()
    ]
    lines += [text] if (text := time_text(estimates)) else []
    if settings:
        lines += ["", yaml.safe_dump(estimates["recipe"], sort_keys=False, allow_unicode=True)]
    else:
        lines.append("all settings: add --settings")
    return "\n".join(lines)


def plan_line(estimates: Json) -> str:
    """Estimated tokens of unfinished stages, and the time, on one line."""
    tokens = [
        f"{stage} {figures['estimated_tokens']:,}"
        for stage, figures in estimates["plan"].items()
        if figures.get("estimated_tokens") and estimates["status"][stage] != "done"
    ]
    asks = any(
        figures.get("num_chains") and figures.get("teachers")
        for stage, figures in estimates["plan"].items()
        if estimates["status"][stage] != "done"
    )
    if not tokens:
        return "plan: teachers are asked, tokens unknown" if asks else "plan: no model runs"
    return "; ".join(
        filter(None, [f"plan: at most, tokens: {', '.join(tokens)}", time_text(estimates)])
    )


def time_text(estimates: Json) -> str:
    """The time to generate the tokens that are left; empty if no speed was measured."""
    from slowthink.stages.report.text import duration

    minutes = estimates["estimated_minutes"]
    if not minutes:
        return ""
    return (
        f"about {duration(60 * minutes)} for {estimates['estimated_tokens']:,} tokens at "
        f"{estimates['tokens_per_second']:g} tokens/s, measured in this run folder"
    )


def _stage_text(stage: str, figures: Json, status: str) -> str:
    text = _STAGE_TEXTS[stage](figures)
    return {
        "pending": text,
        "done": f"done: {text}",
        "changed": f"made with other settings, add --update: {text}",
        "damaged": f"damaged, add --update: {text}",
    }[status]


def _details(figures: Json) -> Iterator[str]:
    if unknown := figures.get("size_unknown"):
        yield f"size unknown until read: {', '.join(unknown)}"
    if figures.get("num_problems"):
        yield from [*(figures.get("asked") or ()), *(figures.get("difficulty") or ())]
    yield from [*(figures.get("teachers") or ()), *(figures.get("scores") or ())]


def _some(number: int, what: str) -> str:
    """`at most 600 problems`, or that the number is unknown."""
    return f"at most {number:,} {what}" if number else f"number of {what} unknown"


def _tokens(figures: Json) -> str:
    return f", at most {n:,} tokens" if (n := figures["estimated_tokens"]) else ""


def _money(figures: Json) -> str:
    return f", costs {cost:,.2f}" if (cost := figures.get("estimated_cost")) else ""


_STAGE_TEXTS: dict[str, Callable[[Json], str]] = {
    "pool": lambda f: _some(f["num_rows"], "rows"),
    "filter": lambda f: _some(f["num_problems"], "problems") + _tokens(f),
    "trace": lambda f: _some(f["num_chains"], "chains") + _tokens(f) + _money(f),
    "select": lambda f: _some(f["num_problems"], "problems")
    + (f", {n:,} chains" if (n := f["num_chains"]) > f["num_problems"] else ""),
    "train": lambda f: _some(f["num_examples"], "examples")
    + (f", {f['num_steps']:,} steps, about {f['estimated_tokens']:,} tokens read"
       if f["num_steps"] else ""),
    "evaluate": lambda f: f"{_some(f['num_problems'], 'problems')}, {f['num_points']} budgets"
    + _tokens(f),
    "report": lambda f: f"at most {f['max_transcripts']:,} transcripts",
}  # fmt: skip
"""The figures of each stage's plan, as a line."""
