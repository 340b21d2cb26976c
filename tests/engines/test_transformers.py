"""The embedded engine on the real model, against a slow literal loop. fp32, greedy: same ids."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")

from slowthink.engines.session import Job, Point, generate
from slowthink.engines.transformers.session import TransformersSession
from slowthink.errors import ConfigError
from slowthink.forcing.cuts import cut_chain
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EngineConfig
from slowthink.records import AnswerEnd, Budget, Request, Sampling, ThinkingEnd

QUESTIONS = [f"What is {a} + {b}?" for a, b in ((3, 9), (14, 5), (6, 18), (7, 21))]
POINTS = (Point(0), Point(6), Point(16), Point(24, 1), Point(24, 2))


@pytest.fixture(scope="module")
def session(smollm):
    with TransformersSession(smollm, EngineConfig(dtype="float32", batch_size=3)) as session:
        session.checkpoint_seconds = float("inf")
        yield session


def make_request(
    session, question, make_problem, *, format="s1", sampling=None, **budget
) -> Request:
    prompt = prompt_ids(session.tokenizer, make_problem(question), ChatConfig(format=format))
    return Request(
        model=session.fingerprint,
        numerics=session.numerics,
        prompt_ids=prompt,
        format=FORMATS[format],
        sampling=sampling or Sampling(),
        budget=Budget(answer_tokens=6, **budget),
        seed=1,
    )


class Literal:
    """s1's loop with whole forward passes and no cache: slow, and written from the description."""

    known: ClassVar[dict[tuple[int, ...], torch.Tensor]] = {}
    """Logits by ids: caps, waits and budgets share beginnings."""

    def __init__(self, session, request) -> None:
        self.model, self.tokenizer = session._decoder.model, session.tokenizer
        self.request, self.eos = request, session.eos_ids
        self.encode = compile_format(request.format, self.tokenizer).encode

    def logits(self, ids: list[int]) -> list[float]:
        if (key := tuple(ids)) not in self.known:
            mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False
                )
            self.known[key] = out.logits[0, -1].clone()
        return self.known[key].clone()

    def think(self, cap: int, waits: int) -> tuple[list[int], str]:
        budget, prompt = self.request.budget, list(self.request.prompt_ids)
        triggers = {self.encode(t)[0] for t in self.request.format.end_triggers} | self.eos
        ids: list[int] = []
        used = 0
        while len(ids) < cap:
            logits = self.logits(prompt + ids)
            token = int(logits.argmax())
            if token in triggers:
                strings = budget.wait_strings
                wait = list(self.encode(strings[used % len(strings)])) if strings else []
                refused = len(ids) < budget.min_thinking_tokens
                if not refused and (used >= waits or len(ids) + len(wait) + 1 > cap):
                    return ids, "natural"
                used += not refused
                if wait and not refused:
                    ids += wait
                    continue
                logits[list(triggers)] = -float("inf")
                token = int(logits.argmax())
            ids.append(token)
        return ids, "cap"

    def answer(self, thinking: list[int], end: str) -> list[int]:
        format, text = self.request.format, self.tokenizer.decode(thinking)
        closing = ""
        if end == "cap" and thinking and not text.endswith("\n"):
            closing += "\n"
        closing += format.end + ("Final Answer:" if end == "cap" else "")
        start = [*self.request.prompt_ids, *thinking]
        for piece in (
            "\n" if closing[0] == "\n" else "",
            format.end,
            "Final Answer:" if end == "cap" else "",
        ):
            start += self.encode(piece)
        ids: list[int] = []
        while len(ids) < self.request.budget.answer_tokens:
            token = int(self.logits(start + ids).argmax())
            if token in self.eos:
                break
            ids.append(token)
        return ids


@pytest.mark.parametrize(
    "budget",
    [{}, {"wait_strings": ("Hmm", " But wait,")}, {"wait_strings": ()}, {"min_thinking_tokens": 4}],
    ids=["plain waits", "rotation", "no string", "minimum"],
)
def test_a_sweep_equals_separate_literal_runs(session, make_problem, budget) -> None:
    points = [p for p in POINTS if p.cap >= budget.get("min_thinking_tokens", 0)]
    requests = [make_request(session, q, make_problem, **budget) for q in QUESTIONS]
    jobs = [Job(request=request, points=tuple(points)) for request in requests]
    results = {result.key: result for result in generate(session, jobs)}
    for request in requests[:2]:
        result, literal = results[request.chain_key()], Literal(session, request)
        answers = {answer.key: answer for answer in result.answers}
        rules = make_rules(request.budget, compile_format(request.format, session.tokenizer))
        for point in points:
            ids, end = literal.think(point.cap, point.waits)
            cut = cut_chain(result.chain, rules, cap=point.cap, waits=point.waits)
            assert (list(cut.ids), cut.end_reason.value) == (ids, end), (request.prompt_ids, point)
            same_cut = [list(a.ids) for a in answers.values() if a.num_thinking_tokens == len(ids)]
            assert list(literal.answer(ids, end)) in same_cut


def test_batches_do_not_change_the_ids(session, make_problem) -> None:
    """Alone, in a batch, and resumed from a stored chain: the same."""
    requests = [make_request(session, q, make_problem) for q in QUESTIONS]
    together = {
        o.key: o for o in generate(session, [Job(request=r, points=POINTS) for r in requests])
    }
    request = requests[1]
    alone = next(generate(session, [Job(request=request, points=POINTS)]))
    first = next(generate(session, [Job(request=request, points=POINTS[:2])]))
    resumed = next(generate(session, [Job(request=request, points=POINTS, chain=first.chain)]))
    assert together[request.chain_key()].chain == alone.chain == resumed.chain
    assert sorted(a.ids for a in resumed.answers) == sorted(a.ids for a in alone.answers)


