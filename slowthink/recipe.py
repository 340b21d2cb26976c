"""One YAML file says what a run does: read here into frozen settings, one model per stage.

YAML, then `--set a.b=c`, and nothing else: no environment variables, no hidden defaults per model.
Everything wrong with a recipe is reported at once, before any work.

    slowthink run quickstart --set train.epochs=1 --set pool.sources.0.num_problems=50
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slowthink.plain import digest
from slowthink.records import Budget, Sampling

STAGES = ("pool", "filter", "trace", "select", "train", "evaluate", "report")


class Settings(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# --- shared by stages -----------------------------------------------------------------------------


class EngineConfig(Settings):
    """How models are run."""

    kind: Literal["transformers", "replay"] = "transformers"
    """Which engine runs the model."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Numbers that the model computes in."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps: where the model lies."""
    batch_size: int = Field(default=48, ge=1)
    """Sequences decoded together; part of the numerics under bfloat16."""
    max_context: int | None = Field(default=None, ge=1)
    """Tokens of prompt, thinking and answer together. None: what the model's config says."""
    replay: str | None = None
    """For `replay`: the JSONL file of scripted completions."""


class ChatConfig(Settings):
    """How a problem is put to a model; training and evaluation share it, so they cannot differ."""

    format: str = "s1"
    """Thinking delimiters: s1, think-tags, plain, or the name of one in `formats`."""
    system_prompt: str | None = None
    """None: the chat template's own default."""
    instruction: str | None = None
    """A line put after the question. None: the question alone."""


class FormatConfig(Settings):
    """A thinking format of the user's own (see `records.ThinkingFormat`)."""

    start: str = ""
    """Opens thinking."""
    end: str
    """Closes thinking and opens the answer."""
    end_triggers: tuple[str, ...] = ()
    """Texts whose draw declares the end, beside the end-of-sequence tokens."""
    newline_before_forced_end: bool = True
    """A forced end starts on a new line."""
    cue_after_natural_end: bool = False
    """The cue follows a natural end too."""


class SamplingConfig(Settings):
    """How tokens are drawn."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1: off."""
    top_k: int = Field(default=0, ge=0)
    """0: off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """0: off."""

    def record(self) -> Sampling:
        """The same as a record."""
        return Sampling(**self.model_dump())


class ForcingConfig(Settings):
    """Budget forcing, less the cap and the number of waits (those are swept)."""

    min_thinking_tokens: int = Field(default=0, ge=0)
    """Ends declared earlier are refused."""
    wait_strings: tuple[str, ...] = ("Wait",)
    """Appended to a refused end, in rotation; empty: the runner-up token is taken."""
    final_answer_cue: str | None = "Final Answer:"
    """Put after a forced end. null: none."""
    end_rule: Literal["drawn", "argmax", "probability"] = "drawn"
    """When an end counts as declared."""
    end_probability: float = Field(default=1.0, gt=0, le=1)
    """For end_rule probability: declared from this probability on."""
    answer_tokens: int = Field(default=24, ge=1)
    """Tokens reserved for the answer, and its limit."""

    def budget(self, cap: int | None, waits: int) -> Budget:
        """The budget with this cap (None: the context) and this many waits."""
        return Budget(max_thinking_tokens=cap, waits=waits, **self.model_dump())


# --- pool -----------------------------------------------------------------------------------------


class FileSource(Settings):
    """Problems from a JSONL, CSV or Parquet file."""

    kind: Literal["file"] = "file"
    path: str
    """The file; relative to the folder the command runs in."""
    name: str | None = None
    """Source name in every row. None: the file's name without its ending."""
    split: Literal["train", "heldout"] = "train"
    """What its problems are for."""
    num_heldout: int = Field(default=0, ge=0)
    """Of a train file: this many rows, drawn by seed, are held out for evaluation."""
    max_problems: int | None = Field(default=None, ge=1)
    """Take this many rows, drawn by seed. None: all."""
    question_field: str = "question"
    """Column of the question."""
    answer_field: str | None = "answer"
    """Column of the answer; where it is absent or empty, the solution's last box is taken (marked
    derived)."""
    solution_field: str | None = "solution"
    """Column of the worked solution."""
    choices_field: str | None = None
    """Column of the answer options."""
    domain_field: str | None = None
    """Column of the domain."""
    licence: str | None = None
    """Licence of every row."""
    language: str = "en"
    """Language of every row."""


class FamilyConfig(Settings):
    """One family of the sandbox."""

    difficulty: tuple[int, int] = (1, 3)
    """Lowest and highest difficulty drawn, from 1."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the problems, relative to the other families."""

    @model_validator(mode="after")
    def _range(self) -> FamilyConfig:
        if not 1 <= self.difficulty[0] <= self.difficulty[1]:
            raise ValueError("difficulty is [lowest, highest] with 1 <= lowest <= highest")
        return self


