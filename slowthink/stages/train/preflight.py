"""Checks of a training set before any weight is loaded: what training would spoil or not learn.

    findings = inspect(data, recipe, evaluated)
    Finding("vocabulary", "train: 2 row(s) (p-01, p-02) use token ids of 49152 and more, …",
            level="refuse")

A new check is a function that yields findings, and one line in `CHECKS`. Lengths are checked by
`lengths`, and a chat template that leaves the system prompt out by `forcing.prompts`.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slowthink.data.load import load_benchmark
from slowthink.data.tables import read_records
from slowthink.engines.models import context_length, eos_ids, is_here, tokenizer_fingerprint
from slowthink.errors import DataError, SlowthinkError
from slowthink.forcing.formats import TokenFormat, compile_format, resolve_format
from slowthink.pipeline.contract import StageContext, stage_inputs
from slowthink.recipe import Recipe
from slowthink.records import Problem, Split, Trace, duplicate_key
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.forecast import disk_needed, setup_here
from slowthink.stages.train.schedule import num_steps
from slowthink.stages.train.shapes import read_config
from slowthink.stages.train.training_set import (
    TrainingSet,
    read_training_set,
    room_for_training,
    training_table,
)

MAX_NAMED = 3
"""Rows that a message names."""
MIN_CLOSING_TOKENS = 32
"""That engines reserve for the end of thinking and the answer's cue, at least."""
ENGINES_HERE = ("auto", "transformers", "vllm")
"""Whose context is the model's; a server may have another."""
_SAMPLED_ROWS = 200
"""Rows in which delimiters are looked at: all rows have the same ones."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to know before training."""

    name: str
    text: str
    level: Literal["refuse", "warn", "note"] = "warn"
    """refuse: training must not start. warn: also in the report."""


@dataclass(frozen=True, kw_only=True)
class EvaluationKeys:
    """Duplicate keys of the problems that the recipe evaluates on."""

    keys: Mapping[str, str]
    """Name of the set by key."""
    unread: Mapping[str, str]
    """Why a set could not be read, by its name."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the checks read."""

    data: TrainingSet
    recipe: Recipe
    model: Mapping[str, Any]
    """The base model's config."""
    evaluated: EvaluationKeys
    format: TokenFormat
    root: Path
    """The run folder."""


def inspect(data: TrainingSet, recipe: Recipe, root: Path) -> list[Finding]:
    """All findings about this training set. The run folder `root` may have held-out problems."""
    format = resolve_format(recipe.chat.format, data.tokenizer, recipe.formats)
    material = Material(
        data=data, recipe=recipe, model=read_config(data.source / "config.json"),
        evaluated=evaluation_keys(recipe, root), format=compile_format(format, data.tokenizer),
        root=root,
    )  # fmt: skip
    return [finding for check in CHECKS.values() for finding in check(material)]


