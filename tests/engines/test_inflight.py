"""Forced rows of a batch against each request alone: the tensor form and the bookkeeping."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from hypothesis import assume, given, settings, strategies as st

from slowthink.engines import token_sampling
from slowthink.engines.session import Job, Point
from slowthink.engines.vllm.distributions import SamplingTensors, weights
from slowthink.engines.vllm.draws import (
    DecisionTensors,
    EditTensors,
    edit_logits,
    select_tokens,
)
from slowthink.engines.vllm.forced_row import ForcedRow, RowSettings
from slowthink.engines.vllm.request_args import ForcingArgs
from slowthink.engines.vllm.request_flow import DeclaredEnd, Flow, compile_job
from slowthink.engines.vllm.rows import Stepper
from slowthink.errors import ConfigError
from slowthink.records import (
    Budget,
    Chain,
    Event,
    EventKind,
    LoopRule,
    Request,
    Sampling,
    ThinkingFormat,
)
from tests.engines.test_token_sampling import brute
from tests.engines.toy_engine import (
    EOS,
    FINISH,
    LETTERS,
    Tokenizer,
    ToyRequest,
    compiled,
    compiler,
    generate_alone,
    logits,
    sample,
    text_of,
)

TAGS = ThinkingFormat(name="tags", start="ab", end="Eh", end_triggers=("E",))
PLAIN = ThinkingFormat(name="plain", start="", end="", cue_after_natural_end=True)
END = Event(position=1, kind=EventKind.END, drawn=(EOS,))

samplings = st.one_of(
    st.just(Sampling()),
    st.builds(
        Sampling,
        temperature=st.sampled_from([0.6, 1.0, 1.7]),
        top_p=st.sampled_from([1.0, 0.8]),
        top_k=st.sampled_from([0, 3, 50]),
        min_p=st.sampled_from([0.0, 0.1]),
    ),
)
budgets = st.builds(
    Budget,
    max_thinking_tokens=st.integers(0, 18),
    min_thinking_tokens=st.sampled_from([0, 0, 3, 7]),
    waits=st.integers(0, 3),
    wait_strings=st.sampled_from([("c",), ("cd", "gg"), (), ("Ab",)]),
    final_answer_cue=st.sampled_from(["fg", None]),
    end_rule=st.sampled_from(["drawn", "drawn", "argmax", "probability"]),
    end_probability=st.sampled_from([0.2, 0.6]),
    answer_tokens=st.integers(1, 4),
    loop=st.sampled_from([None, None, LoopRule(max_period=2, repeats=2, min_tokens=3)]),
)
all_args = st.builds(
    ForcingArgs,
    format=st.sampled_from([TAGS, TAGS, PLAIN]),
    budget=budgets,
    sampling=samplings,
    sample=st.integers(0, 2),
    forced=st.booleans(),
)
toy_requests = st.builds(
    ToyRequest,
    model=st.integers(0, 10_000),
    prompt=st.just([0, 1]),
    args=all_args,
    seed=st.integers(0, 99),
    engine_is_greedy=st.booleans(),
)


def row_of(request: ToyRequest, history=None) -> ForcedRow:
    settings = RowSettings(
        cap=request.args.budget.max_thinking_tokens,
        sampling=request.args.sampling,
        seed=request.seed,
        engine_is_greedy=request.engine_is_greedy,
    )
    args = dataclasses.replace(request.args, log=name_of(request))
    return ForcedRow(compiled(args), settings, outputs=request.outputs, history=history)


def name_of(request: ToyRequest) -> str:
    """The name under which its history is stored."""
    return str(id(request))


def expected(request: ToyRequest) -> list[int]:
    """The request's outputs less the end of the text."""
    return text_of(generate_alone(request.model, request.prompt, request.args, seed=request.seed))


def without_end(outputs: list[int]) -> list[int]:
    return outputs[:-1] if outputs[-1] in (EOS, FINISH) else outputs


