"""A session that replays scripted thinking through the real forcing machine; no model, no torch.

A script says per question what is thought between declared ends, and what is answered:

    {"question": "What is 17 + 25?", "thinking": ["17 + 25 = 32", ", no: 42"], "answer": "42"}

The first text is thought until an end is declared; each refused end goes on with the next. Without
a forced cue the answer begins with "Final Answer:". For tests, demonstrations, and for running a
pipeline without a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slowthink.engines.session import Branch, Capabilities, Job, JobResult, branches, check_context
from slowthink.errors import ConfigError, DataError
from slowthink.forcing.formats import (
    TokenFormat,
    compile_format,
    require_single_token_trigger,
)
from slowthink.forcing.machine import Action, ActionKind, AnswerMachine, ForcingMachine, make_rules
from slowthink.records import Answer, Cost, Request, ThinkingFormat
from slowthink.serialise import digest

_SPECIAL = ("<|im_start|>", "<|im_end|>")
_START, _END = 256, 257


class ByteTokenizer:
    """One id per UTF-8 byte, and two more for ChatML's special tokens."""

    eos_token_id = _END
    chat_template = "chatml"
    name_or_path = "bytes"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text."""
        for number, special in enumerate(_SPECIAL):
            head, found, tail = text.partition(special)
            if found:
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
    """What is thought and answered to one question."""

    thinking: tuple[str, ...]
    answer: str


def read_script(path: str | None) -> dict[str, Script]:
    """Scripts by question, from a JSONL file."""
    if path is None:
        raise ConfigError(
            "engine.replay: needed for engine.kind `replay`: a JSONL file of scripts."
        )
    scripts = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            script = Script(thinking=tuple(row["thinking"]), answer=row["answer"])
            scripts[row["question"]] = script
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: no script ({type(error).__name__}: {error}); expected "
                '{"question": …, "thinking": [texts], "answer": …}.'
            ) from None
    return scripts


class ReplaySession:
    """Replays scripts; see the module's text."""

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
        """Tokens after which a job hands over what it has come to. None: whole jobs only."""
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
        self._queue: dict[str, Job] = {}
        self._running: Iterator[JobResult] | None = None

    def __enter__(self) -> ReplaySession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._running = None

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where it does not fit, or would need roll-back."""
        check_context(job, max_context=self.capabilities.max_context)
        require_single_token_trigger(self._compiled(job), engine="replay")
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Everything queued, replayed; with `tokens_per_call` the next piece of one job."""
        if self.tokens_per_call is None:
            jobs = [self._queue.pop(key) for key in sorted(self._queue)]
            return [outcome for job in jobs for outcome in self._replay(job)]
        if self._running is None:
            if not self._queue:
                return []
            self._running = self._replay(self._queue.pop(min(self._queue)))
        outcome = next(self._running)
        self._running = self._running if outcome.partial else None
        return [outcome]

    def _replay(self, job: Job) -> Iterator[JobResult]:
        """What the job has come to after some tokens, and at last as a whole."""
        before = self.cost
        request, token_format = job.request, self._compiled(job)
        script = self._script(request.prompt_ids)
        machine = job.machine(make_rules(request.budget, token_format))
        answers: list[Answer] = []

        def outcome(*, partial: bool) -> JobResult:
            nonlocal before
            spent, before = self.cost - before, self.cost
            chain = machine.chain(job.key)
            return JobResult(
                key=job.key, chain=chain, answers=tuple(answers), cost=spent, partial=partial
            )

        self.cost += Cost(prefilled=len(request.prompt_ids))
        for _ in self._run(machine, _Thoughts(script.thinking, machine)):
            yield outcome(partial=True)
        for branch in branches(job, machine.chain(job.key), machine.rules, token_format):
            answers.append(self._answer(request, branch, script))
            if self.tokens_per_call is not None:
                yield outcome(partial=True)
        yield outcome(partial=False)

    def _answer(self, request: Request, branch: Branch, script: Script) -> Answer:
        answering = AnswerMachine(limit=request.budget.answer_tokens, eos_ids=self.eos_ids)
        cued = branch.closing != self._format(request.format).end_ids
        text = f" {script.answer}" if cued else f"Final Answer: {script.answer}"
        for _ in self._run(answering, iter([*self.tokenizer.encode(text), _END])):
            pass
        self.cost += Cost(forced=len(branch.closing))
        return Answer(
            key=branch.key,
            chain_key=request.chain_key(),
            cut=len(branch.cut.ids),
            closing=branch.closing,
            ids=tuple(answering.ids),
            end=answering.end,
        )

    def _compiled(self, job: Job) -> TokenFormat:
        return self._format(job.request.format)

    def _format(self, format: ThinkingFormat) -> TokenFormat:
        return compile_format(format, self.tokenizer, eos_ids=self.eos_ids)

    def _run(
        self, machine: ForcingMachine | AnswerMachine, tokens: Iterator[int]
    ) -> Iterator[None]:
        """Run the machine to its stop; yields every `tokens_per_call` tokens."""
        count = 0
        while (action := machine.next_action()).kind is not ActionKind.STOP:
            if action.kind is ActionKind.FORCE:
                self.cost += Cost(forced=1)
            else:
                self.cost += Cost(decoded=1)
                self._offer(machine, tokens, action)
            count += 1
            if self.tokens_per_call is not None and count % self.tokens_per_call == 0:
                yield

    def _offer(
        self, machine: ForcingMachine | AnswerMachine, tokens: Iterator[int], action: Action
    ) -> None:
        token = next(token for token in tokens if token not in action.banned)
        told = machine.observe(token)
        if told.kind is ActionKind.REFUSE:
            self._offer(machine, tokens, told)

    def _script(self, prompt: Sequence[int]) -> Script:
        text = self.tokenizer.decode(prompt)
        question = text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
        if question not in self.scripts:
            raise DataError(
                f"replay: no script for the question {question[:80]!r}; add one to the script file."
            )
        return self.scripts[question]


class _Thoughts:
    """What a script draws next: its texts in order, an end of sequence after each; a chain that
    was stored goes on where it stopped."""

    def __init__(self, texts: Sequence[str], machine: ForcingMachine) -> None:
        self._texts = [text.encode() for text in texts]
        self._machine = machine

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        events = self._machine.events
        begun = events[-1].position + events[-1].forced if events else 0
        text = self._texts[len(events)] if len(events) < len(self._texts) else b""
        place = len(self._machine.ids) - begun
        return text[place] if place < len(text) else _END
