"""Settings of the stages that measure: evaluate, report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slowthink.recipe.base import (
    ChatConfig,
    EngineConfig,
    ForcingConfig,
    SamplingConfig,
    Settings,
)

# --- what is measured, and how --------------------------------------------------------------------


class DrawsConfig(Settings):
    """How often, and how, each problem is put."""

    temperatures: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    """0 is greedy. Of several, each gets its samples and the results are averaged."""
    num_samples: int = Field(default=1, ge=1)
    """Samples per problem and temperature; of greedy ones, which are all equal, one is drawn."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1: off."""
    top_k: int = Field(default=0, ge=0)
    """0: off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """0: off."""

    @model_validator(mode="after")
    def _sampled(self) -> DrawsConfig:
        if any(temperature < 0 for temperature in self.temperatures):
            raise ValueError("temperatures are 0 (greedy) or above")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures holds one twice")
        if self.num_samples > 1 and not any(self.temperatures):
            raise ValueError("several samples need a temperature above 0: greedy ones are equal")
        return self

    def sampling(self, temperature: float) -> SamplingConfig:
        """The settings at one of the temperatures."""
        return SamplingConfig(
            temperature=temperature, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p
        )


class ProtocolConfig(Settings):
    """How models are measured: the same for all that are compared (presets: `protocols.py`)."""

    name: str
    """Shown beside every number."""
    draws: DrawsConfig = DrawsConfig()
    """Samples of each problem."""
    small_draws: DrawsConfig | None = None
    """The same for small sets. null: as for the others."""
    small_below: int = Field(default=50, ge=1)
    """A set with fewer problems is small."""
    question_only: bool = False
    """Nothing is put after the question, whatever `chat.instruction` or the benchmark say."""
    system_prompt: str | None = None
    """Where the chat has none of its own. null: the chat template's default."""


class BenchmarkConfig(Settings):
    """A set of problems to measure on."""

    name: str
    """A benchmark of `slowthink/data/sets.yaml`, or a name of your own with a `path`."""
    path: str | None = None
    """A file of its problems. null: the hub."""
    revision: str | None = None
    """On the hub. null: the table's, else the newest; the one found is recorded."""
    max_problems: int | None = Field(default=None, ge=1)
    """Problems used, drawn by seed. null: all."""
    question_field: str | None = None
    """Column of the question. null: the table's on the hub, `question` in a file."""
    answer_field: str | None = None
    """Column of the answer. null: the table's on the hub, `answer` in a file."""
    choices_field: str | None = None
    """Column of the options. null: the table's on the hub, `choices` (where there is one) in a
    file."""
    domain: Literal["in", "out"] | None = None
    """In or out of the training data's domain, for the averages. null: as in the table."""


class ArmConfig(Settings):
    """One model, asked one way, over caps and waits; or the samples that it gave elsewhere."""

    name: str
    """Shown in tables."""
    model: str = "tuned"
    """tuned (the train stage's), base (the recipe's model), or a path or hub id."""
    samples: str | None = None
    """A file of samples made elsewhere: lm-eval's JSONL, or rows with `question` and `response`.
    They are graded here; no model is run."""
    samples_model: str | None = None
    """Of stored samples of several models in one file: the one meant. null: all are one arm's."""
    protocol: str | None = None
    """Of stored samples: the protocol they were made by, one of `protocols`, so that they stand
    beside the other arms. null: they stand apart, as `stored`."""
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

    @model_validator(mode="after")
    def _points(self) -> ArmConfig:
        if self.samples is not None:
            if self.caps or self.waits or self.free:
                raise ValueError("an arm of stored samples has no caps, waits or free")
            return self
        if self.protocol is not None:
            raise ValueError("protocol is for an arm of stored samples; others take all protocols")
        if not self.caps:
            raise ValueError("an arm needs at least one cap, e.g. caps: [32, 64]")
        if any(cap < 0 for cap in self.caps) or any(wait < 0 for wait in self.waits):
            raise ValueError("caps and waits are counts; none may be negative")
        if min(self.caps) < self.forcing.min_thinking_tokens:
            raise ValueError("forcing.min_thinking_tokens is above the smallest cap")
        return self


# --- opinions and scores --------------------------------------------------------------------------


class JudgeConfig(Settings):
    """A language model's second opinion, where the rules cannot decide."""

    model: str
    """base, or a folder or hub id."""
    revision: str | None = None
    """Of a hub model."""
    engine: EngineConfig | None = None
    """null: the recipe's."""
    modes: tuple[Literal["answer", "solution"], ...] = ("answer", "solution")
    """answer: key against answer, where the rules left it open. solution: reference solution
    against attempt, for problems without a short answer."""
    max_tokens: int = Field(default=512, ge=1)
    """Of one opinion."""
    num_audited: int = Field(default=50, ge=0)
    """Rows that the rules did decide, drawn by seed and judged too, to report the agreement."""