def test_no_thinking_token_is_made_or_prefilled_twice(session, make_problem) -> None:
    request = make_request(session, QUESTIONS[0], make_problem, format="plain")
    result = next(generate(session, [Job(request=request, points=POINTS)]))
    cost, ends = result.cost, sum(a.end_reason is AnswerEnd.STOP for a in result.answers)
    answered = sum(len(a.ids) for a in result.answers) + ends
    forced = sum(e.forced for e in result.chain.events)
    drawn = len(result.chain.ids) - forced + len(result.chain.events)
    assert cost.prefilled == len(request.prompt_ids)
    assert cost.re_prefilled == 0
    assert cost.decoded == drawn + answered
    assert cost.forced == forced + sum(len(a.closing) for a in result.answers)


def test_samples_of_one_prompt_share_its_prefill_and_differ(session, make_problem) -> None:
    from dataclasses import replace

    request = make_request(
        session, QUESTIONS[0], make_problem, format="plain", sampling=Sampling(temperature=1.0)
    )
    jobs = [Job(request=replace(request, sample=i), points=(Point(12),)) for i in range(3)]
    before = session.cost.prefilled
    first = {o.key: o.chain.ids for o in generate(session, jobs)}
    assert session.cost.prefilled - before == len(request.prompt_ids)
    assert len(set(first.values())) == 3
    again = {o.key: o.chain.ids for o in generate(session, jobs[:1])}
    assert again[jobs[0].key] == first[jobs[0].key]


def test_a_delimiter_of_several_tokens_is_rolled_back(session, make_problem) -> None:
    """`</think>` is three ordinary tokens here; a model that draws them ends its thinking."""
    from slowthink.engines.transformers.decoding import DecodingRow
    from slowthink.forcing.machine import ForcingMachine

    request = make_request(session, QUESTIONS[0], make_problem, format="think-tags")
    token_format = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    rules = make_rules(request.budget, token_format)

    class Prompted(ForcingMachine):
        """Draws "ok</think>" first, whatever the logits."""

        script = list(token_format.encode("ok</think>"))

        def observe(self, token, **more):
            return super().observe(self.script.pop(0) if self.script else token, **more)

    decoder = session._decoder
    machine = Prompted(rules, cap=20, waits=1)
    row = DecodingRow(
        prefix=request.prompt_ids, machine=machine, sampling=Sampling(), uniform=lambda _: 0.0,
        max_tokens=len(request.prompt_ids) + 20,
    )  # fmt: skip
    with torch.inference_mode():
        list(decoder.decode([row]))
    text = session.tokenizer.decode(machine.ids)
    assert text.startswith("okWait")
    assert "</think>" not in text
    # after the roll-back the logits are those of the kept tokens alone
    literal = Literal(session, request)
    after = [*request.prompt_ids, *token_format.encode("ok"), *token_format.encode("Wait")]
    assert machine.ids[len(token_format.encode("ok")) + 1] == int(literal.logits(after).argmax())


def test_a_cap_above_the_context_is_refused(session, make_problem) -> None:
    with pytest.raises(ConfigError, match="the model's context is 8192"):
        session.submit(Job(request=make_request(session, "q", make_problem), points=(Point(9000),)))


def test_a_chain_cut_by_the_cap_ends_with_cap(session, make_problem) -> None:
    request = make_request(session, QUESTIONS[0], make_problem, format="plain")
    result = next(generate(session, [Job(request=request, points=(Point(3),))]))
    rules = make_rules(request.budget, compile_format(request.format, session.tokenizer))
    assert cut_chain(result.chain, rules, cap=3, waits=0).end_reason is ThinkingEnd.CAP


def test_an_unknown_model_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"no config\.json|download from the Hub failed"):
        TransformersSession("./no-such-model", EngineConfig())
    with pytest.raises(ConfigError, match="download from the Hub failed"):
        TransformersSession("nobody/no-such-model", EngineConfig())


def test_a_damaged_embedded_file_is_reported(tmp_path) -> None:
    from slowthink.engines import models
    from slowthink.errors import EngineError

    damaged = tmp_path / "x.gguf"
    damaged.write_bytes(b"GGUF but not really")
    with pytest.raises(EngineError, match="force-reinstall"):
        models._check_sha256(damaged)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_packed_weights_give_the_same_logits(smollm, dtype) -> None:
    """The same bits in bfloat16; in float32, oneDNN sums in another order than torch's product."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from slowthink.engines.models import resolve_model
    from slowthink.engines.transformers.packed_linear import PackedLinear, can_pack, pack

    folder = resolve_model(smollm)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    if not can_pack(model):
        pytest.skip(f"no {dtype} on this processor")
    # A text: on random ids the model multiplies any rounding by a hundred.
    ids = AutoTokenizer.from_pretrained(folder)(Path(__file__).read_text("utf-8"))["input_ids"]
    batches = [torch.tensor(ids[: rows * 7]).reshape(rows, 7) for rows in (1, 5, 40)]
    with torch.inference_mode():
        before = [model(ids).logits for ids in batches]
        pack(model)
        assert sum(isinstance(module, PackedLinear) for module in model.modules()) == 211
        for ids, logits in zip(batches, before, strict=True):
            tolerance = 0 if dtype == "bfloat16" else 5e-4
            torch.testing.assert_close(model(ids).logits, logits, rtol=0, atol=tolerance)
