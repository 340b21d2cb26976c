"""Settings that every stage uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from slowthink.records import Budget, LoopRule, Sampling

T = TypeVar("T")


class Settings(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VllmConfig(Settings):
    """vLLM in this process; what is null is left to vLLM."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """Devices that one copy of the model is split over."""
    data_parallel_size: int = Field(default=1, ge=1)
    """Copies of the model."""
    quantization: str | None = None
    """vLLM's name of the weights' quantisation. null: what the model's config says."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of a GPU's memory."""
    enforce_eager: bool = False
    """No graph capture: a faster start, slower steps."""
    enable_prefix_caching: bool = True
    """Equal starts of prompts are prefilled once."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Requests at work together."""
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one step."""


class EndpointConfig(Settings):
    """OpenAI-compatible servers that hold the same model."""

    model_config = ConfigDict(hide_input_in_errors=True)

    urls: tuple[str, ...] = Field(min_length=1)
    """Base addresses, e.g. http://localhost:8000/v1; requests go where the queue is shortest."""
    model: str | None = None
    """The server's name of the model. null: the one that it lists."""
    api: Literal["completions", "chat"] = "completions"
    """chat: a hosted model as a plain teacher; thinking cannot be forced there."""
    api_key_env: str | None = None
    """Environment variable that holds the key. null: none is sent."""
    in_flight: bool = False
    """The servers were started by `slowthink serve`: budgets are forced inside the request."""
    max_concurrency: int = Field(default=64, ge=1)
    """Requests under way at each address, at most; lowered while it answers 429 or 503."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """Of one request; then it is tried again."""
    max_retries: int = Field(default=6, ge=0)
    """Of one request, with growing pauses."""

    @field_validator("urls")
    @classmethod
    def _plain(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """Addresses are stored and shown: one with a user, a password or a query is refused, and
        not repeated."""
        for number, url in enumerate(urls):
            problem = address_problem(url)
            if problem is not None:
                raise PydanticCustomError(SECRET, f"number {number + 1} {problem}")
        return urls


SECRET = "may_hold_a_secret"
"""Type of a setting's error whose value must not be repeated."""


