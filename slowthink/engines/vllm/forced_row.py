"""One forced request of a vLLM batch: its instruction, and when the next one begins.

While an instruction lasts, a step asks the row nothing: `RowTable` compares its number of outputs
with `due`.

    row.declare_end(…)        a trigger was sampled, so the instruction ends here
    row.next_instruction()    the flow records the outputs since the last one
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.engines.session import draw_uniform
from slowthink.engines.vllm.draws import (
    FORCE,
    NO_EDIT,
    REPLACE_END,
    SELECT_GREEDY,
    SELECT_SAMPLED,
    LogitEdit,
)
from slowthink.engines.vllm.request_flow import (
    NO_END,
    RUNNER_UP,
    CompiledArgs,
    DeclaredEnd,
    Flow,
    History,
    Instruction,
)
from slowthink.records import Sampling


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """A row's settings besides its compiled arguments."""

    cap: int
    sampling: Sampling
    seed: int = 0
    cached_ids: tuple[int, ...] = ()
    """Thinking at the end of the prompt."""
    engine_is_greedy: bool = True
    """The engine takes the likeliest id by itself."""


class ForcedRow:
    """One forced request in the batch."""

    def __init__(
        self,
        compiled: CompiledArgs,
        settings: RowSettings,
        *,
        outputs: list[int],
        history: History | None = None,
    ) -> None:
        self.compiled = compiled
        self.settings = settings
        self.sampling = settings.sampling
        self.outputs = outputs
        """The ids output so far; under V1 the engine's own list."""
        self.history = history or History(seed=settings.seed)
        self.triggers = compiled.rules.triggers
        self.is_ready = False
        """Whether the flow has replayed the outputs. Not done when the row is made: the last step
        may still have to add a declared end to the history."""
        self._infer = history is None
        self._planned: list[Instruction] = []
        """The instructions after this one, where they do not depend on what is sampled."""

    def replay_outputs(self) -> None:
        """Replay the outputs from the start, since they were replaced or some removed: with those,
        the ends that were declared there."""
        for index in [index for index in self.history.ends if index >= len(self.outputs)]:
            del self.history.ends[index]
        self.flow = Flow(self.compiled, cap=self.settings.cap, cached_ids=self.settings.cached_ids)
        self.history.flow = self.flow
        self.flow.replay(self.outputs, self.history.ends, infer=self._infer)
        self._infer, self.is_ready = False, True
        self._plan()

    def _plan(self) -> None:
        first, *self._planned = self.flow.instructions()
        self._start(first)

    def _start(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self.num_observed = len(self.outputs)
        self.due = self.num_observed + instruction.num_tokens
        """Number of outputs at which the instruction ends."""
        self.end_replacement = instruction.end_replacement
        """As of the last token, if it has `line_replacements`."""
        self.edit = self._logit_edit()

    def next_instruction(self) -> bool:
        """Start the next instruction. Returns False if the last id is not known yet: with
        asynchronous scheduling it is -1 until the next step."""
        if self.outputs and self.outputs[-1] < 0:
            return False
        if len(self.outputs) < self.num_observed:
            self.replay_outputs()
        elif self._planned and len(self.outputs) == self.due:
            self._start(self._planned.pop(0))
        else:
            self.flow.replay(self.outputs, self.history.ends)
            self._plan()
        return True

    def may_be_replaced(self, index: int) -> bool:
        """Whether this output may be the id that replaces an end: it is, or is not known."""
        return index >= len(self.outputs) or self.outputs[index] in (-1, self.end_replacement)

    def declare_end(self, index: int, sampled: int, end_probability: float, argmax: int) -> None:
        """Store the end that was declared at this output."""
        is_replaced = self.edit is REPLACE_END
        replacement = self.end_replacement if is_replaced else -1
        self.history.ends[index] = DeclaredEnd(sampled, end_probability, argmax, replacement)
        self.due = index + 1

    def uniforms(self) -> tuple[float, float]:
        """The numbers that decide the next token, and the token after a refusal."""
        instruction, seed = self.instruction, self.history.seed
        position, num_events = instruction.draw_key
        position += len(self.outputs) - self.num_observed
        tag = (self.compiled.args.sample, *instruction.draw_tag)
        first = draw_uniform(seed, *tag, (position, num_events))
        redraws = instruction.end_replacement == RUNNER_UP
        return first, draw_uniform(seed, *tag, (position, num_events + 1)) if redraws else 0.0

    def _logit_edit(self) -> LogitEdit:
        instruction = self.instruction
        if instruction.forced:
            return FORCE
        if self.sampling.temperature:
            return SELECT_SAMPLED
        if self.settings.engine_is_greedy:
            if instruction.end_replacement == NO_END and not instruction.banned:
                return NO_EDIT
            if self.compiled.rules.end_rule == "drawn" and instruction.end_replacement >= 0:
                return REPLACE_END
        return SELECT_GREEDY