class SandboxSource(Settings):
    """Procedural problems with exact answers and worked chains of thought."""

    kind: Literal["sandbox"] = "sandbox"
    families: dict[str, FamilyConfig] = Field(default_factory=dict)
    """Which families, by name. Empty: all, at their default difficulty."""
    num_problems: int = Field(default=400, ge=0)
    """Problems for training."""
    num_heldout: int = Field(default=200, ge=0)
    """Problems for evaluation, disjoint from the others by parameters and by normalised question.
    """
    check_share: float = Field(default=0.25, ge=0, le=1)
    """Share of chains with a check that finds nothing wrong."""
    correct_share: float = Field(default=0.1, ge=0, le=1)
    """Share of chains with a slip that a check finds and the chain corrects."""

    @model_validator(mode="after")
    def _shares(self) -> SandboxSource:
        if self.check_share + self.correct_share > 1:
            raise ValueError("check_share and correct_share are above 1 together")
        if self.num_problems + self.num_heldout == 0:
            raise ValueError("num_problems and num_heldout are both 0; the sandbox would be empty")
        return self


PoolSource = Annotated[FileSource | SandboxSource, Field(discriminator="kind")]


class PoolConfig(Settings):
    """Gather problems."""

    sources: tuple[PoolSource, ...] = Field(min_length=1)
    """Where problems come from, in order; of equal questions the first is kept."""


# --- filter, trace, select ------------------------------------------------------------------------


class DifficultyConfig(Settings):
    """Keep the problems that a model solves rarely enough."""

    num_attempts: int = Field(default=2, ge=1)
    """Samples per problem."""
    max_problems: int | None = Field(default=150, ge=1)
    """Problems tried, drawn by seed; the rest pass untested and are counted. None: all."""
    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Problems solved less often are dropped, in [0, 1]."""
    max_pass_rate: float = Field(default=0.5, ge=0, le=1)
    """Problems solved more often are dropped, in [0, 1]."""
    max_thinking_tokens: int = Field(default=32, ge=0)
    """Cap of an attempt's thinking, after which the answer is forced."""
    answer_tokens: int = Field(default=12, ge=1)
    """Limit of an attempt's answer."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the attempts' sampling."""

    @model_validator(mode="after")
    def _band(self) -> DifficultyConfig:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError("min_pass_rate is above max_pass_rate; no problem could be kept")
        return self


class FilterConfig(Settings):
    """Drop what is not worth learning from, each with its reason."""

    input: str | None = None
    """A file of problems, where the recipe has no pool stage."""
    quality: Literal["s1"] | None = "s1"
    """Preset of quality rules. null: off."""
    duplicates: Literal["exact"] | None = "exact"
    """exact: by normalised question. null: off."""
    difficulty: DifficultyConfig | None = None
    """null: off."""


class SolutionTraces(Settings):
    """Each problem's own solution is its chain."""

    kind: Literal["solution"] = "solution"
    teacher: str = "solution"
    """Name of the teacher in every trace."""


class FileTraces(Settings):
    """Chains from a file."""

    kind: Literal["file"] = "file"
    path: str
    """JSONL, JSON or Parquet."""
    rows: Literal[
        "auto", "slowthink", "s1k-1.1", "s1k", "chain", "limo", "sharegpt", "messages", "alpaca"
    ] = "auto"  # fmt: skip
    """The rows' form. auto: told from their columns."""
    teacher: str | None = None
    """Name of the teacher. None: what the rows say, else the file's name."""
    max_traces: int | None = Field(default=None, ge=1)
    """Take this many rows, drawn by seed. None: all."""


TraceSource = Annotated[SolutionTraces | FileTraces, Field(discriminator="kind")]


class TraceConfig(Settings):
    """Import or take chains; grade them; keep the right ones, one per problem."""

    sources: tuple[TraceSource, ...] = (SolutionTraces(),)
    """Where chains come from, best first; of several right chains for a problem the first is kept.
    """
    ungraded: Literal["drop", "keep"] = "drop"
    """What happens to chains of problems without a usable key."""


class SelectConfig(Settings):
    """Choose the training set."""

    input: str | None = None
    """A file of traces, where the recipe has no trace stage."""
    method: Literal["s1", "random", "full"] = "s1"
    """s1: uniform domain, within it weight 2^-rank of trace length. random: uniform. full: all."""
    num_problems: int | None = Field(default=1000, ge=1)
    """Size of the training set. None: all."""


# --- train ----------------------------------------------------------------------------------------


class LoraConfig(Settings):
    """Low-rank adapters."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    alpha: int = Field(default=32, ge=1)
    """Scale: updates are multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""


