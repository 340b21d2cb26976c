"""The folder of a repository: cards and tables are written, a model's files stay where they are.

RUN/publish/data/README.md, data/train.parquet, contamination-filter.json, card.sha256
RUN/publish/model/README.md, curve.svg, .eval_results/gsm8k.yaml; RUN/train/model/* is sent too
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from slowthink.curation.overlap import certificate
from slowthink.data.manifests import check_files
from slowthink.errors import ConfigError, DataError
from slowthink.publish.cards import data_card, model_card
from slowthink.publish.facts import Facts
from slowthink.publish.results import eval_results
from slowthink.publish.sources import Permission, check_sources, shared_with_tests
from slowthink.publish.training_table import TABLE, write_table
from slowthink.serialise import write_atomic
from slowthink.stages.report import charts

What = Literal["data", "model"]
CARD = "README.md"
CARD_DIGEST = "card.sha256"
"""Digest of the card as it was written; a card that differs was edited and is kept."""

MAX_CONFIG_BYTES = 100_000
_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_ABSOLUTE_PATH = re.compile(r'"((?:/|~/|[A-Z]:\\\\)[\w.~-]+[/\\][^"\n]*)"')


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of the repository."""

    path: str
    """In the repository."""
    source: Path
    """On this machine."""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.source.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What would be uploaded, and what speaks against it."""

    what: What
    repo: str
    folder: Path
    """Where cards and tables were written."""
    files: tuple[PublishedFile, ...]
    licence: str | None
    """None: it must be named first."""
    refusals: tuple[str, ...]
    """Why nothing may be uploaded."""
    warnings: tuple[str, ...]


def prepare(
    root: Path, what: What, *, repo: str, licence: str | None = None, out: Path | None = None
) -> Publication:
    """Write the card and the tables of a run into a folder (default: RUN/publish/WHAT).

    Raises ConfigError for a repository that is no USER/NAME, DataError if the stage select, or
    train, is not finished or its files are damaged, and OSError, with the path, if a file cannot be
    written. An edited card is kept.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"--repo {repo:.200}: expected USER/NAME. Name one, e.g. me/my-model.")
    facts = Facts.read(root, needs="select" if what == "data" else "train")
    folder = out or root / "publish" / what
    folder.mkdir(parents=True, exist_ok=True)
    permission = _permission(facts, what, licence)
    warnings = list(permission.warnings)
    if what == "data":
        names = _write_data(facts, folder)
        card = data_card(facts, repo=repo, licence=permission.licence)
        files: Mapping[str, Path] = {}
    else:
        check_files(facts.run.folders["train"])
        names, notes = _write_results(facts, folder)
        warnings += notes
        card = model_card(
            facts, repo=repo, licence=permission.licence, has_picture="curve.svg" in names
        )
        files = _model_files(facts)
        warnings += _local_paths(files.values())
    if not _write_card(folder, card):
        warnings.append(f"{folder / CARD} was edited and is kept; remove it to write it again.")
    files = {name: folder / name for name in (CARD, *names)} | dict(files)
    return Publication(
        what=what, repo=repo, folder=folder, licence=permission.licence,
        files=tuple(PublishedFile(path=name, source=path) for name, path in files.items()),
        refusals=permission.refusals, warnings=tuple(warnings),
    )  # fmt: skip


def _permission(facts: Facts, what: What, licence: str | None) -> Permission:
    """Whether the repository may be published. A model's rows are not passed on, so that what
    their licences forbid is a warning."""
    settings = facts.run.settings
    rows = check_sources(facts.sources, settings, licence=licence)
    shared = shared_with_tests(facts.traces, facts.test_ids)
    if what == "data":
        return Permission(
            licence=rows.licence, refusals=(*rows.refusals, *shared), warnings=rows.warnings
        )
    warnings = [f"training data: {text}" for text in (*rows.refusals, *rows.warnings)]
    if not facts.traces:
        warnings.append("training data: not in this run, so its sources were not checked.")
    chosen = licence.lower() if licence else facts.base_licence
    if chosen is None:
        warnings.append(
            f"The licence of the base model {facts.base} is not known here. Read it, and name the "
            "licence that you publish under: --license NAME"
        )
    return Permission(licence=chosen, refusals=tuple(shared), warnings=tuple(warnings))


def _write_data(facts: Facts, folder: Path) -> list[str]:
    """Write the table and the certificates, without the texts that they quote from test sets."""
    write_table(folder / TABLE, facts.traces)
    names = [TABLE]
    for stage in ("filter", "trace"):
        source = facts.run.folders.get(stage, Path()) / certificate.CERTIFICATE_FILE
        if stage in facts.run.folders and source.exists():
            names.append(f"contamination-{stage}.json")
            summary = certificate.summarise(json.loads(source.read_text("utf-8")))
            text = json.dumps(summary, indent=1, ensure_ascii=False)
            write_atomic(folder / names[-1], text + "\n")
    return names


def _write_results(facts: Facts, folder: Path) -> tuple[list[str], list[str]]:
    """Write the curve and the results for leaderboards; their names, and why some are missing."""
    names: list[str] = []
    sets = facts.head["sets"]
    if sets and (picture := charts.curve_svg(sets[0]["arms"], css=charts.chart_css())):
        write_atomic(folder / "curve.svg", picture)
        names.append("curve.svg")
    results, notes = eval_results(facts)
    for name, entries in results.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, yaml.safe_dump(entries, allow_unicode=True, sort_keys=False))
        names.append(name)
    return names, notes


def _model_files(facts: Facts) -> Mapping[str, Path]:
    """The files of the model that the stage train wrote, by their path in the repository."""
    folder = facts.run.folders["train"]
    names = [name for name in facts.run.manifests["train"]["files"] if name.startswith("model/")]
    if not names:
        raise DataError(
            f"{folder}: no model; expected its files in {folder / 'model'}. "
            f"Run: slowthink train {facts.run.root} --update"
        )
    return {name.removeprefix("model/"): folder / name for name in sorted(names)}


def _local_paths(files: Iterable[Path]) -> list[str]:
    """A warning for each JSON file of a model that names a folder of this machine."""
    return [
        f"{path.name} names {match.group(1)}, a path of this machine; change it if it is private."
        for path in files
        if path.suffix == ".json" and path.stat().st_size < MAX_CONFIG_BYTES
        if (match := _ABSOLUTE_PATH.search(path.read_text("utf-8", "replace")))
    ]


def _write_card(folder: Path, card: str) -> bool:
    """Write the card and its digest; False if the card there was edited since."""
    path, digest = folder / CARD, folder / CARD_DIGEST
    if path.exists() and _sha256(path.read_text("utf-8")) != _read_if_exists(digest):
        return False
    write_atomic(digest, _sha256(card))
    write_atomic(path, card)
    return True


def _read_if_exists(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