class ModelScorer(Settings):
    """A reward model through transformers: a classification head on a language model."""

    kind: Literal["model"] = "model"
    model: str
    """Folder or hub id."""
    revision: str | None = None
    """Of a hub model."""
    batch_size: int = Field(default=16, ge=1)
    """Texts scored together."""


class JudgeScorer(Settings):
    """A language model that is asked for a mark from 0 to 10."""

    kind: Literal["judge"] = "judge"
    model: str
    """base, or a folder or hub id."""
    revision: str | None = None
    """Of a hub model."""
    max_tokens: int = Field(default=64, ge=1)
    """Of one mark."""


class FunctionScorer(Settings):
    """A function of the user's own: (problem, text) to a number."""

    kind: Literal["function"] = "function"
    function: str
    """`module:function`."""


ScorerConfig = Annotated[ModelScorer | JudgeScorer | FunctionScorer, Field(discriminator="kind")]


# --- many chains for one question -----------------------------------------------------------------


class RejectionConfig(Settings):
    """Rejection sampling: draw until the thinking is short enough (s1, section 5.2)."""

    limits: tuple[int, ...] = Field(min_length=1)
    """Most thinking tokens, one point of the curve each."""
    max_tries: int = Field(default=16, ge=1)
    """A problem without a short enough try after so many stays unanswered."""


class RebaseConfig(Settings):
    """Reward-balanced tree search (Wu et al. 2024, arXiv 2408.00724; s1, section 6.2)."""

    widths: tuple[int, ...] = Field(default=(4,), min_length=1)
    """Chains kept, one point of the curve each (s1: 16)."""
    softmax_temperature: float = Field(default=0.2, gt=0)
    """Of the scores, when the width is shared out (s1's code: 0.2)."""
    step_ends: tuple[str, ...] = Field(default=("\n",), min_length=1)
    """Texts that end a step."""
    max_step_tokens: int = Field(default=64, ge=1)
    """A longer step is cut into several."""
    max_steps: int = Field(default=25, ge=1)
    """Depth of the tree (s1's code: 25)."""


class ParallelConfig(Settings):
    """Many chains for one question, and how one answer is made of them."""

    arm: str
    """The arm whose model thinks."""
    protocol: str
    """The protocol whose samples vote; it must draw several."""
    scorer: ScorerConfig | None = None
    """Scores chains, for the weighted majority, best-of-n and REBASE. null: without those."""
    rejection: RejectionConfig | None = None
    """null: off."""
    rebase: RebaseConfig | None = None
    """null: off."""

    @model_validator(mode="after")
    def _scored(self) -> ParallelConfig:
        if self.rebase is not None and self.scorer is None:
            raise ValueError("rebase needs a scorer")
        return self


# --- the stages -----------------------------------------------------------------------------------


class EvaluateConfig(Settings):
    """Measure models on held-out problems and benchmarks over thinking budgets."""

    input: str | None = None
    """A file of problems to evaluate on, or another run's `pool` folder: its held-out ones."""
    benchmarks: tuple[BenchmarkConfig, ...] = ()
    """Sets to measure on, beside the held-out problems of the pool (or `input`)."""
    protocols: tuple[str | ProtocolConfig, ...] = Field(default=("greedy",), min_length=1)
    """How all arms are measured: greedy, s1, limo-v1, limo-v2, aime-preview, or an own one."""
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    """What is compared."""
    max_problems: int | None = Field(default=None, ge=1)
    """Held-out problems used, drawn by seed. None: all."""
    num_resamples: int = Field(default=10000, ge=100)
    """Bootstrap resamples (s1: 10,000)."""
    judge: JudgeConfig | None = None
    """null: rules alone."""
    parallel: ParallelConfig | None = None
    """null: no parallel scaling beyond pass@k and maj@k."""

    @model_validator(mode="after")
    def _names(self) -> EvaluateConfig:
        for what, names in (
            ("arms", [arm.name for arm in self.arms]),
            ("benchmarks", [one.name for one in self.benchmarks]),
            ("protocols", [p if isinstance(p, str) else p.name for p in self.protocols]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: `{twice[0]}` stands there twice; names must differ")
        if self.parallel and self.parallel.arm not in [arm.name for arm in self.arms]:
            raise ValueError(f"parallel.arm: no arm is called `{self.parallel.arm}`")
        return self


class ReportConfig(Settings):
    """Write the HTML page."""

    title: str | None = None
    """None: the recipe's name."""
    num_transcripts: int = Field(default=60, ge=0)
    """Transcripts shown per arm, drawn by seed, spread over right and wrong ones."""
