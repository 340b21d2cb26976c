"""Settings of the stage trace: sources of chains, their scores, and which chains are kept.

trace:
  sources:
    - {kind: teacher, model: Qwen/QwQ-32B, num_chains: 4, until_right: true}
    - {kind: file, path: chains.jsonl}
  scores: [{kind: limo-v2}]
  keep: one
  prefer: {by: limo-v2}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from slowthink.recipe.base import ChatConfig, EngineConfig, ForcingConfig, SamplingConfig, Settings
from slowthink.recipe.curation import ContaminationConfig
from slowthink.recipe.scores import LevelsConfig, PreferenceConfig, ScoreConfig


class SolutionTraces(Settings):
    """The worked solutions of the problems, used as chains."""

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
    """Format of the rows. auto: detected from their columns."""
    teacher: str | None = None
    """Name of the teacher. null: from the rows, else the file's name."""
    max_traces: int | None = Field(default=None, ge=1)
    """Use this many rows, sampled by seed. null: all."""


class PriceConfig(Settings):
    """The price of a model's tokens, in any one currency."""

    input: float = Field(ge=0)
    """Price of a million prompt tokens."""
    output: float = Field(ge=0)
    """Price of a million generated tokens, thinking included."""


class TeacherBudget(ForcingConfig):
    """Limits of a teacher's thinking; a hosted chat API takes no more than a maximum."""

    max_thinking_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of thinking tokens. null: as many as the context has room for; 32,768 where
    a chat API does not say how many. With `transformers` a maximum lets more sequences share a
    batch."""
    waits: int = Field(default=0, ge=0)
    """Number of ends of thinking that are refused."""
    answer_tokens: int = Field(default=1024, ge=1)
    """Tokens reserved for the answer, which is also its maximum length."""
    force_end: bool = False
    """At the maximum, force the end and an answer. false: such a chain counts as truncated."""


class TeacherTraces(Settings):
    """Chains sampled from a model."""

    kind: Literal["teacher"] = "teacher"
    model: str = "base"
    """base (the recipe's model), a folder, a hub id, or a server's model."""
    revision: str | None = None
    """Revision of a hub model."""
    teacher: str | None = None
    """Name of the teacher in every trace. null: the model's."""
    engine: EngineConfig | None = None
    """Engine that runs it. null: the recipe's."""
    chat: ChatConfig = ChatConfig(format="auto")
    """Prompt and thinking format."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.6, top_p=0.95)
    """How tokens are sampled (R1's and QwQ's model cards; the papers publish none)."""
    thinking_language: str | None = None
    """Language in which it is asked to think, e.g. en or zh: texts of `chat` are those of this
    language, and a line that asks for it follows. null: the question's."""
    num_chains: int = Field(default=1, ge=1)
    """Chains per problem, at most; one at temperature 0."""
    until_right: bool = False
    """Stop at a problem's first correct chain; each try is a chain too."""
    budget: TeacherBudget = TeacherBudget()
    """Limits of thinking and answer."""
    max_problems: int | None = Field(default=None, ge=1)
    """Use this many problems, sampled by seed. null: all."""
    price: PriceConfig | None = None
    """Price of the tokens, for `trace.max_cost` and the dry run. null: no price."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Speed measured in an earlier run (facts.teacher_runs in the manifest), for the dry run."""
    tokens_per_chain: int | None = Field(default=None, ge=1)
    """Mean length of a chain (also there), for the dry run. null: the limits of the budget."""

    @property
    def num_attempts(self) -> int:
        """Maximum number of chains per problem; at temperature 0 all would be equal."""
        return self.num_chains if self.sampling.temperature else 1


class AttemptTraces(Settings):
    """The attempts that the difficulty step drew, in the stage filter of the same run."""

    kind: Literal["attempts"] = "attempts"
    step: str | None = None
    """Name of the difficulty step. null: all."""
    model: str | None = None
    """Only attempts of this model. null: all."""


TraceSource = Annotated[
    SolutionTraces | FileTraces | TeacherTraces | AttemptTraces, Field(discriminator="kind")
]


GateRule = Literal[
    "no-thinking", "delimiter", "template", "loop", "refusal", "truncated", "language",
    "leaked-key",
]  # fmt: skip


class GateConfig(Settings):
    """Rules that drop chains from which a model would learn something wrong."""

    skip: tuple[GateRule, ...] = ()
    """Rules that are left out. Without no-thinking, chains that are only an answer pass; training
    renders them as `chat.empty_thinking` says."""
    unsplit: Literal["split", "restate", "answer", "drop"] = "split"
    """What happens to a chain without an answer part. split: at its last box, else as restate.
    restate: all of it is thinking, and the response restates its answer. answer: all of it is the
    response, for data without chains (with `skip: [no-thinking]`). drop: it is dropped."""
    stray_boxes: Literal["keep", "clean", "drop"] = "keep"
    """What happens to boxed answers in the thinking. clean: their content stays."""
    second_answers: Literal["keep", "clean", "drop"] = "drop"
    """What happens to a response with two different final answers. clean: only the last stays."""


class TraceConfig(Settings):
    """Gather chains, grade and score them, and keep those worth learning from."""

    sources: tuple[TraceSource, ...] = (SolutionTraces(),)
    """Sources of chains, best first; of several correct chains for a problem the first is kept."""
    contamination: ContaminationConfig | None = None
    """Drop chains that overlap a test problem (strict only). null: off."""
    scores: tuple[ScoreConfig, ...] = ()
    """Scores of every chain, those that are dropped included."""
    gate: Literal["auto", "standard"] | GateConfig | None = "auto"
    """Rules for chains, besides the grade. standard: all, at their defaults. auto: standard; off in
    a run that began before there was a gate. null: off."""
    ungraded: Literal["drop", "keep"] = "drop"
    """What happens to chains of problems without a usable reference answer."""
    keep: Literal["one", "right", "all"] = "one"
    """one: one correct chain per problem (LIMO). right: all correct ones. all: wrong ones too (s1,
    OpenThoughts3)."""
    prefer: PreferenceConfig = PreferenceConfig()
    """Which of a problem's chains comes first, and is kept with `keep: one`."""
    levels: LevelsConfig | None = None
    """Assign levels. null: those of the rows, if any."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens that teachers may generate in all: chains beyond are not passed on, by teacher, then
    by problem in an order drawn by seed. null: no limit."""
    max_cost: float | None = Field(default=None, gt=0)
    """Money that teachers may cost in all, by their `price`, in the same order. null: no limit."""

    @field_validator("scores")
    @classmethod
    def _reject_two_of_a_kind(cls, scores: tuple[ScoreConfig, ...]) -> tuple[ScoreConfig, ...]:
        kinds = [score.kind for score in scores]
        if len(set(kinds)) < len(kinds):
            raise ValueError("two scores of one kind would have one name; give each kind once")
        return scores

    def gate_rules(self) -> GateConfig | None:
        """The settings of the gate; None if it is off."""
        return GateConfig() if isinstance(self.gate, str) else self.gate

    @model_validator(mode="after")
    def _check_prices(self) -> TraceConfig:
        for index, source in enumerate(self.sources):
            is_free = source.kind == "teacher" and source.price is None
            if self.max_cost is not None and is_free:
                raise ValueError(
                    f"max_cost: sources.{index} has no price; expected the price of each teacher. "
                    f"Give it: --set 'trace.sources.{index}.price={{input: 0.5, output: 2}}'"
                )
        return self

    @field_validator("contamination")
    @classmethod
    def _reject_paraphrase(cls, config: ContaminationConfig | None) -> ContaminationConfig | None:
        if config is not None and config.paraphrase is not None:
            raise ValueError(
                "paraphrases are searched for in questions, not in chains; "
                "set filter.contamination.paraphrase instead"
            )
        return config