def inspect_written(recipe: Recipe, root: Path) -> list[Finding]:
    """The findings about the training set that is in `root`, or named by `train.input`, with what
    reading it refuses. None is read of a model that is not on this machine. A finished training
    needs no more disk."""
    if recipe.train is None or training_table(recipe, root) is None:
        return []
    if not (is_here(recipe.model, recipe.revision) and importlib.util.find_spec("transformers")):
        text = f"train: not checked, since {recipe.model} or transformers is not on this machine"
        return [Finding(name="model", text=text, level="note")]
    context = StageContext(
        stage="train", recipe=recipe, root=root, folder=root, work_folder=root,
        inputs=stage_inputs(recipe, root, "train"), notify=lambda _: None,
    )  # fmt: skip
    try:
        findings = inspect(read_training_set(context), recipe, root)
    except SlowthinkError as error:
        return [Finding(name="training set", text=str(error), level="refuse")]
    is_finished = (root / "train" / "manifest.json").is_file()
    return [each for each in findings if not (is_finished and each.name == "disk")]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise DataError with all findings with which training must not start, if there are any."""
    refusals = [finding.text for finding in findings if finding.level == "refuse"]
    if refusals:
        raise DataError("\n".join(refusals))


def evaluation_keys(recipe: Recipe, root: Path) -> EvaluationKeys:
    """Keys of the run's held-out problems and of the benchmarks. A set that cannot be read now is
    noted: it is evaluated on later, perhaps elsewhere."""
    keys: dict[str, str] = {}
    unread: dict[str, str] = {}
    config = recipe.evaluate
    held_out = config.input if config and config.input else root / "pool"
    if config and (config.input or "pool" in recipe.stages()):
        try:
            keys |= dict.fromkeys(_held_out_keys(Path(held_out)), "the held-out problems")
        except SlowthinkError as error:
            unread["the held-out problems"] = str(error)
    for index, benchmark in enumerate(config.benchmarks if config else ()):
        try:
            loaded = load_benchmark(
                benchmark, seed=recipe.seed, setting=f"evaluate.benchmarks.{index}"
            )
        except SlowthinkError as error:
            unread[benchmark.name] = str(error)
        else:
            keys |= {key: loaded.name for each in loaded.problems for key in problem_keys(each)}
    return EvaluationKeys(keys=keys, unread=unread)


def problem_keys(problem: Problem) -> set[str]:
    """Keys by which a problem is known: the stored one, and that of its question and options."""
    return {problem.duplicate_key, duplicate_key(problem.question, problem.choices)}


def _held_out_keys(path: Path) -> set[str]:
    problems = read_records(path, Problem)
    held_out = [problem for problem in problems if problem.split is Split.HELDOUT]
    return {key for problem in held_out or problems for key in problem_keys(problem)}


# --- checks ---------------------------------------------------------------------------------------


def _check_end_of_sequence(material: Material) -> Iterator[Finding]:
    """Each row must end with the token that ends an answer, and learn it."""
    name, tokenizer = "end of sequence", material.data.tokenizer
    end = tokenizer.eos_token_id
    if end is None:
        yield Finding(
            name=name, level="refuse",
            text=f"model `{material.recipe.model}`: its tokenizer has no end-of-sequence token; "
            "expected one, since a model that never learns it never stops. Set eos_token in its "
            "tokenizer_config.json.",
        )  # fmt: skip
        return
    without = [each for each in material.data.examples if each.completion_ids[-1:] != (end,)]
    if without:
        yield Finding(
            name=name, level="refuse",
            text=f"train: {_rows(without)} do not end with the end-of-sequence token {end}; "
            "expected all to, and to learn it. Write these rows again.",
        )  # fmt: skip
    stops = _generation_ends(material)
    if stops and end not in stops:
        yield Finding(
            name=name,
            text=f"model `{material.recipe.model}`: rows end with the tokenizer's {end} "
            f"({tokenizer.eos_token!r}), and the model's files stop generation at "
            f"{', '.join(map(str, sorted(stops)))}; expected the same id. If this is another "
            "model's tokenizer, name the right one; else add the id to generation_config.json.",
        )  # fmt: skip


def _generation_ends(material: Material) -> frozenset[int]:
    """Ids at which engines stop, by the model's files."""
    path = material.data.source / "generation_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return eos_ids(settings.get("eos_token_id", material.model.get("eos_token_id")), None)


def _check_vocabulary(material: Material) -> Iterator[Finding]:
    """Every id must have a row of the embedding."""
    num_rows = material.model.get("vocab_size")
    if not num_rows:
        return
    examples = material.data.examples
    wrong = [each for each in examples if max(*each.prompt_ids, *each.completion_ids) >= num_rows]
    size = len(material.data.tokenizer)
    if wrong:
        yield Finding(
            name="vocabulary", level="refuse",
            text=f"train: {_rows(wrong)} use token ids of {num_rows} and more, and the model "
            f"`{material.recipe.model}` has {num_rows} embeddings (its tokenizer has {size} "
            "tokens); expected an embedding for each id. Its tokenizer is another model's, or has "
            "added tokens: name the matching folder, or resize the embeddings and save the model.",
        )  # fmt: skip
    elif size > num_rows:
        yield Finding(
            name="vocabulary",
            text=f"model `{material.recipe.model}`: its tokenizer has {size} tokens, the model "
            f"{num_rows} embeddings; expected no more tokens. No row uses one without an "
            "embedding, but a question might. Check that the tokenizer is this model's.",
        )  # fmt: skip


