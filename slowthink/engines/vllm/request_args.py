"""What a request tells the forcing inside vLLM: flat names, read and checked in one place.

Offline they lie in `SamplingParams.extra_args`, over HTTP in `vllm_xargs`, which takes texts,
numbers and flat lists of these only:

    {"slowthink_format": "s1", "slowthink_cap": 512, "slowthink_waits": 1}
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.session import Point
from slowthink.errors import ConfigError
from slowthink.forcing.formats import AUTO, FORMATS, get_format
from slowthink.records import Budget, Chain, Event, EventKind, LoopRule, Request, Sampling
from slowthink.records import ThinkingFormat as Format

PREFIX = "slowthink_"
_KINDS = (EventKind.WAIT, EventKind.MINIMUM, EventKind.END)
_PER_EVENT = 4
"""Numbers that stand for one event: position, kind, forced, drawn id or -1."""


@dataclass(frozen=True, kw_only=True)
class ForcingArgs:
    """What one request asks of the forcing."""

    format: Format
    """One named `auto` is found in the chat template."""
    budget: Budget
    """A cap of None: as much as the context and the request's max_tokens hold."""
    sampling: Sampling | None = None
    """None: the request's own temperature, top-p, top-k and min-p."""
    seed: int | None = None
    """None: the request's own; where it has none, one of the engine's."""
    sample: int = 0
    forced: bool = True
    """False: thinking that does not end by itself within the cap gets no answer."""
    known: int = 0
    """Tokens at the end of the prompt that are thinking already."""
    events: tuple[Event, ...] = ()
    """The declared ends among them."""
    closed: int = 0
    """Tokens of the closing that follow them in the prompt: only the answer is wanted."""
    log: str | None = None
    """Under this name the engine keeps what was drawn where ends were declared."""


# --- reading --------------------------------------------------------------------------------------


def _number(low: float, high: float = float("inf"), *, kind: type = float) -> Callable[..., Any]:
    def read(name: str, value: Any) -> Any:
        whole = kind is float or (isinstance(value, (int, float)) and value == int(value))
        if isinstance(value, (str, list)) or not whole or not low <= value <= high:
            noun = "a whole number" if kind is int else "a number"
            top = f" to {high:g}" if high != float("inf") else ""
            raise _wrong(name, value, f"{noun} from {low:g}{top}" if low > -_WIDE else noun)
        return kind(value)

    return read


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
        raise _wrong(name, value, "a text or a list of texts")
    return tuple(found)


def _events(name: str, value: Any) -> tuple[Event, ...]:
    numbers = list(value) if isinstance(value, (list, tuple)) else None
    if numbers is None or len(numbers) % _PER_EVENT:
        raise _wrong(name, value, f"a list of {_PER_EVENT} numbers for each event")
    found = []
    for at in range(0, len(numbers), _PER_EVENT):
        position, kind, forced, drawn = (int(one) for one in numbers[at : at + _PER_EVENT])
        ids = (drawn,) if drawn >= 0 else ()
        found.append(Event(position=position, kind=_KINDS[kind], drawn=ids, forced=forced))
    return tuple(found)


def _rule(name: str, value: Any) -> str:
    rules = ("drawn", "argmax", "probability")
    if value not in rules:
        raise _wrong(name, value, f"one of {', '.join(rules)}")
    return str(value)


