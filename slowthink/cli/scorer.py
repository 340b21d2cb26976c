"""`slowthink scorer`: a small reward model, fitted on a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.cli.options import Json, Quiet, print_result


def scorer(
    run: Annotated[Path, typer.Argument(help="A finished run with a tuned model.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the scorer.")],
    problems: Annotated[int, typer.Option("--problems", help="Number of training problems.")] = 150,
    samples: Annotated[int, typer.Option("--samples", help="Chains sampled per problem.")] = 4,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Fit a small scorer of chains: a linear head on the tuned model, with outcome labels.

    Example: slowthink scorer runs/quickstart --out runs/quickstart/scorer
    """
    from slowthink.environment import commit
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.sampling.parallel.fit import ScorerRequest, make_scorer

    request = ScorerRequest(
        run=run, out=out, num_problems=problems, num_samples=samples, commit=commit()
    )
    with ProgressReporter(quiet=quiet) as reporter:
        card = make_scorer(request, notify=reporter.notify, progress=reporter.progress)
    print_result(_text(card, out), card, as_json=json_)


def _text(card: Mapping[str, Any], out: Path) -> str:
    lines = [f"{card['num_right']} of {card['num_chains']} chains correct; {card['layers']} layers"]
    lines += [
        f"AUC {name:9} {_interval(auc, 'auc', 'ci95')}; within one problem "
        f"{_interval(auc, 'auc_within_problem', 'within_ci95')}"
        for name, auc in card["auc"].items()
    ]
    lines.append(f"scorer        {out}\nuse it        --set evaluate.parallel.scorer.model={out}")
    return "\n".join(lines)


def _interval(auc: Mapping[str, Any], name: str, interval: str) -> str:
    if auc[name] is None:
        return "undefined: no pair of a correct and a wrong chain"
    low, high = auc[interval]
    return f"{auc[name]:.3f} ({low:.3f} to {high:.3f})"
