"""`slowthink review`: people examine the chains of a run together, on a local page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli.options import Json, print_result
from slowthink.errors import ConfigError

if TYPE_CHECKING:
    from slowthink.review.chains import ReviewSet


def review(
    run: Annotated[Path, typer.Argument(help="A run folder with a finished trace stage.")],
    problems: Annotated[
        int | None, typer.Option("--problems", min=1, help="Number of problems. Default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed by which problems are drawn.")] = 0,
    all_: Annotated[
        bool, typer.Option("--all", help="Also chains that the trace stage dropped.")
    ] = False,
    reviewers: Annotated[
        int, typer.Option("--reviewers", min=1, help="Judgements that make a chain done.")
    ] = 2,
    reviewer: Annotated[
        list[str] | None,
        typer.Option("--reviewer", help="Name of a reviewer; repeat. Default: any name."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address; another than 127.0.0.1 needs its token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.")] = 8384,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write all judgements as JSONL.")
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Add judgements from JSONL or a database.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print progress and agreement; serve nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Read chains on a local page and judge them: level, flags, notes, preferences.

    Example: slowthink review runs/quickstart --problems 25
    """
    from slowthink.data.reviews import DATABASE
    from slowthink.review import exchange, server
    from slowthink.review.chains import load_chains

    if (export is not None) + (import_ is not None) + summary > 1:
        raise ConfigError("review: expected one of --export, --import and --summary. Leave one.")
    if export is not None:
        data = exchange.export_reviews(run, export)
        print_result(f"{export}: {data['num_judgements']} judgements", data, as_json=json_)
        return
    reviewed = load_chains(run, num_problems=problems, seed=seed, all_chains=all_)
    if import_ is not None:
        data = exchange.import_reviews(run, import_, reviewed)
        text = f"{data['num_new']} new judgements, of {data['num_judgements']} in {import_}"
        print_result(text, data, as_json=json_)
    elif summary:
        figures, text = _summarise(run, reviewed, num_reviewers=reviewers)
        print_result(text, figures, as_json=json_)
    else:
        server.serve(
            run, reviewed, host=host, port=port, num_reviewers=reviewers, names=reviewer or (),
            notify=lambda text: typer.echo(text, err=True),
        )  # fmt: skip
        text = f"judgements are in {run / DATABASE}; next: slowthink review {run} --summary"
        print_result(text, {"database": str(run / DATABASE)}, as_json=json_)


def _summarise(run: Path, reviewed: ReviewSet, *, num_reviewers: int) -> tuple[dict[str, Any], str]:
    """Progress and agreement of the judgements so far, also as text."""
    from slowthink.data.reviews import DATABASE, read_reviews
    from slowthink.review.summary import summarise, summary_text

    judgements = read_reviews(run / DATABASE)
    reviewed.check(judgements, where=run / DATABASE)
    figures = summarise(reviewed, judgements, num_reviewers=num_reviewers)
    return figures, summary_text(figures)
