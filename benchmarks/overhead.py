"""Time of our own code in vLLM's steps and requests, on a model that costs next to nothing.

    python -m benchmarks.overhead --json --against ../another-checkout

vLLM's CPU build in float32 runs a random model of 2 layers and 64 dimensions. Timers around our
functions count the seconds that the stepping thread computes in them, without vLLM's own below
them, and less what the timers take themselves, measured first: `collect` the last step's outputs,
`order` the rows, `plan` and edit the logits, and what the `session` does between steps. A proxy: on
a GPU the same code runs while the device computes.

    host_ms_256_thinking    milliseconds of a step of 256 rows that think; the slower of two formats
    host_ms_256_waits       in which each row's thinking ends twice, and is continued
    host_ms_256_…_short     with a cap of 48: many rows change their instruction in each step
    host_us_per_request     microseconds to start, parse, replay and branch, by job of two points
    host_ms_256_sampled     a step of 256 sampled rows over 150,000 tokens, top-p .95
    inflight_over_plain     tokens per second of forced requests over those of plain ones
    timer_us                microseconds that a timed call takes for being timed

`…_v2`: with a made batch of the V2 model runner, over 128 tokens; the work on its tensors counts.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread
from benchmarks.forcing_step import KINDS, step_microseconds
from slowthink.engines.models import load_tokenizer
from slowthink.records import Budget, Request, Sampling, ThinkingFormat

TOKENIZER = "smollm2-135m"
FREQUENT = "ing"
"""A token that the random model likes now and then: the trigger of formats that wait."""
ROWS = (1, 32, 256)
FORMATS = {
    "s1": ThinkingFormat(
        name="custom", start="", end="<|im_start|>answer\n", end_triggers=("<|im_start|>",)
    ),
    "plain": ThinkingFormat(name="custom", start="", end="", cue_after_natural_end=True),
}
_PACKAGE = "slowthink.engines.vllm."
TIMED = {
    "rows:Stepper.collect_outputs": "collect",
    "rows:Stepper.edit_logits": "plan",
    "rows:ForcedRow.replay_outputs": "request",
    "processor:Forcing.update_state": "order",
    "processor:Forcing.apply": "order",
    "processor:Forcing._add_row": "request",
    "processor:Forcing.validate_params": "request",
    "session:VllmSession.submit": "request",
    "session:VllmSession._start": "request",
    "session:VllmSession._finish_thinking": "request",
    "session:VllmSession._finish_answer": "request",
    "session:VllmSession._finish": "session",
    "client:_InProcessEngine.take_histories": "session",
    "client:_InProcessEngine.add": "vllm",
    "client:_InProcessEngine.step": "vllm",
}
"""Functions that are timed, and what their time counts as; less that of others below them."""
STEP = ("collect", "order", "plan", "session")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Sizes of the measurement."""

    rows: tuple[int, ...] = ROWS
    cap: int = 256
    """Thinking tokens. With 2 waits, those of the measurement on an H100."""
    short_cap: int = 48
    num_jobs: int = 64
    vocabulary: int = 150_000


