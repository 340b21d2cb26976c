"""The command line: the commands in the order of the pipeline, and the exit codes.

Results go to stdout, progress to stderr. Exit 0 done, 1 failed, 2 usage, 130 interrupted with
partial results kept. A command's file imports heavy packages inside its functions, so that
`slowthink --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from slowthink.cli.chat import chat
from slowthink.cli.check import check
from slowthink.cli.compare import compare
from slowthink.cli.doctor import doctor
from slowthink.cli.export import export
from slowthink.cli.generate import generate
from slowthink.cli.grade import grade
from slowthink.cli.run import stage_command
from slowthink.cli.scorer import scorer
from slowthink.cli.serve import serve
from slowthink.errors import ConfigError, SlowthinkError

app = typer.Typer(
    name="slowthink",
    help="Build reasoning data, train a slow-thinking language model on it, and measure it under "
    "thinking budgets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

for command in (
    stage_command("run", "Run all stages of a recipe; finished ones are skipped."),
    stage_command("pool", "Gather problems and hold some out for evaluation."),
    stage_command("filter", "Drop problems not worth learning from, each with its reason."),
    stage_command("trace", "Gather chains of thought and keep the correct ones."),
    stage_command("select", "Select the training set."),
    stage_command("train", "Fine-tune the model on the selected chains."),
    stage_command("evaluate", "Measure accuracy on held-out problems under thinking budgets."),
    stage_command("report", "Write the HTML report of a run; --json prints its figures."),
    compare,
    generate,
    chat,
    serve,
    grade,
    export,
    scorer,
    check,
    doctor,
):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. A SlowthinkError is printed as a message, without a traceback."""
    try:
        exit_code = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        exit_code = 130
    except SlowthinkError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_code = 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors have one
        if show is None:
            raise
        show()
        exit_code = 2
    if exit_code == 130:
        print(
            "interrupted; finished work is kept. Run the same command again to continue",
            file=sys.stderr,
        )
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