def _check_learnt_tokens(material: Material) -> Iterator[Finding]:
    """Every row must teach more than delimiters and the end of the sequence."""
    token_format, end = material.format, material.data.tokenizer.eos_token_id
    frame = {*token_format.start_ids, *token_format.end_ids, *token_format.newline_ids, end}
    empty = [each for each in material.data.examples if frame.issuperset(each.completion_ids)]
    if empty:
        yield Finding(
            name="learnt tokens", level="refuse",
            text=f"train: {_rows(empty)} have no token to learn but delimiters and the end of the "
            "sequence; expected thinking or an answer. Remove these rows.",
        )  # fmt: skip


def _check_delimiters(material: Material) -> Iterator[Finding]:
    """A delimiter must be the same ids wherever it stands, and none of them unknown."""
    compiled, tokenizer = material.format, material.data.tokenizer
    name, format = "delimiters", material.format.format
    unknown = getattr(tokenizer, "unk_token_id", None)
    for text, ids in ((format.start, compiled.start_ids), (format.end, compiled.end_ids)):
        if text and unknown is not None and unknown in ids and unknown != tokenizer.eos_token_id:
            yield Finding(
                name=name, level="refuse",
                text=f"chat.format `{format.name}`: {text!r} contains the unknown token of "
                f"`{material.recipe.model}`; expected a delimiter that its tokenizer can write. "
                "Name another format.",
            )  # fmt: skip
    traces = material.data.traces[:_SAMPLED_ROWS]
    num_merged = sum(_merges_delimiter(trace, compiled) for trace in traces)
    if num_merged:
        yield Finding(
            name=name,
            text=f"chat.format `{format.name}`: in {num_merged} of {len(traces)} rows the "
            f"tokenizer of `{material.recipe.model}` would merge a delimiter with the text beside "
            "it; expected the same ids wherever it stands. slowthink encodes it apart, in training "
            "and when it asks; a server that encodes whole texts sees other ids. Prefer a format "
            "whose delimiters are special tokens.",
        )  # fmt: skip


def _merges_delimiter(trace: Trace, compiled: TokenFormat) -> bool:
    """Whether encoding the whole text gives other ids than encoding its parts."""
    format, thinking = compiled.format, trace.thinking.strip()
    if format.newline_before_forced_end and thinking:
        thinking += "\n"
    parts = (format.start, thinking, format.end, trace.response.strip())
    whole = [id for part in parts for id in compiled.encode(part)]
    return bool(format.end) and tuple(whole) != compiled.encode("".join(parts))


def _check_overlap(material: Material) -> Iterator[Finding]:
    """No problem of an evaluation set may be trained on."""
    keys, trained = material.evaluated.keys, {each.problem_id for each in material.data.examples}
    shared: dict[str, list[Trace]] = {}
    for trace in material.data.traces:
        if trace.problem.id in trained:
            for name in {keys[key] for key in problem_keys(trace.problem) if key in keys}:
                shared.setdefault(name, []).append(trace)
    for name, traces in shared.items():
        ids = list(dict.fromkeys(trace.problem.id for trace in traces))
        yield Finding(
            name="evaluation rows", level="refuse",
            text=f"train: {len(ids)} problems of the training set are also in {name} "
            f"({', '.join(ids[:MAX_NAMED])}), on which this recipe evaluates; expected none. "
            "Remove these rows (filter.contamination finds them), or evaluate on other problems.",
        )  # fmt: skip
    for name, reason in material.evaluated.unread.items():
        yield Finding(
            name="evaluation rows", level="note",
            text=f"train: whether problems of {name} are in the training set is unknown, since "
            f"they cannot be read now ({reason.splitlines()[0][:200]}).",
        )  # fmt: skip


