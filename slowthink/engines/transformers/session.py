"""The embedded engine: a transformers model in this process, forcing inside the decoding loop.

Jobs are sorted by prompt length and split into batches, so that the same jobs give the same tokens.
With `engine.reproducible: false`, jobs join a batch as others leave it. A batch decodes its chains
to the length that the jobs' points need, then all answers from the chains' keys and values: no
thinking token is decoded or prefilled twice. Long batches return partial results.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.engines.auto import resolve_engine
from slowthink.engines.models import eos_ids, fingerprint, from_folder, resolve_model
from slowthink.engines.session import (
    CHECKPOINT_SECONDS,
    Capabilities,
    Compiler,
    Job,
    JobResult,
    check_context,
    max_job_tokens,
)
from slowthink.errors import ConfigError, EngineError, missing_extra
from slowthink.recipe import EngineConfig
from slowthink.records import Cost

if TYPE_CHECKING:
    from slowthink.engines.transformers.batch import Batch

_USE_SEVERAL_CARDS = (
    "Choose it by CUDA_VISIBLE_DEVICES or engine.device; to use several: --set engine.kind=vllm "
    "--set engine.vllm.tensor_parallel_size=N"
)
_USABLE_SHARE, _WORK_BYTES = 0.9, 2e9
"""Share of a GPU's memory for the model, keys, values and, in bytes, all else: prefill, graphs."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""


class TransformersSession:
    """A loaded transformers model that thinks and answers."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        *,
        revision: str | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        config, library = resolve_engine(config), import_transformers()
        from slowthink.engines.transformers.decoding import Decoder

        keep_freed_memory()
        folder = resolve_model(
            name, revision, trust_remote_code=config.trust_remote_code, notify=notify
        )
        model = _load(library, folder, config)
        _notify_of_idle_cards(model.device, notify)
        self.tokenizer = from_folder(
            library.AutoTokenizer, folder, trust_remote_code=config.trust_remote_code
        )
        self._batch_size = int(config.batch_size)
        self._batch_tokens, rounded = token_limits(int(config.batch_tokens), _max_cached(model))
        self._decoder = Decoder(model, model.device, max_cached=rounded)
        self.fingerprint = fingerprint(folder)
        self.numerics = f"transformers/{config.dtype}"
        config_ids = model.generation_config.eos_token_id
        self.eos_ids = eos_ids(config_ids, self.tokenizer.eos_token_id)
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
        self._decoder.close()

    @property
    def cost(self) -> Cost:
        """All tokens spent so far."""
        return self._decoder.cost

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if its budget does not fit the context."""
        check_context(job, max_context=self.capabilities.max_context)
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Cancel queued jobs."""
        for key in keys:
            self._queue.pop(key, None)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Run batches until a job is finished or `checkpoint_seconds` have passed.

        Raises EngineError if the GPU's memory is full.
        """
        import torch

        results: list[JobResult] = []
        try:
            with torch.inference_mode():
                while not results and (self._batch is not None or self._queue):
                    results = self._run_batch()
        except torch.OutOfMemoryError as error:
            raise EngineError(
                "engine.kind: transformers: the GPU's memory is full; expected room for the keys "
                f"and values of engine.batch_size: {self._batch_size} sequences and "
                f"engine.batch_tokens: {self._batch_tokens} tokens. Lower them, or for one long "
                f"sequence engine.max_context. {_USE_SEVERAL_CARDS}"
            ) from error
        return results

    def _run_batch(self) -> list[JobResult]:
        """Run the current or next batch until a result is due."""
        if self._batch is None:
            self._batch = self._next_batch()
            self._steps = self._batch.run()
        start_time = time.monotonic()
        for _ in self._steps:
            is_due = time.monotonic() - start_time >= self.checkpoint_seconds
            if is_due or self._batch.has_finished_job:
                return self._batch.results()
        batch, self._batch = self._batch, None
        return batch.results()

    def _next_batch(self) -> Batch:
        from slowthink.engines.transformers.batch import Batch, DecodingModel

        model = DecodingModel(decoder=self._decoder, compiler=self.compiler)
        next_jobs = None if self.capabilities.reproducible else self._next_jobs
        return Batch(self._next_jobs(self._batch_size), model, next_jobs=next_jobs)

    def _next_jobs(self, num_jobs: int, num_running: int = 0) -> list[Job]:
        """Take at most `num_jobs` jobs from the queue; `num_running` rows stay in the batch.

        The batch has at most `batch_tokens` tokens, each row counted as the longest. The order does
        not depend on the jobs' progress, so a killed run has the same batches when it resumes.
        """
        jobs: list[Job] = []
        for job in sorted(self._queue.values(), key=_job_sort_key)[:num_jobs]:
            num_rows = num_running + len(jobs) + 1
            if num_rows > 1 and num_rows * max_job_tokens(job) > self._batch_tokens:
                break
            jobs.append(job)
        for job in jobs:
            del self._queue[job.key]
        return jobs