_WIDE = 2**62
_READERS: dict[str, Callable[[str, Any], Any]] = {
    "format": _text,
    "start": _text,
    "end": _text,
    "triggers": _texts,
    "newline": _number(0, 1, kind=int),
    "cue_after_natural_end": _number(0, 1, kind=int),
    "cap": _number(0, kind=int),
    "steps": _number(0, kind=int),
    "step_delimiter": _text,
    "min": _number(0, kind=int),
    "waits": _number(0, kind=int),
    "wait_strings": _texts,
    "cue": _text,
    "end_rule": _rule,
    "end_probability": _number(0, 1),
    "answer_tokens": _number(0, kind=int),
    "loop_period": _number(1, kind=int),
    "loop_repeats": _number(2, kind=int),
    "loop_tokens": _number(1, kind=int),
    "temperature": _number(0),
    "top_p": _number(0, 1),
    "top_k": _number(0, kind=int),
    "min_p": _number(0, 1),
    "seed": _number(-_WIDE * 2, _WIDE * 2, kind=int),
    "sample": _number(0, kind=int),
    "forced": _number(0, 1, kind=int),
    "known": _number(0, kind=int),
    "closed": _number(0, kind=int),
    "events": _events,
    "log": _text,
}
"""Every name, without its prefix, and what may stand there."""


