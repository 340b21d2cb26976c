"""Checks that vLLM, the transformers engine and a literal loop generate the same ids.

    python -m benchmarks.conformance --prompts 50 --cap 96 --model runs/quickstart/train/model
    python -m benchmarks.conformance --vllm eager     # not as vLLM runs by default: see VLLM_PATHS

fp32, greedy, one request at a time for the literal loop. Ids may differ at a near tie: a step at
which the literal loop's two likeliest tokens are closer than the engines' own errors explain. The
same run measures those errors (`logit_error`): how far apart the engines put the same two tokens
after the same ids. All near ties are listed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.command import device_name
from benchmarks.names import (
    FORMATS,
    Budget,
    ChatConfig,
    EngineConfig,
    Job,
    JobResult,
    Point,
    Request,
    Sampling,
    SandboxSource,
    Session,
    VllmConfig,
    generate,
    open_session,
    prompt_ids,
    sandbox_problems,
)
from slowthink.engines.models import resolve_model

CONTEXT = 1024
NEAR_TIE_FACTOR = 4.0
"""Times the largest measured error. Two engines that are each off by that much decide a gap of
twice the error differently; twice again, since the measured positions need not have the worst."""

VLLM_PATHS = {
    "default": VllmConfig(),
    "eager": VllmConfig(enforce_eager=True, max_num_seqs=16, max_num_batched_tokens=64),
}
"""How vLLM computes. default: as it does by itself; on a GPU by CUDA graphs and torch.compile, in
batches of its own sizes. eager: without graphs and compilation, prompts in chunks of 64 tokens."""


def vllm_paths() -> tuple[str, ...]:
    """The paths to compare on this device, the important one first. On a CPU, where vLLM captures
    no graphs, `eager` alone: the other would differ by compilation, which takes long."""
    return ("default", "eager") if device_name() == "cuda" else ("eager",)


def settings_for(cap: int) -> dict[str, dict[str, Any]]:
    """Settings by name: the points of a chain, and changes of the default budget."""
    waits = (Point(cap, 2),)
    return {
        "cap": {"points": (Point(cap // 2),)},
        "waits": {"points": (Point(cap, 1),)},
        "rotation": {"points": waits, "wait_strings": ("Hmm", " But wait,")},
        "no string": {"points": waits, "wait_strings": ()},
        "minimum": {"points": (Point(cap, 1),), "min_thinking_tokens": cap // 2},
        "argmax": {"points": waits, "end_rule": "argmax"},
        "tau 0.1": {"points": waits, "end_rule": "probability", "end_probability": 0.1},
        "sweep": {"points": (Point(0), Point(cap // 4), Point(cap), Point(cap, 1))},
        "tau 0.01": {
            "points": (Point(cap, 1), Point(cap, 3)), "end_rule": "probability",
            "end_probability": 0.01, "wait_strings": (),
        },
        "plain": {"points": (Point(cap, 1),), "format": "plain"},
    }  # fmt: skip


def make_requests(session: Session, num: int, setting: dict[str, Any]) -> list[Request]:
    """A request for each of `num` sandbox problems."""
    source = SandboxSource(num_problems=num, num_heldout=0)
    budget = dict(setting)
    budget.pop("points")
    format = budget.pop("format", "s1")
    chat = ChatConfig(format=format, system_prompt="")
    return [
        Request(
            model="conformance",
            numerics="fp32",
            prompt_ids=prompt_ids(session.tokenizer, problem, chat),
            format=FORMATS[format],
            sampling=Sampling(),
            budget=Budget(answer_tokens=6, **budget),
            seed=0,
        )
        for problem in list(sandbox_problems(source, seed=0))[:num]
    ]


class LiteralLoop:
    """s1's loop, token by token, as the paper describes it; independent of the engines."""

    def __init__(self, name: str, eos_ids: frozenset[int]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = resolve_model(name)
        self.torch = torch
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.to(device_name()).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.eos_ids = eos_ids
        self._cached_ids: list[int] = []
        self._cache: Any = None

    def logits(self, ids: Sequence[int]) -> Any:
        """Logits after these ids. The common prefix with the last ids is read from the KV cache."""
        from transformers import DynamicCache

        num_same = 0
        while (
            num_same < min(len(ids) - 1, len(self._cached_ids))
            and ids[num_same] == self._cached_ids[num_same]
        ):
            num_same += 1
        if self._cache is None or num_same == 0:
            self._cache, num_same = DynamicCache(), 0
        else:
            self._cache.crop(num_same)
        with self.torch.inference_mode():
            out = self.model(
                input_ids=self._tensor([ids[num_same:]]), past_key_values=self._cache,
                position_ids=self._tensor([range(num_same, len(ids))]), use_cache=True,
            )  # fmt: skip
        self._cached_ids = list(ids)
        return out.logits[0, -1].clone()

    def run(self, request: Request, point: Point) -> CompletionParts:
        """Generate thinking and answer."""
        prompt = list(request.prompt_ids)
        thinking, natural = self._think(request, point)
        closing = self._closing(request, thinking, natural)
        start = [*prompt, *thinking, *closing]
        answer: list[int] = []
        while len(answer) < request.budget.answer_tokens:
            token = int(self.logits([*start, *answer]).argmax())
            if token in self.eos_ids:
                break
            answer.append(token)
        return CompletionParts(prompt, thinking, closing, answer)

    def _think(self, request: Request, point: Point) -> tuple[list[int], bool]:
        budget = request.budget
        triggers = {self._ids(text)[0] for text in request.format.end_triggers} | self.eos_ids
        ids: list[int] = []
        used = 0
        while len(ids) < point.cap:
            logits_V = self.logits([*request.prompt_ids, *ids])
            token = int(logits_V.argmax())
            if self._declares_end(logits_V, token, triggers, budget):
                strings = budget.wait_strings
                wait = self._ids(strings[used % len(strings)]) if strings else []
                early = len(ids) < budget.min_thinking_tokens
                if not early and (used >= point.waits or len(ids) + len(wait) + 1 > point.cap):
                    return ids, True
                used += not early
                if wait and not early:
                    ids += wait
                    continue
                logits_V[list(triggers)] = -float("inf")
                token = int(logits_V.argmax())
            ids.append(token)
        return ids, False

    def _declares_end(self, logits_V: Any, token: int, triggers: set[int], budget: Budget) -> bool:
        probability = float(self.torch.softmax(logits_V.double(), -1)[list(triggers)].sum())
        by_rule = budget.end_rule == "probability" and probability >= budget.end_probability
        return token in triggers or by_rule

    def _closing(self, request: Request, thinking: list[int], natural: bool) -> list[int]:
        format, pieces = request.format, []
        text = self.tokenizer.decode(thinking)
        if not (natural and format.end) and thinking and not text.endswith("\n"):
            pieces.append("\n")
        pieces.append(format.end)
        if not natural or not format.end:
            pieces.append("Final Answer:")
        return [i for piece in pieces for i in self._ids(piece)]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def gap(self, ids: Sequence[int]) -> float:
        """Difference of the logits of the two likeliest tokens after these ids."""
        highest = self.logits(ids).topk(2).values
        return float(highest[0] - highest[1])

    def all_logits(self, sequences: Sequence[Sequence[int]]) -> list[Any]:
        """Logits (T, V) of all positions of each sequence, which are padded to one batch."""
        longest = max(map(len, sequences))
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in sequences]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences]
        with self.torch.inference_mode():
            out = self.model(input_ids=self._tensor(padded), attention_mask=self._tensor(mask))
        return [row[: len(ids)] for row, ids in zip(out.logits, sequences, strict=True)]

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Any:
        return self.torch.tensor([list(row) for row in rows], device=self.model.device)


