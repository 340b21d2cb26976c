"""The state of one request that is forced from its first token to its last.

The machines of `forcing.machine` run one after the other: thinking, closing, answer, end of text. A
logits processor acts *before* a token is sampled, so it takes an instruction first and reports the
output afterwards:

    flow = Flow(compiled, cap=64)
    flow.instruction()        Instruction(end_replacement=39, …): sample; id 39 replaces an end
    flow.observe([11, 12])    two tokens were output, neither declared an end

No torch. Replaying the ids of a finished request gives its chain, closing and answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import ne
from typing import Any, NamedTuple

from slowthink.engines.session import Compiler, Job, JobInProgress, Point, closing_ids_after
from slowthink.engines.vllm.request_args import ForcingArgs, own_args, read_args, write_args
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import Cut
from slowthink.forcing.formats import TokenFormat, require_single_token_trigger
from slowthink.forcing.machine import (
    ActionKind,
    AnswerMachine,
    ForcingMachine,
    ForcingRules,
)
from slowthink.records import (
    Budget,
    Chain,
    ChainState,
    EventKind,
    Request,
    Sampling,
    ThinkingEnd,
    ThinkingFormat,
)

NO_END = -2
"""No end can be declared at this token."""
RUNNER_UP = -1
"""A declared end is refused: a token sampled without the triggers replaces it."""
ALWAYS = 2**40
"""Number of tokens of the last instruction: the engine ends the request at its id."""


@dataclass(frozen=True, kw_only=True)
class CompiledArgs:
    """A request's arguments in token ids."""

    args: ForcingArgs
    token_format: TokenFormat
    rules: ForcingRules
    stop_id: int
    """The token at which the engine ends the request; forced last."""

    @property
    def reserve(self) -> int:
        """Tokens reserved for closing, answer and the end of the text."""
        answer = self.args.budget.answer_tokens + 1
        if self.args.num_closing:
            return answer
        cue = self.token_format.encode(self.args.budget.final_answer_cue or "")
        return len(self.token_format.newline_ids + self.token_format.end_ids + cue) + answer


def compile_args(args: ForcingArgs, compiler: Compiler, *, stop_id: int) -> CompiledArgs:
    """The arguments in token ids. Raises ConfigError for a trigger of several tokens, or a wait
    string of none."""
    token_format = compiler.token_format(args.format)
    require_single_token_trigger(token_format, engine="vllm")
    rules = compiler.rules(args.format, args.budget)
    return CompiledArgs(args=args, token_format=token_format, rules=rules, stop_id=stop_id)


class RequestArguments(dict[str, Any]):
    """A request's `slowthink_*` arguments, with what they mean in token ids. In another process
    they arrive as a plain dict, which is read and compiled again."""

    def __init__(self, arguments: dict[str, Any], compiled: CompiledArgs) -> None:
        super().__init__(arguments)
        self.compiled = compiled
        self.history: History | None = None
        """Set by the logits processor, if it is in this process."""

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def compile_job(
    job: Job, compiler: Compiler, *, stop_id: int, log: str | None = None
) -> RequestArguments:
    """The arguments of the request that generates a job's thinking. What they share with those of
    other jobs is compiled once.

    `log`: the name under which the engine stores its declared ends.
    """
    request, point, chain = job.request, job.largest_point, job.chain
    shared = _compile_shared(
        compiler, stop_id, request.format, request.budget, request.sampling, point,
        point in job.points,
    )  # fmt: skip
    args = replace(
        shared.compiled.args,
        seed=request.seed,
        sample=request.sample,
        num_cached=len(chain.ids) if chain else 0,
        events=chain.events if chain else (),
        log=log,
    )
    own = own_args(request, chain=chain, log=log)
    return RequestArguments(shared | own, replace(shared.compiled, args=args))


@lru_cache(maxsize=64)
def _compile_shared(
    compiler: Compiler,
    stop_id: int,
    format: ThinkingFormat,
    budget: Budget,
    sampling: Sampling,
    point: Point,
    answer: bool,
) -> RequestArguments:
    """The arguments of all requests with this budget, less what `own_args` adds."""
    request = Request(
        model="",
        numerics="",
        prompt_ids=(),
        format=format,
        sampling=sampling,
        budget=budget,
        seed=0,
    )
    arguments = write_args(request, point, answer=answer)
    args = read_args(arguments)
    assert args is not None
    return RequestArguments(arguments, compile_args(args, compiler, stop_id=stop_id))


