"""A toy model and tokenizer of a dozen letters, and one request generated alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from slowthink.engines.session import Compiler, closing_ids_after, draw_uniform
from slowthink.engines.token_sampling import Draw, sample_tokens
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.engines.vllm.request_flow import CompiledArgs, compile_args
from slowthink.forcing.cuts import Cut
from slowthink.forcing.machine import ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import AnswerEnd, ChainState, Sampling, ThinkingEnd

LETTERS = "abcdefgh\nE$."
"""E ends thinking, $ is the end of the text."""
EOS = LETTERS.index("$")
FINISH = LETTERS.index(".")
"""A second end of the text, which the engine stops at too."""


class Tokenizer:
    """A letter is a token."""

    eos_token_id = EOS
    chat_template = ""
    name_or_path = "requests"

    def __len__(self) -> int:
        return len(LETTERS)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [LETTERS.index(letter) for letter in text if letter in LETTERS]

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        return "".join(LETTERS[i] for i in ids)


def compiler() -> Compiler:
    return Compiler(Tokenizer(), eos_ids=frozenset({EOS, FINISH}))


def compiled(args: ForcingArgs) -> CompiledArgs:
    return compile_args(args, compiler(), stop_id=EOS)


def logits(seed: int, ids: list[int]) -> torch.Tensor:
    """The toy model's logits after these ids: a pure function."""
    return _logits(seed, tuple(ids)).clone()


@lru_cache(maxsize=10_000)
def _logits(seed: int, ids: tuple[int, ...]) -> torch.Tensor:
    digest = hashlib.sha256(repr((seed, list(ids))).encode()).digest()
    return torch.tensor([digest[i] * 256 + digest[i + 12] for i in range(len(LETTERS))]) / 9000.0


@dataclass
class Generated:
    """The result of a request."""

    thinking: list[int]
    events: list
    closing: tuple[int, ...] | None
    answer: list[int]
    end: AnswerEnd | None


def generate_alone(model: int, prompt: list[int], args: ForcingArgs, *, seed: int) -> Generated:
    """One request by itself, as the transformers engine generates it."""
    arguments = compiled(args)
    sampling = args.sampling or Sampling()
    budget, rules = args.budget, arguments.rules
    machine = ForcingMachine(rules, cap=budget.max_thinking_tokens, waits=budget.waits)
    triggers = rules.trigger_ids if rules.end_rule == "probability" else frozenset()
    _drive(machine, model, prompt, _drawer(sampling, seed, args.sample, triggers))
    natural = machine.state is ChainState.ENDED
    end = ThinkingEnd.NATURAL if natural else ThinkingEnd.CAP
    cut = Cut(ids=tuple(machine.ids), end_reason=end, events=())
    closing = closing_ids_after(cut, arguments.token_format, budget, forced=args.forced)
    if closing is None or not budget.answer_tokens:
        return Generated(machine.ids, machine.events, None, [], None)
    answering = AnswerMachine(
        max_tokens=budget.answer_tokens, eos_ids=arguments.token_format.eos_ids
    )
    tag = ("answer", len(machine.ids))
    start = [*prompt, *machine.ids, *closing]
    _drive(answering, model, start, _drawer(sampling, seed, args.sample, frozenset(), tag))
    return Generated(machine.ids, machine.events, closing, answering.ids, answering.end_reason)


def _drawer(sampling, seed, sample, triggers, tag=()):
    def draw_row(row, machine, banned):
        number = draw_uniform(seed, sample, *tag, machine.draw_key)
        return sample_tokens(row[None], [Draw(sampling, number, banned)], triggers=triggers)[0]

    return draw_row


def _drive(machine, model, prefix, drawer) -> None:
    while (action := machine.next_action()).kind is not ActionKind.STOP:
        banned = action.banned
        while action.kind in (ActionKind.SAMPLE, ActionKind.RESAMPLE):
            drawn = drawer(logits(model, [*prefix, *machine.ids]), machine, banned)
            action = machine.observe(
                drawn.token, trigger_probability=drawn.trigger_probability, argmax=drawn.argmax
            )
            banned = action.banned


def text_of(generated: Generated) -> list[int]:
    """The ids that the request outputs, without the end of the text."""
    return [*generated.thinking, *(generated.closing or ()), *generated.answer]


@dataclass
class ToyRequest:
    """A request of the toy engine."""

    model: int
    prompt: list[int]
    args: ForcingArgs
    seed: int
    engine_is_greedy: bool = True
    outputs: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return bool(self.outputs) and self.outputs[-1] in (EOS, FINISH)

    def next_logits(self) -> torch.Tensor:
        return logits(self.model, [*self.prompt, *self.outputs])


def sample(row: torch.Tensor, *, greedy: bool) -> int:
    """As the engine does: greedy, or at temperature 1 with its own dice."""
    if greedy:
        return int(row.argmax())
    return int(torch.multinomial(torch.softmax(row, -1), 1))