@dataclass
class Timers:
    """Seconds of computation by kind; of nested timers the innermost counts."""

    seconds: Counter[str] = field(default_factory=Counter)
    num_steps: int = 0
    own_seconds: tuple[float, float] = (0.0, 0.0)
    """What a timed call costs by itself: within it, and in the function that calls it."""
    _kinds: list[str] = field(default_factory=lambda: ["outside"])
    _since: float = field(default_factory=time.thread_time)

    def clear(self) -> None:
        """Start again from zero."""
        self.seconds.clear()
        self.num_steps = 0

    def calibrate(self, num_calls: int = 20_000) -> None:
        """Measure `own_seconds`, which is subtracted from then on."""
        timed, self.own_seconds = self.wrap(_do_nothing, "inside"), (0.0, 0.0)
        self.clear()
        started = time.thread_time()
        for _ in range(num_calls):
            _do_nothing()
        self._since = time.thread_time()
        untimed = self._since - started
        for _ in range(num_calls):
            timed()
        self._switch()
        outside = max(0.0, self.seconds["outside"] - untimed)
        self.own_seconds = self.seconds["inside"] / num_calls, outside / num_calls
        self.clear()

    def step_ms(self) -> float:
        """Milliseconds of ours in a step."""
        return 1e3 * sum(self.seconds[kind] for kind in STEP) / max(1, self.num_steps)

    def wrap(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        """The function, timed as this kind."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.num_steps += function.__name__ == "step"
            self._switch()
            self._kinds.append(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._kinds.pop()
                within, around = self.own_seconds
                self.seconds[kind] -= within
                self.seconds[self._kinds[-1]] -= around

        return timed

    def _switch(self) -> None:
        now = time.thread_time()
        self.seconds[self._kinds[-1]] += now - self._since
        self._since = now


@contextmanager
def timers() -> Iterator[Timers]:
    """Time the functions of TIMED."""
    clock, originals = Timers(), []
    for path, kind in TIMED.items():
        module, _, names = path.partition(":")
        cls = getattr(importlib.import_module(_PACKAGE + module), names.split(".")[0])
        name = names.split(".")[1]
        original = vars(cls)[name] if name in vars(cls) else getattr(cls, name)
        is_class_method = isinstance(original, classmethod)
        wrapped: Any = clock.wrap(original.__func__ if is_class_method else original, kind)
        originals.append((cls, name, original))
        setattr(cls, name, classmethod(wrapped) if is_class_method else wrapped)
    clock.calibrate()
    try:
        yield clock
    finally:
        for cls, name, original in originals:
            setattr(cls, name, original)


def _do_nothing() -> None:
    """Called to measure the timers."""


# --- vLLM with a random model ---------------------------------------------------------------------


def make_model(folder: Path) -> str:
    """Save a random model that never ends its text, but outputs FREQUENT now and then."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(TOKENIZER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048,
        bos_token_id=1, eos_token_id=2, initializer_range=0.6,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[:3] = 0
        model.lm_head.weight[tokenizer.encode(FREQUENT)[0]] *= 2.2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@contextmanager
def tiny_session(rows: int) -> Iterator[Any]:
    """A session of the vLLM engine with the random model and room for that many rows."""
    from slowthink.engines import open_session
    from slowthink.recipe import EngineConfig, VllmConfig

    with tempfile.TemporaryDirectory() as folder:
        config = EngineConfig(
            kind="vllm", dtype="float32", max_context=512,
            vllm=VllmConfig(max_num_seqs=rows, enforce_eager=True),
        )  # fmt: skip
        with open_session(make_model(Path(folder)), config) as session:
            yield session


def make_jobs(num: int, format: str, points: Sequence[Any], *, waits: bool, seed: int) -> list[Any]:
    """Jobs with prompts of their own."""
    from slowthink.engines.session import Job

    form = FORMATS[format]
    if waits:
        form = replace(form, end_triggers=(FREQUENT,))
    return [
        Job(
            request=Request(
                model="m", numerics="n", prompt_ids=(100 + index, 200 + seed, 7, 9), format=form,
                sampling=Sampling(), budget=Budget(answer_tokens=8), seed=seed,
            ),
            points=tuple(points),
        )
        for index in range(num)
    ]  # fmt: skip


def run_jobs(session: Any, jobs: Sequence[Any]) -> tuple[int, int]:
    """Run them; the numbers of tokens output and of waits."""
    from slowthink.engines.session import generate

    num_tokens = num_waits = 0
    for result in generate(session, jobs):
        num_tokens += result.cost.decoded + result.cost.forced
        num_waits += sum(event.kind.value == "wait" for event in result.chain.events)
    return num_tokens, num_waits


def run_plain(session: Any, num: int, num_tokens: int, *, seed: int) -> None:
    """As many requests without a budget, of that many tokens each."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        temperature=0.0, max_tokens=num_tokens, ignore_eos=True, detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    for index in range(num):
        prompt_ids = (100 + index, 200 + seed, 7, 9)
        session._engine.add(f"plain-{seed}-{index}", prompt_ids, params.clone())
    num_finished = 0
    while num_finished < num:
        num_finished += len(session._engine.step(None))


def measure_engine(load: Load, num_rounds: int) -> dict[str, Any]:
    """Time of our code while vLLM runs, by kind of load."""
    from slowthink.engines.session import Point

    figures: dict[str, list[float]] = {}
    with tiny_session(max(load.rows)) as session, timers() as clock:
        run_jobs(session, make_jobs(2, "s1", [Point(8, 1)], waits=True, seed=99))
        for seed in range(num_rounds):
            for name, values in _engine_round(session, clock, load, seed).items():
                figures.setdefault(name, []).append(values)
        figures["timer_us"] = [1e6 * sum(clock.own_seconds)]
    return {name: spread(values) for name, values in figures.items()}


def _engine_round(session: Any, clock: Timers, load: Load, seed: int) -> dict[str, float]:
    from slowthink.engines.session import Point

    figures: dict[str, float] = {}
    kinds = {
        "thinking": Point(load.cap), "waits": Point(load.cap, 2),
        "thinking_short": Point(load.short_cap), "waits_short": Point(load.short_cap, 9),
    }  # fmt: skip
    for format in FORMATS:
        for num in load.rows:
            for kind, point in kinds.items():
                jobs = make_jobs(num, format, [point], waits=point.waits > 0, seed=seed)
                clock.clear()
                started = time.process_time()
                num_tokens, num_waits = run_jobs(session, jobs)
                seconds = time.process_time() - started
                figures[f"step_ms_{num}_{kind}_{format}"] = clock.step_ms()
                if num == max(load.rows):
                    for part in STEP:
                        ms = 1e3 * clock.seconds[part] / clock.num_steps
                        figures[f"{part}_ms_{num}_{kind}_{format}"] = ms
                if kind == "waits":
                    figures[f"waits_per_row_{num}_{format}"] = num_waits / num
                elif kind == "thinking" and num == max(load.rows):
                    started = time.process_time()
                    run_plain(session, num, num_tokens // num, seed=seed)
                    ratio = (time.process_time() - started) / seconds
                    figures[f"inflight_over_plain_{format}"] = ratio
        jobs = make_jobs(
            load.num_jobs, format, [Point(load.cap // 2), Point(load.cap, 2)],
            waits=True, seed=100 + seed,
        )  # fmt: skip
        clock.clear()
        run_jobs(session, jobs)
        figures[f"request_us_{format}"] = 1e6 * clock.seconds["request"] / load.num_jobs
    return figures


# --- the V2 model runner --------------------------------------------------------------------------


class AsciiTokenizer:
    """A character is a token, so that logits are small."""

    eos_token_id = 0
    chat_template = ""
    name_or_path = "ascii"

    def __len__(self) -> int:
        return 128

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The characters' codes."""
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The characters."""
        return "".join(map(chr, ids))


V2_FORMATS = {
    "s1": ThinkingFormat(name="custom", start="", end="}a\n", end_triggers=("}",)),
    "plain": replace(FORMATS["plain"], end_triggers=("}",)),
}


def v2_step_ms(format: str, num: int, *, waits: bool, num_steps: int = 100) -> float:
    """Milliseconds of `Forcing.apply` in a step of the V2 model runner, whose order of rows changes
    when rows leave or enter; with `waits` each row's thinking ends every 64 tokens."""
    import numpy as np
    import torch

    processor, states = _v2_processor(V2_FORMATS[format], num)
    context = _namespace(
        idx_mapping_np=np.arange(num), seq_lens_upper_bound_np=states.prompt_len.np.copy()
    )
    logits_BV = torch.rand(num, 128)
    seconds = 0.0
    for step in range(num_steps + 3):
        batch_BV = logits_BV.clone()
        if waits:
            batch_BV[step % 64 :: 64, ord("}")] = 9.0
        context.seq_lens_upper_bound_np = context.seq_lens_upper_bound_np + 1
        started = time.thread_time()
        processor.apply(batch_BV, context)
        seconds += time.thread_time() - started if step >= 3 else 0.0
    return 1e3 * seconds / num_steps


def _v2_processor(format: ThinkingFormat, num: int) -> tuple[Any, Any]:
    """A processor whose slots hold a request each, and the slots' state."""
    import numpy as np
    import torch
    from vllm import SamplingParams

    from slowthink.engines.session import Compiler, Point
    from slowthink.engines.vllm.processor import Forcing
    from slowthink.engines.vllm.request_args import write_args

    states = _namespace(
        device=torch.device("cpu"), max_num_reqs=num, vocab_size=128,
        all_token_ids=_namespace(gpu=torch.zeros(num, 2048, dtype=torch.int32)),
        prompt_len=_namespace(np=np.full(num, 4)), prefill_len=_namespace(np=np.full(num, 4)),
    )  # fmt: skip
    config = _namespace(
        speculative_config=None, model_config=_namespace(max_model_len=2048, seed=0),
        parallel_config=_namespace(data_parallel_index=0),
    )  # fmt: skip
    processor = Forcing(config, states)
    processor._compilers[frozenset({0})] = Compiler(AsciiTokenizer(), eos_ids=frozenset({0}))
    request = Request(
        model="m", numerics="n", prompt_ids=(1, 2, 3, 4), format=format, sampling=Sampling(),
        budget=Budget(wait_strings=("Wait",), final_answer_cue="So:"), seed=0,
    )  # fmt: skip
    for slot in range(num):
        arguments = write_args(request, Point(1000, 900), log=f"row-{slot}")
        params = SamplingParams(temperature=0.0, max_tokens=1900, extra_args=arguments)
        params.update_from_generation_config({"eos_token_id": [0]}, 0)
        processor.add_request(slot, params)
    processor.apply_staged_writes()
    return processor, states


def _namespace(**values: Any) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(**values)


# --- all figures ----------------------------------------------------------------------------------


def measure_steps(load: Load, num_rounds: int) -> dict[str, Any]:
    """Time of a step by itself: V2's, and that of sampled rows."""
    tokenizer, largest = load_tokenizer(TOKENIZER), max(load.rows)
    figures: dict[str, list[float]] = {}
    for _ in range(num_rounds):
        for format in FORMATS:
            for kind in ("thinking", "waits"):
                ms = v2_step_ms(format, largest, waits=kind == "waits")
                figures.setdefault(f"step_ms_{largest}_{kind}_{format}_v2", []).append(ms)
        _, (microseconds,) = step_microseconds(
            "sampled", KINDS["sampled"], tokenizer, batch=largest, vocabulary=load.vocabulary,
            num_steps=1, clock=time.thread_time,
        )  # fmt: skip
        figures.setdefault(f"host_ms_{largest}_sampled", []).append(microseconds / 1e3)
    return {name: spread(values) for name, values in figures.items()}


_IN_CHECKOUT = """
import slowthink, runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("benchmarks.overhead", run_name="__main__")
"""
"""Runs this benchmark with the package of the working directory."""


def run(num_rounds: int = 5, against: Path | None = None) -> dict[str, Any]:
    """All figures; with `against` also those of the package in that checkout."""
    if against is None:
        return measure(Load(), num_rounds)
    here = Path(__file__).parents[1]
    return {str(path): _run_in(path, num_rounds) for path in (against.resolve(), here)}


def measure(load: Load, num_rounds: int) -> dict[str, Any]:
    """The figures of the package that is imported."""
    import torch

    torch.set_num_threads(1)
    figures = measure_engine(load, num_rounds) | measure_steps(load, num_rounds)
    largest = max(load.rows)
    slowest = {
        f"host_ms_{largest}_{kind}": f"step_ms_{largest}_{kind}"
        for kind in ("thinking", "waits", "thinking_short", "waits_short")
    }
    for name, prefix in (slowest | {"host_us_per_request": "request_us"}).items():
        by_format = [figures[f"{prefix}_{format}"] for format in FORMATS]
        figures[name] = max(by_format, key=lambda figure: figure["median"])
    ratios = [figures[f"inflight_over_plain_{format}"] for format in FORMATS]
    return figures | {"inflight_over_plain": min(ratios, key=lambda figure: figure["median"])}


def _run_in(checkout: Path, num_rounds: int) -> dict[str, Any]:
    """The figures of a checkout's package, measured by this file in a process of its own."""
    here = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", _IN_CHECKOUT, here, "--json", "--rounds", str(num_rounds)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=checkout, stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main(run, __doc__)
