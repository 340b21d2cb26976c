"""Settings of the filter by difficulty: who tries, how often, which band is kept, when to stop.

filter:
  difficulty: {preset: limo-v2, models: [{model: small}, {model: strong}], hours: 20}
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from slowthink.recipe.base import ChatConfig, EngineConfig, Settings


class AttemptModel(Settings):
    """Who tries the problems; what is null is the step's or the recipe's."""

    model: str | None = None
    """A folder, a hub id, `smollm2-135m`. null: the recipe's. With `samples`: whose are taken."""
    revision: str | None = None
    """Of a hub model; with `model`."""
    engine: EngineConfig | None = None
    """How it is run. null: the recipe's."""
    chat: ChatConfig = ChatConfig(format="plain")
    """How problems are put to it."""
    samples: str | None = None
    """A file of recorded samples, in any form that `evaluate` reads, in place of a running model;
    problems of which it has fewer than num_attempts pass untested and are counted."""
    last_number: bool = False
    """Of recorded samples: where no answer is marked, the last number is taken."""
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    """Cap of an attempt's thinking. null: the step's."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """Limit of an attempt's answer. null: the step's."""
    temperature: float | None = Field(default=None, ge=0)
    """Of its sampling. null: the step's."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Measured speed, as the manifest of an earlier run tells it; for estimates and `hours`."""
    tokens_per_attempt: int | None = Field(default=None, ge=1)
    """Mean length of an attempt, for estimates. null: the cap and the answer's limit."""


class KeyCheckConfig(Settings):
    """When the models are believed rather than the key: the row is set aside for review."""

    min_votes: int = Field(default=4, ge=2)
    """Attempts that must agree on one answer which is not the key."""
    min_share: float = Field(default=0.7, gt=0.5, le=1)
    """Their share of the attempts that gave an answer."""


class DifficultyStep(Settings):
    """One band that problems must lie in, by the attempts of one or more models."""

    name: str | None = None
    """Names the step in the funnel, as `difficulty: NAME`. null: `difficulty`."""
    models: tuple[AttemptModel, ...] = Field(default=(AttemptModel(),), min_length=1)
    """Who tries, cheap ones first: where one decides, the next is not asked. With a preset: who
    stands in for its models, in their order; the default leaves the paper's own."""
    rule: Literal["any", "all"] = "any"
    """any: a problem goes where one model puts it outside the band (s1's paper and code). all:
    where every model does."""
    num_attempts: int = Field(default=2, ge=1)
    """Samples per problem and model, at most."""
    measure: Literal["pass_rate", "majority"] = "pass_rate"
    """pass_rate: share of right attempts. majority: 1 where the most frequent answer is right, else
    0; a tie counts in parts."""
    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Problems solved less often are dropped, in [0, 1]."""
    max_pass_rate: float = Field(default=0.5, ge=0, le=1)
    """Problems solved more often are dropped, in [0, 1]."""
    min_correct: int | None = Field(default=None, ge=0)
    """The same as a count of right attempts, in place of the rate. null: the rate."""
    max_correct: int | None = Field(default=None, ge=0)
    """The same as a count of right attempts, in place of the rate. null: the rate."""
    stop: Literal["never", "exact"] | None = None
    """never: make all attempts. exact: stop once the remaining attempts cannot change the decision,
    nor whether the reference answer is in doubt. null: never, or the preset's value."""
    wave_size: int = Field(default=1, ge=1)
    """Attempts at a problem that are asked for together, at least. As many as any decision needs
    are asked for anyway; more keep an engine busier, and some of them may be wasted."""
    truncated: Literal["unsolved", "uncounted"] = "unsolved"
    """What an attempt that ran into its limit counts as; uncounted: it leaves the denominator."""
    max_thinking_tokens: int = Field(default=32, ge=0)
    """Cap of an attempt's thinking, after which the answer is forced."""
    answer_tokens: int = Field(default=12, ge=1)
    """Limit of an attempt's answer."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the attempts' sampling."""

    @field_validator("stop", mode="before")
    @classmethod
    def _no_error_mode(cls, stop: object) -> object:
        if stop == "error":
            raise ValueError("`error` was removed; write `exact` instead and delete `max_error`")
        return stop

    @model_validator(mode="after")
    def _band(self) -> DifficultyStep:
        rates = self.min_pass_rate > self.max_pass_rate
        if rates and self.min_correct is None and self.max_correct is None:
            raise ValueError("min_pass_rate is above max_pass_rate; no problem could be kept")
        if (self.min_correct or 0) > (self.num_attempts if self.max_correct is None
                                      else min(self.max_correct, self.num_attempts)):  # fmt: skip
            raise ValueError(
                "min_correct is above max_correct or num_attempts; no problem could be kept"
            )
        counts = self.min_correct is not None or self.max_correct is not None
        if self.measure == "majority" and counts:
            raise ValueError("a majority has no count of right attempts; give the band as rates")
        return self