@dataclass(frozen=True)
class CompletionParts:
    """A completion in its parts."""

    prompt: list[int]
    thinking: list[int]
    closing: list[int]
    answer: list[int]

    @property
    def outputs(self) -> list[Output]:
        """Thinking and answer."""
        before_answer = [*self.prompt, *self.thinking, *self.closing]
        return [Output(self.prompt, self.thinking), Output(before_answer, self.answer)]


@dataclass(frozen=True)
class Output:
    """Ids, and those before them."""

    prompt: list[int]
    ids: list[int]


@dataclass
class Comparison:
    """Requests of one setting, compared."""

    requests: int = 0
    equal: int = 0
    near_ties: list[dict[str, Any]] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        outputs: Sequence[Output],
        expected: Sequence[Output],
        literal: LiteralLoop,
        near_tie: float,
    ) -> None:
        """Compare the outputs of one request: the first ids that differ count."""
        self.requests += 1
        pairs = zip(outputs, expected, strict=True)
        first = next(((a, b) for a, b in pairs if a.ids != b.ids), None)
        if first is None:
            self.equal += 1
            return
        prompt, ids, expected_ids = first[0].prompt, first[0].ids, first[1].ids
        steps = enumerate(zip(ids, expected_ids, strict=False))
        at = next((i for i, (a, b) in steps if a != b), min(len(ids), len(expected_ids)))
        gap = literal.gap([*prompt, *ids[:at]])
        both = [ids[at : at + 3], expected_ids[at : at + 3]]
        difference = {"at": at, "ids": both, "gap": round(gap, 6)}
        (self.near_ties if gap < near_tie else self.different).append(difference)