def max_thinking(
    compiled: CompiledArgs, num_prompt: int, max_context: int, max_tokens: int | None
) -> int:
    """Maximum number of thinking tokens that fit beside prompt, closing and answer."""
    left = max_context - num_prompt
    if max_tokens is not None:
        left = min(left, max_tokens)
    return left + compiled.args.num_cached - compiled.reserve


def check_fits(
    compiled: CompiledArgs, *, num_prompt: int, max_context: int, max_tokens: int | None
) -> None:
    """Raise ConfigError if cap, closing and answer do not all fit: nothing is ever truncated."""
    args, reserve = compiled.args, compiled.reserve
    cap = args.budget.max_thinking_tokens or 0
    if cap <= max_thinking(compiled, num_prompt, max_context, max_tokens):
        return
    needed = cap - args.num_cached + reserve
    if max_tokens is not None and max_tokens < min(needed, max_context - num_prompt):
        raise ConfigError(
            f"max_tokens: {max_tokens}, but a cap of {cap} thinking tokens, closing and answer "
            f"need {needed}. Set max_tokens to {needed}, or lower slowthink_cap or "
            "slowthink_answer_tokens."
        )
    raise ConfigError(
        f"slowthink_cap: {cap} thinking tokens, {reserve} for closing and answer and a "
        f"prompt of {num_prompt - args.num_cached} need {num_prompt + needed}; the context holds "
        f"{max_context}. Lower slowthink_cap or slowthink_answer_tokens."
    )


class Instruction(NamedTuple):
    """How the next token is chosen."""

    forced: tuple[int, ...] = ()
    """Output these ids, whatever the logits are; empty: sample."""
    end_replacement: int = NO_END
    """The id that replaces a declared end, or RUNNER_UP, or NO_END."""
    line_replacements: tuple[int, int] | None = None
    """The id instead after a token of this instruction, if its text does not end or does end a
    line. None: the same id."""
    banned: bool = False
    """The triggers must not be sampled."""
    num_tokens: int = 1
    """Number of tokens for which the instruction is valid, unless an end is declared."""
    draw_tag: tuple[object, ...] = ()
    draw_key: tuple[int, int] = (0, 0)
    """Tag and key together identify the draw: see `engines.session.draw_uniform`."""


class DeclaredEnd(NamedTuple):
    """A sampled token at which an end was declared."""

    token: int
    end_probability: float = 0.0
    argmax: int = -1
    replacement: int = -1
    """The end is valid only if this id was output; -1: always."""


@dataclass
class History:
    """State of a request that must survive preemption: it is then added again with its ids only."""

    ends: dict[int, DeclaredEnd] = field(default_factory=dict)
    """By output index."""
    seed: int = 0
    flow: Flow | None = None
    """Of the request's row; it may not have recorded the last outputs yet."""


