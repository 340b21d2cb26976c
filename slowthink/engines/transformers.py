"""The embedded engine: a transformers model in this process, forcing inside the decoding loop.

Jobs are sorted by length and cut into batches fixed by the list of jobs; a batch is finished, and
handed over, whole. Its rows think until every chain is as long as its points need; then all answers
branch off the chains' keys and values, so no thinking token is made or prefilled twice. Same jobs,
same tokens.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from slowthink.engines.base import (
    Branch,
    Capabilities,
    Job,
    Outcome,
    branches,
    check_context,
    draw_uniform,
)
from slowthink.engines.models import fingerprint, resolve_model
from slowthink.errors import ConfigError, missing_extra
from slowthink.recipe import EngineConfig
from slowthink.records import Answer, Cost, Request
from slowthink.thinking.forcing import Answering, Forcing, make_rules
from slowthink.thinking.formats import TokenFormat, compile_format

if TYPE_CHECKING:
    from slowthink.engines.decoding import Row
    from slowthink.engines.kv import KeyValues


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""


class TransformersSession:
    """A transformers model, ready to think and answer."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        *,
        revision: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        _require_libraries()
        from slowthink.engines.decoding import Decoder

        keep_freed_memory()
        folder = resolve_model(name, revision, say=say)
        model, self.tokenizer = _load(folder, config)
        self._decoder = Decoder(model, model.device)
        self._batch_size = config.batch_size
        self.fingerprint = fingerprint(folder)
        self.numerics = f"transformers/{config.dtype}"
        self.eos_ids = _eos_ids(model, self.tokenizer)
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=True,
            reproducible=True,
            max_context=_max_context(model.config, config.max_context),
        )
        self._queue: dict[str, Job] = {}
        self._formats: dict[Any, TokenFormat] = {}

    def __enter__(self) -> TransformersSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()

    @property
    def cost(self) -> Cost:
        """All tokens spent so far."""
        return self._decoder.cost

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where its budget does not fit the context."""
        check_context(job, max_context=self.capabilities.max_context)
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Run the next batch to its end, and return what came of it."""
        import torch

        jobs = sorted(self._queue.values(), key=_job_order)[: self._batch_size]
        for job in jobs:
            del self._queue[job.key]
        if not jobs:
            return []
        with torch.inference_mode():
            return self._run(jobs)

    # -- one batch --

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        before = self.cost
        machines = [self._machine(job) for job in jobs]
        rows = [
            _row(job.request, job.request.prompt_ids, machine, machine.rules.trigger_ids)
            for job, machine in zip(jobs, machines, strict=True)
        ]
        kv = self._think(jobs, rows)
        chains = [machine.chain(job.key) for job, machine in zip(jobs, machines, strict=True)]
        wanted = [
            branches(job, chain, machine.rules, self._compiled(job))
            for job, chain, machine in zip(jobs, chains, machines, strict=True)
        ]
        answers = self._answer(jobs, rows, wanted, kv)
        spent = [self.cost - before] + [Cost()] * (
            len(jobs) - 1
        )  # a batch's cost stands at its first
        return [
            Outcome(key=job.key, chain=chain, answers=tuple(made), cost=cost)
            for job, chain, made, cost in zip(jobs, chains, answers, spent, strict=True)
        ]

    def _machine(self, job: Job) -> Forcing:
        return job.machine(make_rules(job.request.budget, self._compiled(job)))

    def _compiled(self, job: Job) -> TokenFormat:
        format = job.request.format
        if format not in self._formats:
            self._formats[format] = compile_format(format, self.tokenizer, eos_ids=self.eos_ids)
        return self._formats[format]

    def _think(self, jobs: Sequence[Job], rows: Sequence[Row]) -> KeyValues:
        """Prefill, and decode all chains to their ends."""
        known = sum(len(job.chain.ids) for job in jobs if job.chain)
        kv, logits = self._decoder.prefill([row.tokens for row in rows])
        self._decoder.cost += Cost(re_prefilled=known)
        return self._decoder.run(rows, kv, logits)

    def _answer(
        self,
        jobs: Sequence[Job],
        rows: Sequence[Row],
        wanted: Sequence[Sequence[Branch]],
        kv: KeyValues,
    ) -> list[list[Answer]]:
        """All answers, one per row in each round."""
        answers: list[list[Answer]] = [[] for _ in jobs]
        for number in range(max(map(len, wanted), default=0)):
            members = [i for i, found in enumerate(wanted) if len(found) > number]
            made = self._answer_round(
                [jobs[i].request for i in members],
                [rows[i] for i in members],
                [wanted[i][number] for i in members],
                kv.take(members),
            )
            for i, answer in zip(members, made, strict=True):
                answers[i].append(answer)
        return answers

    def _answer_round(
        self,
        requests: Sequence[Request],
        rows: Sequence[Row],
        wanted: Sequence[Branch],
        kv: KeyValues,
    ) -> list[Answer]:
        """One answer per row: cut its cache, feed the closing as one block, then draw."""
        blocks, starts, answering = [], [], []
        for place, (request, row, branch) in enumerate(zip(requests, rows, wanted, strict=True)):
            whole = (*request.prompt_ids, *branch.cut.ids, *branch.closing)
            keep = min(_common(row.tokens, whole), len(whole) - 1)
            kv.forget(place, keep)
            blocks.append(whole[keep:])
            starts.append(keep)
            machine = Answering(limit=request.budget.answer_tokens, eos_ids=self.eos_ids)
            answering.append(_row(request, whole, machine, tag=("answer", len(branch.cut.ids))))
        logits = self._decoder.forward(kv, blocks, starts)
        self._decoder.cost += Cost(forced=sum(len(branch.closing) for branch in wanted))
        self._decoder.run(answering, kv, logits)
        return [
            _make_answer(request, row, branch)
            for request, row, branch in zip(requests, answering, wanted, strict=True)
        ]


