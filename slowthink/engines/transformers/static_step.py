"""The forward pass that feeds one token per row, with fixed shapes: on CUDA, as graphs.

Eagerly, a decoding step on a fast card is nearly all launching of kernels. A captured one is a
single launch, but its shapes and addresses are fixed: batch sizes and numbers of columns are
rounded up to a few (`bucket`), inputs and logits have buffers of their own, and nothing inside may
wait for the device. Without CUDA the same pass runs uncaptured, which the tests use.

    step = StaticStep(forward, device)
    logits_BV = step(ids, positions, largest)    # of len(ids) rows; valid until the next call

A graph is captured at the second use of its shape; the first runs eagerly, which also sets up
cuBLAS. It is checked for synchronisation (`RefuseSynchronisation`); a model that synchronises is
never captured. At most `MAX_GRAPHS` graphs are kept. They share a memory pool, so they need the
intermediate tensors of the largest only.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

MAX_GRAPHS = 32
"""Number of captured graphs; the one used least recently is dropped."""
MIN_COLUMNS = 128

Forward = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""ids (B, 1), positions (B, 1) and a number of columns → logits (B, V)."""


def bucket(number: int, smallest: int = 1) -> int:
    """The next number of the form 2^n or 3 * 2^n from `smallest` on: at most 1.5 times as large,
    except below it."""
    size = smallest
    while size < number:
        size = size * 3 // 2 if size & (size - 1) == 0 and size > 1 else -(-size * 4 // 3)
    return size


def rounded_sizes(num_rows: int, num_columns: int, limit: int | None) -> list[tuple[int, int]]:
    """Sizes of buffers for so many rows and columns: rounded up in both, in one, in none; at most
    `limit` rows times columns, but for the last."""
    columns = bucket(num_columns, MIN_COLUMNS)
    rounded = [(bucket(num_rows), columns), (num_rows, columns)]
    fitting = [size for size in rounded if limit is None or size[0] * size[1] <= limit]
    return [*fitting, (num_rows, num_columns)]


