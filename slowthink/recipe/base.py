"""Settings that every stage uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from slowthink.records import Budget, LoopRule, Sampling

T = TypeVar("T")


class Settings(BaseModel):
    """Base class of all settings: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VllmConfig(Settings):
    """vLLM in this process; a null setting keeps vLLM's default."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that one copy of the model is split over."""
    data_parallel_size: int = Field(default=1, ge=1)
    """Copies of the model."""
    quantization: str | None = None
    """Quantisation method of the weights, as vLLM names it. null: from the model's config."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of a GPU's memory that vLLM may use. null: vLLM's default, or what is free."""
    enforce_eager: bool = False
    """Do not capture CUDA graphs: faster start, slower steps."""
    enable_prefix_caching: bool = True
    """Reuse the KV cache of shared prompt prefixes."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Maximum number of requests in a batch."""
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of tokens in one step."""
    async_scheduling: bool | None = None
    """Launch a step before the ids of the last one are read: faster on a GPU, unused on a CPU."""


class EndpointConfig(Settings):
    """OpenAI-compatible servers of the same model."""

    model_config = ConfigDict(hide_input_in_errors=True)

    urls: tuple[str, ...] = Field(min_length=1)
    """Base URLs, e.g. http://localhost:8000/v1; a request goes to the shortest queue."""
    model: str | None = None
    """The server's name of the model. null: the only one that it lists."""
    api: Literal["completions", "chat"] = "completions"
    """chat: for hosted models; budgets cannot be forced there."""
    api_key_env: str | None = None
    """Environment variable with the API key. null: no key is sent."""
    in_flight: bool = False
    """The server itself forces budgets: only for servers started by `slowthink serve`."""
    reasoning_effort: str | None = None
    """Field `reasoning_effort` of every request: low, medium, high, … null: not sent."""
    extra_body: dict[str, JsonValue] | None = None
    """Further fields of every request, e.g. {provider: {order: [deepseek]}}. null: none. A
    completion with other fields is another completion."""
    stream: bool = False
    """Ask for replies piece by piece, so that long thinking is cut off by no proxy."""
    max_concurrency: int = Field(default=64, ge=1)
    """Maximum number of pending requests per URL; lowered while it answers 429 or 503."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """Timeout of one request, after which it is retried; with `stream`, without a new piece."""
    max_retries: int = Field(default=6, ge=0)
    """Retries of one request, with growing pauses."""

    @field_validator("urls")
    @classmethod
    def _without_secrets(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """Reject URLs with a user, a password or a query, since URLs are stored and printed."""
        for position, url in enumerate(urls, 1):
            problem = url_problem(url)
            if problem is not None:
                raise PydanticCustomError(CONTAINS_SECRET, f"URL {position} {problem}")
        return urls

    @field_validator("extra_body")
    @classmethod
    def _not_our_own(
        cls, fields: dict[str, JsonValue] | None, info: ValidationInfo
    ) -> dict[str, JsonValue] | None:
        """Reject secrets, since settings are stored and printed, and what is sent anyway."""
        own = OWN_REQUEST_FIELDS
        if info.data.get("api") == "completions":
            own = own | OWN_COMPLETION_FIELDS
        if fields is not None and (name := secret_name(fields)) is not None:
            raise PydanticCustomError(
                CONTAINS_SECRET,
                f"`{name}` may hold a secret, and settings are stored and printed. Put the key in "
                "an environment variable and name it: engine.endpoints.api_key_env",
            )
        for name in fields or ():
            if name in own:
                raise ValueError(f"`{name}` is sent anyway; expected other fields. Use {own[name]}")
        return fields

    @property
    def request_fields(self) -> dict[str, JsonValue]:
        """The fields that are added to every request, and are part of its identity."""
        effort = {"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}
        return {**(self.extra_body or {}), **effort}


CONTAINS_SECRET = "contains_secret"
"""Type of the error for a setting whose value must not be printed."""
OWN_REQUEST_FIELDS = {
    "model": "engine.endpoints.model",
    "messages": "chat.system_prompt and chat.instruction",
    "prompt": "chat.system_prompt and chat.instruction",
    "chat_template_kwargs": "chat.template_variables",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "max_tokens": "the budget",
    "max_completion_tokens": "the budget",
    "reasoning_effort": "engine.endpoints.reasoning_effort",
    "stream": "engine.endpoints.stream",
    "stream_options": "engine.endpoints.stream",
    "n": "num_chains or num_samples",
    "best_of": "num_chains or num_samples",
    "seed": "the recipe's seed",
    "stop": "chat.format",
}
"""Fields of a request that slowthink sets, and the setting that decides each."""
OWN_COMPLETION_FIELDS = {
    "top_k": "sampling.top_k",
    "min_p": "sampling.min_p",
    "stop_token_ids": "chat.format",
    "logit_bias": "forcing",
    "logprobs": "forcing.end_rule",
    "logprob_token_ids": "forcing.end_rule",
    "vllm_xargs": "engine.endpoints.in_flight",
    **dict.fromkeys(
        ("repetition_penalty", "return_token_ids", "return_tokens_as_token_ids", "echo",
         "skip_special_tokens", "spaces_between_special_tokens", "add_special_tokens"),
        "none: budgets are kept under one value only",
    ),
}  # fmt: skip
"""The same for `api: completions`, besides those."""
_SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(api_?key|(access|secret|private)_?key|secret|password|passwd|auth|authorization"
    r"|bearer|credentials?|(access|auth|api)?_?token)$|^key$"
)
_SECRET_VALUE = re.compile(r"(?i)\s*(bearer\s|sk-|hf_[a-z0-9]{20})")


def secret_name(value: object, name: str = "") -> str | None:
    """The name of the first field, at any depth, that looks like a secret; None if none does."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key))
            if _SECRET_NAME.search(words) and item is not None:
                return str(key)
            if (found := secret_name(item, str(key))) is not None:
                return found
    if isinstance(value, list):
        return next((found for item in value if (found := secret_name(item, name))), None)
    return name if isinstance(value, str) and _SECRET_VALUE.match(value) else None


