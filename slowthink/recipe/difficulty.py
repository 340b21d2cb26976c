"""Settings of the difficulty filter: models, attempts, the pass rates to keep, early stopping.

filter:
  difficulty: {preset: limo-v2, models: [{model: small}, {model: strong}], hours: 20}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from slowthink.recipe.base import ChatConfig, EngineConfig, Settings

ThinkingCap = Annotated[int, Field(ge=0)] | Literal["solutions"]


class AttemptModel(Settings):
    """A model that attempts the problems."""

    model: str | None = None
    """A folder, a hub id or `smollm2-135m`. null: the recipe's model. With `samples`: the model
    whose samples are used; null: all."""
    revision: str | None = None
    """Revision of a hub model; needs `model`."""
    engine: EngineConfig | None = None
    """Inference engine. null: the recipe's."""
    chat: ChatConfig = ChatConfig(format="plain")
    """Prompt and thinking format."""
    samples: str | None = None
    """A file of recorded samples, in any form that `evaluate` reads, used instead of running a
    model. Problems with fewer than num_attempts samples are kept untested and counted."""
    last_number: bool = False
    """For recorded samples: use the last number if no answer is marked."""
    max_thinking_tokens: ThinkingCap | None = None
    """Maximum number of thinking tokens. null: as in the step."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of answer tokens. null: as in the step."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature. null: as in the step."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Speed measured in an earlier run (facts.attempts in the manifest), for estimates and `hours`.
    """
    tokens_per_attempt: int | None = Field(default=None, ge=1)
    """Mean length of an attempt, for estimates. null: both maximum numbers of tokens together."""


class KeyCheckConfig(Settings):
    """When a reference answer is in doubt, since the models agree on another answer. The problem is
    dropped and listed for review."""

    min_votes: int = Field(default=4, ge=2)
    """Minimum number of attempts that agree on the same wrong answer."""
    min_share: float = Field(default=0.7, gt=0.5, le=1)
    """Minimum share of these among the attempts that gave an answer."""


class DifficultyStep(Settings):
    """Keep the problems in a band of pass rates, by the attempts of one or more models."""

    name: str | None = None
    """The step is called `difficulty: NAME` in the funnel. null: `difficulty`."""
    models: tuple[AttemptModel, ...] = Field(default=(AttemptModel(),), min_length=1)
    """The models, cheap ones first: a problem decided by one is not attempted by the next. With a
    preset: replacements for its models, in order; the default keeps the paper's."""
    rule: Literal["any", "all"] = "any"
    """any: drop a problem if it is outside the band for one model (s1's paper and code). all: if it
    is for every model."""
    num_attempts: int = Field(default=2, ge=1)
    """Maximum number of samples per problem and model."""
    measure: Literal["pass_rate", "majority"] = "pass_rate"
    """pass_rate: share of correct attempts. majority: 1 if the most frequent answer is correct,
    else 0; a tie counts as 1 / number of tied answers."""
    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Drop problems with a lower pass rate, in [0, 1]."""
    max_pass_rate: float = Field(default=0.5, ge=0, le=1)
    """Drop problems with a higher pass rate, in [0, 1]."""
    min_correct: int | None = Field(default=None, ge=0)
    """Minimum number of correct attempts, instead of the rate. null: use the rate."""
    max_correct: int | None = Field(default=None, ge=0)
    """Maximum number of correct attempts, instead of the rate. null: use the rate."""
    stop: Literal["never", "exact"] | None = None
    """never: make all attempts. exact: stop once the remaining attempts can change neither the
    decision nor whether the reference answer is in doubt. null: never, or as in the preset."""
    wave_size: int = Field(default=1, ge=1)
    """Minimum number of attempts at a problem that are requested together; those that any decision
    needs always are. More keep the engine busier, but some of them may be wasted."""
    truncated: Literal["unsolved", "uncounted"] = "unsolved"
    """How truncated attempts count. unsolved: as wrong. uncounted: not in the pass rate."""
    max_thinking_tokens: ThinkingCap = 32
    """Maximum number of thinking tokens, after which the answer is forced. solutions: as many as
    95 % of the tested problems' solutions have in the model's tokens, rounded up to a multiple of
    32; 256 where fewer than 20 have a solution."""
    answer_tokens: int = Field(default=12, ge=1)
    """Maximum number of answer tokens."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature."""

    @field_validator("stop", mode="before")
    @classmethod
    def _reject_error_mode(cls, stop: object) -> object:
        if stop == "error":
            raise ValueError("`error` was removed; write `exact` instead and delete `max_error`")
        return stop

    @model_validator(mode="after")
    def _check_band(self) -> DifficultyStep:
        has_counts = self.min_correct is not None or self.max_correct is not None
        if self.min_pass_rate > self.max_pass_rate and not has_counts:
            raise ValueError("min_pass_rate is above max_pass_rate; no problem could be kept")
        highest = self.num_attempts
        if self.max_correct is not None:
            highest = min(highest, self.max_correct)
        if (self.min_correct or 0) > highest:
            raise ValueError(
                "min_correct is above max_correct or num_attempts; no problem could be kept"
            )
        if self.measure == "majority" and has_counts:
            raise ValueError("a majority has no number of correct attempts; give the band as rates")
        return self