class StaticStep:
    """Runs a forward pass of one token per row with static inputs; see the module's docstring."""

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._on_cuda = device.type == "cuda"
        self._device = device
        self._inputs = torch.zeros(2, 0, dtype=torch.long, device=device)
        self._host_inputs = torch.zeros(2, 0, dtype=torch.long)
        self._inputs_copied: Any = None
        self._capture_stream: Any = None
        if self._on_cuda:
            self._inputs_copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._capture_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._logits = torch.zeros(0, device=device)
        self._graphs: dict[tuple[int, int], Any] = {}
        """Graphs by number of rows and of columns, the last used last; None before capture."""
        self.refusal: str | None = None
        """Why the model cannot be captured."""

    def clear(self) -> None:
        """Drop all graphs: buffers that they use were replaced."""
        self._graphs.clear()

    def __call__(
        self, ids: Sequence[int], positions: Sequence[int], largest: tuple[int, int]
    ) -> torch.Tensor:
        """Logits (B, V) after these tokens; a buffer that the next call overwrites. `largest`: the
        numbers of rows and of columns that the buffers of `forward` have."""
        shape = (
            min(bucket(len(ids)), largest[0]),
            min(bucket(max(positions) + 1, MIN_COLUMNS), largest[1]),
        )
        self._copy_inputs(ids, positions, shape[0])
        if self._logits.shape[0] < shape[0] or shape not in self._graphs:
            self._first_run(shape)
        elif not self._on_cuda or self.refusal:
            self._run(shape)
        else:
            self._replay(shape)
        return self._logits[: len(ids)]

    def _copy_inputs(self, ids: Sequence[int], positions: Sequence[int], num_rows: int) -> None:
        """Fill the input buffers; further rows feed id 0 to the first column of a free slot."""
        if self._inputs.shape[1] < num_rows:
            self.clear()
            self._inputs = torch.zeros(2, num_rows, dtype=torch.long, device=self._device)
            self._host_inputs = torch.zeros(2, num_rows, dtype=torch.long)
            if self._on_cuda:
                self._host_inputs = self._host_inputs.pin_memory()
        if self._inputs_copied is not None:
            self._inputs_copied.synchronize()
        self._host_inputs.zero_()
        self._host_inputs[:, : len(ids)] = torch.tensor([ids, positions])
        self._inputs.copy_(self._host_inputs, non_blocking=True)
        if self._inputs_copied is not None:
            self._inputs_copied.record(torch.cuda.current_stream(self._device))

    def _first_run(self, shape: tuple[int, int]) -> None:
        """Run a shape eagerly and refuse operations that synchronise."""
        num_rows, num_columns = shape
        ids_B1, positions_B1 = self._views(num_rows)
        if self.refusal is None:
            try:
                with RefuseSynchronisation():  # type: ignore[no-untyped-call]
                    logits_BV = self._forward(ids_B1, positions_B1, num_columns)
            except SynchronisationError as error:
                self._refuse(error)
        if self.refusal is not None:
            logits_BV = self._forward(ids_B1, positions_B1, num_columns)
        if self._logits.shape[0] < num_rows:
            self.clear()
            self._logits = torch.empty_like(logits_BV)
        self._logits[:num_rows].copy_(logits_BV)
        self._graphs[shape] = None
        if len(self._graphs) > MAX_GRAPHS:
            del self._graphs[next(iter(self._graphs))]

    def _run(self, shape: tuple[int, int]) -> None:
        """What is captured."""
        num_rows, num_columns = shape
        self._logits[:num_rows].copy_(self._forward(*self._views(num_rows), num_columns))

    def _views(self, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._inputs[0, :num_rows, None], self._inputs[1, :num_rows, None]

    def _replay(self, shape: tuple[int, int]) -> None:
        """Run a shape's graph; capture it first if it has none."""
        try:
            graph = self._graphs.pop(shape) or self._capture(shape)
        except RuntimeError as error:  # an operation that `RefuseSynchronisation` does not know
            self._refuse(error)
            self._graphs[shape] = None
            self._run(shape)
        else:
            self._graphs[shape] = graph
            graph.replay()

    def _capture(self, shape: tuple[int, int]) -> Any:
        """Capture into the pool of the other graphs, or a new one: PyTorch's allocator refuses a
        pool whose graphs are all gone. The stream is of the model's device, which need not be the
        current one: on a stream of another nothing would be captured, and nothing replayed."""
        pool = next((graph.pool() for graph in self._graphs.values() if graph is not None), None)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=pool, stream=self._capture_stream, capture_error_mode="thread_local"
        ):
            self._run(shape)
        return graph

    def _refuse(self, error: RuntimeError) -> None:
        self.refusal = str(error)
        if self._on_cuda:
            warnings.warn(
                f"decoding without CUDA graphs, so slowly: {error}. Use engine.kind: vllm if speed "
                "matters.",
                stacklevel=2,
            )


class SynchronisationError(RuntimeError):
    """An operation that cannot be captured in a CUDA graph."""


class RefuseSynchronisation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises SynchronisationError for operations that wait for the device: they copy to the host,
    or the shape of their result depends on values."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation if it may be captured. In inference mode operations arrive whole, and
        are judged by their parts: `repeat_interleave` by a number waits for nothing, `where` does.
        """
        with self:
            out = func.decompose(*args, **(kwargs or {}))
        if out is not NotImplemented:
            return out
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in _SYNCHRONISING or by_mask:
            raise SynchronisationError(f"the model's forward pass calls `{name}`")
        out = func(*args, **(kwargs or {}))
        copies = name in ("copy_", "_to_copy")  # other operations take numbers from the host
        tensors = [x for x in (*args, out) if isinstance(x, torch.Tensor) and (copies or x.dim())]
        devices = {x.device for x in tensors}
        if len(devices) > 1:
            raise SynchronisationError(f"the model's forward pass copies to a device: `{name}`")
        return out


_SYNCHRONISING = frozenset({
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim",
    "_unique", "_unique2", "unique_consecutive", "repeat_interleave", "bincount", "allclose",
})  # fmt: skip