def _check_budgets(material: Material) -> Iterator[Finding]:
    """The model's context must hold each cap that it is evaluated at, base or tuned, with the
    answer: the evaluation refuses a budget that does not fit, after the training."""
    recipe = material.recipe
    limits = (recipe.engine.max_context, context_length(material.data.source))
    limit = min((limit for limit in limits if limit), default=0)
    arms = recipe.evaluate.arms if recipe.evaluate else ()
    for index, arm in enumerate(arms):
        is_own = arm.model in ("base", "tuned") and arm.samples is None
        needed = max(arm.caps, default=0) + arm.forcing.answer_tokens + MIN_CLOSING_TOKENS
        if is_own and limit and needed >= limit and recipe.engine.kind in ENGINES_HERE:
            yield Finding(
                name="budgets", level="refuse",
                text=f"evaluate.arms.{index}.caps: a cap of {max(arm.caps)}, "
                f"{arm.forcing.answer_tokens} tokens for the answer and {MIN_CLOSING_TOKENS} for "
                f"the closing leave no room for a question; the context of `{recipe.model}` is "
                f"{limit}. Lower the cap, or the arm's forcing.answer_tokens.",
            )  # fmt: skip


def _check_batches(material: Material) -> Iterator[Finding]:
    """Steps that are smaller than the others, or one-row sets."""
    number, config = len(material.data.examples), material.recipe.train
    assert config is not None
    size = config.batch_size
    if number < size:
        yield Finding(
            name="batches", level="warn" if number == 1 else "note",
            text=f"train: {number} example(s) make one step an epoch, smaller than "
            f"train.batch_size of {size}; expected at least {size}. Add rows, or lower "
            "train.batch_size.",
        )  # fmt: skip
    elif number % size:
        yield Finding(
            name="batches", level="note",
            text=f"train: the last step of each epoch has {number % size} examples, the others "
            f"{size}, since {number} examples do not divide; each of the few counts more. Any "
            "number may be trained on.",
        )  # fmt: skip


def _check_other_tokenizer(material: Material) -> Iterator[Finding]:
    """Lengths that were counted with another model's tokenizer."""
    own = tokenizer_fingerprint(material.data.tokenizer)
    others = {trace.tokenizer for trace in material.data.traces} - {own, ""}
    if others:
        yield Finding(
            name="tokenizer",
            text="train: the lengths in the training set were counted by another tokenizer than "
            f"that of `{material.recipe.model}`; expected the same, if the selection depends on "
            "lengths. Run trace and select with this model.",
        )  # fmt: skip


def _check_disk(material: Material) -> Iterator[Finding]:
    """Checkpoints and the model must fit on the disk."""
    recipe, number = material.recipe, len(material.data.examples)
    assert recipe.train is not None
    try:
        setup, steps = setup_here(recipe, recipe.train), num_steps(number, recipe.train)
        needed = disk_needed(material.model, setup, num_steps=steps)
    except KeyError:
        return  # a shape of another kind
    room = room_for_training(material.root)
    if needed.total > room:
        yield Finding(
            name="disk", level="refuse",
            text=f"train: {needed.num_checkpoints} checkpoints of {needed.checkpoint / 1e9:,.2f} "
            f"GB and {needed.num_models} models of {needed.model / 1e9:,.2f} GB; expected room for "
            f"all of them in {material.root}, where {room / 1e9:,.2f} GB are free, with what it "
            "has written. Free some, name another --out, or --set train.save_every_steps=null.",
        )  # fmt: skip


def _rows(examples: Sequence[TrainingExample]) -> str:
    named = ", ".join(example.id for example in examples[:MAX_NAMED])
    return f"{len(examples)} row(s) ({named}{', …' if len(examples) > MAX_NAMED else ''})"


CHECKS: dict[str, Callable[[Material], Iterator[Finding]]] = {
    "end of sequence": _check_end_of_sequence,
    "vocabulary": _check_vocabulary,
    "learnt tokens": _check_learnt_tokens,
    "delimiters": _check_delimiters,
    "evaluation rows": _check_overlap,
    "tokenizer": _check_other_tokenizer,
    "batches": _check_batches,
    "budgets": _check_budgets,
    "disk": _check_disk,
}
