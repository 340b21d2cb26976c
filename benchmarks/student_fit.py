"""Speed and memory of the student's pass, compared with the literal way.

Literal: each text alone, its whole logits (T, V), then log-sum-exp and the 100 highest, as the code
of arXiv 2601.14249 does. In each round both read all texts; speeds are tokens per second of CPU
time, so that other processes count for less. Memory is what the peak adds to the loaded model, on a
text of 4,000 tokens. `--data` reads the thinking of a file of chains instead of made ones.

    {"float32": {"tokens_per_cpu_second": {"median": 251, …}, "ours_over_literal": {…},
                 "literal_over_our_memory": 5.1, …}, …}
"""

from __future__ import annotations

import ctypes
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.command import main, spread
from slowthink.engines.models import load_tokenizer, resolve_model
from slowthink.recipe import EngineConfig

MODEL = "smollm2-135m"
LENGTHS = (100, 120, 150, 200, 300, 1500)
"""Tokens of the made texts, and maximum lengths of those from a file."""
LONG = 4_000
"""Tokens of the text whose memory is measured."""
NUM_PROMPT_TOKENS = 60
Text = tuple[list[int], list[int]]


def run(
    *, num_rounds: int = 5, path: Path | None = None, lengths: Sequence[int] = LENGTHS,
    long: int = LONG,
) -> dict[str, Any]:  # fmt: skip
    """Speeds, ratios and memory by dtype."""
    texts, (long_text,) = make_texts(path, lengths), make_texts(None, (long,))
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    return {
        **{dtype: _compare(texts, dtype, num_rounds, long_text) for dtype in dtypes},
        "num_texts": len(texts), "num_tokens": _num_tokens(texts),
        "long_tokens": _num_tokens([long_text]), "rounds": num_rounds,
    }  # fmt: skip


def make_texts(path: Path | None, lengths: Sequence[int]) -> list[Text]:
    """Prompt and completion ids: sums worked out by a seed, or thinking of a file's first rows."""
    tokenizer = load_tokenizer(MODEL)
    if path is not None:
        lines = path.read_text("utf-8").splitlines()[: len(lengths)]
        sources = [json.loads(line)["thinking"] for line in lines]
    else:
        rng = random.Random(0)
        pairs = [(rng.randrange(1000), rng.randrange(1000)) for _ in range(max(lengths))]
        sources = [" ".join(f"Then {a} + {b} = {a + b}." for a, b in pairs)] * len(lengths)
    texts = []
    for text, length in zip(sources, lengths, strict=True):
        ids = tokenizer.encode(text)[:length]
        texts.append((ids[:NUM_PROMPT_TOKENS], ids[NUM_PROMPT_TOKENS:]))
    return texts


def _compare(
    texts: Sequence[Text], dtype: Literal["float32", "bfloat16"], num_rounds: int, long_text: Text
) -> dict[str, Any]:
    from slowthink.engines.transformers.token_ranks import RankModel

    folder = resolve_model(MODEL)
    ours, literal = RankModel(folder, EngineConfig(dtype=dtype)), _Literal(folder, dtype)
    ways: dict[str, Callable[[Sequence[Text]], list[float]]] = {
        "ours": lambda some: [
            sums.rank / sums.surprisal
            for _, sums in sorted(pair for block in ours.measure(some) for pair in block.items())
        ],
        "literal": literal.measure,
    }
    values = {name: measure(texts) for name, measure in ways.items()}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, measure in ways.items():
            started = time.process_time()
            measure(texts)
            speeds[name].append(_num_tokens(texts) / (time.process_time() - started))
    memory = {name: _peak_bytes(measure, [long_text]) for name, measure in ways.items()}
    pairs = zip(speeds["ours"], speeds["literal"], strict=True)
    both = zip(values["ours"], values["literal"], strict=True)
    return {
        "tokens_per_cpu_second": spread(speeds["ours"]),
        "literal_tokens_per_cpu_second": spread(speeds["literal"]),
        "ours_over_literal": spread([ours / literal for ours, literal in pairs]),
        "peak_mb": round(memory["ours"] / 2**20, 1),
        "literal_peak_mb": round(memory["literal"] / 2**20, 1),
        "literal_over_our_memory": round(memory["literal"] / memory["ours"], 2),
        "largest_difference": max(abs(ours - literal) for ours, literal in both),
    }


class _Literal:
    """The paper's way, one text at a time."""

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._model = model.eval()

    def measure(self, texts: Sequence[Text]) -> list[float]:
        """The ratio of each text."""
        import torch

        with torch.inference_mode():
            return [self._ratio(*text) for text in texts]

    def _ratio(self, prompt: list[int], completion: list[int]) -> float:
        import torch

        ids = torch.tensor([[*prompt, *completion]])
        logits_TV = self._model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        target_T1 = logits_TV.gather(1, torch.tensor(completion)[:, None])
        surprisal = (logits_TV.logsumexp(1) - target_T1[:, 0]).sum()
        higher_T = (logits_TV.topk(100).values > target_T1).sum(1)
        return float((1 + higher_T).clamp(max=100).sum() / surprisal)


def _num_tokens(texts: Sequence[Text]) -> int:
    return sum(len(prompt) + len(completion) for prompt, completion in texts)


def _peak_bytes(measure: Callable[[Sequence[Text]], list[float]], texts: Sequence[Text]) -> int:
    """Resident memory that the peak of a call adds to what the process has before it (Linux)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that is free already would hide the peak
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    measure(texts)
    return max(1, _resident("VmHWM") - before)


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}; expected Linux")


if __name__ == "__main__":
    main(run, __doc__)
