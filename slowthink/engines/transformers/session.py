"""The embedded engine: a transformers model in this process, forcing inside the decoding loop.

Jobs are sorted by length and cut into batches fixed by the list of jobs: same jobs, same tokens. Or
(`engine.reproducible: false`) jobs join a batch as others leave it. Rows think until their chains
are as long as the jobs' points need; then all answers branch off the chains' keys and values, so no
thinking token is made or prefilled twice. What a long batch has come to is handed over every few
seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from slowthink.engines.models import fingerprint, resolve_model
from slowthink.engines.session import Capabilities, Job, JobResult, check_context, tokens_at_most
from slowthink.errors import ConfigError, missing_extra
from slowthink.forcing.formats import TokenFormat, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.recipe import EngineConfig
from slowthink.records import Cost

if TYPE_CHECKING:
    from slowthink.engines.transformers.batch import Batch

SAVE_SECONDS = 5.0
"""A longer batch hands over what it has come to this often."""
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
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        _require_libraries()
        from slowthink.engines.transformers.decoding import Decoder

        keep_freed_memory()
        folder = resolve_model(name, revision, notify=notify)
        model, self.tokenizer = _load(folder, config)
        self._decoder = Decoder(model, model.device)
        self._batch_size, self._batch_tokens = config.batch_size, config.batch_tokens
        self.fingerprint = fingerprint(folder)
        self.numerics = f"transformers/{config.dtype}"
        self.eos_ids = _eos_ids(model, self.tokenizer)
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=True,
            reproducible=config.reproducible,
            max_context=_max_context(model.config, config.max_context),
        )
        self.save_seconds = SAVE_SECONDS
        self._queue: dict[str, Job] = {}
        self._batch: Batch | None = None
        self._steps: Iterator[None] = iter(())
        self._formats: dict[Any, TokenFormat] = {}

    def __enter__(self) -> TransformersSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._batch, self._steps = None, iter(())

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

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Run the next batch: to its end, or for `save_seconds`, and return what is new of it."""
        import torch

        if self._batch is None:
            if not self._queue:
                return []
            self._batch = self._next_batch()
            self._steps = self._batch.run()
        started = time.monotonic()
        with torch.inference_mode():
            for _ in self._steps:
                if self._batch.has_done or time.monotonic() - started >= self.save_seconds:
                    return self._batch.outcomes()
        batch, self._batch = self._batch, None
        return batch.outcomes()

    def _next_batch(self) -> Batch:
        from slowthink.engines.transformers.batch import Batch, Model

        model = Model(
            decoder=self._decoder,
            machine=lambda job: job.machine(make_rules(job.request.budget, self._compiled(job))),
            compiled=self._compiled,
            eos_ids=self.eos_ids,
        )
        more = None if self.capabilities.reproducible else self._next_jobs
        return Batch(self._next_jobs(self._batch_size), model, more=more)

    def _next_jobs(self, number: int, beside: int = 0) -> list[Job]:
        """Out of the queue, in an order that does not depend on how far they have come: a batch
        that was killed is the same batch again. `beside`: sequences that stay in the batch.

        No more than `batch_tokens` allow, each counted with the longest one's tokens.
        """
        jobs: list[Job] = []
        for job in sorted(self._queue.values(), key=_job_order)[:number]:
            rows = beside + len(jobs) + 1
            if rows > 1 and rows * tokens_at_most(job) > self._batch_tokens:
                break
            jobs.append(job)
        for job in jobs:
            del self._queue[job.key]
        return jobs

    def _compiled(self, job: Job) -> TokenFormat:
        format = job.request.format
        if format not in self._formats:
            self._formats[format] = compile_format(format, self.tokenizer, eos_ids=self.eos_ids)
        return self._formats[format]


def _job_order(job: Job) -> tuple[int, str]:
    return len(job.request.prompt_ids), job.key


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

    from slowthink.engines.transformers.kv_cache import ATTENTION
    from slowthink.engines.transformers.packed_linear import pack

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, config.dtype), attn_implementation=ATTENTION
    )
    model = model.to(pick_device(config.device)).eval()
    pack(model)
    return model, AutoTokenizer.from_pretrained(folder)


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
