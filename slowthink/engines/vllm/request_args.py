"""The `slowthink_*` arguments of one forced request.

Offline they are keys of `SamplingParams.extra_args`, over HTTP of `vllm_xargs`, which allows only
texts, numbers and flat lists of these:

    {"slowthink_format": "s1", "slowthink_cap": 512, "slowthink_waits": 1}
"""

from __future__ import annotations

import functools
import marshal
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from slowthink.engines.session import Point
from slowthink.errors import ConfigError, did_you_mean
from slowthink.forcing.formats import AUTO, FORMATS, get_format
from slowthink.records import (
    Budget,
    Chain,
    Event,
    EventKind,
    LoopRule,
    Request,
    Sampling,
    ThinkingFormat,
)

A = TypeVar("A", bound=BaseModel)

PREFIX = "slowthink_"
_EVENT_KINDS = (EventKind.WAIT, EventKind.MINIMUM, EventKind.END)
_NUMBERS_PER_EVENT = 4
"""An event as numbers: position, index in `_EVENT_KINDS`, forced, sampled id or -1."""
_MAX_ID = 2**24
"""No vocabulary is larger."""
_DEFAULT_BUDGET, _DEFAULT_SAMPLING, _DEFAULT_LOOP = Budget(), Sampling(), LoopRule()
_BUDGET_FIELDS = {
    "cap": "max_thinking_tokens",
    "min": "min_thinking_tokens",
    "steps": "max_thinking_steps",
    "step_delimiter": "step_delimiter",
    "waits": "waits",
    "wait_strings": "wait_strings",
    "end_rule": "end_rule",
    "end_probability": "end_probability",
    "answer_tokens": "answer_tokens",
}
_LOOP_FIELDS = {
    "loop_period": "max_period",
    "loop_repeats": "repeats",
    "loop_tokens": "min_tokens",
}
_SAMPLING_FIELDS = {name: name for name in ("temperature", "top_p", "top_k", "min_p")}
"""Arguments and the fields of records that they set."""


@dataclass(frozen=True, kw_only=True)
class ForcingArgs:
    """How one request is forced."""

    format: ThinkingFormat
    """One named `auto` is detected in the chat template."""
    budget: Budget
    """A cap of None: as much as the context and the request's max_tokens allow."""
    sampling: Sampling | None = None
    """None: the request's own temperature, top-p, top-k and min-p."""
    seed: int | None = None
    """None: the request's own or, if it has none, one of the engine's."""
    sample: int = 0
    forced: bool = True
    """False: thinking that does not end by itself within the cap gets no answer."""
    num_cached: int = 0
    """Thinking tokens at the end of the prompt."""
    events: tuple[Event, ...] = ()
    """The declared ends among them."""
    num_closing: int = 0
    """Closing tokens after them in the prompt; if any, only the answer is generated."""
    log: _Text | None = None
    """The engine stores the request's declared ends under this name."""


def _reject_text(value: Any) -> Any:
    if isinstance(value, (str, bool)):
        raise ValueError("expected a number")
    return value


def _as_tuple(value: Any) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError("expected a text or a list of texts")
    return (value,) if isinstance(value, str) else value


def _check_event_numbers(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) % _NUMBERS_PER_EVENT:
        raise ValueError(f"expected a list of {_NUMBERS_PER_EVENT} numbers for each event")
    if any(type(number) is not int for number in value):
        raise ValueError("expected integers")
    if not set(value[1::_NUMBERS_PER_EVENT]) <= set(range(len(_EVENT_KINDS))):
        raise ValueError(f"expected kinds of events from 0 to {len(_EVENT_KINDS) - 1}")
    return value


