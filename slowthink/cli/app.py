"""The command line: one short function a command; each is one public call.

Results go to stdout, talk to stderr. Exit 0 done, 1 failed, 2 usage, 130 interrupted with results
kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer

from slowthink.errors import ConfigError, SlowthinkError

app = typer.Typer(
    name="slowthink",
    help="From a pool of problems to a slow-thinking language model, and how it thinks, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

RecipeArgument = Annotated[
    str, typer.Argument(help="A YAML file, the name of a shipped recipe, or a run folder.")
]
Out = Annotated[Optional[Path], typer.Option("--out", help="Run folder. Default: runs/NAME.")]  # noqa: UP045
Set = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="Change one setting, e.g. --set train.epochs=1; may be repeated."),
]
Update = Annotated[
    bool, typer.Option("--update", help="Redo from the first changed stage; nothing is deleted.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show settings, counts and estimates; load no model.")
]
Runner = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--runner", help="Where row-wise work runs: local, or ray (Ray Data)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No talk on stderr.")]

Model = Annotated[str, typer.Option("--model", help="Folder, hub id, or smollm2-135m.")]
ThinkingFormat = Annotated[str, typer.Option("--format", help="auto, s1, think-tags, plain, …")]
Cap = Annotated[int, typer.Option("--cap", help="Most thinking tokens.")]
Waits = Annotated[int, typer.Option("--waits", help="Ends refused with a wait string.")]
WaitString = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--wait-string", help="Text of the waits; repeat for a rotation."),
]
AnswerTokens = Annotated[int, typer.Option("--answer-tokens", help="Limit of the answer.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 is greedy.")]
Seed = Annotated[int, typer.Option("--seed", help="Of sampled draws.")]


class DecodingOptions(NamedTuple):
    """The options of one model's budget-forced decoding."""

    model: str
    thinking_format: str
    cap: int
    waits: int
    wait_strings: list[str] | None
    answer_tokens: int
    temperature: float
    seed: int

    def settings(self, overrides: list[str] | None) -> dict[str, Any]:
        """Of a `GenerateRequest`."""
        forcing: dict[str, Any] = {"answer_tokens": self.answer_tokens}
        if self.wait_strings:
            forcing["wait_strings"] = self.wait_strings
        settings = {
            "model": self.model, "seed": self.seed, "chat": {"format": self.thinking_format},
            "forcing": forcing, "sampling": {"temperature": self.temperature},
        }  # fmt: skip
        return {
            "cap": self.cap, "waits": self.waits, "settings": settings,
            "overrides": tuple(overrides or ()),
        }  # fmt: skip


