"""What the commands do: each takes a request and gives a result that has text and data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slowthink.errors import ConfigError
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe

if TYPE_CHECKING:
    from slowthink.cli.generate import GenerateRequest
    from slowthink.cli.serve import ServeRequest
    from slowthink.pipeline.run import StageRun


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What a command found."""

    text: str
    data: dict[str, Any]


# --- run ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What is to be run, and where."""

    source: str
    out: Path | None = None
    overrides: tuple[str, ...] = ()
    stages: tuple[str, ...] | None = None
    update: bool = False
    regrade: bool = False
    """Of a finished evaluation: grade its answers again, and generate nothing."""
    quiet: bool = False

    def resolve(self) -> tuple[Recipe, Path]:
        """The recipe and the run folder; a run folder given as recipe is both."""
        folder = Path(self.source)
        if (folder / "recipe.yaml").is_file():
            recipe = load_recipe(str(folder / "recipe.yaml"), overrides=self.overrides)
            return recipe, self.out or folder
        recipe = load_recipe(self.source, overrides=self.overrides)
        return recipe, self.out or Path("runs") / recipe.name


def run(request: RunRequest) -> CommandResult:
    """Run the stages; the text ends with where it went and the next command."""
    from slowthink.pipeline import run as pipeline
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.stages.report.data import headline

    recipe, root = request.resolve()
    _check_stages(recipe, request.stages)
    with ProgressReporter(quiet=request.quiet) as reporter:
        if request.regrade:
            ran = pipeline.regrade(recipe, root, reporter=reporter)
        else:
            reporter.notify(_plan_text(recipe, request.stages))
            ran = pipeline.run_recipe(
                recipe, root, stages=request.stages, update=request.update, reporter=reporter
            )
    data = headline(root)
    return CommandResult(text=f"{_seconds(ran)}\n{_figures(data)}{_where(root)}", data=data)


def _seconds(ran: Sequence[StageRun]) -> str:
    """What each stage took."""
    parts = [f"{one.stage} {'(skipped)' if one.skipped else f'{one.seconds:.0f} s'}" for one in ran]
    return f"stages            {', '.join(parts)}"


def _plan_text(recipe: Recipe, stages: Sequence[str] | None) -> str:
    """What is about to be spent, on one line."""
    plans = _plans(recipe, stages)
    tokens = [f"{s} {p['estimated_tokens']}" for s, p in plans.items() if p.get("estimated_tokens")]
    return f"plan: tokens {', '.join(tokens) or 'none'}; {_minutes_text(plans)}"


