"""Time of the logits processor by itself: one step of a whole batch with random logits, on the GPU
if there is one.

    {"step_microseconds_thinking": {"median": 310.0, "low": 290.0, "high": 420.0}, …}

A step is timed until the device has done it; `host` until the process could launch what follows.

`idle`: requests without a budget; `thinking`: greedy rows in which an end would be replaced;
`forced`: an id is forced in every row; `sampled`: every row is sampled by the processor, with
temperature and top-p.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.command import device_name, spread, synchronise
from slowthink.engines.models import load_tokenizer
from slowthink.engines.session import Compiler
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.engines.vllm.request_flow import compile_args
from slowthink.forcing.formats import FORMATS
from slowthink.records import Budget, Sampling

MODEL = "smollm2-135m"
KINDS = {
    "idle": None,
    "thinking": Sampling(),
    "forced": Sampling(),
    "sampled": Sampling(temperature=0.7, top_p=0.95),
}


def step_overhead(
    *, batch: int = 256, vocabulary: int = 150_000, steps: int = 40
) -> dict[str, Any]:
    """Microseconds of a processor's step on a whole batch, by kind of row."""
    tokenizer = load_tokenizer(MODEL)
    figures: dict[str, Any] = {}
    for kind, sampling in KINDS.items():
        num_steps = min(steps, 5) if kind == "sampled" else steps
        host, whole = step_microseconds(
            kind, sampling, tokenizer, batch=batch, vocabulary=vocabulary, num_steps=num_steps
        )
        figures[f"step_microseconds_{kind}"] = spread(whole)
        figures[f"step_host_microseconds_{kind}"] = spread(host)
    settings = {"step_batch": batch, "step_vocabulary": vocabulary, "step_device": device_name()}
    return figures | settings


def step_microseconds(
    kind: str,
    sampling: Sampling | None,
    tokenizer: Any,
    *,
    batch: int,
    vocabulary: int,
    num_steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Microseconds of each step on the host, and until the device has done it."""
    import torch

    from slowthink.engines.vllm.rows import Stepper

    rows = [] if sampling is None else [
        _make_row(tokenizer, sampling, cap=0 if kind == "forced" else 10_000) for _ in range(batch)
    ]  # fmt: skip
    device = torch.device(device_name())
    stepper = Stepper(device)
    raw_BV = torch.randn(batch, vocabulary, device=device)
    logits_BV = raw_BV.clone()
    host, whole = [], []
    for _ in range(num_steps + 3):  # three to warm up
        logits_BV.copy_(raw_BV)  # a chosen id has a logit beside which all others are nothing
        synchronise()
        started = clock()
        stepper.collect_outputs()
        if rows:
            stepper.edit_logits(logits_BV, dict(enumerate(rows)))
        host.append(1e6 * (clock() - started))
        synchronise()
        whole.append(1e6 * (clock() - started))
        for row in rows:
            row.outputs.append(5)
    return host[3:], whole[3:]


def _make_row(tokenizer: Any, sampling: Sampling, *, cap: int) -> Any:
    try:
        from slowthink.engines.vllm.forced_row import ForcedRow, RowSettings
    except ImportError:  # a checkout older than that module
        from slowthink.engines.vllm.rows import ForcedRow, RowSettings  # type: ignore[no-redef]

    budget = Budget(max_thinking_tokens=cap, waits=2, answer_tokens=16 if cap else 0)
    args = ForcingArgs(format=FORMATS["s1"], budget=budget, sampling=sampling)
    compiled = compile_args(args, Compiler(tokenizer, eos_ids=frozenset({2})), stop_id=2)
    return ForcedRow(compiled, RowSettings(cap=cap, sampling=sampling), outputs=[])