@app.command()
def run(
    recipe: RecipeArgument,
    out: Out = None,
    set_: Set = None,
    update: Update = False,
    dry_run: DryRun = False,
    runner: Runner = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run all stages of a recipe; what is done is skipped.

    Example: slowthink run quickstart --out runs/quickstart
    """
    _run(
        recipe,
        None,
        out,
        _with_runner(set_, runner),
        update=update,
        dry_run=dry_run,
        as_json=json_,
        quiet=quiet,
    )


def _with_runner(overrides: list[str] | None, runner: str | None) -> list[str]:
    return [*(overrides or ()), *([f"runner={runner}"] if runner else ())]


def _run(
    source: str,
    stage: str | None,
    out: Path | None,
    overrides: list[str] | None,
    *,
    update: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    regrade: bool = False,
) -> None:
    from slowthink.cli import commands

    request = commands.RunRequest(
        source=source,
        out=out,
        overrides=tuple(overrides or ()),
        stages=(stage,) if stage else None,
        update=update,
        regrade=regrade,
        quiet=quiet,
    )
    _emit(commands.dry_run(request) if dry_run else commands.run(request), as_json=as_json)


def _emit(result: Any, *, as_json: bool) -> None:
    """Print a result: its data as JSON, or its text."""
    typer.echo(json.dumps(result.data, indent=1, ensure_ascii=False) if as_json else result.text)


def _stage_command(stage: str, summary: str) -> None:
    def command(
        recipe: RecipeArgument,
        out: Out = None,
        set_: Set = None,
        update: Update = False,
        dry_run: DryRun = False,
        runner: Runner = None,
        json_: Json = False,
        quiet: Quiet = False,
    ) -> None:
        _run(
            recipe,
            stage,
            out,
            _with_runner(set_, runner),
            update=update,
            dry_run=dry_run,
            as_json=json_,
            quiet=quiet,
        )

    command.__doc__ = f"{summary}\n\nExample: slowthink {stage} quickstart --out runs/quickstart"
    app.command(name=stage)(command)


for _stage, _summary in (
    ("pool", "Gather problems, and hold some out for evaluation."),
    ("filter", "Drop problems not worth learning from, each with its reason."),
    ("trace", "Gather chains of thought and keep the right ones."),
    ("select", "Choose the training set."),
    ("train", "Fine-tune on the chosen chains."),
):
    _stage_command(_stage, _summary)


@app.command()
def evaluate(
    recipe: RecipeArgument,
    out: Out = None,
    set_: Set = None,
    update: Update = False,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Grade the stored answers again; generate nothing.")
    ] = False,
    dry_run: DryRun = False,
    runner: Runner = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure models on held-out problems and benchmarks over thinking budgets.

    Example: slowthink evaluate quickstart --out runs/quickstart
    """
    _run(
        recipe, "evaluate", out, _with_runner(set_, runner),
        update=update, dry_run=dry_run, as_json=json_, quiet=quiet, regrade=regrade,
    )  # fmt: skip


_stage_command("report", "Write the HTML page of a run; with --json, its figures as data.")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another, or the same: base against tuned.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="HTML page to write, with the questions that changed."),
    ] = None,
    arm_a: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--arm-a", help="Arm of the first run. Default: its tuned one."),
    ] = None,
    arm_b: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--arm-b", help="Arm of the second run. Default: its tuned one."),
    ] = None,
    json_: Json = False,
) -> None:
    """Compare two runs, or two arms of one, on the questions that both answered.

    Example: slowthink compare runs/one runs/two --out compare.html
    """
    from slowthink.cli import commands

    _emit(commands.compare(run_a, run_b, out=out, arm_a=arm_a, arm_b=arm_b), as_json=json_)


@app.command()
def generate(
    prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="One problem. Omit it with --file."),
    ] = None,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--file", help="JSONL rows with a `question`; writes a row for each."),
    ] = None,
    model: Model = "smollm2-135m",
    thinking_format: ThinkingFormat = "plain",
    cap: Cap = 128,
    waits: Waits = 0,
    wait_string: WaitString = None,
    answer_tokens: AnswerTokens = 64,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Budget-forced decoding of one prompt or a file of problems, on any engine.

    Example: slowthink generate "What is 17 + 25?" --cap 64 --waits 1
    """
    from slowthink.cli import commands
    from slowthink.cli.generate import GenerateRequest

    decoding = DecodingOptions(
        model, thinking_format, cap, waits, wait_string, answer_tokens, temperature, seed
    )
    request = GenerateRequest(prompt=prompt, file=file, **decoding.settings(set_))
    _emit(commands.generate(request), as_json=json_)


@app.command()
def chat(
    model: Model = "smollm2-135m",
    thinking_format: ThinkingFormat = "plain",
    cap: Cap = 512,
    waits: Waits = 0,
    wait_string: WaitString = None,
    answer_tokens: AnswerTokens = 256,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """A talk with a model whose thinking has a budget; also of lines on stdin.

    Example: slowthink chat --model runs/quickstart/train/model --format s1 --cap 128
    """
    from slowthink.cli import commands
    from slowthink.cli.generate import GenerateRequest

    decoding = DecodingOptions(
        model, thinking_format, cap, waits, wait_string, answer_tokens, temperature, seed
    )
    request = GenerateRequest(prompt=None, file=None, **decoding.settings(set_))
    if commands.chat(request, as_json=json_):
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or smollm2-135m.")],
    further: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="After --: options of `vllm serve`.", metavar="[-- OPTIONS]"),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8000,
    dtype: Annotated[str, typer.Option("--dtype", help="Numbers to compute in.")] = "auto",
    set_: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the command and a request; start nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Serve a model by vLLM, with budgets forced inside each request.

    Example: slowthink serve smollm2-135m --port 8000 -- --max-num-seqs 64
    """
    from slowthink.cli import commands
    from slowthink.cli.serve import ServeRequest

    request = ServeRequest(
        model=model, host=host, port=port, dtype=dtype, overrides=tuple(set_ or ()),
        further=tuple(further or ()),
    )  # fmt: skip
    result = commands.serve(request, start=not dry_run)
    _emit(result, as_json=json_)