def _plans(recipe: Recipe, stages: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    from slowthink.pipeline.run import stage_module

    return {stage: stage_module(stage).plan(recipe) for stage in stages or recipe.stages()}


def _check_stages(recipe: Recipe, stages: Sequence[str] | None) -> None:
    missing = [stage for stage in stages or () if stage not in recipe.stages()]
    if missing:
        raise ConfigError(
            f"{missing[0]}: the recipe `{recipe.name}` has no such section; it has "
            f"{', '.join(recipe.stages())}. Add `{missing[0]}:` to the recipe."
        )


def _figures(data: dict[str, Any]) -> str:
    """The figures that matter, where the run has them."""
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
        first, last = curve[0], curve[-1]
        lines.append(
            f"thinking pays     {first['accuracy']:.1%} at "
            f"{first['max_thinking_tokens']} tokens -> "
            f"{last['accuracy']:.1%} at {last['max_thinking_tokens']}"
        )
    if data.get("budget_violations") is not None:
        lines.append(f"budgets held      {data['budget_violations']} violations")
    return "".join(line + "\n" for line in lines)


def _where(root: Path) -> str:
    report = root / "report" / "report.html"
    return f"report            {report}" if report.exists() else f"results           {root}"


def dry_run(request: RunRequest) -> CommandResult:
    """Settings, counts and estimated tokens; nothing is written, no model is loaded."""
    recipe, root = request.resolve()
    _check_stages(recipe, request.stages)
    plans = _plans(recipe, request.stages)
    settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    lines = [settings, f"would run into {root}:"]
    lines += [
        f"  {stage:9} " + ", ".join(f"{name} {value}" for name, value in plan.items())
        for stage, plan in plans.items()
    ]
    lines.append(_minutes_text(plans))
    data = {"recipe": recipe.model_dump(mode="json"), "out": str(root), "plan": plans}
    return CommandResult(text="\n".join(lines), data=data | {"estimated_minutes": _minutes(plans)})


def _minutes_text(plans: dict[str, dict[str, Any]]) -> str:
    return f"about {_minutes(plans):.1f} minutes at 280 tokens/s (two CPU cores, SmolLM2)"


def _minutes(plans: dict[str, dict[str, Any]]) -> float:
    """Rough: all estimated tokens at the speed measured on two cores."""
    tokens = sum(plan.get("estimated_tokens", 0) for plan in plans.values())
    return float(tokens) / 280 / 60


# --- compare --------------------------------------------------------------------------------------


def compare(
    run_a: Path,
    run_b: Path,
    *,
    out: Path | None = None,
    arm_a: str | None = None,
    arm_b: str | None = None,
) -> CommandResult:
    """b against a on the questions that both answered; with `out`, a page of it."""
    from slowthink.stages.report import compare as report
    from slowthink.stages.report.compare_page import write_page

    pair = report.open_pair(run_a, run_b, arm_a=arm_a, arm_b=arm_b)
    data = report.compare(pair)
    names = [f"{side['arm']} of {side['run']}" for side in (data["a"], data["b"])]
    lines = [f"{names[0]} -> {names[1]}"]
    lines += [report.in_words(one) for one in data["sets"]]
    if out is None:
        lines.append("page              --out compare.html writes one")
    else:
        lines.append(f"page              {write_page(pair, data, out)}")
    return CommandResult(text="\n".join(lines), data=data)


# --- generate -------------------------------------------------------------------------------------


def generate(request: GenerateRequest) -> CommandResult:
    """One completion per problem, budget-forced and checked."""
    from slowthink.cli.generate import complete

    rows = complete(request)
    return CommandResult(text="\n\n".join(row["text"] for row in rows), data={"completions": rows})


def chat(request: GenerateRequest, *, as_json: bool) -> int:
    """A talk on the terminal, or of the lines on stdin; the number of turns that failed."""
    import sys

    from slowthink.cli.chat import HELP, converse, open_chat, turn_text

    def show(turn: dict[str, Any]) -> None:
        row = json.dumps(turn, ensure_ascii=False)
        print(row if as_json else turn_text(turn, dim=sys.stdout.isatty()), flush=True)

    with open_chat(request) as reporter:
        if not sys.stdin.isatty():
            return converse(reporter, sys.stdin, show=show)
        print(HELP, file=sys.stderr)
        converse(reporter, _typed(), show=show)
        return 0


def _typed() -> Iterator[str]:
    """Lines as they are typed, with readline where there is one, until Ctrl-D."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


# --- grade, bench, check --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GradeRequest:
    """What is to be graded, and how."""

    file: Path
    mode: str = "strict"
    num_workers: int = 2
    compare: bool = False
    judge: str | None = None
    ledger: Path | None = None
    quiet: bool = False


def grade(request: GradeRequest) -> CommandResult:
    """Verdicts on a file of answers."""
    from slowthink.grading.files import grade_file
    from slowthink.grading.reference.table import compare_graders, format_table

    if request.compare and (request.judge or request.mode != "strict"):
        raise ConfigError("grade: --compare shows every mode; leave --mode and --judge out.")
    if request.compare:
        data = compare_graders(request.file, num_workers=request.num_workers)
        return CommandResult(text=format_table(data), data=data)
    if request.judge:
        data = _grade_with_judge(request, request.judge)
    else:
        data = grade_file(request.file, mode=request.mode, num_workers=request.num_workers)
    return CommandResult(text=_graded_text(data), data=data)


def _grade_with_judge(request: GradeRequest, model: str) -> dict[str, Any]:
    """The rules' verdicts and, where they leave a row open, the judge's."""
    from slowthink.grading import Grader
    from slowthink.grading.files import grade_rows, read_pairs, summarize_grades
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.recipe import JudgeConfig
    from slowthink.sampling.judge import judge_rows, open_judge
    from slowthink.sampling.ledger import Ledger

    rows = read_pairs(request.file)
    with Grader(request.mode, num_workers=request.num_workers) as grader:
        graded = grade_rows(rows, grader)
    path = request.ledger or request.file.with_name(request.file.name + ".judge.sqlite")
    config, recipe = JudgeConfig(model=model), Recipe(name="grade", model=model)
    with (
        ProgressReporter(quiet=request.quiet) as reporter,
        Ledger(path) as ledger,
        open_judge(
            config, recipe, ledger=ledger, notify=reporter.notify, progress=reporter.progress
        ) as judge,
    ):
        graded, report = judge_rows(judge, rows, graded)
    found = summarize_grades(rows, graded, mode=request.mode)
    return found | {"judge": report | {"ledger": str(path)}}


def _graded_text(data: dict[str, Any]) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in data["verdicts"].items())
    agreement = "" if data.get("agreement") is None else f"; agreement {data['agreement']:.1%}"
    text = f"{data['n']} rows: {verdicts}{agreement}"
    if "judge" not in data:
        return text
    judge = data["judge"]
    share = "none" if judge["agreement"] is None else f"{judge['agreement']:.1%}"
    num = judge["audited"] - judge["audited_no_opinion"]
    return (
        f"{text}\njudge: {judge['num_decided']} of {judge['num_asked']} open rows decided; "
        f"agreement with the rules {share} on {num} audited rows"
    )


def serve(request: ServeRequest, *, start: bool) -> CommandResult:
    """The server's command and a request to try; with `start` this process becomes the server."""
    from slowthink.cli import serve as serving
    from slowthink.pipeline.progress import ProgressReporter

    with ProgressReporter(quiet=False) as reporter:
        ready = serving.prepare(request, notify=reporter.notify)
        if start:
            reporter.notify(ready.text)
    if start:
        serving.start(ready)
    return CommandResult(text=ready.text, data=ready.data)


def export(run: Path, out: Path) -> CommandResult:
    """A run's samples as lm-eval files."""
    from slowthink.cli.export import export_run

    data = export_run(run, out)
    lines = [
        f"{one['path']}: {one['num_problems']} problems, {one['num_samples']} samples"
        for one in data["files"]
    ]
    again = "read them again: an arm with `samples: PATH` under evaluate.arms"
    return CommandResult(text="\n".join([*lines, again]), data=data)


def scorer(
    run: Path, out: Path, *, num_problems: int, num_samples: int, quiet: bool
) -> CommandResult:
    """A scorer of chains, made of a finished run."""
    from slowthink.environment import commit
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.sampling.parallel.fit import ScorerRequest, make_scorer

    request = ScorerRequest(
        run=run, out=out, num_problems=num_problems, num_samples=num_samples, commit=commit()
    )
    with ProgressReporter(quiet=quiet) as reporter:
        card = make_scorer(request, notify=reporter.notify, progress=reporter.progress)
    lines = [f"{card['num_right']} of {card['num_chains']} chains right; {card['layers']} layers"]
    lines += [
        f"AUC {name:9} {_auc(found, 'auc', 'ci95')}; within one problem "
        f"{_auc(found, 'auc_within_problem', 'within_ci95')}"
        for name, found in card["auc"].items()
    ]
    lines.append(f"scorer        {out}\nuse it        --set evaluate.parallel.scorer.model={out}")
    return CommandResult(text="\n".join(lines), data=card)


def _auc(found: dict[str, Any], name: str, interval: str) -> str:
    if found[name] is None:
        return "none: no pair of a right and a wrong one"
    low, high = found[interval]
    return f"{found[name]:.3f} ({low:.3f} to {high:.3f})"


BENCHES = ("difficulty", "filter", "forcing", "grade", "sweep", "train")


def bench(
    name: str, *, num_rounds: int, data_path: Path | None = None, scale: bool = False
) -> CommandResult:
    """One of the benchmarks, our way against the reference way; `data_path` is what it reads, and
    with `scale` it tells how seconds grow with rows."""
    import importlib

    if name not in BENCHES:
        raise ConfigError(f"bench: `{name}` is unknown; expected one of {', '.join(BENCHES)}.")
    run = importlib.import_module(f"benchmarks.{name}").run
    given: dict[str, Any] = {} if data_path is None else {"path": data_path}
    if given and "path" not in run.__annotations__:
        raise ConfigError(f"bench {name}: reads no data; expected none. Leave --data out.")
    if scale and "scale" not in run.__annotations__:
        raise ConfigError(f"bench {name}: has no --scale; expected it with filter. Leave it out.")
    given |= {"scale": True} if scale else {}
    data = run(num_rounds=num_rounds, **given)
    text = "\n".join(f"{key:32} {json.dumps(value)}" for key, value in data.items())
    return CommandResult(text=text, data=data)


def check(source: str, overrides: tuple[str, ...]) -> CommandResult:
    """Whether every gold answer of a recipe, a folder or a file is accepted as its own."""
    from slowthink.cli.check import check_files, check_recipe, is_files, text_of

    if not is_files(source):
        data = check_recipe(RunRequest(source=source, overrides=overrides).resolve()[0])
    elif overrides:
        raise ConfigError(f"check {source}: has --set; expected that of a recipe. Leave it out.")
    else:
        data = check_files(Path(source))
    return CommandResult(text=text_of(data), data=data)