class DifficultyConfig(DifficultyStep):
    """Settings of the difficulty filter: a single step, the preset of a paper, or custom steps."""

    preset: Literal["s1", "limo-v1", "limo-v2"] | None = None
    """The steps of a paper; with `rule: all`, s1 as a review describes it. null: a single step."""
    steps: tuple[DifficultyStep, ...] = ()
    """Custom steps in order, cheap ones first. Empty: a single step, or the preset."""
    max_problems: int | None = Field(default=150, ge=1)
    """For a single step: number of problems tested, sampled by seed; the others are kept untested
    and counted. null: all. Ignored with presets, `steps` and `hours`."""
    hours: float | None = Field(default=None, gt=0)
    """Test only as many problems as are expected to fit in this time, sampled in proportion from
    each domain (or source); drop the others. Needs tokens_per_second of each model. null: all."""
    key_check: KeyCheckConfig | None = KeyCheckConfig()
    """Drop problems where the models agree on another answer than the reference, and list them for
    review. null: off."""

    @model_validator(mode="after")
    def _check_combination(self) -> DifficultyConfig:
        if self.preset is not None and self.steps:
            raise ValueError("preset and steps are both given; give one of them")
        if not self.preset and not self.steps:
            return self
        if misplaced := self._changed(_STEP_SETTINGS - (_PRESET_OPTIONS if self.preset else set())):
            kind = "steps" if self.steps else "preset"
            place = "in each step" if self.steps else "in custom `steps`"
            names = ", ".join(sorted(misplaced))
            raise ValueError(f"{names}: given together with {kind}; set it {place}")
        if self.preset is not None and self._changed({"models"}):
            num_models = sum(len(step["models"]) for step in PRESETS[self.preset])
            if len(self.models) != num_models:
                raise ValueError(
                    f"models: {len(self.models)} given; preset {self.preset} has {num_models}; "
                    "give one for each, in order"
                )
        if len({step.name for step in self.steps}) != len(self.steps):
            raise ValueError("steps: two have the same name; give each its own name")
        return self

    def _changed(self, keys: set[str]) -> set[str]:
        """Those of the keys whose value is not the default; a saved recipe contains all keys."""
        fields = type(self).model_fields
        return {key for key in keys if getattr(self, key) != fields[key].default}

    def resolved_steps(self) -> tuple[DifficultyStep, ...]:
        """The steps; those of a preset with the settings given here."""
        if self.steps:
            return self.steps
        if self.preset is None:
            return (DifficultyStep(**{key: getattr(self, key) for key in _STEP_SETTINGS}),)
        changed = {key: getattr(self, key) for key in self._changed(_PRESET_OPTIONS - {"models"})}
        replacements = iter(self.models if self._changed({"models"}) else ())
        steps = []
        for step in PRESETS[self.preset]:
            models = tuple(next(replacements, AttemptModel(**model)) for model in step["models"])
            steps.append(DifficultyStep(**{**step, **changed, "models": models}))
        return tuple(steps)

    def sample_files(self) -> list[str]:
        """Files of recorded samples."""
        models = [model for step in self.resolved_steps() for model in step.models]
        return [model.samples for model in models if model.samples is not None]


_STEP_SETTINGS = set(DifficultyStep.model_fields)
_PRESET_OPTIONS = {"models", "rule", "stop", "wave_size", "truncated"}
"""Settings that may be given with a preset; they apply to all its steps."""

_REASONING: dict[str, Any] = {"max_thinking_tokens": 32_768, "answer_tokens": 512, "stop": "exact"}

PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    "s1": (
        {
            "name": "s1", "num_attempts": 1, "max_correct": 0, "temperature": 0.05, **_REASONING,
            "models": [
                {"model": "Qwen/Qwen2.5-7B-Instruct"}, {"model": "Qwen/Qwen2.5-32B-Instruct"},
            ],
        },
    ),
    "limo-v1": (
        {
            "name": "coarse", "num_attempts": 4, "max_correct": 0, **_REASONING,
            "models": [{"model": "Qwen/Qwen2.5-Math-7B-Instruct", "max_thinking_tokens": 3072}],
        },
        {
            "name": "fine", "num_attempts": 4, "max_pass_rate": 0.5, **_REASONING,
            "models": [
                {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"},
                {"model": "deepseek-ai/DeepSeek-R1"},
            ],
        },
    ),
    "limo-v2": (
        {
            "name": "coarse", "num_attempts": 4, "max_correct": 0, **_REASONING,
            "models": [{"model": "Qwen/Qwen2.5-Math-7B-Instruct", "max_thinking_tokens": 3072}],
        },
        {
            "name": "fine", "num_attempts": 32, "min_correct": 1, "max_correct": 3, **_REASONING,
            "models": [{"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"}],
        },
    ),
}  # fmt: skip
"""s1 (arXiv 2501.19393, section 2.2; simplescaling/s1@77272c6: data/bulk_inference.py): two models,
one attempt each. LIMO v1 (arXiv 2502.03387v1): a few attempts, then strong models below a
threshold; number of attempts and threshold are unpublished, 4 and 0.5 are ours. LIMO v2 (v3 of the
same): no success of 4, then 1 to 3 of 32; its decoding is unpublished, temperature 0.7 is ours. The
caps for LIMO are ours too: 3,072 leaves room in the 4,096 tokens of Qwen2.5-Math."""
