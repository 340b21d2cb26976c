"""Budget forcing for anybody's `model.generate()`: a logits processor of transformers.

    budget = ThinkingBudget(tokenizer, max_thinking_tokens=512, waits=1)
    model.generate(**inputs, logits_processor=[budget], max_new_tokens=700)

During thinking each row draws its own token, by the rules of our engines, and leaves generate() no
other; so the draw can still be refused, which generate() cannot do with a token of its own. After
the forced closing, generate() samples the answer as it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from slowthink.engines.models import eos_ids
from slowthink.engines.token_sampling import Draw, sample_tokens
from slowthink.errors import ConfigError, is_count
from slowthink.forcing.cuts import Cut, check_budget, cut_chain
from slowthink.forcing.formats import (
    TokenFormat,
    compile_format,
    detect_format,
    get_format,
    require_single_token_trigger,
)
from slowthink.forcing.machine import ActionKind, ForcingMachine, make_rules
from slowthink.records import Budget, ChainState, Sampling

DETECT = "detect"
_START_MARGIN = 8
"""Tokens of the prompt that are decoded to find a thinking start, in addition to its own."""

DrawToken = Callable[[frozenset[int]], int]
"""Draws a token that is none of these."""


class ThinkingBudget(LogitsProcessor):  # type: ignore[misc]
    """Ends thinking at a cap, and extends it with waits, in transformers' `generate()`.

    Thinking begins at the end of the prompt: its start is forced unless the prompt ends with it. At
    `max_thinking_tokens` the end and `final_answer_cue` are forced; ends below
    `min_thinking_tokens` are refused; the first `waits` ends after that are replaced by
    `wait_strings`, in rotation (s1, arXiv 2501.19393, section 3.1). Works on batches (left-padded),
    with `num_return_sequences`, and for one call of generate() after the other; not with beams or
    assisted decoding. `max_new_tokens` must leave room for the answer.

    `format`: delimiters as in docs/forcing.md; by default those of the chat template, else `plain`.
    `generation_config`: the one of generate(). Its end-of-sequence ids count, and with `do_sample`
    its temperature, top_k, top_p and min_p decide the draws (by torch's seed); without one,
    thinking is greedy. Raises ConfigError for a format whose end is several tokens of this
    tokenizer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_thinking_tokens: int,
        waits: int = 0,
        min_thinking_tokens: int = 0,
        wait_strings: Sequence[str] = ("Wait",),
        final_answer_cue: str | None = "Final Answer:",
        format: str = DETECT,
        generation_config: Any = None,
    ) -> None:
        if not all(map(is_count, (max_thinking_tokens, waits, min_thinking_tokens))):
            raise ConfigError(
                f"ThinkingBudget: {max_thinking_tokens} thinking tokens, {waits} waits, minimum "
                f"{min_thinking_tokens}; expected counts of 0 or more. Change them."
            )
        detected = detect_format(tokenizer) if format == DETECT else None
        resolved = detected or get_format("plain" if format == DETECT else format)
        eos = eos_ids(getattr(generation_config, "eos_token_id", None), tokenizer.eos_token_id)
        self._format = compile_format(resolved, tokenizer, eos_ids=eos)
        require_single_token_trigger(self._format, engine="generate()")
        self.budget = Budget(
            max_thinking_tokens=max_thinking_tokens, waits=waits,
            min_thinking_tokens=min_thinking_tokens, wait_strings=tuple(wait_strings),
            final_answer_cue=final_answer_cue,
        )  # fmt: skip
        self._rules = make_rules(self.budget, self._format)
        self._sampling = _sampling(generation_config)
        self._rows: list[_Row] = []
        self._seen: torch.Tensor | None = None
        self._num_prompt = 0

    @property
    def cuts(self) -> list[Cut | None]:
        """The thinking of each row of the last call; None where generate() ended before it did."""
        return [self._cut(row) for row in self._rows]

    @property
    def violations(self) -> list[tuple[str, ...]]:
        """How each row violates the budget, from its ids; empty if the budget held.

        Also where generate() took other tokens than the forced ones, by another processor's doing.
        """
        return [self._violations(index, row) for index, row in enumerate(self._rows)]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores, (batch, vocabulary); of a row that thinks all but one token's are -inf.

        Raises ConfigError for beams and assisted decoding.
        """
        self._follow(input_ids)
        thinking = [index for index, row in enumerate(self._rows) if row.is_thinking]
        if not thinking and not any(row.pending for row in self._rows):
            return scores
        firsts = dict(zip(thinking, self._draw(scores, thinking, frozenset()), strict=True))
        masked = scores.clone()
        for index, row in enumerate(self._rows):
            token = row.next_token(self._drawer(scores[index : index + 1], firsts.get(index)))
            if token is not None:
                row.forced.append(token)
                masked[index] = float("-inf")
                masked[index, token] = 0.0
        return masked

    def _drawer(self, scores_1V: torch.Tensor, first: int | None) -> DrawToken:
        """Draws from one row; its first draw is made already, together with those of other rows."""
        draws = deque([first] if first is not None else [])

        def draw(banned: frozenset[int]) -> int:
            if draws and not banned:
                return int(draws.popleft())
            draws.clear()
            return self._draw(scores_1V, [0], banned)[0]

        return draw

    def _draw(
        self, scores_BV: torch.Tensor, rows: Sequence[int], banned: frozenset[int]
    ) -> list[int]:
        if not rows:
            return []
        is_greedy = not self._sampling.temperature
        uniforms = [0.0] * len(rows) if is_greedy else torch.rand(len(rows)).tolist()
        draws = [Draw(self._sampling, uniform, banned) for uniform in uniforms]
        return [sampled.token for sampled in sample_tokens(scores_BV[list(rows)], draws)]

    # --- calls of generate() ----------------------------------------------------------------------

    def _follow(self, ids_BT: torch.Tensor) -> None:
        """Go on with the sequences of the last step, or begin with the prompts of a new call."""
        seen, self._seen = self._seen, ids_BT
        if seen is not None and ids_BT.shape == (seen.shape[0], seen.shape[1] + 1):
            if torch.equal(ids_BT[:, :-1], seen):
                return
            if len(seen) > 1 and all((seen == row).all(1).any() for row in ids_BT[:, :-1]):
                raise _unsupported("beams, which reorder sequences", "num_beams=1")
        if seen is not None and len(seen) == len(ids_BT):
            length = ids_BT.shape[1]
            if self._num_prompt < length <= seen.shape[1] and torch.equal(ids_BT, seen[:, :length]):
                raise _unsupported("assisted decoding, which takes tokens back", "no assistant")
        self._num_prompt = ids_BT.shape[1]
        self._rows = [self._start(row) for row in ids_BT]

    def _start(self, prompt_T: torch.Tensor) -> _Row:
        start = self._format.format.start
        tail = prompt_T[-len(self._format.start_ids) - _START_MARGIN :].tolist()
        text = self._format.decode(tail)
        stripped, ids = text.rstrip(), self._format.start_ids
        end = self._format.format.end.strip()
        if start and end and stripped.endswith(end):
            raise ConfigError(
                f"ThinkingBudget: the prompt closes thinking before it begins (it ends with "
                f"{stripped[-40:]!r}); expected it open. Render it with enable_thinking=True."
            )
        if start and stripped.endswith(start.strip()):
            given = text[len(stripped) - len(start.strip()) :]
            ids = self._format.encode(start.lstrip()[len(given) :])
        cap = self.budget.max_thinking_tokens or 0
        machine = ForcingMachine(self._rules, cap=cap, waits=self.budget.waits)
        return _Row(machine, self._format, self.budget.final_answer_cue, start_ids=ids)

    def _violations(self, index: int, row: _Row) -> tuple[str, ...]:
        cut, seen = self._cut(row), self._seen
        generated = [] if seen is None else seen[index, self._num_prompt :].tolist()
        num_known = min(len(generated), len(row.forced))
        if generated[:num_known] != row.forced[:num_known]:
            return ("generated tokens are not the forced ones",)
        if cut is None:
            return ()
        cap, waits = self.budget.max_thinking_tokens or 0, self.budget.waits
        return check_budget(cut, self._rules, cap=cap, waits=waits)

    def _cut(self, row: _Row) -> Cut | None:
        if row.is_thinking:
            return None
        cap, waits = self.budget.max_thinking_tokens or 0, self.budget.waits
        return cut_chain(row.machine.chain(""), self._rules, cap=cap, waits=waits)


class _Row:
    """One sequence: forced tokens first, then thinking, the forced closing, and the free answer."""

    def __init__(
        self, machine: ForcingMachine, format: TokenFormat, cue: str | None, *,
        start_ids: Sequence[int],
    ) -> None:  # fmt: skip
        self.machine = machine
        self.pending = deque(start_ids)
        """Tokens to force next."""
        self.is_thinking = True
        self.forced: list[int] = []
        """All tokens up to the answer, to check what was generated."""
        self._format = format
        self._cue = cue

    def next_token(self, draw: DrawToken) -> int | None:
        """The only token to allow; None for any, in the answer."""
        while not self.pending and self.is_thinking:
            action = self.machine.next_action()
            if action.kind is ActionKind.FORCE:
                return action.token
            if action.kind is ActionKind.STOP:
                self.is_thinking = False
                self.pending.extend(self._closing())
            elif (token := self._draw_kept(draw, action.banned)) is not None:
                return token
        return self.pending.popleft() if self.pending else None

    def _draw_kept(self, draw: DrawToken, banned: frozenset[int]) -> int | None:
        """A drawn token that is kept; None if an end was declared and accepted or replaced."""
        token = draw(banned)
        reaction = self.machine.observe(token)
        if reaction.kind is ActionKind.RESAMPLE:
            return self._draw_kept(draw, reaction.banned)
        return token if reaction.kind is ActionKind.KEEP else None

    def _closing(self) -> tuple[int, ...]:
        """Delimiter and cue; the end of the sequence if thinking ended and nothing follows it."""
        natural = self.machine.state is ChainState.ENDED
        closing = self._format.closing_ids(self.machine.ids, natural=natural, cue=self._cue)
        return (min(self._format.eos_ids),) if closing is None else closing


def _sampling(config: Any) -> Sampling:
    """The draws of a transformers GenerationConfig; greedy without `do_sample`."""
    if not getattr(config, "do_sample", False):
        return Sampling()
    values = {name: getattr(config, name, None) for name in ("top_p", "top_k", "min_p")}
    given = {name: value for name, value in values.items() if value is not None}
    temperature = config.temperature if config.temperature is not None else 1.0
    return Sampling(temperature=temperature, **given)


def _unsupported(what: str, instead: str) -> ConfigError:
    return ConfigError(
        f"ThinkingBudget: generate() uses {what}; expected sequences that only grow. "
        f"Call it with {instead}."
    )
