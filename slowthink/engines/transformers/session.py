"""The embedded engine: a transformers model in this process, forcing inside the decoding loop.

Jobs are sorted by length and split into batches fixed by the list of jobs: same jobs, same tokens.
With `engine.reproducible: false`, jobs join a batch as others leave it. Rows think until their
chains are as long as the jobs' points need; then all answers branch off the chains' keys and
values, so no thinking token is decoded or prefilled twice. Long batches return partial results.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.engines.models import eos_ids, fingerprint, resolve_model
from slowthink.engines.session import (
    CHECKPOINT_SECONDS,
    Capabilities,
    Compiler,
    Job,
    JobResult,
    check_context,
    max_job_tokens,
)
from slowthink.errors import ConfigError, missing_extra
from slowthink.recipe import EngineConfig
from slowthink.records import Cost

if TYPE_CHECKING:
    from slowthink.engines.transformers.batch import Batch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""


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
        library = import_transformers()
        from slowthink.engines.transformers.decoding import Decoder

        keep_freed_memory()
        folder = resolve_model(name, revision, notify=notify)
        model = _load(library, folder, config)
        self.tokenizer = library.AutoTokenizer.from_pretrained(folder)
        self._decoder = Decoder(model, model.device)
        self._batch_size, self._batch_tokens = config.batch_size, config.batch_tokens
        self.fingerprint = fingerprint(folder)
        self.numerics = f"transformers/{config.dtype}"
        configured = model.generation_config.eos_token_id
        self.eos_ids = eos_ids(configured, self.tokenizer.eos_token_id)
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=True,
            reproducible=config.reproducible,
            max_context=_max_context(model.config, config.max_context),
        )
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self._queue: dict[str, Job] = {}
        self._batch: Batch | None = None
        self._steps: Iterator[None] = iter(())

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
        """Queue a job. Raises ConfigError if its budget does not fit the context."""
        check_context(job, max_context=self.capabilities.max_context)
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Run the next batch until a job is done or `checkpoint_seconds` have passed."""
        import torch

        if self._batch is None:
            if not self._queue:
                return []
            self._batch = self._next_batch()
            self._steps = self._batch.run()
        started = time.monotonic()
        with torch.inference_mode():
            for _ in self._steps:
                if self._batch.has_done or time.monotonic() - started >= self.checkpoint_seconds:
                    return self._batch.results()
        batch, self._batch = self._batch, None
        return batch.results()

    def _next_batch(self) -> Batch:
        from slowthink.engines.transformers.batch import Batch, Model

        model = Model(decoder=self._decoder, compiler=self.compiler)
        more = None if self.capabilities.reproducible else self._next_jobs
        return Batch(self._next_jobs(self._batch_size), model, more=more)

    def _next_jobs(self, number: int, num_running: int = 0) -> list[Job]:
        """Take jobs from the queue, in an order that does not depend on their progress: after a
        kill, the batch is the same again. `num_running`: sequences that stay in the batch.

        Together at most `batch_tokens`, each counted as the longest.
        """
        jobs: list[Job] = []
        for job in sorted(self._queue.values(), key=_job_order)[:number]:
            rows = num_running + len(jobs) + 1
            if rows > 1 and rows * max_job_tokens(job) > self._batch_tokens:
                break
            jobs.append(job)
        for job in jobs:
            del self._queue[job.key]
        return jobs


def _job_order(job: Job) -> tuple[int, str]:
    return len(job.request.prompt_ids), job.key


# --- loading --------------------------------------------------------------------------------------


def import_transformers() -> Any:
    """The transformers library, without its progress bars. Raises ConfigError if it or torch is not
    installed."""
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError:
        raise missing_extra("transformers", extra="local") from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _load(library: Any, folder: Path, config: EngineConfig) -> Any:
    import torch

    from slowthink.engines.transformers.kv_cache import ATTENTION
    from slowthink.engines.transformers.packed_linear import pack

    model = library.AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, config.dtype), attn_implementation=ATTENTION
    )
    model = model.to(pick_device(config.device)).eval()
    pack(model)
    return model


def pick_device(device: str) -> str:
    """The device; `auto` is the best available. Raises ConfigError for an unavailable one."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"engine.device: `{device}`, but torch finds no CUDA device. Use `auto` or `cpu`."
        )
    return device


def keep_freed_memory() -> None:
    """Make glibc keep small freed blocks; does nothing without glibc.

    Returning each step's tensors to the kernel and faulting them in again takes time on a CPU.
    Large blocks are still returned: keeping them fragmented the heap, and a training grew to 12 GB.
    """
    if platform.system() == "Linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
            libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def _max_context(config: Any, limit: int | None) -> int:
    """Number of tokens the model can attend to; at most its sliding window."""
    length = int(config.max_position_embeddings)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        length = min(length, int(config.sliding_window))
    return min(length, limit) if limit else length
