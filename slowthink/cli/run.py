"""`slowthink run` and a command per stage: run a recipe, or print what it would do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slowthink.api import runs
from slowthink.cli import options
from slowthink.cli.plan_text import plan_line, plan_text

if TYPE_CHECKING:
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import StageRun
    from slowthink.recipe import Recipe


OWN_OPTIONS = {
    "preview": ("trace",),
    "regrade": ("evaluate",),
    "processes": ("run", "train"),
}
"""Options that only some commands have, and which."""


def stage_command(name: str, summary: str) -> Callable[..., None]:
    """Make the command that runs one stage, or all stages if the name is `run`."""

    def command(
        recipe: options.RecipeArgument,
        out: options.Out = None,
        set_: options.Set = None,
        update: options.Update = False,
        regrade: options.Regrade = False,
        dry_run: options.DryRun = False,
        preview: options.Preview = None,
        settings: options.Settings = False,
        runner: options.Runner = None,
        processes: options.Processes = None,
        json_: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        from slowthink.pipeline import run
        from slowthink.pipeline.progress import ProgressReporter
        from slowthink.pipeline.run_plan import plan_run

        opened, root = open_recipe(
            recipe, out=out, overrides=set_, runner=runner, processes=processes
        )
        stages = None if name == "run" else (name,)
        runs.check_stages(opened, stages)
        if dry_run or settings:
            estimates = plan_run(opened, root, stages=stages)
            text = plan_text(estimates, settings=settings)
            options.print_result(text, estimates, as_json=json_)
            return
        if runs.is_follower():
            runs.follow(opened, root, stages=stages, quiet=quiet)
            return
        with ProgressReporter(quiet=quiet) as reporter:
            if preview is not None:
                _print_preview(opened, root, preview, reporter, as_json=json_)
                return
            if regrade:
                done = tuple(run.regrade(opened, root, reporter=reporter))
            else:
                reporter.notify(plan_line(plan_run(opened, root, stages=stages)))
                done = runs.run(
                    opened, out=root, stages=stages, update=update, reporter=reporter
                ).stages
        _print_run(done, root, as_json=json_)

    command.__name__ = name
    command.__doc__ = f"{summary}\n\nExample: slowthink {name} quickstart --out runs/quickstart"
    others = {option for option, stages in OWN_OPTIONS.items() if name not in stages}
    signature = inspect.signature(command, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.name not in others]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def open_recipe(
    source: str,
    *,
    out: Path | None = None,
    overrides: Sequence[str] | None = None,
    runner: str | None = None,
    processes: int | None = None,
) -> tuple[Recipe, Path]:
    """Load the recipe and name its run folder, as the options say."""
    options = {"runner": runner, "processes": processes}
    given = [f"{name}={value}" for name, value in options.items() if value]
    return runs.open_recipe(source, out=out, overrides=[*(overrides or ()), *given])


def _print_preview(
    recipe: Recipe, root: Path, num: int, reporter: ProgressReporter, *, as_json: bool
) -> None:
    from slowthink.stages.trace.preview import preview_chains, preview_text

    data = preview_chains(recipe, root, num, notify=reporter.notify, progress=reporter.progress)
    options.print_result(preview_text(data), data, as_json=as_json)


# --- what is printed ------------------------------------------------------------------------------


def _print_run(done: Sequence[StageRun], root: Path, *, as_json: bool) -> None:
    """Print the duration of each stage, the main figures, and the path of the report."""
    from slowthink.stages.report.data import headline
    from slowthink.stages.report.headline import headline_figures

    data = headline(root)
    stages = [
        f"{run.stage} {'(skipped)' if run.skipped else f'{run.seconds:.0f} s'}" for run in done
    ]
    report = root / "report" / "report.html"
    lines = [
        f"Stages: {', '.join(stages)}",
        *(figure.line() for figure in headline_figures(data)),
        *(f"WARNING: {warning['stage']}: {warning['text']}" for warning in data["warnings"]),
        f"Report: {report}" if report.exists() else f"Results: {root}",
    ]
    options.print_result("\n".join(lines), data, as_json=as_json)