class DifficultyConfig(DifficultyStep):
    """Keep the problems that models solve rarely enough: one band, a paper's, or own steps."""

    preset: Literal["s1", "limo-v1", "limo-v2"] | None = None
    """A paper's steps; s1's `rule: all` is the wording of a review. null: this one step."""
    steps: tuple[DifficultyStep, ...] = ()
    """Own steps in sequence, cheap ones first. Empty: this one step, or the preset's."""
    max_problems: int | None = Field(default=150, ge=1)
    """Of a single step: problems tried, drawn by seed; the rest pass untested and are counted.
    None: all. Presets, `steps` and `hours` do not look at it."""
    hours: float | None = Field(default=None, gt=0)
    """Only a part of the pool is tried, drawn alike from each domain (or source), that is expected
    to take so long; the rest is dropped. Needs tokens_per_second of each model. null: all."""
    key_check: KeyCheckConfig | None = KeyCheckConfig()
    """Sets rows aside where the models agree on another answer than the key. null: off."""

    @model_validator(mode="after")
    def _one_way(self) -> DifficultyConfig:
        if self.preset is not None and self.steps:
            raise ValueError("preset and steps are both given; give one of them")
        if not self.preset and not self.steps:
            return self
        if wrong := self._differing(_STEP_KEYS - (_FOR_PRESETS if self.preset else set())):
            there = "in each step" if self.steps else "in `steps` of your own"
            raise ValueError(f"{', '.join(sorted(wrong))}: given beside; set it {there}")
        if self.preset is not None and self._differing({"models"}):
            num = sum(len(step["models"]) for step in PRESETS[self.preset])
            if len(self.models) != num:
                raise ValueError(
                    f"models: {len(self.models)} given; preset {self.preset} has {num}, in order"
                )
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise ValueError("steps: two have the same name; give each its own")
        return self

    def _differing(self, keys: set[str]) -> set[str]:
        """Keys whose value is not the default (a resolved recipe gives all of them)."""
        fields = type(self).model_fields
        return {key for key in keys if getattr(self, key) != fields[key].default}

    def in_sequence(self) -> tuple[DifficultyStep, ...]:
        """The steps that this comes to."""
        if self.steps:
            return self.steps
        if self.preset is None:
            return (DifficultyStep(**{key: getattr(self, key) for key in _STEP_KEYS}),)
        over = {key: getattr(self, key) for key in self._differing(_FOR_PRESETS - {"models"})}
        standing_in = iter(self.models if self._differing({"models"}) else ())
        steps = []
        for values in PRESETS[self.preset]:
            models = tuple(next(standing_in, AttemptModel(**one)) for one in values["models"])
            steps.append(DifficultyStep(**{**values, **over, "models": models}))
        return tuple(steps)

    def files(self) -> list[str]:
        """Files of recorded samples."""
        steps = self.in_sequence()
        return [one.samples for step in steps for one in step.models if one.samples is not None]


_STEP_KEYS = set(DifficultyStep.model_fields)
_FOR_PRESETS = {"models", "rule", "stop", "wave_size", "truncated"}
"""What may be given beside a preset; it then holds for all its steps."""

_LONG: dict[str, Any] = {"max_thinking_tokens": 32_768, "answer_tokens": 512, "stop": "exact"}

PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    "s1": (
        {
            "name": "s1", "num_attempts": 1, "max_correct": 0, "temperature": 0.05, **_LONG,
            "models": [
                {"model": "Qwen/Qwen2.5-7B-Instruct"}, {"model": "Qwen/Qwen2.5-32B-Instruct"},
            ],
        },
    ),
    "limo-v1": (
        {
            "name": "coarse", "num_attempts": 4, "max_correct": 0, **_LONG,
            "models": [{"model": "Qwen/Qwen2.5-Math-7B-Instruct", "max_thinking_tokens": 3072}],
        },
        {
            "name": "fine", "num_attempts": 4, "max_pass_rate": 0.5, **_LONG,
            "models": [
                {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"},
                {"model": "deepseek-ai/DeepSeek-R1"},
            ],
        },
    ),
    "limo-v2": (
        {
            "name": "coarse", "num_attempts": 4, "max_correct": 0, **_LONG,
            "models": [{"model": "Qwen/Qwen2.5-Math-7B-Instruct", "max_thinking_tokens": 3072}],
        },
        {
            "name": "fine", "num_attempts": 32, "min_correct": 1, "max_correct": 3, **_LONG,
            "models": [{"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"}],
        },
    ),
}  # fmt: skip
"""s1 (arXiv 2501.19393, section 2.2; simplescaling/s1@77272c6: data/bulk_inference.py): two models,
one try each. LIMO v1 (arXiv 2502.03387v1): a few attempts, then strong models under a threshold;
number of attempts and threshold are unpublished, 4 and 0.5 are ours. LIMO v2 (v3 of the same): any
success of 4, then 1 to 3 of 32; its decoding is unpublished, temperature 0.7 is ours. The caps of
LIMO's are ours too: 3,072 leaves room in the 4,096 tokens of Qwen2.5-Math."""