class Engine:
    """A toy continuous batch: rows enter, miss a step, leave and return."""

    def __init__(
        self, requests: list[ToyRequest], seed: int, *, ids_from_device: bool = False
    ) -> None:
        self.waiting = list(requests)
        self.rows: list[tuple[ToyRequest, ForcedRow]] = []
        self.histories: dict[int, object] = {}
        self.stepper = Stepper(torch.device("cpu"), ids_from_device=ids_from_device)
        self.hidden = ids_from_device
        self.dice = random.Random(seed)

    def run(self) -> None:
        for _ in range(400):
            self._change()
            if not self.rows and not self.waiting:
                return
            self._step()
        raise AssertionError("a request did not end")

    def _change(self) -> None:
        """Some rows enter, one may be preempted, the order changes."""
        if self.waiting and (not self.rows or self.dice.random() < 0.5):
            request = self.waiting.pop()
            row = row_of(request, self.histories.get(id(request)))
            if self.hidden:
                row.outputs = list(request.outputs)
            self.histories[id(request)] = row.history
            self.rows.append((request, row))
        elif self.rows and self.dice.random() < 0.1:
            self.stepper.collect_outputs()
            self.waiting.insert(0, self.rows.pop()[0])
        if len(self.rows) > 1 and self.dice.random() < 0.25:
            self.rows.reverse()
        self.stepper.on_batch_change()

    def _step(self) -> None:
        if not self.rows:
            return
        self.stepper.collect_outputs()
        batch = torch.stack([request.next_logits() for request, _ in self.rows])
        kept = [self.dice.random() < 0.8 for _ in self.rows]
        rows = {at: row for at, (_, row) in enumerate(self.rows)}
        self.stepper.edit_logits(batch, rows, kept=kept)
        for (request, _), edited, keep in zip(self.rows, batch, kept, strict=True):
            if keep:  # else the prompt was not all prefilled, and the draw is discarded
                request.outputs.append(sample(edited, greedy=request.engine_is_greedy))
        self.rows = [(request, row) for request, row in self.rows if not request.done]


def check_against_requests_alone(requests: list[ToyRequest], seed: int) -> None:
    Engine(requests, seed).run()
    for request in requests:
        assert without_end(request.outputs) == expected(request)


