"""A session that replays scripted thinking through the forcing machine; no model, no torch.

A script contains the thinking between declared ends, and the answer, of one question:

    {"question": "What is 17 + 25?", "thinking": ["17 + 25 = 32", ", no: 42"], "answer": "42"}

The first text is generated, then an end is declared; after each refused end the next text is
generated. Without a forced cue the answer begins with "Final Answer:". For tests, demonstrations,
and for running a pipeline without a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slowthink.engines.session import (
    Branch,
    Capabilities,
    Compiler,
    Job,
    JobInProgress,
    JobResult,
    check_context,
)
from slowthink.errors import ConfigError, DataError
from slowthink.forcing.formats import require_single_token_trigger
from slowthink.forcing.machine import Action, ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Cost
from slowthink.serialise import digest, json_lines, read_text

_SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>")
_FIRST_SPECIAL_ID = 256
_EOS_ID = 257


class ByteTokenizer:
    """One id per UTF-8 byte, plus two for ChatML's special tokens."""

    eos_token_id = _EOS_ID
    chat_template = "chatml"
    name_or_path = "bytes"

    def __len__(self) -> int:
        """Number of ids."""
        return _FIRST_SPECIAL_ID + len(_SPECIAL_TOKENS)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text."""
        for id, special in enumerate(_SPECIAL_TOKENS, _FIRST_SPECIAL_ID):
            before, found, after = text.partition(special)
            if found:
                return [*self.encode(before), id, *self.encode(after)]
        return list(text.encode())

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        parts = [
            _SPECIAL_TOKENS[i - _FIRST_SPECIAL_ID].encode()
            if i >= _FIRST_SPECIAL_ID
            else bytes([i])
            for i in ids
        ]
        return b"".join(parts).decode(errors="replace")

    def apply_chat_template(
        self, messages: Iterable[Mapping[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The messages in ChatML."""
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
        return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


@dataclass(frozen=True, kw_only=True)
class Script:
    """Thinking and answer of one question."""

    thinking: tuple[str, ...]
    answer: str


def read_script(path: str | None) -> dict[str, Script]:
    """Scripts by question, from a JSONL file. Raises ConfigError if it is unnamed or missing."""
    if path is None or not Path(path).is_file():
        problem = f"{path}: no such file" if path else "engine.replay: null"
        raise ConfigError(
            f"{problem}; expected a JSONL file of scripts for engine.kind `replay`. "
            "Name one: --set engine.replay=PATH"
        )
    scripts = {}
    for line_number, line in json_lines(read_text(Path(path))):
        try:
            row = json.loads(line)
            script = Script(thinking=tuple(row["thinking"]), answer=row["answer"])
            scripts[row["question"]] = script
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path}:{line_number}: not a script ({type(error).__name__}: {error}); expected "
                '{"question": …, "thinking": [texts], "answer": …}.'
            ) from None
    return scripts


class ReplaySession:
    """A session that replays scripts; see the module's docstring."""

    numerics = "replay"
    eos_ids = frozenset({_EOS_ID})

    def __init__(
        self,
        scripts: Mapping[str, Script],
        *,
        max_context: int = 100_000,
        tokens_per_call: int | None = None,
    ) -> None:
        self.scripts = scripts
        self.tokens_per_call = tokens_per_call
        """Number of tokens between a job's partial results. None: complete results only."""
        self.tokenizer = ByteTokenizer()
        self.fingerprint = digest([[q, s.thinking, s.answer] for q, s in sorted(scripts.items())])
        self.cost = Cost()
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=False,
            reproducible=True,
            max_context=max_context,
        )
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self._queue: dict[str, Job] = {}
        self._running: Iterator[JobResult] | None = None

    def __enter__(self) -> ReplaySession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._running = None

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if it exceeds the context or would need roll-back."""
        check_context(job, max_context=self.capabilities.max_context)
        token_format = self.compiler.token_format(job.request.format)
        require_single_token_trigger(token_format, engine="replay")
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Replay all queued jobs. With `tokens_per_call`, replay one job up to its next result."""
        if self.tokens_per_call is None:
            jobs = [self._queue.pop(key) for key in sorted(self._queue)]
            return [result for job in jobs for result in self._replay(job)]
        if self._running is None:
            if not self._queue:
                return []
            self._running = self._replay(self._queue.pop(min(self._queue)))
        result = next(self._running)
        self._running = self._running if result.partial else None
        return [result]

    def _replay(self, job: Job) -> Iterator[JobResult]:
        """Yield partial results, with `tokens_per_call`, and the complete one."""
        state = JobInProgress.start(job, self.compiler)
        script = self._script(job.request.prompt_ids)
        self._spend(state, Cost(prefilled=len(job.request.prompt_ids)))
        tokens = _ScriptedTokens(script.thinking, state.machine)
        for _ in self._run(state, state.machine, tokens):
            yield state.result(partial=True)
        for branch in state.end_thinking():
            self._answer(state, branch, script)
            if self.tokens_per_call is not None:
                yield state.result(partial=True)
        yield state.result()

    def _answer(self, state: JobInProgress, branch: Branch, script: Script) -> None:
        max_tokens = state.job.request.budget.answer_tokens
        machine = AnswerMachine(max_tokens=max_tokens, eos_ids=self.eos_ids)
        has_cue = branch.closing != state.token_format.end_ids
        text = f" {script.answer}" if has_cue else f"Final Answer: {script.answer}"
        for _ in self._run(state, machine, iter([*self.tokenizer.encode(text), _EOS_ID])):
            pass
        self._spend(state, Cost(forced=len(branch.closing)))
        state.add_answer(branch, machine.ids, machine.end_reason)

    def _run(
        self, state: JobInProgress, machine: ForcingMachine | AnswerMachine, tokens: Iterator[int]
    ) -> Iterator[None]:
        """Run the machine until it stops; yields after every `tokens_per_call` tokens."""
        num_tokens = 0
        while (action := machine.next_action()).kind is not ActionKind.STOP:
            if action.kind is ActionKind.FORCE:
                self._spend(state, Cost(forced=1))
            else:
                self._spend(state, Cost(decoded=1))
                _sample(machine, tokens, action)
            num_tokens += 1
            if self.tokens_per_call is not None and num_tokens % self.tokens_per_call == 0:
                yield

    def _spend(self, state: JobInProgress, cost: Cost) -> None:
        state.add_cost(cost)
        self.cost += cost

    def _script(self, prompt_ids: Sequence[int]) -> Script:
        text = self.tokenizer.decode(prompt_ids)
        question = text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
        if question not in self.scripts:
            raise DataError(
                f"replay: no script for the question {question[:80]!r}; add one to the script file."
            )
        return self.scripts[question]


def _sample(machine: ForcingMachine | AnswerMachine, tokens: Iterator[int], action: Action) -> None:
    """Pass the next token that is not banned to the machine, until it accepts one."""
    token = next(token for token in tokens if token not in action.banned)
    reaction = machine.observe(token)
    if reaction.kind is ActionKind.RESAMPLE:
        _sample(machine, tokens, reaction)


class _ScriptedTokens:
    """The tokens of a script's thinking: its texts in order, an end of sequence after each. Starts
    at the end of a cached chain."""

    def __init__(self, texts: Sequence[str], machine: ForcingMachine) -> None:
        self._texts = [text.encode() for text in texts]
        self._machine = machine

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        events = self._machine.events
        start = events[-1].position + events[-1].forced if events else 0
        text = self._texts[len(events)] if len(events) < len(self._texts) else b""
        offset = len(self._machine.ids) - start
        return text[offset] if offset < len(text) else _EOS_ID