def _job_sort_key(job: Job) -> tuple[int, str]:
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

    model = from_folder(
        library.AutoModelForCausalLM, folder, trust_remote_code=config.trust_remote_code,
        dtype=getattr(torch, config.dtype), attn_implementation=ATTENTION,
    )  # fmt: skip
    device = pick_device(config.device)
    try:
        model = model.to(device).eval()
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"{folder}: the model does not fit in the memory of {device}; the transformers engine "
            f"uses one card. {_USE_SEVERAL_CARDS}"
        ) from None
    pack(model)
    return model


def pick_device(device: str) -> str:
    """The configured device; `auto`: the best one, of several cards the first. Raises ConfigError
    if it is unavailable."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    num_cards = torch.cuda.device_count() if device.startswith("cuda") else 1
    if not num_cards:
        raise ConfigError(
            f"engine.device: `{device}`, but torch finds no CUDA device. Use `auto` or `cpu`."
        )
    if (torch.device(device).index or 0) >= num_cards:
        raise ConfigError(
            f"engine.device: `{device}`, but torch finds {num_cards} CUDA devices, numbered from "
            "0. Use one of them, or set CUDA_VISIBLE_DEVICES."
        )
    return device


def _max_cached(model: Any) -> int | None:
    """Number of tokens whose keys and values are estimated to fit beside the model on its GPU; at
    least 1. None for other devices.

    By the GPU's whole memory less what this process has allocated, not by what others leave free:
    so a run has the same batches beside them.
    """
    import torch

    if model.device.type != "cuda":
        return None
    config = model.config.get_text_config()
    num_heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    width = (getattr(config, "num_key_value_heads", None) or num_heads) * head_size
    token_bytes = 2 * config.num_hidden_layers * width * model.dtype.itemsize
    memory = torch.cuda.get_device_properties(model.device).total_memory
    free = _USABLE_SHARE * memory - torch.cuda.memory_allocated(model.device) - _WORK_BYTES
    return max(1, int(free / token_bytes))


def token_limits(batch_tokens: int, max_cached: int | None) -> tuple[int, int | None]:
    """Tokens of a batch, and of its cache with sizes rounded up; None: no limit.

    There is always room to round up the columns, by up to 1.5 times, if the memory has it: else
    each batch with longer prompts would need new buffers, and drop all graphs.
    """
    if max_cached is None:
        return batch_tokens, None
    batch_tokens = min(batch_tokens, max_cached)
    return batch_tokens, min(max_cached, batch_tokens * 3 // 2)


def _notify_of_idle_cards(device: Any, notify: Callable[[str], None]) -> None:
    """Report the cards that this engine leaves idle."""
    import torch

    num_cards = torch.cuda.device_count() if device.type == "cuda" else 1
    if num_cards > 1:
        notify(
            f"engine: transformers uses one of {num_cards} CUDA devices, {device}. "
            f"{_USE_SEVERAL_CARDS}"
        )


def keep_freed_memory() -> None:
    """Make glibc keep small freed blocks; does nothing without glibc.

    On a CPU it takes time to return each step's tensors to the kernel and to allocate them again.
    Large blocks are still returned: if they are kept, the heap fragments (one training: 12 GB).
    """
    if platform.system() == "Linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
            libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def _max_context(config: Any, limit: int | None) -> int:
    """Context length of the model, at most its sliding window and `limit`."""
    max_context = int(config.max_position_embeddings)
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        max_context = min(max_context, int(config.sliding_window))
    return min(max_context, limit) if limit else max_context