def compare(
    vllm: Session,
    setting: dict[str, Any],
    literal: LiteralLoop,
    *,
    num: int,
    near_tie: float,
    other: Session | None = None,
    by_loop: bool = True,
    sampling: Sampling | None = None,
) -> dict[str, Comparison]:
    """Compare vLLM with the literal loop (unless `by_loop` is False) and with the other engine, if
    one is given. A gap below `near_tie` may be decided either way."""
    requests = [
        replace(request, sampling=sampling or request.sampling)
        for request in make_requests(vllm, num, setting)
    ]
    points = setting["points"]
    jobs = [Job(request=request, points=points) for request in requests]
    results = {result.key: result for result in generate(vllm, jobs)}
    other_jobs = generate(other, jobs) if other is not None else ()
    other_results = {result.key: result for result in other_jobs}
    comparisons = {"literal": Comparison(), "transformers": Comparison()}
    for request in requests:
        result = results[request.chain_key()]
        for point in points if by_loop else ():
            outputs = completed_at(point, result, request, vllm).outputs
            expected = literal.run(request, point).outputs
            comparisons["literal"].add(outputs, expected, literal, near_tie)
        if other is not None:
            expected = outputs_of(other_results[result.key], request)
            comparisons["transformers"].add(
                outputs_of(result, request), expected, literal, near_tie
            )
    return comparisons


def outputs_of(result: JobResult, request: Request) -> list[Output]:
    """A job's thinking and its answers; those that follow equal thinking in the same order."""
    prompt, thinking = list(request.prompt_ids), list(result.chain.ids)
    outputs = [Output(prompt, thinking)]
    for answer in sorted(result.answers, key=_num_thinking_tokens):
        cut = thinking[: _num_thinking_tokens(answer)]
        outputs.append(Output([*prompt, *cut, *answer.closing], list(answer.ids)))
    return outputs


def _num_thinking_tokens(answer: Any) -> int:
    number = getattr(answer, "num_thinking_tokens", None)  # `cut` at commit c3a0f1e
    return int(answer.cut if number is None else number)


def completed_at(
    point: Point, result: JobResult, request: Request, session: Session
) -> CompletionParts:
    """The thinking and answer of a job at one of its points."""
    from slowthink.engines.session import cut_at
    from slowthink.forcing.formats import compile_format
    from slowthink.forcing.machine import make_rules

    compiled = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    cut = cut_at(result.chain, make_rules(request.budget, compiled), point)
    assert cut is not None
    natural = cut.end_reason.value == "natural"
    closing = compiled.closing_ids(cut.ids, natural=natural, cue=request.budget.final_answer_cue)
    assert closing is not None
    key = request.answer_key(cut.ids, closing)
    answer = next(answer for answer in result.answers if answer.key == key)
    return CompletionParts(list(request.prompt_ids), list(cut.ids), list(closing), list(answer.ids))


# --- the error of the logits ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LogitError:
    """How far apart two computations put the gap of the same two tokens, over all positions."""

    vllm: float
    """Largest difference of vLLM, decoding in batches, and the literal model's forward pass."""
    batch: float
    """Largest difference of that model's forward passes on one sequence and on a batch."""
    positions: int

    @property
    def near_tie(self) -> float:
        """Gap below which two engines may decide differently."""
        return NEAR_TIE_FACTOR * max(self.vllm, self.batch)


