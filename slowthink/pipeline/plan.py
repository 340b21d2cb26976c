"""What a run needs, and the rows it is expected to have, before anything runs.

A file that is not there yet counts as no rows, and is one of `missing_inputs`:

    MissingInput(setting="trace.sources.0.path", path="chains.jsonl")
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowthink.data import hub
from slowthink.data.hub import HubDataset
from slowthink.data.load import hub_dataset
from slowthink.data.registry import expected_problems, find_benchmark, published_datasets
from slowthink.data.rows import estimate_rows
from slowthink.engines.models import can_download, is_here, is_path
from slowthink.environment import environment_variable
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.contract import INPUTS
from slowthink.recipe import (
    BenchmarkConfig,
    CatalogueSource,
    FileSource,
    FileTraces,
    HubSource,
    PoolSource,
    Recipe,
    Settings,
    TeacherTraces,
)
from slowthink.recipe.loading import recipe_names
from slowthink.recipe.models import ModelUse, model_uses
from slowthink.recipe.saved import sections
from slowthink.recipe.sources import SampledSource

_FILE_SETTINGS = ("path", "input", "samples")
"""Settings that name a file, or a stage's folder, that must exist."""


@dataclass(frozen=True, kw_only=True)
class MissingInput:
    """A file, folder, model, dataset or key that a stage needs and that does not exist."""

    setting: str
    path: str
    """Of a model, a dataset or an environment variable: its name."""
    command: str | None = None
    """The command that makes or sets it; None if only the user can provide it."""
    kind: Literal["file", "model", "cached dataset", "environment variable"] = "file"
    value: str = "PATH"
    """What the setting is set to for another one."""

    def to_json(self) -> dict[str, str]:
        """What is missing and what to do, as `--dry-run` and `check` give it."""
        return {"setting": self.setting, "path": self.path, "remedy": self.remedy}

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.command:
            return f"run {self.command}"
        change = "--set " + shlex.quote(f"{self.setting}={self.value}")
        if self.kind == "model" and not is_path(self.path):
            return f"{change}, or with a network: hf download {self.path}"
        if self.kind == "cached dataset":
            return f"{change}, or start once with a network, which fills the cache"
        return change


def missing_inputs(recipe: Recipe, stages: Sequence[str]) -> list[MissingInput]:
    """What these stages need and lack: files, folders, models, and the API keys of servers."""
    return [*missing_files(recipe, stages), *missing_keys(recipe, stages)]


def missing_keys(recipe: Recipe, stages: Sequence[str]) -> list[MissingInput]:
    """Environment variables that are to hold API keys of these stages' servers, and are not set."""
    return [
        MissingInput(
            setting=setting, path=name, kind="environment variable", command=f"export {name}=…"
        )
        for name, setting in key_settings(recipe, stages).items()
        if not environment_variable(name)
    ]


def key_settings(recipe: Recipe, stages: Sequence[str]) -> dict[str, str]:
    """The settings that name API keys of these stages' servers, by environment variable."""
    keys: dict[str, str] = {}
    for use in model_uses(recipe):
        endpoints = use.engine.endpoints
        name = endpoints.api_key_env if endpoints and not use.is_loaded_here else None
        if name and use.stage in stages:
            keys.setdefault(name, f"{use.engine_setting}.endpoints.api_key_env")
    return keys


def missing_files(recipe: Recipe, stages: Sequence[str]) -> list[MissingInput]:
    """Files and folders named in the settings of these stages that do not exist, and models and
    datasets that are not on this machine and cannot be downloaded: offline, or of a folder."""
    return [
        *(
            MissingInput(setting=setting, path=path, command=_command_for(Path(path)))
            for setting, path in _named_paths(recipe, stages)
            if not _exists(Path(path))
        ),
        *(
            MissingInput(
                setting=use.setting,
                value=use.value,
                path=name,
                kind="model",
                command=_model_command(recipe, use),
            )
            for name, use in _absent_models(recipe, stages).items()
            if not can_download(name)
        ),
        *(
            MissingInput(
                setting=setting,
                path=name if name == dataset.hub_id else f"{name} ({dataset.hub_id})",
                kind="cached dataset",
                value="FOLDER" if setting.endswith(".mirror") else "FILE",
            )
            for setting, (name, dataset) in _absent_datasets(recipe, stages).items()
            if not hub.can_download(dataset)
        ),
    ]


def downloads(recipe: Recipe, stages: Sequence[str]) -> list[str]:
    """Models and datasets that these stages download when they start."""
    names = [name for name in _absent_models(recipe, stages) if can_download(name)]
    datasets = [dataset for _, dataset in _absent_datasets(recipe, stages).values()]
    names += [dataset.hub_id for dataset in datasets if hub.can_download(dataset)]
    return list(dict.fromkeys(names))


