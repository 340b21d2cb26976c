"""A session that replays scripted thinking through the real forcing machine; no model, no torch.

A script gives the thinking between declared ends, and the answer, of one question:

    {"question": "What is 17 + 25?", "thinking": ["17 + 25 = 32", ", no: 42"], "answer": "42"}

The model draws the first text and declares an end; after each refused end it draws the next text.
Without a forced cue the answer begins with "Final Answer:". For tests, demonstrations, and for
running a pipeline without a model.
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
from slowthink.serialise import digest

_SPECIAL = ("<|im_start|>", "<|im_end|>")
_START, _END = 256, 257


class ByteTokenizer:
    """One id per UTF-8 byte, plus two for ChatML's special tokens."""

    eos_token_id = _END
    chat_template = "chatml"
    name_or_path = "bytes"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text."""
        for number, special in enumerate(_SPECIAL):
            head, separator, tail = text.partition(special)
            if separator:
                return [*self.encode(head), 256 + number, *self.encode(tail)]
        return list(text.encode())

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of ids."""
        parts = [_SPECIAL[i - 256].encode() if i >= 256 else bytes([i]) for i in ids]
        return b"".join(parts).decode(errors="replace")

    def apply_chat_template(
        self, messages: Iterable[Mapping[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """ChatML."""
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
        where = f"{path}: no such file" if path else "engine.replay: null"
        raise ConfigError(
            f"{where}; expected a JSONL file of scripts for engine.kind `replay`. "
            "Name one: --set engine.replay=PATH"
        )
    scripts = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            script = Script(thinking=tuple(row["thinking"]), answer=row["answer"])
            scripts[row["question"]] = script
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: not a script ({type(error).__name__}: {error}); expected "
                '{"question": …, "thinking": [texts], "answer": …}.'
            ) from None
    return scripts


class ReplaySession:
    """Replays scripts; see the module's docstring."""

    numerics = "replay"
    eos_ids = frozenset({_END})

    def __init__(
        self,
        scripts: Mapping[str, Script],
        *,
        max_context: int = 100_000,
        tokens_per_call: int | None = None,
    ) -> None:
        self.scripts = scripts
        self.tokens_per_call = tokens_per_call
        """Tokens between a job's partial results. None: complete results only."""
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
        """Queue a job. Raises ConfigError if it does not fit, or would need roll-back."""
        check_context(job, max_context=self.capabilities.max_context)
        token_format = self.compiler.token_format(job.request.format)
        require_single_token_trigger(token_format, engine="replay")
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Replay all queued jobs; with `tokens_per_call` up to the next result of one job."""
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
        """Partial results, if requested, and the complete one."""
        running = JobInProgress.start(job, self.compiler)
        script = self._script(job.request.prompt_ids)
        self._spend(running, Cost(prefilled=len(job.request.prompt_ids)))
        draws = _ScriptedDraws(script.thinking, running.machine)
        for _ in self._run(running, running.machine, draws):
            yield running.result(partial=True)
        for branch in running.end_thinking():
            self._answer(running, branch, script)
            if self.tokens_per_call is not None:
                yield running.result(partial=True)
        yield running.result()

    def _answer(self, running: JobInProgress, branch: Branch, script: Script) -> None:
        limit = running.job.request.budget.answer_tokens
        answering = AnswerMachine(limit=limit, eos_ids=self.eos_ids)
        has_cue = branch.closing != running.token_format.end_ids
        text = f" {script.answer}" if has_cue else f"Final Answer: {script.answer}"
        for _ in self._run(running, answering, iter([*self.tokenizer.encode(text), _END])):
            pass
        self._spend(running, Cost(forced=len(branch.closing)))
        running.add_answer(branch, answering.ids, answering.end)

    def _run(
        self, running: JobInProgress, machine: ForcingMachine | AnswerMachine, draws: Iterator[int]
    ) -> Iterator[None]:
        """Run the machine until it stops; yields every `tokens_per_call` tokens."""
        count = 0
        while (action := machine.next_action()).kind is not ActionKind.STOP:
            if action.kind is ActionKind.FORCE:
                self._spend(running, Cost(forced=1))
            else:
                self._spend(running, Cost(decoded=1))
                _draw(machine, draws, action)
            count += 1
            if self.tokens_per_call is not None and count % self.tokens_per_call == 0:
                yield

    def _spend(self, running: JobInProgress, cost: Cost) -> None:
        running.spend(cost)
        self.cost += cost

    def _script(self, prompt: Sequence[int]) -> Script:
        text = self.tokenizer.decode(prompt)
        question = text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
        if question not in self.scripts:
            raise DataError(
                f"replay: no script for the question {question[:80]!r}; add one to the script file."
            )
        return self.scripts[question]


def _draw(machine: ForcingMachine | AnswerMachine, draws: Iterator[int], action: Action) -> None:
    """Pass the machine its next token; another one each time it refuses."""
    token = next(token for token in draws if token not in action.banned)
    reply = machine.observe(token)
    if reply.kind is ActionKind.REFUSE:
        _draw(machine, draws, reply)


class _ScriptedDraws:
    """The tokens that a script draws: its texts in order, an end of sequence after each. A cached
    chain continues where it stopped."""

    def __init__(self, texts: Sequence[str], machine: ForcingMachine) -> None:
        self._texts = [text.encode() for text in texts]
        self._machine = machine

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        events = self._machine.events
        start = events[-1].position + events[-1].forced if events else 0
        text = self._texts[len(events)] if len(events) < len(self._texts) else b""
        place = len(self._machine.ids) - start
        return text[place] if place < len(text) else _END