def _wrong(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(
        f"vllm_xargs.{PREFIX}{name}: {value!r}; expected {expected}. "
        "Change it, or leave it out for the default."
    )


def read_args(extra: Mapping[str, Any] | None) -> ForcingArgs | None:
    """What the request asks; None where it names nothing of ours. Raises ConfigError, a ValueError,
    which vLLM's server answers with 400."""
    ours = {name: value for name, value in (extra or {}).items() if name.startswith(PREFIX)}
    if not ours:
        return None
    values = {}
    for long, value in ours.items():
        name = long.removeprefix(PREFIX)
        if name not in _READERS:
            raise _unknown(name)
        values[name] = _READERS[name](name, value)
    return _ask(values)


def _unknown(name: str) -> ConfigError:
    close = difflib.get_close_matches(name, _READERS, n=1)
    hint = f" Did you mean {PREFIX}{close[0]}?" if close else ""
    names = ", ".join(PREFIX + one for one in _READERS)
    return ConfigError(f"vllm_xargs.{PREFIX}{name}: unknown; expected one of {names}.{hint}")


def _ask(values: Mapping[str, Any]) -> ForcingArgs:
    sampling = Sampling(**_named(values, temperature="temperature", top_p="top_p", top_k="top_k", min_p="min_p"))  # fmt: skip # noqa: E501
    return ForcingArgs(
        format=_format(values),
        budget=_budget(values),
        sampling=sampling if "temperature" in values else None,
        forced=bool(values.get("forced", 1)),
        **_named(
            values,
            seed="seed",
            sample="sample",
            known="known",
            events="events",
            closed="closed",
            log="log",
        ),
    )


def _named(values: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The values that are there, under a record's names of them."""
    return {field: values[name] for field, name in names.items() if name in values}


def _budget(values: Mapping[str, Any]) -> Budget:
    budget = Budget(
        **_named(
            values, max_thinking_tokens="cap", min_thinking_tokens="min", waits="waits",
            max_thinking_steps="steps", step_delimiter="step_delimiter",
            wait_strings="wait_strings", final_answer_cue="cue", end_rule="end_rule",
            end_probability="end_probability", answer_tokens="answer_tokens",
        ),
        loop=_loop(values),
    )  # fmt: skip
    return replace(budget, final_answer_cue=budget.final_answer_cue or None)


def _loop(values: Mapping[str, Any]) -> LoopRule | None:
    found = _named(
        values, max_period="loop_period", repeats="loop_repeats", min_tokens="loop_tokens"
    )
    return LoopRule(**found) if found else None


_AUTO = Format(name=AUTO, start="", end="")
"""Stands for the format that the chat template speaks of."""


def _format(values: Mapping[str, Any]) -> Format:
    if "end" not in values:
        name = values.get("format", AUTO)
        return _AUTO if name == AUTO else get_format(name)
    return Format(
        name="custom",
        start=values.get("start", ""),
        end=values["end"],
        end_triggers=values.get("triggers", ()),
        newline_before_forced_end=bool(values.get("newline", 1)),
        cue_after_natural_end=bool(values.get("cue_after_natural_end", 0)),
    )


# --- writing --------------------------------------------------------------------------------------


def write_args(
    request: Request,
    point: Point,
    *,
    chain: Chain | None = None,
    closed: int = 0,
    log: str | None = None,
    answer: bool = True,
) -> dict[str, Any]:
    """The names and values that ask for this request at this point; `read_args` turned round.

    `chain`: thinking that the prompt holds already, `closed`: closing tokens after it. `answer`
    False: the request ends with thinking.
    """
    budget, sampling = request.budget, request.sampling
    values: dict[str, Any] = {
        **_format_args(request.format),
        "cap": point.cap,
        "min": budget.min_thinking_tokens,
        "waits": point.waits,
        **(
            {"steps": point.steps, "step_delimiter": budget.step_delimiter}
            if point.steps is not None
            else {}
        ),
        "wait_strings": list(budget.wait_strings),
        "cue": budget.final_answer_cue or "",
        "end_rule": budget.end_rule,
        "end_probability": budget.end_probability,
        "answer_tokens": budget.answer_tokens if answer else 0,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": request.seed,
        "sample": request.sample,
        "forced": int(point.forced),
        **_loop_args(budget.loop),
        **({"known": len(chain.ids), "events": _numbers(chain.events)} if chain else {}),
        **({"closed": closed} if closed else {}),
        **({"log": log} if log else {}),
    }
    return {PREFIX + name: value for name, value in values.items()}


def _format_args(format: Format) -> dict[str, Any]:
    if FORMATS.get(format.name) == format:
        return {"format": format.name}
    return {
        "start": format.start,
        "end": format.end,
        "triggers": list(format.end_triggers),
        "newline": int(format.newline_before_forced_end),
        "cue_after_natural_end": int(format.cue_after_natural_end),
    }


def _loop_args(loop: LoopRule | None) -> dict[str, int]:
    if loop is None:
        return {}
    return {
        "loop_period": loop.max_period,
        "loop_repeats": loop.repeats,
        "loop_tokens": loop.min_tokens,
    }


def _numbers(events: Sequence[Event]) -> list[int]:
    return [
        number
        for event in events
        for number in (
            event.position,
            _KINDS.index(event.kind),
            event.forced,
            event.drawn[0] if event.drawn else -1,
        )
    ]


# --- what cannot be had together ------------------------------------------------------------------

_CONFLICTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("n", lambda v: v > 1, "send one request a sample, each with its own slowthink_sample"),
    ("structured_outputs", lambda v: v is not None, "ask for the structure in a second request"),
    ("presence_penalty", bool, "leave it out; loops are stopped by slowthink_loop_period"),
    ("frequency_penalty", bool, "leave it out; loops are stopped by slowthink_loop_period"),
    ("repetition_penalty", lambda v: v != 1, "leave it out; see slowthink_loop_period"),
    ("min_tokens", bool, "give slowthink_min: it counts thinking tokens"),
    ("ignore_eos", bool, "leave it out: the end of the text is forced when the budget is spent"),
    ("stop", bool, "cut the answer after it came; thinking must not stop at a text"),
    ("stop_token_ids", bool, "give them as triggers of a format: slowthink_triggers"),
    ("thinking_token_budget", lambda v: v is not None, "leave it out: slowthink_cap is the budget"),
    ("repetition_detection", lambda v: v is not None, "give slowthink_loop_period instead"),
    ("trace_decode_token_ids", bool, "leave it out"),
)
"""Settings of vLLM that would break a budget or cannot be exact with it; and the way out."""


def refuse_conflicts(params: Any) -> None:
    """Raise ConfigError where the request has a setting that forcing cannot keep exact."""
    for name, is_set, way_out in _CONFLICTS:
        value = getattr(params, name, None)
        if value is not None and is_set(value):
            raise ConfigError(
                f"{name}: {value!r} together with a thinking budget; expected it unset, since the "
                f"budget or the distribution would not hold. Instead: {way_out}."
            )
