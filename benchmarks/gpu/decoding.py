"""The transformers engine, vLLM and transformers' `generate`: tokens per second at 64 and 256
sequences, greedy, bf16; every sequence is as long as the others."""

from __future__ import annotations

import contextlib
import importlib.util
from functools import partial
from typing import Any

from benchmarks.command import device_name
from benchmarks.forcing import (
    CONTEXT,
    DTYPE,
    Load,
    Timings,
    make_requests,
    num_tokens,
    run_requests,
)
from benchmarks.gpu.common import model_name, rounds
from benchmarks.gpu.part import PartReport
from benchmarks.names import EngineConfig, Request, Session, open_session
from benchmarks.plain_vllm import PlainVllm


def measure(report: PartReport) -> None:
    """Tokens per second of each, by number of sequences."""
    model, loads = model_name(report), make_loads(short=report.short)
    config = EngineConfig(
        kind="transformers", dtype=DTYPE, max_context=CONTEXT, batch_size=256, batch_tokens=10**7
    )
    with _plain_vllm(report, model, max(loads)) as plain:
        library_model = load_model(model)
        with open_session(model, config) as session:
            ways = Ways(session, library_model, plain)
            ways.time(Timings(), Load(num_requests=4, cap=8, fill=True, format="s1"), 100)
            timings = {number: Timings() for number in loads}
            tasks = {
                str(number): partial(ways.time, timings[number], load)
                for number, load in loads.items()
            }
            for name in rounds(report, tasks):
                _add(report, int(name), timings[int(name)])


def make_loads(*, short: bool) -> dict[int, Load]:
    """Loads by number of sequences."""
    sizes, cap = ((4,), 8) if short else ((64, 256), 128)
    return {
        number: Load(num_requests=number, cap=cap, waits=0, format="s1", fill=True)
        for number in sizes
    }


def _plain_vllm(report: PartReport, model: str, max_num_seqs: int) -> Any:
    """vLLM, which starts while the others load; nothing if it is not installed."""
    if importlib.util.find_spec("vllm") is None:
        report.note("vLLM is not installed: pip install 'slowthink[vllm]'")
        return contextlib.nullcontext()
    arguments = {"max_num_seqs": max_num_seqs, "enforce_eager": report.short} | report.vllm
    return PlainVllm(model, dtype=DTYPE, context=CONTEXT, **arguments)


class Ways:
    """The three ways to decode the same prompts."""

    def __init__(self, session: Session, model: Any, plain: PlainVllm | None) -> None:
        self.session, self.model, self.plain = session, model, plain

    def time(self, timings: Timings, load: Load, seed: int) -> None:
        """Time each way once; each request is as long as by the transformers engine."""
        requests = make_requests(self.session, load, seed=seed)
        lengths: list[int] = []
        timings.time("transformers", partial(self._engine, requests, load, lengths))
        timings.time("generate", partial(self._generate, requests, max(lengths)))
        if self.plain is not None:
            prompts = [request.prompt_ids for request in requests]
            output = self.plain.generate(prompts, lengths, temperature=0.0, ignore_eos=True)
            timings.add("vllm", output.num_tokens, output.seconds)

    def _engine(self, requests: list[Request], load: Load, lengths: list[int]) -> int:
        lengths += map(num_tokens, run_requests(self.session, requests, load))
        return sum(lengths)

    def _generate(self, requests: list[Request], new_tokens: int) -> int:
        """transformers' own loop on one left-padded batch."""
        import torch

        device, longest = self.model.device, max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            start = longest - len(request.prompt_ids)
            ids[row, start:], mask[row, start:] = torch.tensor(request.prompt_ids), 1
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=False,
                max_new_tokens=new_tokens, pad_token_id=0, eos_token_id=None, use_cache=True,
            )  # fmt: skip
        return int(out.shape[1] - longest) * len(requests)


def load_model(name: str) -> Any:
    """The model for `generate`, which never ends by itself."""
    import torch
    from transformers import AutoModelForCausalLM

    from slowthink.engines.models import resolve_model

    folder = resolve_model(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, DTYPE))
    model.generation_config.eos_token_id = None
    return model.to(device_name()).eval()


def _add(report: PartReport, number: int, timings: Timings) -> None:
    speeds = {method: timings.speed(method) for method in timings.seconds}
    report.figures(str(number), {"seconds": timings.seconds, "tokens": timings.tokens})
    for method, values in speeds.items():
        report.headline(f"tokens/s {method}, {number}", round(sorted(values)[len(values) // 2]))
        if method != "transformers":
            ratio = timings.ratio("transformers", method)["median"]
            report.headline(f"transformers engine over {method}, {number}", ratio)
    report.headline(f"rounds, {number}", len(timings.seconds["transformers"]))
