"""The command line: the commands in the order of the pipeline, and the exit codes.

Results go to stdout, progress to stderr. Exit 0 done, 1 failed, 2 usage, 130 interrupted with
partial results kept. A command's file imports heavy packages inside its functions, so that
`slowthink --help` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from slowthink.cli.chat import chat
from slowthink.cli.check import check
from slowthink.cli.compare import compare
from slowthink.cli.decontaminate import decontaminate
from slowthink.cli.dedup import dedup
from slowthink.cli.doctor import doctor
from slowthink.cli.export import export
from slowthink.cli.generate import generate
from slowthink.cli.grade import grade
from slowthink.cli.init import init
from slowthink.cli.passk import passk
from slowthink.cli.publish import publish
from slowthink.cli.recipes import recipes
from slowthink.cli.review import review
from slowthink.cli.run import stage_command
from slowthink.cli.scorer import scorer
from slowthink.cli.serve import serve
from slowthink.environment import end_process, hide_import_warnings, python_environment
from slowthink.errors import ConfigError, SlowthinkError
from slowthink.serialise import printable

app = typer.Typer(
    name="slowthink",
    help="Build reasoning data, train a slow-thinking language model on it, and measure it under "
    "thinking budgets.",
    no_args_is_help=True,
    add_completion=True,
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
    review,
    compare,
    generate,
    chat,
    serve,
    grade,
    passk,
    decontaminate,
    dedup,
    export,
    publish,
    scorer,
    check,
    init,
    recipes,
    doctor,
):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        from slowthink.environment import __version__

        typer.echo(f"slowthink {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options that come before a command."""


@functools.cache
def click_command() -> Callable[..., Any]:
    """The commands as click runs them; typer would make all of them again at each call."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. A SlowthinkError is printed as a message, without a traceback, and so
    is an error of a file or a folder."""
    os.environ.update(python_environment())
    hide_import_warnings()
    _open_streams()
    try:
        exit_code = click_command()(args=arguments, standalone_mode=False)
        _flush_stdout()
    except (typer.Abort, KeyboardInterrupt):
        exit_code = 130
    except SlowthinkError as error:
        _print_error(f"error: {error}")
        exit_code = 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        _print_error(
            f"error: {error.filename or 'standard output or a file'}: {error.strerror or error}; "
            "expected a place that can be read and written. Nothing finished is lost. Name "
            "another, or free disk space, then run the same command again."
        )
        exit_code = 1
    except Exception as error:
        exit_code = _show_usage_error(error)
    if exit_code == 130:
        _print_error(
            "interrupted; finished work in a run folder or a ledger is kept. Run the same command "
            "again to continue"
        )
    if arguments is None:
        end_process(exit_code or 0)
    sys.exit(exit_code)


def _open_streams() -> None:
    """Let streams escape what their encoding lacks, instead of raising an error.

    A closed stream is opened on the null device: else the next file, perhaps a ledger, takes its
    number, and what a library prints would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        stream = getattr(sys, name) or open(os.devnull, mode)  # noqa: SIM115
        setattr(sys, name, stream)
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _flush_stdout() -> None:
    """Write what is still in stdout's buffer; if that fails, drop it, or Python would try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
        raise


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def _show_usage_error(error: Exception) -> int:
    """Print a usage error of click and return the exit code; raise any other exception again."""
    if not hasattr(error, "show"):
        raise error
    if isinstance(getattr(error, "message", None), str):
        error.message = printable(error.message.removeprefix("Value error, "))  # type: ignore[attr-defined]
    error.show()
    return 2


if __name__ == "__main__":
    main()