@given(st.lists(toy_requests, min_size=1, max_size=4), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_a_batch_in_motion_equals_each_request_alone(requests, seed) -> None:
    check_against_requests_alone(requests, seed)


@pytest.mark.slow
@given(st.lists(toy_requests, min_size=1, max_size=6), st.integers(0, 999))
@settings(max_examples=160, deadline=None)
def test_many_batches_in_motion_equal_each_request_alone(requests, seed) -> None:
    check_against_requests_alone(requests, seed)


@given(st.lists(toy_requests, min_size=1, max_size=3), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_a_batch_whose_ids_are_read_from_the_logits_equals_each_request_alone(
    requests, seed
) -> None:
    """As under V2, where outputs are not reported to the host."""
    requests = [
        dataclasses.replace(request, engine_is_greedy=True, outputs=[]) for request in requests
    ]
    Engine(requests, seed, ids_from_device=True).run()
    for request in requests:
        assert without_end(request.outputs) == expected(request)


@given(toy_requests, st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_finished_request_gives_its_chain_and_answer(request, seed) -> None:
    """By the flow of its row, continued, and by another that replays all ids."""
    engine = Engine([request], seed)
    engine.run()
    engine.stepper.record_last_ends({name_of(request): len(request.outputs)})
    history = engine.histories[id(request)]
    replaying = Flow(compiled(request.args), cap=request.args.budget.max_thinking_tokens)
    assert history.flow.num_outputs < len(request.outputs)
    generated = generate_alone(request.model, request.prompt, request.args, seed=request.seed)
    for flow in (history.flow, replaying):
        flow.replay(request.outputs, history.ends)
        assert flow.num_unexpected(request.outputs) == 0
        assert (flow.thinking.ids, flow.thinking.events) == (generated.thinking, generated.events)
        assert flow.closing == generated.closing
        if generated.closing is not None:
            answer = flow.answering.ids, flow.answering.end_reason
            assert answer == (generated.answer, generated.end)
    assert history.flow.num_forced == replaying.num_forced
    assert history.flow.num_sampled == replaying.num_sampled


def test_ends_that_were_declared_at_removed_outputs_are_forgotten() -> None:
    """As vLLM removes outputs whose keys and values could not be loaded; then others follow."""
    budget = Budget(max_thinking_tokens=9, min_thinking_tokens=9)  # each end is refused
    args = ForcingArgs(format=TAGS, budget=budget, sampling=Sampling())
    request = ToyRequest(0, [0, 1], args, 0)
    row, trigger = row_of(request), LETTERS.index("E")
    for token in (1, 2, 3):
        request.outputs.append(token)
        row.history.ends[token - 1] = DeclaredEnd(trigger)
    row.replay_outputs()
    del request.outputs[1:]
    assert row.next_instruction()
    request.outputs += [4, 5, 6]
    row.declare_end(1, trigger, 0.0, -1)
    assert row.next_instruction()
    assert list(row.history.ends) == [0, 1]
    assert row.flow.num_sampled == 4 + 2  # and the two refused


def test_ids_that_were_not_forced_are_counted() -> None:
    budget = Budget(
        max_thinking_tokens=6, waits=1, wait_strings=("cd",), final_answer_cue="fg",
        answer_tokens=1, end_rule="probability", end_probability=0.0,
    )  # fmt: skip
    args = ForcingArgs(format=TAGS, budget=budget, sampling=Sampling())
    request = ToyRequest(1, [0, 1], args, 0)
    engine = Engine([request], 0)
    engine.run()
    ends, outputs = engine.histories[id(request)].ends, request.outputs
    assert Tokenizer().decode(outputs) == "cdEhg$"  # wait, closing, one token of the answer, end
    counts = []
    for changed in range(len(outputs)):
        flow = Flow(compiled(request.args), cap=6)
        ids = [*outputs[:changed], LETTERS.index("b"), *outputs[changed + 1 :]]
        flow.replay(ids, ends)
        counts.append(flow.num_unexpected(ids))
    assert counts == [1, 1, 1, 1, 0, 1]


@given(toy_requests)
@settings(max_examples=40, deadline=None)
def test_forced_strings_are_inferred_from_the_ids(request) -> None:
    """Without declared ends: the same ids, waits and closing; the triggers are unknown."""
    budget = dataclasses.replace(
        request.args.budget, min_thinking_tokens=0, wait_strings=("cd", "gg"), end_rule="drawn"
    )
    args = dataclasses.replace(request.args, format=TAGS, budget=budget, forced=True)
    generated = generate_alone(request.model, request.prompt, args, seed=request.seed)
    text = Tokenizer().decode(generated.thinking)
    num_waits = sum(event.kind is EventKind.WAIT for event in generated.events)
    places = [at for at in range(len(text)) if text.startswith(("cd", "gg"), at)]
    assume(len(places) == num_waits)  # the model drew no wait string itself
    flow = Flow(compiled(args), cap=budget.max_thinking_tokens)
    flow.replay([*text_of(generated), EOS], {}, infer=True)
    assert flow.num_unexpected([*text_of(generated), EOS]) == 0
    whole = [*flow.thinking.ids, *(flow.closing or ()), *flow.answering.ids]
    assert whole == text_of(generated)


@pytest.mark.parametrize("size", [1, 300])
def test_a_row_that_only_watches_touches_few_columns(size) -> None:
    """All other logits are unchanged."""
    args = ForcingArgs(
        format=TAGS, budget=Budget(max_thinking_tokens=9, waits=1, wait_strings=("c",))
    )
    requests = [
        ToyRequest(i, [0], dataclasses.replace(args, sampling=Sampling()), 0) for i in range(size)
    ]
    before = torch.stack([request.next_logits() for request in requests])
    after = before.clone()
    stepper = Stepper(torch.device("cpu"))
    stepper.edit_logits(after, dict(enumerate(row_of(request) for request in requests)))
    changed = {int(i) for i in (before != after).nonzero()[:, 1].tolist()}
    assert changed <= {2, 9, 10, 11}  # c in the place of the triggers


def test_slots_of_requests_without_a_budget_may_lie_beyond_the_forced_rows() -> None:
    """They left before the first forced row came, so that no step has looked at them."""
    args = ForcingArgs(format=TAGS, budget=Budget(max_thinking_tokens=0))
    stepper = Stepper(torch.device("cpu"))
    stepper.on_batch_change([])
    stepper.edit_logits(torch.zeros(1, 30), {})
    stepper.on_batch_change([0, 5])
    edited = logits(0, [0])[None].clone()
    stepper.edit_logits(edited, {0: row_of(ToyRequest(0, [0], args, 0))})
    assert not torch.equal(edited, logits(0, [0])[None])


# --- sampling: the distribution of s1's loop --------------------------------------------------------


def literal_distribution(
    model: int, prompt: list[int], args: ForcingArgs
) -> dict[tuple[int, ...], float]:
    """The probability of every thinking that s1's loop can generate, by enumeration in plain Python.

    Sample from P; an end drawn below the minimum, or while waits remain, is discarded: the wait
    string is appended, or another token is drawn from the remaining P.
    """
    budget, triggers = args.budget, {9, EOS, FINISH}
    chances: dict[tuple[int, ...], float] = {}

    def p_of(ids: list[int]) -> list[float]:
        return brute(logits(model, [*prompt, *ids]).tolist(), args.sampling)

    def go(ids: list[int], used: int, chance: float) -> None:
        if len(ids) >= budget.max_thinking_tokens:
            chances[tuple(ids)] = chances.get(tuple(ids), 0.0) + chance
            return
        p = p_of(ids)
        end = sum(p[i] for i in triggers)
        for token, share in enumerate(p):
            if share and token not in triggers:
                go([*ids, token], used, chance * share)
        if not end:
            return
        string = Tokenizer().encode(budget.wait_strings[0]) if budget.wait_strings else []
        if len(ids) < budget.min_thinking_tokens:
            redraw(ids, used, chance * end, p)
        elif used < budget.waits and len(ids) + len(string) + 1 <= budget.max_thinking_tokens:
            if string:
                go([*ids, *string], used + 1, chance * end)
            else:
                redraw(ids, used + 1, chance * end, p)
        else:
            key = (*ids, -1)
            chances[key] = chances.get(key, 0.0) + chance * end

    def redraw(ids: list[int], used: int, chance: float, p: list[float]) -> None:
        rest = {i: share for i, share in enumerate(p) if share and i not in triggers}
        for token, share in rest.items():
            go([*ids, token], used, chance * share / sum(rest.values()))

    go([], 0, 1.0)
    return chances


@pytest.mark.parametrize(
    "budget",
    [
        Budget(max_thinking_tokens=4, waits=1, wait_strings=("c",)),
        Budget(max_thinking_tokens=4, waits=2, wait_strings=()),
        Budget(max_thinking_tokens=4, min_thinking_tokens=2, waits=1, wait_strings=("cd",)),
    ],
    ids=["wait", "no string", "minimum"],
)
def test_sampled_thinking_has_the_distribution_of_the_literal_loop(budget) -> None:
    """Chi-square over all outcomes, 2,000 samples with temperature and top-p; p = 0.001."""
    sampling = Sampling(temperature=1.3, top_p=0.9)
    args = ForcingArgs(
        format=TAGS, sampling=sampling, budget=dataclasses.replace(budget, answer_tokens=1)
    )
    assert 0.1 < sum(brute(logits(96, [0]).tolist(), sampling)[i] for i in (9, EOS, FINISH)) < 0.5
    expected = literal_distribution(96, [0], args)
    number = 2000
    requests = [
        ToyRequest(96, [0], dataclasses.replace(args, sample=index), seed=5)
        for index in range(number)
    ]
    counts = Counter(thinking_of(request) for request in run_together(requests))
    assert sum(expected.values()) == pytest.approx(1.0)
    assert set(counts) <= set(expected)
    often = {key: number * p for key, p in expected.items() if number * p >= 5}
    rare = number - sum(often.values())
    square = sum((counts[key] - e) ** 2 / e for key, e in often.items())
    seldom = sum(n for key, n in counts.items() if key not in often)
    square += (seldom - rare) ** 2 / rare if rare >= 5 else 0.0
    freedom = len(often) - (rare < 5)
    assert len(often) > 10
    limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert square < limit  # Wilson and Hilferty's 99.9th percentile


def run_together(requests: list[ToyRequest]) -> list[ToyRequest]:
    """Run all in one batch to their ends."""
    rows = [(request, row_of(request)) for request in requests]
    stepper = Stepper(torch.device("cpu"))
    while rows:
        stepper.collect_outputs()
        batch = torch.stack([request.next_logits() for request, _ in rows])
        stepper.on_batch_change()
        stepper.edit_logits(batch, {at: row for at, (_, row) in enumerate(rows)})
        for (request, _), edited in zip(rows, batch, strict=True):
            request.outputs.append(int(edited.argmax()))
        rows = [(request, row) for request, row in rows if not request.done]
    return requests


def thinking_of(request: ToyRequest) -> tuple[int, ...]:
    """The thinking; followed by -1 where it ended by itself."""
    cap, ids = request.args.budget.max_thinking_tokens, request.outputs
    end = next(at for at in range(len(ids)) if ids[at] == 9 or at == cap)
    natural = end < cap
    return (*ids[:end], -1) if natural else tuple(ids[:cap])


# --- what the host and the device do --------------------------------------------------------------


def test_the_tensor_form_never_syncs_with_the_device() -> None:
    """On torch's `meta` device, which has shapes but no values, reading a value is an error: so on a
    GPU nothing syncs."""
    meta = torch.device("meta")
    batch = torch.empty(3, 2000, device=meta)
    whole = torch.zeros(3, dtype=torch.long, device=meta)
    real = whole.double()
    triggers = torch.zeros(3, 2, dtype=torch.long, device=meta)
    sampling = SamplingTensors(
        temperature_R=real, top_p_R=real, top_k_R=whole, min_p_R=real, max_top_k=5, has_top_p=True,
        has_min_p=True,
    )  # fmt: skip
    for row_sampling in (None, sampling):
        draws = DecisionTensors(
            rows_R=whole, on_end_R=whole, banned_R=whole.bool(), triggers_RT=triggers,
            distinct_RT=triggers.bool(), rule_R=whole, end_probability_R=real, sampling=row_sampling,
            needs_probability=True,
        )  # fmt: skip
        uniforms = torch.empty(3, 2, dtype=torch.float64, device=meta)
        assert select_tokens(batch, draws, uniforms).shape == (3, 4)
    edits = EditTensors(triggers, torch.empty(3, 1, device=meta))
    assert edit_logits(batch, edits).shape == (3, 2)


@pytest.mark.parametrize("vocabulary", [50, 3000])
def test_batched_distributions_equal_those_of_one_row(vocabulary) -> None:
    """Rows of different settings in one call."""
    torch.manual_seed(0)
    batch = torch.randn(6, vocabulary) * torch.tensor([0.01, 0.1, 1, 2, 4, 8])[:, None]
    samplings = [
        Sampling(temperature=1.0, top_p=0.99),
        Sampling(temperature=0.7, top_p=0.5),
        Sampling(temperature=1.3, top_k=7),
        Sampling(temperature=1.0, min_p=0.05, top_p=0.9),
        Sampling(temperature=1.0),
        Sampling(temperature=0.9, top_k=5000, top_p=0.3),
    ]

    def column(name: str, dtype=torch.float64) -> torch.Tensor:
        return torch.tensor([getattr(sampling, name) for sampling in samplings], dtype=dtype)

    batched = weights(
        batch,
        SamplingTensors(
            temperature_R=column("temperature"), top_p_R=column("top_p"),
            top_k_R=column("top_k", torch.long), min_p_R=column("min_p"), max_top_k=5000,
            has_top_p=True, has_min_p=True,
        ),
    )  # fmt: skip
    batched /= batched.sum(-1, keepdim=True)
    for row, sampling, p in zip(batch, samplings, batched, strict=True):
        alone_p = token_sampling.distribution(row, sampling)
        assert torch.equal(p > 0, alone_p > 0)
        assert torch.allclose(p, alone_p, rtol=0, atol=1e-15)


@pytest.mark.parametrize("engine_is_greedy", [True, False])
def test_a_row_whose_outputs_the_engine_discards_begins_again(engine_is_greedy: bool) -> None:
    """vLLM deletes outputs in place when keys and values could not be loaded."""
    budget = Budget(max_thinking_tokens=6, answer_tokens=2)
    args = ForcingArgs(format=TAGS, budget=budget, sampling=Sampling(), sample=0, forced=True)
    request = ToyRequest(
        model=3, prompt=[0, 1], args=args, seed=0, engine_is_greedy=engine_is_greedy
    )
    row, stepper = row_of(request), Stepper(torch.device("cpu"))
    for step in range(40):
        if step == 2:
            request.outputs.clear()
        stepper.collect_outputs()
        batch = request.next_logits()[None]
        stepper.on_batch_change()
        stepper.edit_logits(batch, {0: row})
        request.outputs.append(sample(batch[0], greedy=engine_is_greedy))
        if request.done:
            break
    assert request.done and without_end(request.outputs) == expected(request)


# --- the arguments of a request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_changes", "chain", "message"),
    [
        ({"seed": 2**64}, None, "slowthink_seed: 18446744073709551616; expected a number less"),
        ({"sample": -1}, None, "slowthink_sample: -1; expected a number greater"),
        ({}, Chain(key="", ids=(1,), events=(END, END)), "an end only as the last"),
    ],
)
def test_what_only_one_request_has_is_checked_where_it_is_made(
    request_changes, chain, message
) -> None:
    request = Request(
        model="m", numerics="n", prompt_ids=(0, 1), format=TAGS, sampling=Sampling(),
        budget=Budget(), seed=0,
    )  # fmt: skip
    job = Job(
        request=dataclasses.replace(request, **request_changes), points=(Point(4),), chain=chain
    )
    with pytest.raises(ConfigError, match=message):
        compile_job(job, compiler(), stop_id=EOS)