@app.command()
def grade(
    file: Annotated[Path, typer.Argument(help="JSONL rows {gold, pred | response[, equal]}.")],
    mode: Annotated[
        str, typer.Option("--mode", help="strict, limo-compat, s1-compat or math-verify.")
    ] = "strict",
    workers: Annotated[int, typer.Option("--workers", help="Worker processes.")] = 2,
    compare: Annotated[
        bool, typer.Option("--compare", help="The same rows by every mode, in one table.")
    ] = False,
    judge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--judge",
            help="Ask this model (folder, hub id, smollm2-135m) where the rules cannot decide, and "
            "audit it on 50 rows where they did.",
        ),
    ] = None,
    ledger: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--ledger", help="Where opinions are kept. Default: FILE.judge.sqlite."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Grade answers: verdicts, agreement with known labels, speed.

    Example: slowthink grade answers.jsonl --json
    """
    from slowthink.cli import commands

    request = commands.GradeRequest(
        file=file, mode=mode, num_workers=workers, compare=compare, judge=judge, ledger=ledger,
        quiet=quiet,
    )  # fmt: skip
    _emit(commands.grade(request), as_json=json_)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder that has evaluated.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    json_: Json = False,
) -> None:
    """Write a run's samples in the form of lm-evaluation-harness.

    Example: slowthink export runs/quickstart --out samples
    """
    from slowthink.cli import commands

    _emit(commands.export(run, out), as_json=json_)


@app.command()
def scorer(
    run: Annotated[Path, typer.Argument(help="A finished run with a tuned model.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the scorer.")],
    problems: Annotated[int, typer.Option("--problems", help="Training problems.")] = 150,
    samples: Annotated[int, typer.Option("--samples", help="Chains of each.")] = 4,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make a small scorer of chains: a linear head on the tuned model, with outcome labels.

    Example: slowthink scorer runs/quickstart --out runs/quickstart/scorer
    """
    from slowthink.cli import commands

    result = commands.scorer(run, out, num_problems=problems, num_samples=samples, quiet=quiet)
    _emit(result, as_json=json_)


@app.command()
def bench(
    name: Annotated[
        str, typer.Argument(help="difficulty, filter, forcing, grade, sweep or train.")
    ],
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds; the median is quoted.")] = 5,
    data: Annotated[Path | None, typer.Option("--data", help="Own data to measure on.")] = None,
    scale: Annotated[bool, typer.Option("--scale", help="filter: up to a million rows.")] = False,
    json_: Json = False,
) -> None:
    """Measure our speed against the reference way, in one run.

    Example: slowthink bench grade --json
    """
    from slowthink.cli import commands

    _emit(commands.bench(name, num_rounds=rounds, data_path=data, scale=scale), as_json=json_)


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(help="A recipe, or a file of problems, or a folder of JSONL files."),
    ],
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Prove keys before a run: sources load, the grader accepts every gold answer.

    Example: slowthink check quickstart
    """
    from slowthink.cli import commands

    result = commands.check(source, tuple(set_ or ()))
    _emit(result, as_json=json_)
    if not result.data["ok"]:
        raise typer.Exit(1)


@app.command()
def doctor(
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A recipe that this machine shall run."),
    ] = None,
    json_: Json = False,
) -> None:
    """Say what this machine can run, what is missing, and the command that mends it.

    Example: slowthink doctor quickstart
    """
    from slowthink.cli.doctor import examine

    _emit(examine(recipe), as_json=json_)


def main(arguments: list[str] | None = None) -> None:
    """The console script: errors of ours print their message and no traceback."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except SlowthinkError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error shows itself
        if show is None:
            raise
        show()
        code = 2
    if code == 130:
        print(
            "interrupted; what was finished is kept: give the same command again", file=sys.stderr
        )
    sys.exit(code)


if __name__ == "__main__":
    main()
