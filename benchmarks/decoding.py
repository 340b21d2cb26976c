"""Speed of the transformers engine, compared with vLLM in the same process.

The requests of `benchmarks.forcing`: prompts of mixed lengths, two waits, greedy. In each round
both engines run all of them; ratios are of the CPU time that they take, so that other processes
count for less. float32, unless told otherwise: on a CPU without bf16 instructions it is the faster.

    {"transformers_over_vllm": {"median": 0.85, "low": 0.82, "high": 0.9}, …}
"""

from __future__ import annotations

import time
from typing import Any, Literal

from benchmarks.command import main, spread
from benchmarks.forcing import CONTEXT, MODEL, Load, make_requests, num_tokens, run_requests
from slowthink.engines import open_session
from slowthink.engines.session import Session
from slowthink.recipe import EngineConfig, VllmConfig


def run(
    *, num_rounds: int = 5, load: Load | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> dict[str, Any]:  # fmt: skip
    """Tokens per second of CPU time, and their ratio by round."""
    load = load or Load()
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=load.num_requests)
    vllm_config = EngineConfig(kind="vllm", dtype=dtype, max_context=CONTEXT, vllm=vllm)
    embedded = EngineConfig(dtype=dtype, max_context=CONTEXT, batch_size=load.num_requests)
    speeds: dict[str, list[float]] = {"vllm": [], "transformers": []}
    with open_session(MODEL, vllm_config) as first, open_session(MODEL, embedded) as second:
        for round in range(num_rounds + 1):
            first._engine._engine.reset_prefix_cache()  # type: ignore[attr-defined]
            for name, session in (("vllm", first), ("transformers", second)):
                speed = _tokens_per_second(session, load)
                if round:  # the first is a warm-up
                    speeds[name].append(speed)
    ratios = [a / b for a, b in zip(speeds["transformers"], speeds["vllm"], strict=True)]
    return {
        "transformers_over_vllm": spread(ratios),
        "transformers_tokens_per_cpu_second": spread(speeds["transformers"]),
        "vllm_tokens_per_cpu_second": spread(speeds["vllm"]),
        "dtype": dtype, "num_requests": load.num_requests, "cap": load.cap, "rounds": num_rounds,
    }  # fmt: skip


def _tokens_per_second(session: Session, load: Load) -> float:
    requests = make_requests(session, load)
    started = time.process_time()
    total = sum(map(num_tokens, run_requests(session, requests, load)))
    return total / (time.process_time() - started)


if __name__ == "__main__":
    main(run, __doc__)