_MAX_NUMBER = 2**31 - 1
_MAX_TEXT_CHARS = 10_000
_MAX_TEXTS = 256
_MIN_TEMPERATURE = 1e-5
"""Below it, logits overflow; 0 is greedy."""
_Integer = Annotated[int, BeforeValidator(_reject_text)]
_Count = Annotated[_Integer, Field(ge=0, le=_MAX_NUMBER)]
_Switch = Annotated[_Integer, Field(ge=0, le=1)]
_Number = Annotated[float, BeforeValidator(_reject_text), Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[_Number, Field(le=1)]
_Text = Annotated[str, Field(max_length=_MAX_TEXT_CHARS)]
"""With a limit, pydantic also refuses lone surrogates."""
_Texts = Annotated[tuple[_Text, ...], BeforeValidator(_as_tuple), Field(max_length=_MAX_TEXTS)]


class OwnArgs(BaseModel):
    """Those in which requests with the same budget differ."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        alias_generator=lambda name: PREFIX + name,
    )

    seed: Annotated[_Integer, Field(ge=-(2**63), le=2**63)] | None = None
    sample: _Count = 0
    known: _Count = 0
    closed: _Count = 0
    events: Annotated[tuple[int, ...], BeforeValidator(_check_event_numbers)] = ()
    log: str | None = None

    @model_validator(mode="after")
    def _check_own_events(self) -> Self:
        """Refuse events that no thinking has."""
        if self.events:
            _check_events(_events(self.events), num_known=self.known)
        return self


class RequestArgs(OwnArgs):
    """The arguments by name, without their prefix; documented in `ForcingArgs`, `Budget`,
    `Sampling`, `LoopRule` and `ThinkingFormat`."""

    format: _Text = AUTO
    start: _Text = ""
    end: _Text | None = None
    """If set, it defines the format, with `start`, `triggers`, `newline` and
    `cue_after_natural_end`."""
    triggers: _Texts = ()
    newline: _Switch = 1
    cue_after_natural_end: _Switch = 0
    cap: _Count | None = None
    steps: _Count | None = None
    step_delimiter: Annotated[_Text, Field(min_length=1)] = _DEFAULT_BUDGET.step_delimiter
    min: _Count = _DEFAULT_BUDGET.min_thinking_tokens
    waits: _Count = _DEFAULT_BUDGET.waits
    wait_strings: _Texts = _DEFAULT_BUDGET.wait_strings
    cue: _Text = _DEFAULT_BUDGET.final_answer_cue or ""
    """Empty: no cue."""
    end_rule: Literal["drawn", "argmax", "probability"] = "drawn"
    end_probability: _Share = _DEFAULT_BUDGET.end_probability
    answer_tokens: _Count = _DEFAULT_BUDGET.answer_tokens
    loop_period: Annotated[_Count, Field(ge=1)] = _DEFAULT_LOOP.max_period
    loop_repeats: Annotated[_Count, Field(ge=2)] = _DEFAULT_LOOP.repeats
    loop_tokens: Annotated[_Count, Field(ge=1)] = _DEFAULT_LOOP.min_tokens
    temperature: _Number | None = None
    top_p: Annotated[_Share, Field(gt=0)] = _DEFAULT_SAMPLING.top_p
    top_k: _Count = _DEFAULT_SAMPLING.top_k
    min_p: _Share = _DEFAULT_SAMPLING.min_p
    forced: _Switch = 1

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Refuse arguments that have no effect without another."""
        given = self.model_fields_set
        own_format = given & {"start", "triggers", "newline", "cue_after_natural_end"}
        if own_format and self.end is None:
            raise ValueError(f"{PREFIX}{min(own_format)} has no effect without {PREFIX}end")
        if self.end is not None and "format" in given:
            raise ValueError(f"{PREFIX}format and {PREFIX}end; expected either")
        if given & {"top_p", "top_k", "min_p"} and self.temperature is None:
            raise ValueError(f"{PREFIX}top_p, top_k and min_p need {PREFIX}temperature")
        if self.temperature is not None and 0 < self.temperature < _MIN_TEMPERATURE:
            raise ValueError(f"{PREFIX}temperature: expected 0 or at least {_MIN_TEMPERATURE:g}")
        return self

    def to_forcing_args(self) -> ForcingArgs:
        """The arguments as records."""
        given = self.model_fields_set
        loop = LoopRule(**self._fields(_LOOP_FIELDS)) if given & set(_LOOP_FIELDS) else None
        budget = Budget(
            **self._fields(_BUDGET_FIELDS), final_answer_cue=self.cue or None, loop=loop
        )
        sampling = None
        if self.temperature is not None:
            sampling = Sampling(**self._fields(_SAMPLING_FIELDS))
        return ForcingArgs(
            format=self._thinking_format(),
            budget=budget,
            sampling=sampling,
            seed=self.seed,
            sample=self.sample,
            forced=bool(self.forced),
            num_cached=self.known,
            events=_events(self.events),
            num_closing=self.closed,
            log=self.log,
        )

    def _thinking_format(self) -> ThinkingFormat:
        if self.end is not None:
            return ThinkingFormat(
                name="custom",
                start=self.start,
                end=self.end,
                end_triggers=self.triggers,
                newline_before_forced_end=bool(self.newline),
                cue_after_natural_end=bool(self.cue_after_natural_end),
            )
        if self.format == AUTO:
            return ThinkingFormat(name=AUTO, start="", end="")
        return get_format(self.format)

    def _fields(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {field: getattr(self, name) for name, field in names.items()}


_NAMES, _LOG = tuple(PREFIX + name for name in RequestArgs.model_fields), PREFIX + "log"


def _events(numbers: Sequence[int]) -> tuple[Event, ...]:
    events = []
    for start in range(0, len(numbers), _NUMBERS_PER_EVENT):
        position, kind, forced, sampled = numbers[start : start + _NUMBERS_PER_EVENT]
        ids = (sampled,) if sampled >= 0 else ()
        events.append(Event(position=position, kind=_EVENT_KINDS[kind], drawn=ids, forced=forced))
    return tuple(events)


def _check_events(events: Sequence[Event], *, num_known: int) -> None:
    """Raise ValueError for events that thinking of this many tokens cannot have."""
    positions = [event.position for event in events]
    is_ordered = positions == sorted(positions) and all(0 <= p <= num_known for p in positions)
    ends = [event.kind is EventKind.END for event in events]
    counts_fit = all(0 <= event.forced <= num_known for event in events)
    ids_fit = all(token <= _MAX_ID for event in events for token in event.drawn)
    if not (is_ordered and counts_fit and ids_fit) or any(ends[:-1]):
        raise ValueError(
            f"{PREFIX}events: expected positions in order from 0 to {PREFIX}known ({num_known}), "
            "and an end only as the last"
        )


def read_args(extra: Mapping[str, Any] | None) -> ForcingArgs | None:
    """How the request is forced; None if no name starts with `slowthink_`. Raises ConfigError, a
    ValueError, which vLLM's server answers with 400."""
    if not extra:
        return None
    values = {name: value for name, value in extra.items() if name.startswith(PREFIX)}
    if not values:
        return None
    if not "".join(values).isascii():
        raise ConfigError("vllm_xargs: a name that is not ASCII; expected a slowthink argument.")
    log = values.pop(_LOG, None)
    if not isinstance(log, str | None):
        _validate({_LOG: log})
    try:
        args = _read_shared(marshal.dumps(values, 2))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        args = _validate(values)  # a value that no argument has, such as an object
    return args if log is None else replace(args, log=log)


@functools.lru_cache(maxsize=1024)
def _read_shared(values: bytes) -> ForcingArgs:
    """Arguments without their log: the engine reads those of each request several times. Given as
    bytes that tell True from 1."""
    return _validate(marshal.loads(values))


def _validate(values: Mapping[str, Any]) -> ForcingArgs:
    return _check(RequestArgs, values).to_forcing_args()


def _check(model: type[A], values: Mapping[str, Any]) -> A:
    """Raise ConfigError if these arguments are refused."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_first_error_message(error)) from None


def _first_error_message(error: ValidationError) -> str:
    """Message of the first error: the argument, its value and what was expected."""
    details = error.errors(include_url=False)[0]
    if not details["loc"]:
        problem = details["msg"].removeprefix("Value error, ")
        return f"vllm_xargs: {problem}. Change the request's slowthink arguments."
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        names = [PREFIX + field for field in RequestArgs.model_fields]
        hint = did_you_mean(name, names)
        return f"vllm_xargs.{name}: unknown{hint}; expected one of {', '.join(names)}."
    expected = details["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    expected = re.sub("^expected (?=greater|less)", "expected a number ", expected)
    return (
        f"vllm_xargs.{name}: {details['input']!r:.200}; {expected}. "
        "Change it, or leave it out for the default."
    )


def write_args(
    request: Request,
    point: Point,
    *,
    chain: Chain | None = None,
    closed: int = 0,
    log: str | None = None,
    answer: bool = True,
) -> dict[str, Any]:
    """The arguments that force this request up to this point; the inverse of `read_args`.

    `chain`: thinking that is already in the prompt; `closed`: number of closing tokens after it.
    `answer` False: the request ends with the thinking.
    """
    budget = request.budget
    values: dict[str, Any] = {
        **_format_values(request.format),
        **_argument_values(budget, _BUDGET_FIELDS),
        **_argument_values(request.sampling, _SAMPLING_FIELDS),
        **(_argument_values(budget.loop, _LOOP_FIELDS) if budget.loop is not None else {}),
        "cap": point.cap,
        "waits": point.waits,
        "steps": point.steps,
        "cue": budget.final_answer_cue or "",
        "forced": int(point.forced),
    }
    if point.steps is None:
        del values["steps"], values["step_delimiter"]
    if not answer:
        values["answer_tokens"] = 0
    arguments = {
        PREFIX + name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    } | own_args(request, chain=chain, closed=closed, log=log)
    arguments = {name: arguments[name] for name in _NAMES if name in arguments}
    read_args(arguments)  # raises for a value that is refused
    return arguments


def own_args(
    request: Request, *, chain: Chain | None, closed: int = 0, log: str | None = None
) -> dict[str, Any]:
    """Those of `OwnArgs`; see `write_args`. Raises ConfigError for a value that is refused."""
    arguments: dict[str, Any] = {PREFIX + "seed": request.seed, PREFIX + "sample": request.sample}
    if chain is not None:
        arguments[PREFIX + "known"] = len(chain.ids)
        arguments[PREFIX + "events"] = _event_values(chain.events)
    if closed:
        arguments[PREFIX + "closed"] = closed
    if log:
        arguments[_LOG] = log
    _check(OwnArgs, arguments)
    return arguments


def _argument_values(record: Any, fields: Mapping[str, str]) -> dict[str, Any]:
    return {name: getattr(record, field) for name, field in fields.items()}


def _format_values(format: ThinkingFormat) -> dict[str, Any]:
    if FORMATS.get(format.name) == format:
        return {"format": format.name}
    return {
        "start": format.start,
        "end": format.end,
        "triggers": format.end_triggers,
        "newline": int(format.newline_before_forced_end),
        "cue_after_natural_end": int(format.cue_after_natural_end),
    }


def _event_values(events: Sequence[Event]) -> list[int]:
    return [
        number
        for event in events
        for number in (
            event.position,
            _EVENT_KINDS.index(event.kind),
            event.forced,
            event.drawn[0] if event.drawn else -1,
        )
    ]


# --- settings that exclude a budget ---------------------------------------------------------------

_CONFLICTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("n", lambda v: v > 1, "send one request per sample, each with its own slowthink_sample"),
    ("structured_outputs", lambda v: v is not None, "request the structure in a second request"),
    ("presence_penalty", bool, "leave it out; loops are stopped by slowthink_loop_period"),
    ("frequency_penalty", bool, "leave it out; loops are stopped by slowthink_loop_period"),
    ("repetition_penalty", lambda v: v != 1, "leave it out; see slowthink_loop_period"),
    ("min_tokens", bool, "set slowthink_min: it counts thinking tokens"),
    ("ignore_eos", bool, "leave it out: the end of the text is forced when the budget is spent"),
    ("stop", bool, "cut the finished answer yourself; thinking must not stop at a text"),
    ("stop_token_ids", bool, "set them as triggers of a format: slowthink_triggers"),
    ("thinking_token_budget", lambda v: v is not None, "leave it out: slowthink_cap is the budget"),
    ("repetition_detection", lambda v: v is not None, "set slowthink_loop_period instead"),
    ("trace_decode_token_ids", bool, "leave it out"),
)
"""Settings of vLLM that would break a budget or make it inexact: name, whether a value is set, and
what to do instead."""


def refuse_conflicts(params: Any) -> None:
    """Raise ConfigError if the request has a setting that excludes exact forcing."""
    for name, is_set, remedy in _CONFLICTS:
        value = getattr(params, name, None)
        if value is not None and is_set(value):
            raise ConfigError(
                f"{name}: {value!r} together with a thinking budget; expected it unset, since the "
                f"budget or the distribution would not be exact. Instead: {remedy}."
            )
