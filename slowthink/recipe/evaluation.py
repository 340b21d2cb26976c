"""Settings of the stages evaluate and report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from slowthink.recipe.base import ChatConfig, EngineConfig, ForcingConfig, SamplingConfig, Settings

# --- protocols, benchmarks and arms ---------------------------------------------------------------


class DrawsConfig(Settings):
    """How many samples each problem gets, and how they are sampled."""

    temperatures: tuple[NonNegativeFloat, ...] = Field(default=(0.0,), min_length=1)
    """Sampling temperatures; 0 is greedy. Each has its own samples; the results are averaged."""
    num_samples: int = Field(default=1, ge=1)
    """Samples per problem and temperature; always one at temperature 0, since all are equal."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling; 1: off."""
    top_k: int = Field(default=0, ge=0)
    """Top-k sampling; 0: off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Min-p sampling; 0: off."""

    @model_validator(mode="after")
    def _check_temperatures(self) -> DrawsConfig:
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures: a value occurs twice")
        if self.num_samples > 1 and not any(self.temperatures):
            raise ValueError("several samples need a temperature above 0: greedy ones are equal")
        return self

    def sampling(self, temperature: float) -> SamplingConfig:
        """The settings at one of the temperatures."""
        return SamplingConfig(
            temperature=temperature, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p
        )


class ProtocolConfig(Settings):
    """How models are sampled; the same for all compared models (presets: `protocols.py`)."""

    name: str
    """Name, printed beside every result."""
    draws: DrawsConfig = DrawsConfig()
    """Samples of each problem."""
    small_draws: DrawsConfig | None = None
    """Samples of each problem of a small benchmark. null: as in the others."""
    small_below: int = Field(default=50, ge=1)
    """A benchmark with fewer problems is small."""
    question_only: bool = False
    """Append nothing to the question, ignoring `chat.instruction` and the benchmark's."""
    system_prompt: str | None = None
    """System prompt, unless the chat has its own. null: the chat template's default."""


class BenchmarkConfig(Settings):
    """A dataset of problems to measure on."""

    name: str
    """A benchmark of `slowthink/data/sets.yaml`, or a name of your own with a `path`."""
    path: str | None = None
    """A file of its problems. null: load them from the hub."""
    revision: str | None = None
    """Revision on the hub. null: the registry's, else the newest; the loaded one is recorded."""
    max_problems: int | None = Field(default=None, ge=1)
    """Number of problems, sampled by seed. null: all."""
    question_field: str | None = None
    """Column of the question. null: the registry's on the hub, `question` in a file."""
    answer_field: str | None = None
    """Column of the answer. null: the registry's on the hub, `answer` in a file."""
    choices_field: str | None = None
    """Column of the options. null: the registry's on the hub, `choices` (if present) in a file."""
    domain: Literal["in", "out"] | None = None
    """In or out of the training data's domain, for the averages. null: from the registry."""


class ArmConfig(Settings):
    """One model with one prompt, at several caps and waits; or samples generated elsewhere."""

    name: str
    """Name in tables."""
    model: str = "tuned"
    """tuned (from the train stage), base (the recipe's model), or a folder or hub id."""
    samples: str | None = None
    """A file of samples generated elsewhere: lm-eval's JSONL, or rows with `question` and
    `response`. They are only graded; no model runs."""
    samples_model: str | None = None
    """For a file with samples of several models: the model to use. null: all rows."""
    protocol: str | None = None
    """For stored samples: the protocol that generated them, one of `protocols`, so that they are
    compared with the other arms. null: a protocol of their own, `stored`."""
    chat: ChatConfig | None = None
    """How problems become prompts. null: the recipe's."""
    caps: tuple[NonNegativeInt, ...] = ()
    """Maximum numbers of thinking tokens, each a point of the curve; the answer is then forced."""
    waits: tuple[NonNegativeInt, ...] = ()
    """How often the end of thinking is suppressed, at the largest cap; 0 is always included."""
    free: bool = False
    """Also measure without forcing, with at most the largest cap of thinking tokens."""
    last_number: bool = False
    """Use the last number of an unforced answer in which no answer is marked."""
    forcing: ForcingConfig = ForcingConfig()
    """The other settings of budget forcing."""

    @model_validator(mode="after")
    def _check_budgets(self) -> ArmConfig:
        if self.samples is not None:
            if self.caps or self.waits or self.free:
                raise ValueError("an arm of stored samples has no caps, waits or free")
            return self
        if self.protocol is not None:
            raise ValueError("protocol is for an arm of stored samples; other arms use all of them")
        if not self.caps:
            raise ValueError("an arm needs at least one cap, e.g. caps: [32, 64]")
        if min(self.caps) < self.forcing.min_thinking_tokens:
            raise ValueError("forcing.min_thinking_tokens is above the smallest cap")
        return self


# --- judge and scorers ----------------------------------------------------------------------------


