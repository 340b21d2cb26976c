"""Checks that vLLM, the transformers engine and a literal loop generate the same ids.

    python -m benchmarks.conformance --prompts 50 --cap 96 --model runs/quickstart/train/model

fp32, greedy, one request at a time for the literal loop. Ids may differ at a near tie: a step at
which the literal loop's two likeliest tokens are less than 1e-3 apart in logits. All are listed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines import open_session
from slowthink.engines.models import resolve_model
from slowthink.engines.session import Job, JobResult, Point, Session, generate
from slowthink.forcing.cuts import cut_chain
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EngineConfig, SandboxSource, VllmConfig
from slowthink.records import Budget, Request, Sampling
from slowthink.stages.pool.sandbox import sandbox_problems

NEAR_TIE = 1e-3


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
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
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
                input_ids=self.torch.tensor([list(ids[num_same:])]), past_key_values=self._cache,
                position_ids=self.torch.arange(num_same, len(ids))[None], use_cache=True,
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


@dataclass
class Comparison:
    """Requests of one setting, compared."""

    requests: int = 0
    equal: int = 0
    near_ties: list[dict[str, Any]] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, completed: CompletionParts, expected: CompletionParts, literal: LiteralLoop
    ) -> None:
        """Compare two completions of one request."""
        self.requests += 1
        if (completed.thinking, completed.answer) == (expected.thinking, expected.answer):
            self.equal += 1
            return
        prompt, ids, expected_ids = completed.prompt, completed.thinking, expected.thinking
        if ids == expected_ids:
            prompt = [*prompt, *ids, *completed.closing]
            ids, expected_ids = completed.answer, expected.answer
        pairs = enumerate(zip(ids, expected_ids, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(expected_ids)))
        gap = literal.gap([*prompt, *ids[:at]])
        both = [ids[at : at + 3], expected_ids[at : at + 3]]
        difference = {"at": at, "ids": both, "gap": round(gap, 6)}
        (self.near_ties if gap < NEAR_TIE else self.different).append(difference)


@dataclass(frozen=True)
class CompletionParts:
    """A completion in its parts."""

    prompt: list[int]
    thinking: list[int]
    closing: list[int]
    answer: list[int]


def compare(
    vllm: Session,
    setting: dict[str, Any],
    literal: LiteralLoop,
    *,
    num: int,
    other: Session | None = None,
    by_loop: bool = True,
) -> dict[str, Comparison]:
    """Compare vLLM with the literal loop (unless `by_loop` is False) and with the other engine, if
    one is given."""
    requests = make_requests(vllm, num, setting)
    points = setting["points"]
    jobs = [Job(request=request, points=points) for request in requests]
    results = {result.key: result for result in generate(vllm, jobs)}
    other_jobs = generate(other, jobs) if other is not None else ()
    other_results = {result.key: result for result in other_jobs}
    comparisons = {"literal": Comparison(), "transformers": Comparison()}
    for request in requests:
        key = request.chain_key()
        for point in points:
            completed = completed_at(point, results[key], request, vllm)
            if by_loop:
                comparisons["literal"].add(completed, literal.run(request, point), literal)
            if other is not None:
                expected = completed_at(point, other_results[key], request, other)
                comparisons["transformers"].add(completed, expected, literal)
                if completed == expected:
                    assert results[key].chain == other_results[key].chain
    return comparisons


def completed_at(
    point: Point, result: JobResult, request: Request, session: Session
) -> CompletionParts:
    """The thinking and answer of a job at one of its points."""
    compiled = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    rules = make_rules(request.budget, compiled)
    cut = cut_chain(result.chain, rules, cap=point.cap, waits=point.waits)
    assert cut is not None
    natural = cut.end_reason.value == "natural"
    closing = compiled.closing_ids(cut.ids, natural=natural, cue=request.budget.final_answer_cue)
    assert closing is not None
    key = request.answer_key(cut.ids, closing)
    answer = next(answer for answer in result.answers if answer.key == key)
    return CompletionParts(list(request.prompt_ids), list(cut.ids), list(closing), list(answer.ids))


def open_engines(model: str, context: int = 1024) -> tuple[Session, Session]:
    """vLLM and the transformers engine, both in fp32."""
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=16, max_num_batched_tokens=64)
    config = EngineConfig(kind="vllm", dtype="float32", max_context=context, vllm=vllm)
    embedded = EngineConfig(dtype="float32", max_context=context)
    return open_session(model, config), open_session(model, embedded)


def main() -> None:
    """Print the comparisons as JSON, one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--cap", type=int, default=96)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--setting", action="append", help="Only this setting; repeatable.")
    parser.add_argument(
        "--json", action="store_true", help="The default: one line of JSON per setting."
    )
    options = parser.parse_args()
    vllm, embedded = open_engines(options.model)
    literal = LiteralLoop(options.model, vllm.eos_ids)
    for name, setting in settings_for(options.cap).items():
        if options.setting and name not in options.setting:
            continue
        started = time.monotonic()
        comparisons = compare(vllm, setting, literal, num=options.prompts, other=embedded)
        figures = {engine: vars(comparison) for engine, comparison in comparisons.items()}
        seconds = round(time.monotonic() - started)
        print(json.dumps({"setting": name, **figures, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
