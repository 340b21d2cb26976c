"""vLLM against the transformers engine and a literal loop: same ids, or a near tie, each shown.

    python -m benchmarks.conformance --prompts 50 --cap 96 --model runs/quickstart/train/model

fp32, greedy, one request at a time for the literal loop. A near tie is a step at which the literal
loop's two likeliest tokens are less than 1e-3 apart in logits.
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

NEAR = 1e-3


def settings_of(cap: int) -> dict[str, dict[str, Any]]:
    """Settings by name: the points of a chain, and what differs from the default budget."""
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


def requests_of(session: Session, number: int, setting: dict[str, Any]) -> list[Request]:
    """One request a problem of the sandbox."""
    source = SandboxSource(num_problems=number, num_heldout=0)
    named = dict(setting)
    named.pop("points")
    format = named.pop("format", "s1")
    chat = ChatConfig(format=format, system_prompt="")
    return [
        Request(
            model="conformance",
            numerics="fp32",
            prompt_ids=prompt_ids(session.tokenizer, problem, chat),
            format=FORMATS[format],
            sampling=Sampling(),
            budget=Budget(answer_tokens=6, **named),
            seed=0,
        )
        for problem in list(sandbox_problems(source, seed=0))[:number]
    ]


class Literal:
    """s1's loop, token by token, as the paper tells it; nothing of the engines in it."""

    def __init__(self, name: str, eos_ids: frozenset[int]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = resolve_model(name)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.eos = eos_ids
        self._fed: list[int] = []
        self._cache: Any = None

    def logits(self, ids: Sequence[int]) -> Any:
        """Logits after these ids; what was fed before is not fed again."""
        from transformers import DynamicCache

        same = 0
        while same < min(len(ids) - 1, len(self._fed)) and ids[same] == self._fed[same]:
            same += 1
        if self._cache is None or same == 0:
            self._cache, same = DynamicCache(), 0
        else:
            self._cache.crop(same)
        with self.torch.inference_mode():
            out = self.model(
                input_ids=self.torch.tensor([list(ids[same:])]), past_key_values=self._cache,
                position_ids=self.torch.arange(same, len(ids))[None], use_cache=True,
            )  # fmt: skip
        self._fed = list(ids)
        return out.logits[0, -1].clone()

    def run(self, request: Request, point: Point) -> Sides:
        """Thinking, and the answer after it."""
        prompt = list(request.prompt_ids)
        thinking, natural = self._think(request, point)
        closing = self._closing(request, thinking, natural)
        start = [*prompt, *thinking, *closing]
        answer: list[int] = []
        while len(answer) < request.budget.answer_tokens:
            token = int(self.logits([*start, *answer]).argmax())
            if token in self.eos:
                break
            answer.append(token)
        return Sides(prompt, thinking, closing, answer)

    def _think(self, request: Request, point: Point) -> tuple[list[int], bool]:
        budget = request.budget
        triggers = {self._ids(text)[0] for text in request.format.end_triggers} | self.eos
        ids: list[int] = []
        used = 0
        while len(ids) < point.cap:
            row = self.logits([*request.prompt_ids, *ids])
            token = int(row.argmax())
            if self._ends(row, token, triggers, budget):
                strings = budget.wait_strings
                wait = self._ids(strings[used % len(strings)]) if strings else []
                early = len(ids) < budget.min_thinking_tokens
                if not early and (used >= point.waits or len(ids) + len(wait) + 1 > point.cap):
                    return ids, True
                used += not early
                if wait and not early:
                    ids += wait
                    continue
                row[list(triggers)] = -float("inf")
                token = int(row.argmax())
            ids.append(token)
        return ids, False

    def _ends(self, row: Any, token: int, triggers: set[int], budget: Budget) -> bool:
        likely = float(self.torch.softmax(row.double(), -1)[list(triggers)].sum())
        by_chance = budget.end_rule == "probability" and likely >= budget.end_probability
        return token in triggers or by_chance

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
        """How far the two likeliest tokens after these ids are apart, in logits."""
        top = self.logits(ids).topk(2).values
        return float(top[0] - top[1])


@dataclass
class Findings:
    """Requests compared under one setting."""

    requests: int = 0
    equal: int = 0
    near_ties: list[dict[str, Any]] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)

    def note(self, one: Sides, two: Sides, literal: Literal) -> None:
        """Compare what two ways came to."""
        self.requests += 1
        if (one.thinking, one.answer) == (two.thinking, two.answer):
            self.equal += 1
            return
        start, ours, theirs = one.prompt, one.thinking, two.thinking
        if ours == theirs:
            start, ours, theirs = [*start, *ours, *one.closing], one.answer, two.answer
        pairs = enumerate(zip(ours, theirs, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
        gap = literal.gap([*start, *ours[:at]])
        found = {"at": at, "ids": [ours[at : at + 3], theirs[at : at + 3]], "gap": round(gap, 6)}
        (self.near_ties if gap < NEAR else self.different).append(found)


@dataclass(frozen=True)
class Sides:
    """A completion in its parts."""

    prompt: list[int]
    thinking: list[int]
    closing: list[int]
    answer: list[int]


def compare(
    vllm: Session,
    setting: dict[str, Any],
    literal: Literal,
    *,
    number: int,
    other: Session | None = None,
    by_loop: bool = True,
) -> dict[str, Findings]:
    """vLLM against the literal loop (unless `by_loop` is off), and against the other engine where
    one is given."""
    requests = requests_of(vllm, number, setting)
    points = setting["points"]
    jobs = [Job(request=request, points=points) for request in requests]
    ours = {one.key: one for one in generate(vllm, jobs)}
    theirs = {one.key: one for one in generate(other, jobs)} if other is not None else {}
    found = {"literal": Findings(), "transformers": Findings()}
    for request in requests:
        key = request.chain_key()
        for point in points:
            one = whole(ours[key], request, point, vllm)
            if by_loop:
                found["literal"].note(one, literal.run(request, point), literal)
            if other is not None:
                two = whole(theirs[key], request, point, other)
                found["transformers"].note(one, two, literal)
                if one == two:
                    assert ours[key].chain == theirs[key].chain
    return found


def whole(outcome: JobResult, request: Request, point: Point, session: Session) -> Sides:
    """An outcome at a point."""
    compiled = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    rules = make_rules(request.budget, compiled)
    cut = cut_chain(outcome.chain, rules, cap=point.cap, waits=point.waits)
    assert cut is not None
    natural = cut.end_reason.value == "natural"
    closing = compiled.closing_ids(cut.ids, natural=natural, cue=request.budget.final_answer_cue)
    assert closing is not None
    key = request.answer_key(cut.ids, closing)
    answer = next(one for one in outcome.answers if one.key == key)
    return Sides(list(request.prompt_ids), list(cut.ids), list(closing), list(answer.ids))


def open_engines(model: str, context: int = 1024) -> tuple[Session, Session]:
    """vLLM and the transformers engine, both in fp32."""
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=16, max_num_batched_tokens=64)
    config = EngineConfig(kind="vllm", dtype="float32", max_context=context, vllm=vllm)
    embedded = EngineConfig(dtype="float32", max_context=context)
    return open_session(model, config), open_session(model, embedded)


def main() -> None:
    """Print figures by setting as JSON, one line each as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--cap", type=int, default=96)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--setting", action="append", help="Only these.")
    parser.add_argument("--json", action="store_true", help="A line of JSON a setting: always so.")
    given = parser.parse_args()
    vllm, embedded = open_engines(given.model)
    literal = Literal(given.model, vllm.eos_ids)
    for name, setting in settings_of(given.cap).items():
        if given.setting and name not in given.setting:
            continue
        started = time.monotonic()
        found = compare(vllm, setting, literal, number=given.prompts, other=embedded)
        row = {who: vars(one) for who, one in found.items()}
        seconds = round(time.monotonic() - started)
        print(json.dumps({"setting": name, **row, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
