"""`slowthink publish`: a run's training set or model, with its card, for the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from slowthink.cli.options import Json, print_result
from slowthink.errors import ConfigError

if TYPE_CHECKING:
    from slowthink.publish import Publication

TOKEN = "HF_TOKEN"


def publish(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    what: Annotated[
        Literal["data", "model"],
        typer.Option("--what", help="data: the selected chains. model: the trained model."),
    ],
    repo: Annotated[str, typer.Option("--repo", help="Repository on the hub: USER/NAME.")],
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Licence to publish under, e.g. apache-2.0."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the card. Default: RUN/publish/WHAT.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public, not private.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Upload. Without it, only the folder is written.")
    ] = False,
    json_: Json = False,
) -> None:
    """Write a card and its files; with --yes, upload them to the Hugging Face hub.

    Example: slowthink publish runs/quickstart --what model --repo me/quickstart
    """
    from slowthink.publish import prepare, upload

    token = _token() if yes else ""
    publication = prepare(run, what, repo=repo, licence=license_, out=out)
    url = upload(publication, token=token, public=public) if yes else None
    print_result(_text(publication, url), _data(publication, url), as_json=json_)


def _token() -> str:
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ConfigError(
            f"publish: {TOKEN} is not set; expected a token with the right to write, which is read "
            f"from the environment only and never stored. Set it: export {TOKEN}=…"
        )
    return token


def _text(publication: Publication, url: str | None) -> str:
    """Files with sizes, what speaks against it, and the next command."""
    lines = [f"{_size(file.size):>10}  {file.path}" for file in publication.files]
    total = sum(file.size for file in publication.files)
    lines.append(f"{_size(total):>10}  in {len(publication.files)} files, written or read from:")
    lines.append(f"            {publication.folder}")
    lines.append(f"licence: {publication.licence or 'none: name it with --license'}")
    lines += [f"refused: {text}" for text in publication.refusals]
    lines += [f"warning: {text}" for text in publication.warnings]
    if url is not None:
        lines.append(f"uploaded: {url}")
    elif not publication.refusals:
        lines.append(
            f"nothing was uploaded. Read {publication.folder / 'README.md'}, then add --yes"
        )
    return "\n".join(lines)


def _size(num_bytes: int) -> str:
    """A number of bytes for people: `269.1 MB`."""
    size, units = float(num_bytes), ["bytes", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _data(publication: Publication, url: str | None) -> dict[str, Any]:
    return {
        "what": publication.what,
        "repo": publication.repo,
        "folder": str(publication.folder),
        "files": [{"path": file.path, "num_bytes": file.size} for file in publication.files],
        "licence": publication.licence,
        "refused": list(publication.refusals),
        "warnings": list(publication.warnings),
        "uploaded": url,
    }