def _absent_datasets(recipe: Recipe, stages: Sequence[str]) -> dict[str, tuple[str, HubDataset]]:
    """Name and place of each dataset that these stages load from the Hugging Face hub and that is
    not in its cache, by the setting that names a copy instead."""
    return {
        setting: (name, dataset)
        for place, section in sections(recipe)
        if place and place[0] in stages
        for setting, name, dataset in _hub_datasets(section, ".".join(map(str, place)))
        if dataset.site == "huggingface" and not hub.is_cached(dataset)
    }


def _hub_datasets(section: Settings, place: str) -> Iterator[tuple[str, str, HubDataset]]:
    """The setting for a copy, the name, and the place on its hub of each part of the dataset that a
    section names; none if it names a copy, or a set that is on no hub."""
    if isinstance(section, HubSource) and section.mirror is None:
        dataset = HubDataset(
            hub_id=section.hub_id, config=section.hub_config, split=section.hub_split,
            revision=section.revision, site=section.site,
        )  # fmt: skip
        yield f"{place}.mirror", section.hub_id, dataset
    if not isinstance(section, BenchmarkConfig | CatalogueSource) or section.path is not None:
        return
    is_pool = isinstance(section, CatalogueSource)
    sets = published_datasets("pool")
    published = sets.get(section.name) if is_pool else find_benchmark(section.name)
    if published is None or published.hub_id is None:
        return
    site = section.site if isinstance(section, CatalogueSource) else "huggingface"
    for part in published.parts if is_pool else published.parts[:1]:
        dataset = hub_dataset(published, part, revision=section.revision, site=site)
        yield f"{place}.path", published.name, dataset


def _absent_models(recipe: Recipe, stages: Sequence[str]) -> dict[str, ModelUse]:
    """Models that these stages load and that are not on this machine, by name. Stage `train`
    loads the recipe's; `trace`, and `evaluate` for stored samples, only its tokenizer."""
    loaded = [
        use
        for use in model_uses(recipe)
        if use.stage in stages and use.is_loaded_here and use.setting
    ]
    absent = {use.name: use for use in loaded if not is_here(use.name, use.revision)}
    stored = recipe.evaluate is not None and any(arm.samples for arm in recipe.evaluate.arms)
    for stage in ("trace", "train", *(("evaluate",) if stored else ())):
        own = ModelUse(
            name=recipe.model, revision=recipe.revision, engine=recipe.engine, setting="model",
            engine_setting="engine", stage=stage,
        )  # fmt: skip
        is_needed = stage in stages and stage in recipe.stages()
        # With a network, the rest of a model is downloaded with its tokenizer.
        tokenizer_only = stage != "train" and not can_download(own.name)
        if is_needed and not is_here(own.name, own.revision, tokenizer_only=tokenizer_only):
            absent[own.name] = own
    return absent


def check_inputs(recipe: Recipe, stages: Sequence[str]) -> None:
    """Raise DataError naming every missing input of these stages at once."""
    if missing := missing_inputs(recipe, stages):
        lines = [f"{m.path}: no such {m.kind} ({m.setting}): {m.remedy}" for m in missing]
        raise DataError(
            f"{recipe.name}: {len(missing)} input(s) of the run are missing; expected files of "
            "rows, folders of stages, models, or keys. Make or name them:\n  " + "\n  ".join(lines)
        )


def _command_for(path: Path) -> str | None:
    """The command that makes the folder of a stage in a shipped recipe's run, else None."""
    stage, run = path.name, path.parent.name
    return f"slowthink {stage} {run}" if stage in INPUTS and run in recipe_names() else None


def _model_command(recipe: Recipe, use: ModelUse) -> str | None:
    """The command that makes a missing model, if it is a stage's or a scorer's, else None."""
    if use.setting == "evaluate.parallel.scorer.model" and is_path(use.name):
        source = Path((recipe.evaluate and recipe.evaluate.input) or "")
        run = source.parent if source.name in INPUTS else "RUN"
        return f"slowthink scorer {run} --out {Path(use.name)}"
    return _command_for(Path(use.name).parent)