class Flow:
    """Thinking, closing, answer and end of one request."""

    def __init__(self, compiled: CompiledArgs, *, cap: int, cached_ids: Sequence[int] = ()) -> None:
        self.compiled = compiled
        budget = compiled.args.budget
        self.thinking = ForcingMachine(
            compiled.rules,
            cap=cap,
            waits=budget.waits,
            steps=budget.max_thinking_steps,
            chain=_cached_chain(compiled.args, cached_ids),
        )
        self.closing: tuple[int, ...] | None = None
        self.answering: AnswerMachine | None = None
        self.num_sampled = 0
        self.num_forced = 0
        self.num_outputs = 0
        """Number of outputs recorded."""
        self._forced: list[int] = []
        """Ids to output next: of a wait string, the closing, the end of the text."""
        self._num_next = 0
        """Number of tokens that follow in the same way. 0: not known yet."""
        self._thinking_is_over = bool(compiled.args.num_closing)
        if self._thinking_is_over:
            self._start_answer()

    def instruction(self) -> Instruction:
        """How the next token is chosen."""
        return next(self.instructions())

    def instructions(self) -> Iterator[Instruction]:
        """How the next tokens are chosen: instructions that follow one another, whatever is
        sampled, up to one under which an end may be declared, or the last."""
        num_tokens, stop_id = self._advance(), self.compiled.stop_id
        if self._forced:
            is_last = self._forced[-1] == stop_id
            forced = tuple(self._forced)
            yield Instruction(forced=forced, num_tokens=ALWAYS if is_last else num_tokens)
            if is_last:
                return
        if (answer := self.answering) is None:
            if not self._forced or not self.thinking.is_over:
                yield self._thinking_instruction()
            return
        if (num_left := answer.max_tokens - len(answer.ids)) > 0:
            tag = ("answer", len(self.thinking.ids))
            yield Instruction(num_tokens=num_left, draw_tag=tag, draw_key=answer.draw_key)
        yield Instruction(forced=(stop_id,), num_tokens=ALWAYS)

    def _advance(self) -> int:
        """`_find_next`, once until tokens are recorded."""
        if not self._num_next:
            self._num_next = self._find_next()
        return self._num_next

    def _find_next(self) -> int:
        """Find what is forced next, if anything, and start the answer where the thinking is over.
        Returns how many tokens follow in this way, unless an end is declared or sampled."""
        machine = self.thinking
        if not self._forced and not self._thinking_is_over:
            self._forced += machine.take_forced()
            if not self._forced:
                if not machine.is_over:
                    return machine.max_run
                self._end_thinking()
        if not self._forced:
            answer = self.answering
            if answer is not None and answer.next_action().kind is ActionKind.SAMPLE:
                return answer.max_tokens - len(answer.ids)
            self._forced.append(self.compiled.stop_id)
        return len(self._forced)

    def observe(self, tokens: Sequence[int], end: DeclaredEnd | None = None) -> None:
        """Record tokens output under the last instruction. `end`: the end declared at the last of
        them."""
        self._advance()
        self._record(tokens, end)

    def _record(self, tokens: Sequence[int], end: DeclaredEnd | None) -> None:
        """`observe`, after `_advance`."""
        self.num_outputs += len(tokens)
        self._num_next = 0
        if self._forced:
            self.num_forced += len(tokens)
            del self._forced[: len(tokens)]
        elif self.answering is not None:
            self.num_sampled += len(tokens)
            self.answering.observe_run(tokens)
        else:
            self.num_sampled += len(tokens) - 1
            self.thinking.observe_run(tokens[:-1])
            self._observe_thinking(tokens[-1], end or DeclaredEnd(tokens[-1]))

    def store(self, state: JobInProgress) -> None:
        """Store the complete thinking in the job, and the answer if one of its points needs it."""
        state.machine = self.thinking
        thinking = tuple(self.thinking.ids)
        for branch in state.end_thinking():
            is_own = branch.closing == self.closing and branch.cut.ids == thinking
            if is_own and self.answering is not None:
                state.add_answer(branch, self.answering.ids, self.answering.end_reason)

    # -- instructions --

    def _thinking_instruction(self) -> Instruction:
        machine = self.thinking
        if machine.bans_triggers:
            return Instruction(banned=True, draw_key=machine.draw_key)
        end, num_tokens = machine.preview_declared_end()
        line_replacements = None
        if end.kind is ActionKind.STOP:
            closing = self._closing(ThinkingEnd.NATURAL)
            replacement = (closing or (self.compiled.stop_id,))[0]
            line_replacements = self._line_replacements(closing)
        else:
            replacement = end.token if end.kind is ActionKind.FORCE else RUNNER_UP
        return Instruction(
            end_replacement=replacement,
            line_replacements=line_replacements,
            num_tokens=num_tokens,
            draw_key=machine.draw_key,
        )

    def _line_replacements(self, closing: tuple[int, ...] | None) -> tuple[int, int] | None:
        """The first closing ids after other text and after a line's end, if they differ: a format
        without a delimiter begins a new line for the cue."""
        form = self.compiled.token_format
        if closing is None or form.end_ids or not form.format.newline_before_forced_end:
            return None
        cue = form.encode(self.compiled.args.budget.final_answer_cue or "")
        ids = (*form.newline_ids, *cue, self.compiled.stop_id)
        return ids[0], ids[len(form.newline_ids)]

    def _closing(self, end: ThinkingEnd) -> tuple[int, ...] | None:
        args = self.compiled.args
        if not args.budget.answer_tokens:
            return None
        cut = Cut(ids=tuple(self.thinking.ids[-1:]), end_reason=end, events=())
        return closing_ids_after(cut, self.compiled.token_format, args.budget, forced=args.forced)

    def _end_thinking(self) -> None:
        natural = self.thinking.state is ChainState.ENDED
        self._thinking_is_over = True
        self.closing = self._closing(ThinkingEnd.NATURAL if natural else ThinkingEnd.CAP)
        self._forced.extend(self.closing if self.closing is not None else (self.compiled.stop_id,))
        if self.closing is not None:
            self._start_answer()

    def _start_answer(self) -> None:
        limit = self.compiled.args.budget.answer_tokens
        self.answering = AnswerMachine(max_tokens=limit, eos_ids=self.compiled.token_format.eos_ids)

    # -- outputs --

    def _observe_thinking(self, token: int, end: DeclaredEnd) -> None:
        """Record a thinking token, or the token that was output in place of a declared end."""
        machine = self.thinking
        self.num_sampled += 1
        action = machine.observe(
            end.token, trigger_probability=end.end_probability, argmax=end.argmax
        )
        if action.kind is ActionKind.RESAMPLE:
            self.num_sampled += 1
            machine.observe(token)
        elif action.kind is not ActionKind.KEEP:  # the token is the first that is forced
            if action.kind is ActionKind.REPLACE:
                self._forced += machine.take_forced()
            else:
                self._end_thinking()
            self.num_forced += 1
            del self._forced[0]

    def num_unexpected(self, outputs: Sequence[int]) -> int:
        """How many of the recorded outputs, to the end of the request, are not those of this flow:
        forced ids were not output, since something else edits the logits."""
        answer = self.answering.ids if self.answering is not None else ()
        thinking = self.thinking.ids[self.compiled.args.num_cached :]
        expected = (*thinking, *(self.closing or ()), *answer)
        text, rest = tuple(outputs[: len(expected)]), outputs[len(expected) :]
        num_wrong = 0 if text == expected else sum(map(ne, text, expected))
        num_missing, eos_ids = len(expected) - len(text), self.compiled.token_format.eos_ids
        return num_wrong + num_missing + sum(token not in eos_ids for token in rest)

    # -- replaying ids --

    def replay(
        self, outputs: Sequence[int], ends: dict[int, DeclaredEnd], *, infer: bool = False
    ) -> None:
        """Record the output ids that are not recorded yet. `ends`: declared ends by output index;
        with `infer` they are inferred from the ids, and added to it."""
        while (start := self.num_outputs) < len(outputs):
            if infer and (inferred := self._infer_end(outputs, start)) is not None:
                ends[start] = inferred
            limit = self._advance()
            tokens, end = outputs[start : start + (1 if infer else limit)], None
            if not self._forced:
                tokens, end = self._up_to_end(tokens, ends, start)
            self._record(tokens, end)

    def _up_to_end(
        self, tokens: Sequence[int], ends: dict[int, DeclaredEnd], start: int
    ) -> tuple[Sequence[int], DeclaredEnd | None]:
        """The tokens up to the first that ends the instruction before its time, and the end that
        was declared there."""
        if len(tokens) > 1:
            last = len(tokens) - 1
            for at in reversed(ends):  # they ascend
                if at < start:
                    break
                last = min(last, at - start)
            stop_ids = self.compiled.rules.trigger_ids  # they include those that end an answer
            if not stop_ids.isdisjoint(tokens):
                last = min(last, next(i for i, token in enumerate(tokens) if token in stop_ids))
            if last + 1 < len(tokens):
                tokens = tokens[: last + 1]
        end = ends.get(start + len(tokens) - 1)
        is_valid = end is not None and end.replacement in (-1, tokens[-1])
        return tokens, end if is_valid else None

    def _infer_end(self, outputs: Sequence[int], index: int) -> DeclaredEnd | None:
        """The end declared at this output, inferred from the ids alone.

        A wait string or closing counts as forced if it is possible there. A refusal without a wait
        string cannot be inferred.
        """
        instruction = self.instruction()
        if instruction.end_replacement < 0 or outputs[index] != instruction.end_replacement:
            return None
        end, _ = self.thinking.preview_declared_end()
        ids: tuple[int, ...] = (instruction.end_replacement,)
        if end.kind is ActionKind.FORCE:
            ids = self.compiled.rules.wait_string_ids(self.thinking.num_waits)
        elif (closing := self._closing(ThinkingEnd.NATURAL)) is not None:
            ids = closing
        triggers = self.compiled.rules.trigger_ids
        if tuple(outputs[index : index + len(ids)]) != ids:
            return None
        trigger = ids[0] if ids[0] in triggers else min(triggers)
        return DeclaredEnd(trigger, 1.0, trigger)


def _cached_chain(args: ForcingArgs, ids: Sequence[int]) -> Chain | None:
    if not args.num_cached:
        return None
    has_ended = bool(args.events) and args.events[-1].kind is EventKind.END
    state = ChainState.ENDED if has_ended else ChainState.OPEN
    return Chain(key="", ids=tuple(ids), events=args.events, state=state)