def url_problem(url: str) -> str | None:
    """Why this URL is invalid or may contain a secret; None if it is a plain URL of a server."""
    parts = urlsplit(url)
    if "@" in url or parts.query:
        return (
            f"(host {parts.hostname}) contains a user, a password or a query; expected a "
            "plain URL. Put the key in an environment variable and name it: "
            "engine.endpoints.api_key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a URL; expected one such as http://localhost:8000/v1"
    return None


class EngineConfig(Settings):
    """The engine that runs a model."""

    kind: Literal["auto", "transformers", "vllm", "openai", "replay"] = "auto"
    """The engine that runs the model. openai: any server with /v1/completions. auto: vllm where it
    is installed, a GPU is there and the planned tokens repay its start; else transformers."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of weights and activations. auto: bfloat16 where the GPU, or else the CPU, has
    instructions for it; otherwise float32, or float16 on a GPU with tensor cores."""
    vllm: VllmConfig = VllmConfig()
    """Settings of `vllm`."""
    endpoints: EndpointConfig | None = None
    """Servers of `openai`."""
    trust_remote_code: bool = False
    """Run the Python code that a model's folder contains. false: such a model is refused, unless
    transformers has a class of its own for it."""
    device: str = "auto"
    """Device of the model: auto, cpu, cuda, cuda:1, mps. `vllm` takes the first GPUs that it sees:
    choose them by CUDA_VISIBLE_DEVICES."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """For `transformers`: maximum number of sequences decoded together; under bfloat16 it changes
    rounding. auto: 256 on an NVIDIA GPU, else 48."""
    batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """For `transformers`: maximum number of tokens of a batch, so that the KV cache fits in memory;
    on an NVIDIA GPU at most what it holds beside the model. A longer sequence is decoded alone.
    auto: 32,768; on an NVIDIA GPU those that take 0.4 of its memory at 32 KiB each."""
    reproducible: bool = True
    """For `transformers`: batches are fixed, so that the same requests give the same tokens. false:
    requests join a batch as others finish, which is faster, but near ties may be decided
    differently."""
    max_context: int | None = Field(default=None, ge=1)
    """Maximum tokens of prompt, thinking and answer together. null: from the model's config; with
    `vllm` less if the KV cache holds less."""
    replay: str | None = None
    """For `replay`: a JSONL file of scripted completions."""


class PromptedModelConfig(Settings):
    """A language model that is prompted once per row, greedily; replies are cached."""

    model: str = "base"
    """base (the recipe's model), a folder, or a hub id."""
    revision: str | None = None
    """Revision of a hub model."""
    engine: EngineConfig | None = None
    """Engine that runs it. null: the recipe's."""
    max_tokens: int = Field(default=256, ge=1)
    """Maximum number of tokens of a reply."""
    num_asks: int = Field(default=2, ge=1)
    """Maximum number of attempts per row, while the reply is unusable."""


class TokenControl(Settings):
    """Token-conditional control: the prompt names a number of thinking tokens."""

    kind: Literal["tokens"] = "tokens"
    amount: int | None = Field(default=None, ge=1)
    """The number in the prompt. null: in training, from the length of the chain."""
    text: str = "Think for up to {amount} tokens."
    """The line after the question."""


class StepControl(Settings):
    """Step-conditional control: the prompt names a number of steps, and the chain counts down."""

    kind: Literal["steps"] = "steps"
    amount: int | None = Field(default=None, ge=1)
    """The number in the prompt. null: in training, from the steps of the chain."""
    text: str = "Think for up to {amount} steps."
    """The line after the question."""
    step_delimiter: str = Field(default="\n\n", min_length=1)
    """Text that ends a step; with forcing, `forcing.step_delimiter` must be the same."""
    countdown: str = "<|im_start|>{steps} steps left\n"
    """Text before each step (s1's: for chat.format s1-steps)."""


class ClassControl(Settings):
    """Class-conditional control: the prompt asks for short or long thinking."""

    kind: Literal["class"] = "class"
    amount: Literal["short", "long"] | None = None
    """The class in the prompt. null: in training, see `threshold_tokens`."""
    short: str = "Answer after a short amount of thinking."
    """The line after the question for short thinking."""
    long: str = "Answer after a long amount of thinking."
    """The line after the question for long thinking."""
    threshold_tokens: int | None = Field(default=None, ge=1)
    """In training, chains up to this length are short. null: no line in training (as s1)."""


ControlConfig = Annotated[TokenControl | StepControl | ClassControl, Field(discriminator="kind")]


def _iso_date(value: object) -> str:
    """A date of YAML or a text of one, as a text."""
    return date.fromisoformat(str(value)).isoformat()


IsoDate = Annotated[str, BeforeValidator(_iso_date)]


TextByLanguage = str | Annotated[dict[str, str], Field(min_length=1)] | None
"""A text, or one by the problem's language; other languages use the first."""


class ChatConfig(Settings):
    """How a problem becomes a prompt, in training and evaluation alike."""

    format: str = "s1"
    """Thinking delimiters: s1, s1-steps, think-tags, gpt-oss, plain, a name in `formats`, or auto:
    from the model's chat template."""
    template_variables: dict[str, bool | int | float | str] | None = None
    """Variables of the chat template, e.g. {enable_thinking: true} for Qwen3. null: none."""
    template_date: IsoDate = "2024-07-26"
    """The date that a chat template with `strftime_now` writes instead of today's, so that prompts
    and cached completions are the same every day. The default is Llama 3's own."""
    system_prompt: TextByLanguage = None
    """System prompt, or one for each language: {en: …, zh: …}. null: the chat template's default.
    """
    instruction: TextByLanguage = None
    """A line after the question, or one for each language. null: the question alone."""
    control: ControlConfig | None = None
    """A last line that asks for a length of thinking. null: none."""
    empty_thinking: Literal["keep", "mask", "none"] = "keep"
    """Rows without thinking, in training. keep: an empty thinking block is learnt. mask: it is part
    of the prompt, so that a model that thinks does not learn to stop. none: no block."""


class FormatConfig(Settings):
    """A custom thinking format (see `records.ThinkingFormat`)."""

    start: str = ""
    """Text that opens thinking."""
    end: str
    """Text that closes thinking and opens the answer."""
    end_triggers: tuple[str, ...] = ()
    """Generated texts that declare the end of thinking, besides the end-of-sequence tokens."""
    newline_before_forced_end: bool = True
    """A forced end starts on a new line."""
    cue_after_natural_end: bool = False
    """The final-answer cue is also appended after a natural end."""


class SamplingConfig(Settings):
    """How tokens are sampled."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling; 1: off."""
    top_k: int = Field(default=0, ge=0)
    """Top-k sampling; 0: off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Min-p sampling; 0: off."""

    def to_record(self) -> Sampling:
        """The same as a record."""
        return Sampling(**self.model_dump())


class LoopConfig(Settings):
    """When thinking counts as a loop: its last tokens are the same few tokens, repeated."""

    max_period: int = Field(default=64, ge=1)
    """Longest period that is detected, in tokens."""
    repeats: int = Field(default=4, ge=2)
    """Minimum number of repeats."""
    min_tokens: int = Field(default=128, ge=1)
    """Minimum length of all repeats together, in tokens."""

    def to_record(self) -> LoopRule:
        """The same as a record."""
        return LoopRule(**self.model_dump())


WAIT_STRINGS: dict[str, tuple[str, ...]] = {"en": ("Wait",), "zh": ("等等",)}
FINAL_ANSWER_CUES: dict[str, str] = {"en": "Final Answer:", "zh": "最终答案:"}


class ForcingConfig(Settings):
    """Budget forcing, except the cap and the number of waits, which an arm lists.

    Texts are the same for all problems, or a mapping by language; other languages use the first.
    """

    min_thinking_tokens: int = Field(default=0, ge=0)
    """An earlier end of thinking is suppressed."""
    max_thinking_steps: int | None = Field(default=None, ge=0)
    """Thinking also ends after this many steps. null: no limit."""
    step_delimiter: str = Field(default="\n\n", min_length=1)
    """Text that ends a step."""
    wait_strings: tuple[str, ...] | Annotated[dict[str, tuple[str, ...]], Field(min_length=1)] = (
        Field(default_factory=lambda: dict(WAIT_STRINGS))
    )
    """Appended in turn when the end is suppressed. Empty: the most likely other token is."""
    final_answer_cue: str | Annotated[dict[str, str], Field(min_length=1)] | None = Field(
        default_factory=lambda: dict(FINAL_ANSWER_CUES)
    )
    """Appended after a forced end. null: none."""
    end_rule: Literal["drawn", "argmax", "probability"] = "drawn"
    """When the end of thinking counts as declared. drawn: its token is sampled. argmax: or it is
    the most likely token. probability: or its probability is at least `end_probability`."""
    end_probability: float = Field(default=1.0, gt=0, le=1)
    """For end_rule probability: the minimum probability of the end."""
    answer_tokens: int = Field(default=24, ge=1)
    """Tokens reserved for the answer, which is also its maximum length."""
    loop: LoopConfig | None = None
    """End thinking that repeats itself, and force the answer. null: off."""

    def budget(self, cap: int | None, waits: int, *, language: str = "en") -> Budget:
        """The budget with this cap (None: limited by the context) and this number of waits."""
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
            loop=self.loop.to_record() if self.loop else None,
        )


def in_language(texts: T | Mapping[str, T], language: str) -> T:
    """The texts for a language (`zh-CN` counts as `zh`). Texts that are no mapping are for all."""
    if not isinstance(texts, Mapping):
        return texts
    name = language if language in texts else language.split("-")[0].lower()
    return texts[name] if name in texts else next(iter(texts.values()))