def _named_paths(recipe: Recipe, stages: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, section in sections(recipe):
        if not place or place[0] not in stages:
            continue
        for name in _FILE_SETTINGS:
            path = getattr(section, name, None)
            if isinstance(path, str) and not (name == "input" and _is_unused(recipe, place[0])):
                yield ".".join(map(str, (*place, name))), path


def _is_unused(recipe: Recipe, stage: object) -> bool:
    """Whether a stage's `input` is not read, since the recipe runs an earlier stage."""
    return stage != "evaluate" and any(s in recipe.stages() for s in INPUTS[str(stage)])


def _exists(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def file_rows(path: str, *, setting: str, limit: int | None = None) -> int:
    """Number of rows of a file or a stage's folder, at most `limit`; 0 if it is missing."""
    if not _exists(Path(path)):
        return 0
    num_rows = estimate_rows(path, setting=setting)
    return min(num_rows, limit or num_rows)


def planned_rows(recipe: Recipe) -> dict[str, int]:
    """Expected rows of each pool source, by its key in the recipe; no source is loaded."""
    sources = recipe.pool.sources if recipe.pool else ()
    rows = {}
    for index, source in enumerate(sources):
        setting = f"pool.sources.{index}"
        rows[setting] = _expected_rows(source, setting)
    return rows


def planned_problems(recipe: Recipe) -> int:
    """Expected training problems of the pool, or of the filter's own input, at most."""
    if recipe.pool is None:
        path = recipe.filter.input if recipe.filter else None
        return file_rows(path, setting="filter.input") if path else 0
    return sum(max(0, num_rows - num_heldout) for num_rows, num_heldout in _pool_counts(recipe))


def planned_heldout(recipe: Recipe) -> int:
    """Expected held-out problems of the pool, or of the evaluation's own input, at most."""
    path = recipe.evaluate.input if recipe.evaluate else None
    if path:
        return file_rows(path, setting="evaluate.input")
    return sum(num_heldout for _, num_heldout in _pool_counts(recipe))


def planned_traces(recipe: Recipe) -> int:
    """Expected traces that the selection reads, at most; 0 if unknown."""
    if recipe.select and recipe.select.input:
        return file_rows(recipe.select.input, setting="select.input")
    return planned_problems(recipe) or sum(
        file_rows(source.path, setting=f"trace.sources.{index}.path", limit=source.max_traces)
        for index, source in enumerate(recipe.trace.sources if recipe.trace else ())
        if isinstance(source, FileTraces)
    )


def planned_training_set(recipe: Recipe) -> tuple[int, int]:
    """Expected problems and chains that are selected, at most; 0 if unknown."""
    config, available = recipe.select, planned_traces(recipe)
    if config is None:
        return available, available
    requested = None if config.method == "full" else config.num_problems
    num_problems = min(filter(None, (requested, available)), default=0)
    num_chains = num_problems * _chains_per_problem(recipe)
    if config.chains_per_problem:
        num_chains = min(num_chains, num_problems * config.chains_per_problem)
    return num_problems, min(num_chains, config.num_chains or num_chains)


def _chains_per_problem(recipe: Recipe) -> int:
    """Chains that the stage trace keeps of a problem, at most; a file counts as one."""
    config = recipe.trace
    if config is None or config.keep == "one":
        return 1
    counts = {"attempts": attempts_per_problem(recipe)}
    return sum(
        source.num_attempts if isinstance(source, TeacherTraces) else counts.get(source.kind, 1)
        for source in config.sources
    )


def attempts_per_problem(recipe: Recipe) -> int:
    """Attempts that the difficulty steps make at a problem, at most."""
    difficulty = recipe.filter.difficulty if recipe.filter else None
    return sum(
        step.num_attempts * sum(model.samples is None for model in step.models)
        for step in (difficulty.resolved_steps() if difficulty else ())
    )


def _pool_counts(recipe: Recipe) -> list[tuple[int, int]]:
    """Number of rows of each pool source, and how many of them are held out. Raises ConfigError for
    a file of which nothing would be left to train on."""
    sources = recipe.pool.sources if recipe.pool else ()
    counts = []
    for source, (setting, num_rows) in zip(sources, planned_rows(recipe).items(), strict=True):
        all_held_out = isinstance(source, SampledSource) and source.split == "heldout"
        is_read = isinstance(source, FileSource) and not all_held_out
        if is_read and 0 < num_rows <= source.num_heldout:
            raise too_many_held_out(setting, source.num_heldout, num_rows)
        counts.append((num_rows, num_rows if all_held_out else source.num_heldout))
    return counts


def too_many_held_out(setting: str, num_heldout: int, num_problems: int) -> ConfigError:
    """The error for a pool source whose problems would all be held out."""
    return ConfigError(
        f"{setting}.num_heldout: {num_heldout} of {num_problems} problems would be held out; "
        f"expected a smaller number. Lower it: --set {setting}.num_heldout={num_problems // 5}, "
        f"or only evaluate on them: --set {setting}.split=heldout"
    )


def _expected_rows(source: PoolSource, setting: str) -> int:
    """Expected rows of one source; 0 for a Hub dataset without a limit, whose size is unknown."""
    if isinstance(source, FileSource):
        return file_rows(source.path, setting=f"{setting}.path", limit=source.max_problems)
    if isinstance(source, HubSource):
        return source.max_problems or 0
    if isinstance(source, CatalogueSource):
        return expected_problems(source.name, source.max_problems)
    return source.num_problems + source.num_heldout