class TrainConfig(Settings):
    """Supervised fine-tuning on the chosen chains; loss on the completion only."""

    input: str | None = None
    """A file of traces, where the recipe has no select stage."""
    epochs: int = Field(default=5, ge=1)
    """Passes over the training set (s1: 5, LIMO: 15)."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimiser steps. None: at the end of the last epoch."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak, reached after the warm-up, then cosine to 0."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps with a linearly rising rate."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimiser step, over all devices."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples per forward pass. None: the whole batch."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=20000, ge=1)
    """Longest example in tokens; see `too_long`. Nothing is ever cut."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What happens to a longer example: the run stops before training, or the example is left out
    and counted."""
    lora: LoraConfig | None = None
    """null: all weights are trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third slower."""
    save_every_steps: int | None = Field(default=50, ge=1)
    """Checkpoint for resuming. None: only at the end."""


# --- evaluate, report -----------------------------------------------------------------------------


class ArmConfig(Settings):
    """One model, asked one way, over caps and waits."""

    name: str
    """Shown in tables."""
    model: str = "tuned"
    """tuned (the train stage's), base (the recipe's model), or a path or hub id."""
    chat: ChatConfig | None = None
    """null: the recipe's."""
    caps: tuple[int, ...] = ()
    """Most thinking tokens, one point of the curve each; the answer is forced there."""
    waits: tuple[int, ...] = ()
    """Ends refused, each measured at the largest cap; 0 is always among the points."""
    free: bool = False
    """Also measured unforced: thinking as long as the largest cap, and no forced end."""
    last_number: bool = False
    """Where nothing else is found in an unforced answer, its last number is taken."""
    forcing: ForcingConfig = ForcingConfig()
    """The other knobs of budget forcing."""
    sampling: SamplingConfig = SamplingConfig()
    """How tokens are drawn."""
    num_samples: int = Field(default=1, ge=1)
    """Samples per problem."""

    @model_validator(mode="after")
    def _points(self) -> ArmConfig:
        if not self.caps:
            raise ValueError("an arm needs at least one cap, e.g. caps: [32, 64]")
        if any(cap < 0 for cap in self.caps) or any(wait < 0 for wait in self.waits):
            raise ValueError("caps and waits are counts; none may be negative")
        if self.num_samples > 1 and not self.sampling.temperature:
            raise ValueError(
                "several samples need sampling.temperature above 0: greedy ones are equal"
            )
        if min(self.caps) < self.forcing.min_thinking_tokens:
            raise ValueError("forcing.min_thinking_tokens is above the smallest cap")
        return self


class EvaluateConfig(Settings):
    """Measure models on held-out problems over thinking budgets."""

    input: str | None = None
    """A file of problems to evaluate on, where the recipe has no pool stage."""
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    """What is compared."""
    max_problems: int | None = Field(default=None, ge=1)
    """Held-out problems used, drawn by seed. None: all."""
    num_resamples: int = Field(default=10000, ge=100)
    """Bootstrap resamples (s1: 10,000)."""


class ReportConfig(Settings):
    """Write the HTML page."""

    title: str | None = None
    """None: the recipe's name."""
    num_transcripts: int = Field(default=60, ge=0)
    """Transcripts shown per arm, drawn by seed, spread over right and wrong ones."""


# --- the recipe -----------------------------------------------------------------------------------


class Recipe(Settings):
    """A whole run. A stage that is null is not run; the first one present reads its `input`."""

    name: str
    """Names the run; also the default folder `runs/NAME`."""
    seed: int = 0
    """All randomness derives from it, by stage and item."""
    model: str = "smollm2-135m"
    """The base model: `smollm2-135m`, a folder, or a hub id."""
    revision: str | None = None
    """Of a hub model. None: the newest; the one found is recorded."""
    engine: EngineConfig = EngineConfig()
    """How models are run."""
    chat: ChatConfig = ChatConfig()
    """How problems are put, in training and evaluation alike."""
    formats: dict[str, FormatConfig] = Field(default_factory=dict)
    """Thinking formats of the user's own, by name."""
    ledger: str | None = None
    """Path of the ledger, to share it between runs. None: inside the run folder."""
    pool: PoolConfig | None = None
    """Gather problems."""
    filter: FilterConfig | None = None
    """Drop problems."""
    trace: TraceConfig | None = None
    """Gather chains."""
    select: SelectConfig | None = None
    """Choose the training set."""
    train: TrainConfig | None = None
    """Fine-tune."""
    evaluate: EvaluateConfig | None = None
    """Measure."""
    report: ReportConfig | None = ReportConfig()
    """Write the page."""

    def stages(self) -> tuple[str, ...]:
        """The stages that this recipe runs, in order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def digest(self) -> str:
        """Hash of all settings."""
        return digest(self.model_dump(mode="json"))