def logit_error(vllm: Session, literal: LiteralLoop, *, num: int, num_tokens: int) -> LogitError:
    """Measure the errors after the greedy ids of vLLM, unforced, for `num` prompts."""
    prompts = [list(request.prompt_ids) for request in make_requests(vllm, num, {"points": ()})]
    outputs = _greedy_with_logprobs(vllm, prompts, num_tokens)
    sequences = [[*prompt, *ids] for prompt, (ids, _) in zip(prompts, outputs, strict=True)]
    batch = literal.all_logits(sequences)
    vllm_errors, batch_errors = [0.0], [0.0]
    for prompt, sequence, (ids, logprobs), in_batch in zip(
        prompts, sequences, outputs, batch, strict=True
    ):
        (alone,) = literal.all_logits([sequence])
        for index, values in enumerate(logprobs[: len(ids)]):
            at = len(prompt) + index - 1
            (first, second), gap = _top_two(alone[at])
            if first in values and second in values:
                vllm_errors.append(abs(values[first] - values[second] - gap))
            batch_errors.append(abs(float(in_batch[at][first] - in_batch[at][second]) - gap))
    return LogitError(
        vllm=max(vllm_errors), batch=max(batch_errors), positions=len(vllm_errors) - 1
    )


def _top_two(logits_V: Any) -> tuple[tuple[int, int], float]:
    """The two likeliest ids, and the difference of their logits."""
    values, ids = logits_V.topk(2)
    return (int(ids[0]), int(ids[1])), float(values[0] - values[1])


def _greedy_with_logprobs(
    vllm: Any, prompts: Sequence[Sequence[int]], num_tokens: int
) -> list[tuple[list[int], list[dict[int, float]]]]:
    """Unforced output ids of each prompt, and the log-probabilities of the likeliest at each."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine = vllm._engine._engine  # the session returns no log-probabilities
    params = SamplingParams(
        temperature=0.0, max_tokens=num_tokens, ignore_eos=True, logprobs=5, detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    names = [f"logits-{index}" for index in range(len(prompts))]
    for name, ids in zip(names, prompts, strict=True):
        engine.add_request(name, {"prompt_token_ids": list(ids)}, params)
    finished: dict[str, Any] = {}
    while len(finished) < len(names):
        finished |= {o.request_id: o.outputs[0] for o in engine.step() if o.finished}
    return [
        (
            list(finished[name].token_ids),
            [{i: lp.logprob for i, lp in step.items()} for step in finished[name].logprobs],
        )
        for name in names
    ]


def open_vllm(model: str, path: str, *, context: int = CONTEXT) -> Session:
    """vLLM in fp32, on this path."""
    config = EngineConfig(
        kind="vllm", dtype="float32", max_context=context, vllm=VLLM_PATHS[path]
    )  # fmt: skip
    return open_session(model, config)


def open_embedded(model: str, *, context: int = CONTEXT) -> Session:
    """The transformers engine in fp32."""
    config = EngineConfig(kind="transformers", dtype="float32", max_context=context)
    return open_session(model, config)


def main() -> None:
    """Print the comparisons as JSON, one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--cap", type=int, default=96)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--vllm", choices=VLLM_PATHS, default=vllm_paths()[0],
        help="vLLM as by default, or eager and in chunks. Default on a GPU: default, else eager.",
    )  # fmt: skip
    parser.add_argument("--setting", action="append", help="Only this setting; repeatable.")
    parser.add_argument(
        "--json", action="store_true", help="The default: one line of JSON per setting."
    )
    options = parser.parse_args()
    vllm, embedded = open_vllm(options.model, options.vllm), open_embedded(options.model)
    literal = LiteralLoop(options.model, vllm.eos_ids)
    error = logit_error(vllm, literal, num=min(options.prompts, 8), num_tokens=options.cap)
    facts = {"vllm": options.vllm, "logit_error": asdict(error), "near_tie": error.near_tie}
    print(json.dumps(facts), flush=True)
    for name, setting in settings_for(options.cap).items():
        if options.setting and name not in options.setting:
            continue
        started = time.monotonic()
        comparisons = compare(
            vllm, setting, literal, num=options.prompts, other=embedded, near_tie=error.near_tie
        )
        figures = {engine: vars(comparison) for engine, comparison in comparisons.items()}
        seconds = round(time.monotonic() - started)
        row = {"setting": name, "vllm": options.vllm, **figures, "seconds": seconds}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