def address_problem(url: str) -> str | None:
    """Why this is no address of a server that may be stored and shown; None: it is one."""
    parts = urlsplit(url)
    if "@" in url or parts.query:
        return (
            f"(host {parts.hostname}) carries a user, a password or a query; expected a plain "
            "address. Put the key in an environment variable and name it: "
            "engine.endpoints.api_key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no address; expected one such as http://localhost:8000/v1"
    return None


class EngineConfig(Settings):
    """How models are run."""

    kind: Literal["transformers", "vllm", "openai", "replay"] = "transformers"
    """Which engine runs the model. openai: any server with /v1/completions."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Numbers that the model computes in."""
    vllm: VllmConfig = VllmConfig()
    """For `vllm`."""
    endpoints: EndpointConfig | None = None
    """For `openai`."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps: where the model lies."""
    batch_size: int = Field(default=48, ge=1)
    """Sequences decoded together, at most; part of the numerics under bfloat16."""
    batch_tokens: int = Field(default=32_768, ge=1)
    """For `transformers`: tokens that these may come to together, at most, so that long prompts
    make small batches; a longer sequence is decoded alone. Bounds the memory of keys and values."""
    reproducible: bool = True
    """For `transformers`: batches are fixed, so that the same requests give the same tokens. false:
    requests join as others finish; faster, and near ties may fall otherwise."""
    max_context: int | None = Field(default=None, ge=1)
    """Tokens of prompt, thinking and answer together. None: what the model's config says."""
    replay: str | None = None
    """For `replay`: the JSONL file of scripted completions."""


class AskedModel(Settings):
    """A language model that is asked one question a row, greedily, each reply kept."""

    model: str = "base"
    """base (the recipe's), or a folder or hub id."""
    revision: str | None = None
    """Of a hub model."""
    engine: EngineConfig | None = None
    """How it is run. null: the recipe's."""
    max_tokens: int = Field(default=256, ge=1)
    """Of one reply."""
    num_asks: int = Field(default=2, ge=1)
    """Replies asked for in all, while they are not what was asked for."""


class TokenControl(Settings):
    """The model is told how many tokens to think for."""

    kind: Literal["tokens"] = "tokens"
    amount: int | None = Field(default=None, ge=1)
    """Told when a model is asked. null: in training, where it comes from the text's length."""
    text: str = "Think for up to {amount} tokens."
    """The line after the question."""


class StepControl(Settings):
    """The model is told how many steps to think for, and counts them down."""

    kind: Literal["steps"] = "steps"
    amount: int | None = Field(default=None, ge=1)
    """Told when a model is asked. null: in training, where it comes from the text's steps."""
    text: str = "Think for up to {amount} steps."
    """The line after the question."""
    step_delimiter: str = Field(default="\n\n", min_length=1)
    """Ends a step; with forcing, `forcing.step_delimiter` is to be the same."""
    countdown: str = "<|im_start|>{steps} steps left\n"
    """Stands before each step (s1's mark: for chat.format s1-steps)."""


class ClassControl(Settings):
    """The model is told to think little or much."""

    kind: Literal["class"] = "class"
    amount: Literal["short", "long"] | None = None
    """Told when a model is asked. null: in training."""
    short: str = "Answer after a short amount of thinking."
    """The line after the question, for little."""
    long: str = "Answer after a long amount of thinking."
    """The line after the question, for much."""
    threshold_tokens: int | None = Field(default=None, ge=1)
    """In training, thinking up to this long is short. null: nothing is told in training (s1)."""


ControlConfig = Annotated[TokenControl | StepControl | ClassControl, Field(discriminator="kind")]


class ChatConfig(Settings):
    """How a problem is put to a model; training and evaluation share it, so they cannot differ."""

    format: str = "s1"
    """Thinking delimiters: s1, s1-steps, think-tags, gpt-oss, plain, the name of one in `formats`,
    or auto: as the model's chat template says."""
    template_variables: dict[str, bool | int | float | str] | None = None
    """Given to the chat template, e.g. {enable_thinking: true} for Qwen3. null: none."""
    system_prompt: str | None = None
    """None: the chat template's own default."""
    instruction: str | None = None
    """A line put after the question. None: the question alone."""
    control: ControlConfig | None = None
    """A last line that says how long to think. null: none."""


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


class LoopConfig(Settings):
    """When thinking counts as repeating: it ends in equal runs of a few tokens."""

    max_period: int = Field(default=64, ge=1)
    """Longest run looked for, in tokens."""
    repeats: int = Field(default=4, ge=2)
    """Equal runs needed."""
    min_tokens: int = Field(default=128, ge=1)
    """Tokens that must lie in the repetition."""

    def record(self) -> LoopRule:
        """The same as a record."""
        return LoopRule(**self.model_dump())


WAIT_STRINGS: dict[str, tuple[str, ...]] = {"en": ("Wait",), "zh": ("等等",)}
FINAL_ANSWER_CUES: dict[str, str] = {"en": "Final Answer:", "zh": "最终答案:"}


class ForcingConfig(Settings):
    """Budget forcing, less the cap and the number of waits (those are swept).

    Texts are one for all problems, or a mapping by the problem's language; a language that is not
    there takes the first.
    """

    min_thinking_tokens: int = Field(default=0, ge=0)
    """Ends declared earlier are refused."""
    max_thinking_steps: int | None = Field(default=None, ge=0)
    """Thinking also ends after so many steps, whatever the cap. null: no limit."""
    step_delimiter: str = Field(default="\n\n", min_length=1)
    """Ends a step."""
    wait_strings: tuple[str, ...] | Annotated[dict[str, tuple[str, ...]], Field(min_length=1)] = (
        Field(default_factory=lambda: dict(WAIT_STRINGS))
    )
    """Appended to a refused end, in rotation; empty: the runner-up token is taken."""
    final_answer_cue: str | Annotated[dict[str, str], Field(min_length=1)] | None = Field(
        default_factory=lambda: dict(FINAL_ANSWER_CUES)
    )
    """Put after a forced end. null: none."""
    end_rule: Literal["drawn", "argmax", "probability"] = "drawn"
    """When an end counts as declared."""
    end_probability: float = Field(default=1.0, gt=0, le=1)
    """For end_rule probability: declared from this probability on."""
    answer_tokens: int = Field(default=24, ge=1)
    """Tokens reserved for the answer, and its limit."""
    loop: LoopConfig | None = None
    """Stops thinking that repeats itself; the answer is forced there. null: off."""

    def budget(self, cap: int | None, waits: int, *, language: str = "en") -> Budget:
        """The budget with this cap (None: the context) and this many waits."""
        return Budget(
            max_thinking_tokens=cap,
            waits=waits,
            min_thinking_tokens=self.min_thinking_tokens,
            max_thinking_steps=self.max_thinking_steps,
            step_delimiter=self.step_delimiter,
            wait_strings=in_language(self.wait_strings, language),
            final_answer_cue=in_language(self.final_answer_cue, language),
            end_rule=self.end_rule,
            end_probability=self.end_probability,
            answer_tokens=self.answer_tokens,
            loop=self.loop.record() if self.loop else None,
        )


def in_language(texts: T | Mapping[str, T], language: str) -> T:
    """The texts for a language (`zh-CN` counts as `zh`); those that are no mapping are for all."""
    if not isinstance(texts, Mapping):
        return texts
    name = language if language in texts else language.split("-")[0].lower()
    return texts[name] if name in texts else next(iter(texts.values()))