class JudgeConfig(Settings):
    """A language model that grades answers which the rules cannot decide."""

    model: str
    """base (the recipe's model), or a folder or hub id."""
    revision: str | None = None
    """Revision of a hub model."""
    engine: EngineConfig | None = None
    """Engine that runs it. null: the recipe's."""
    modes: tuple[Literal["answer", "solution"], ...] = ("answer", "solution")
    """answer: compare with the reference answer, if the rules are undecided. solution: compare
    with the reference solution, for problems without a short answer."""
    max_tokens: int = Field(default=512, ge=1)
    """Maximum number of tokens of a judgement."""
    num_audited: int = Field(default=50, ge=0)
    """Rows decided by the rules that are also judged, sampled by seed, to measure agreement."""


class ModelScorer(Settings):
    """A reward model in transformers: a classification head on a language model."""

    kind: Literal["model"] = "model"
    model: str
    """Folder or hub id."""
    revision: str | None = None
    """Revision of a hub model."""
    batch_size: int = Field(default=16, ge=1)
    """Texts per batch."""


class JudgeScorer(Settings):
    """A language model that rates a chain from 0 to 10."""

    kind: Literal["judge"] = "judge"
    model: str
    """base (the recipe's model), or a folder or hub id."""
    revision: str | None = None
    """Revision of a hub model."""
    max_tokens: int = Field(default=64, ge=1)
    """Maximum number of tokens of a rating."""


class FunctionScorer(Settings):
    """A custom function of (problem, text) that returns a number."""

    kind: Literal["function"] = "function"
    function: str
    """The function as `module:function`."""


ScorerConfig = Annotated[ModelScorer | JudgeScorer | FunctionScorer, Field(discriminator="kind")]


# --- parallel scaling -----------------------------------------------------------------------------


class RejectionConfig(Settings):
    """Rejection sampling: sample until the thinking is short enough (s1, section 5.2)."""

    limits: tuple[int, ...] = Field(min_length=1)
    """Maximum numbers of thinking tokens, one point of the curve each."""
    max_tries: int = Field(default=16, ge=1)
    """Maximum number of samples; a problem without a short enough one is unanswered."""


class RebaseConfig(Settings):
    """Reward-balanced tree search (Wu et al. 2024, arXiv 2408.00724; s1, section 6.2)."""

    widths: tuple[int, ...] = Field(default=(4,), min_length=1)
    """Numbers of chains kept, one point of the curve each (s1: 16)."""
    softmax_temperature: float = Field(default=0.2, gt=0)
    """Temperature of the softmax over scores that divides the width (s1's code: 0.2)."""
    step_ends: tuple[str, ...] = Field(default=("\n",), min_length=1)
    """Texts that end a step."""
    max_step_tokens: int = Field(default=64, ge=1)
    """Maximum length of a step; a longer one is split."""
    max_steps: int = Field(default=25, ge=1)
    """Maximum depth of the tree (s1's code: 25)."""


class ParallelConfig(Settings):
    """Many chains for one question, and how they are combined into one answer."""

    arm: str
    """The arm whose model generates the chains."""
    protocol: str
    """The protocol whose samples vote; it must have several samples per problem."""
    scorer: ScorerConfig | None = None
    """Scores chains, for weighted majority, best-of-n and REBASE. null: none of these."""
    rejection: RejectionConfig | None = None
    """Rejection sampling. null: off."""
    rebase: RebaseConfig | None = None
    """Tree search. null: off."""

    @model_validator(mode="after")
    def _check_scorer(self) -> ParallelConfig:
        if self.rebase is not None and self.scorer is None:
            raise ValueError("rebase needs a scorer: set parallel.scorer")
        return self


# --- the stages -----------------------------------------------------------------------------------


class EvaluateConfig(Settings):
    """Measure models on held-out problems and benchmarks under thinking budgets."""

    input: str | None = None
    """A file of problems, or another run's `pool` folder for its held-out problems."""
    benchmarks: tuple[BenchmarkConfig, ...] = ()
    """Benchmarks, besides the held-out problems of the pool (or `input`)."""
    protocols: tuple[str | ProtocolConfig, ...] = Field(default=("greedy",), min_length=1)
    """How all arms are measured: greedy, s1, limo-v1, limo-v2, aime-preview, or a custom one."""
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    """The models to compare."""
    max_problems: int | None = Field(default=None, ge=1)
    """Number of held-out problems, sampled by seed. null: all."""
    num_resamples: int = Field(default=10000, ge=100)
    """Bootstrap resamples (s1: 10,000)."""
    judge: JudgeConfig | None = None
    """Grades the answers that the rules cannot decide. null: off."""
    parallel: ParallelConfig | None = None
    """Parallel scaling beyond pass@k and maj@k. null: off."""

    @model_validator(mode="after")
    def _check_names(self) -> EvaluateConfig:
        for setting, names in (
            ("arms", [arm.name for arm in self.arms]),
            ("benchmarks", [benchmark.name for benchmark in self.benchmarks]),
            ("protocols", [p if isinstance(p, str) else p.name for p in self.protocols]),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{setting}: `{repeated[0]}` occurs twice; names must differ")
        if self.parallel and self.parallel.arm not in [arm.name for arm in self.arms]:
            raise ValueError(f"parallel.arm: no arm is named `{self.parallel.arm}`")
        return self


class ReportConfig(Settings):
    """Write the HTML report."""

    title: str | None = None
    """Title of the page. null: the recipe's name."""
    num_transcripts: int = Field(default=60, ge=0)
    """Transcripts per arm, sampled by seed from correct and wrong answers."""
