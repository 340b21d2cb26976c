"""`slowthink run` and a command per stage: run a recipe, or print what it would do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.api import runs
from slowthink.cli import options

if TYPE_CHECKING:
    from slowthink.pipeline.run import StageRun
    from slowthink.recipe import Recipe

TOKENS_PER_SECOND = 280
"""SmolLM2 on two CPU cores, for the estimate of minutes."""


def stage_command(name: str, summary: str) -> Callable[..., None]:
    """Make the command that runs one stage, or all stages if the name is `run`."""

    def command(
        recipe: options.RecipeArgument,
        out: options.Out = None,
        set_: options.Set = None,
        update: options.Update = False,
        regrade: options.Regrade = False,
        dry_run: options.DryRun = False,
        runner: options.Runner = None,
        json_: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        from slowthink.pipeline import run
        from slowthink.pipeline.progress import ProgressReporter

        opened, root = open_recipe(recipe, out=out, overrides=set_, runner=runner)
        stages = None if name == "run" else (name,)
        runs.check_stages(opened, stages)
        if dry_run:
            estimates = plan_run(opened, root, stages=stages)
            options.print_result(plan_text(estimates), estimates, as_json=json_)
            return
        with ProgressReporter(quiet=quiet) as reporter:
            if regrade:
                done = tuple(run.regrade(opened, root, reporter=reporter))
            else:
                reporter.notify(_plan_line(plan_run(opened, root, stages=stages)))
                done = runs.run(
                    opened, out=root, stages=stages, update=update, reporter=reporter
                ).stages
        _print_run(done, root, as_json=json_)

    command.__name__ = name
    command.__doc__ = f"{summary}\n\nExample: slowthink {name} quickstart --out runs/quickstart"
    if name != "evaluate":
        signature = inspect.signature(command, eval_str=True)
        parameters = [p for p in signature.parameters.values() if p.name != "regrade"]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def open_recipe(
    source: str,
    *,
    out: Path | None = None,
    overrides: Sequence[str] | None = None,
    runner: str | None = None,
) -> tuple[Recipe, Path]:
    """Load the recipe and name its run folder, as the options say."""
    runners = [f"runner={runner}"] if runner else []
    return runs.open_recipe(source, out=out, overrides=[*(overrides or ()), *runners])


def plan_run(recipe: Recipe, root: Path, *, stages: Sequence[str] | None = None) -> dict[str, Any]:
    """Settings, what `auto` becomes in them, and expected rows and tokens by stage. Writes nothing
    and loads no model."""
    from slowthink.pipeline.contract import stage_module
    from slowthink.pipeline.resolve import resolve_run
    from slowthink.pipeline.run_folder import check_run_folder

    check_run_folder(root)
    resolved = resolve_run(recipe, root, measure=False)
    recipe = resolved.recipe
    plan = {stage: stage_module(stage).plan(recipe) for stage in stages or recipe.stages()}
    num_tokens = sum(estimates.get("estimated_tokens", 0) for estimates in plan.values())
    return {
        "recipe": recipe.model_dump(mode="json"),
        "auto": resolved.to_json(),
        "out": str(root),
        "plan": plan,
        "estimated_minutes": float(num_tokens) / TOKENS_PER_SECOND / 60,
    }


# --- what is printed ------------------------------------------------------------------------------


def _print_run(done: Sequence[StageRun], root: Path, *, as_json: bool) -> None:
    """Print the duration of each stage, the main figures, and the path of the report."""
    from slowthink.stages.report.data import headline

    data = headline(root)
    stages = [
        f"{run.stage} {'(skipped)' if run.skipped else f'{run.seconds:.0f} s'}" for run in done
    ]
    report = root / "report" / "report.html"
    lines = [
        f"stages            {', '.join(stages)}",
        *_figure_lines(data),
        f"report            {report}" if report.exists() else f"results           {root}",
    ]
    options.print_result("\n".join(lines), data, as_json=as_json)


def _figure_lines(data: Mapping[str, Any]) -> list[str]:
    """One line per main figure that the run has."""
    lines = []
    if data.get("difference") is not None:
        low, high = data["difference_ci95"]
        lines.append(
            f"accuracy          {data['base_accuracy']:.1%} base -> "
            f"{data['tuned_accuracy']:.1%} tuned "
            f"({data['difference']:+.1%}, 95 % interval {low:+.1%} to {high:+.1%})"
        )
    curve = data.get("curve") or []
    if len(curve) > 1:
        smallest, largest = curve[0], curve[-1]
        lines.append(
            f"thinking budget   {smallest['accuracy']:.1%} at "
            f"{smallest['max_thinking_tokens']} tokens -> "
            f"{largest['accuracy']:.1%} at {largest['max_thinking_tokens']}"
        )
    if data.get("budget_violations") is not None:
        lines.append(f"budget violations {data['budget_violations']}")
    return lines


def plan_text(estimates: Mapping[str, Any]) -> str:
    """All settings, the estimates of each stage, and the total minutes."""
    import yaml

    lines = [
        yaml.safe_dump(estimates["recipe"], sort_keys=False, allow_unicode=True),
        *(
            f"auto: {setting}={c['value']} ({c['reason']})"
            for setting, c in estimates["auto"].items()
        ),
        f"would write to {estimates['out']}:",
    ]
    lines += [
        f"  {stage:9} " + ", ".join(f"{name} {value}" for name, value in figures.items())
        for stage, figures in estimates["plan"].items()
    ]
    return "\n".join([*lines, _minutes_text(estimates)])


def _plan_line(estimates: Mapping[str, Any]) -> str:
    """Estimated tokens by stage and total minutes, on one line."""
    tokens = [
        f"{stage} {figures['estimated_tokens']}"
        for stage, figures in estimates["plan"].items()
        if figures.get("estimated_tokens")
    ]
    if not tokens:
        return "plan: no model runs"
    return f"plan: estimated tokens: {', '.join(tokens)}; {_minutes_text(estimates)}"


def _minutes_text(estimates: Mapping[str, Any]) -> str:
    return (
        f"about {estimates['estimated_minutes']:.1f} minutes at {TOKENS_PER_SECOND} tokens/s "
        "(two CPU cores, SmolLM2)"
    )