def _row(
    request: Request,
    prefix: tuple[int, ...],
    machine: Forcing | Answering,
    triggers: frozenset[int] = frozenset(),
    *,
    tag: tuple[object, ...] = (),
) -> Row:
    from slowthink.engines.decoding import Row

    return Row(
        prefix=prefix,
        machine=machine,
        sampling=request.sampling,
        uniform=functools.partial(draw_uniform, request, *tag),
        triggers=triggers if request.budget.end_rule == "probability" else frozenset(),
    )


def _make_answer(request: Request, row: Row, branch: Branch) -> Answer:
    machine = row.machine
    assert isinstance(machine, Answering)
    return Answer(
        key=branch.key,
        chain_key=request.chain_key(),
        cut=len(branch.cut.ids),
        closing=branch.closing,
        ids=tuple(machine.ids),
        end=machine.end,
    )


def _common(cached: Sequence[int], whole: Sequence[int]) -> int:
    """Length of the common start; only the thinking can differ, inside a long delimiter."""
    length = min(len(cached), len(whole))
    if tuple(cached[:length]) == tuple(whole[:length]):
        return length
    return next(i for i in range(length) if cached[i] != whole[i])


def _job_order(job: Job) -> tuple[int, str]:
    thinking = len(job.chain.ids) if job.chain else 0
    return len(job.request.prompt_ids) + thinking, job.key


# --- loading --------------------------------------------------------------------------------------


def _require_libraries() -> None:
    for package in ("torch", "transformers"):
        try:
            __import__(package)
        except ImportError:
            raise missing_extra(package, extra="local") from None


def _load(folder: Any, config: EngineConfig) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from slowthink.engines.kv import ATTENTION

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, config.dtype), attn_implementation=ATTENTION
    )
    return model.to(pick_device(config.device)).eval(), AutoTokenizer.from_pretrained(folder)


def pick_device(wanted: str) -> str:
    """`auto` as the best device here. Raises ConfigError for one that is not here."""
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"engine.device: `{wanted}`, but torch sees no CUDA here. Use `auto` or `cpu`."
        )
    return wanted


def keep_freed_memory() -> None:
    """Have glibc keep small freed blocks; does nothing elsewhere.

    Giving each step's tensors back to the kernel and faulting them in again takes time on a CPU.
    Large blocks still go back: kept, they left holes of every size, and a training grew to 12 GB.
    """
    if platform.system() == "Linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
            libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end a turn: the generation config's and the tokenizer's."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


def _max_context(config: Any, limit: int | None) -> int:
    """Tokens that the model can attend to; a sliding window counts as the limit."""
    length = int(config.max_position_embeddings)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        length = min(length, int(config.sliding_window))
    return min(length, limit) if limit else length
