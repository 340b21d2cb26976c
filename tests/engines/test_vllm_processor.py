"""The logits processor in toy vLLM batches of both interfaces, and the requests it refuses."""

from __future__ import annotations

import importlib.util
import random
import warnings
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

import numpy as np

from slowthink.engines.session import Compiler, Point
from slowthink.engines.vllm.request_args import read_args, write_args
from slowthink.engines.vllm.request_flow import check_fits, compile_args
from slowthink.errors import ConfigError, EngineError
from slowthink.records import Budget, Request, Sampling, ThinkingFormat
from tests.engines.toy_engine import (
    EOS,
    FINISH,
    ToyRequest,
    compiler,
    generate_alone,
    sample,
    text_of,
)

v = SimpleNamespace()
"""vLLM's names, loaded when a test of this file runs: it takes its time, and warns."""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams
        from vllm.v1.sample.logits_processor import BatchUpdateBuilder, MoveDirectionality

        from slowthink.engines.vllm.processor import Forcing
    names = (SamplingParams, StructuredOutputsParams, BatchUpdateBuilder, MoveDirectionality)
    vars(v).update({cls.__name__: cls for cls in (*names, Forcing)})


TAGS = ThinkingFormat(name="custom", start="ab", end="Eh", end_triggers=("E",))
CONFIG = SimpleNamespace(
    speculative_config=None,
    model_config=SimpleNamespace(max_model_len=500, seed=0),
    parallel_config=SimpleNamespace(data_parallel_index=0),
)


def random_requests(dice: random.Random, number: int) -> list[ToyRequest]:
    """Requests of all kinds."""
    requests = []
    for _ in range(number):
        budget = Budget(
            max_thinking_tokens=dice.randrange(16),
            min_thinking_tokens=dice.choice([0, 0, 4]),
            waits=dice.randrange(3),
            wait_strings=dice.choice([("c",), ("cd", "gg"), ()]),
            final_answer_cue="fg",
            end_rule=dice.choice(["drawn", "drawn", "argmax", "probability"]),
            end_probability=0.3,
            answer_tokens=dice.randrange(1, 4),
        )
        sampling = dice.choice([Sampling(), Sampling(temperature=1.0, top_p=0.9, top_k=6)])
        request = Request(
            model="m", numerics="n", prompt_ids=(0, 1), format=TAGS, sampling=sampling,
            budget=budget, seed=dice.randrange(99), sample=dice.randrange(3),
        )  # fmt: skip
        point = Point(budget.max_thinking_tokens, budget.waits)
        args = read_args(write_args(request, point))
        greedy = dice.random() < 0.7
        requests.append(ToyRequest(dice.randrange(9999), [0, 1], args, request.seed, greedy))
    return requests


def params_of(request: ToyRequest):
    args, budget = request.args, request.args.budget
    same = Request(
        model="m", numerics="n", prompt_ids=(0, 1), format=TAGS, sampling=args.sampling,
        budget=budget, seed=request.seed, sample=args.sample,
    )  # fmt: skip
    arguments = write_args(same, Point(budget.max_thinking_tokens, budget.waits))
    params = v.SamplingParams(
        temperature=0.0 if request.engine_is_greedy else 1.0, max_tokens=200, extra_args=arguments
    )
    params.update_from_generation_config({"eos_token_id": [EOS, FINISH]}, EOS)
    return params


def processor(place):
    forcing = v.Forcing(CONFIG, place)
    forcing._compilers[frozenset({EOS, FINISH})] = compiler()
    return forcing


def expected(request: ToyRequest) -> list[int]:
    return text_of(generate_alone(request.model, request.prompt, request.args, seed=request.seed))


def check(requests: list[ToyRequest]) -> None:
    for request in requests:
        ids = request.outputs[:-1] if request.outputs[-1] in (EOS, FINISH) else request.outputs
        assert ids == expected(request), request


class BatchV1:
    """What `gpu_input_batch.InputBatch` and the runner do with rows, the -1 of async scheduling
    included."""

    def __init__(self, dice: random.Random, *, in_async: bool) -> None:
        self.dice, self.in_async = dice, in_async
        self.slots: list[tuple | None] = []
        self.builder = v.BatchUpdateBuilder()
        self.processor = processor(torch.device("cpu"))
        self.late: list[tuple[list[int], int]] = []

    def run(self, requests: list[ToyRequest]) -> None:
        waiting = [(request, params_of(request)) for request in requests]
        waiting += [(None, v.SamplingParams(temperature=0.0, max_tokens=9)) for _ in range(2)]
        self.dice.shuffle(waiting)
        for _ in range(600):
            self._leave(waiting)
            self._enter(waiting)
            self._condense()
            self._swap()
            self.processor.update_state(self.builder.get_and_reset(len(self.slots)))
            if not self.slots and not waiting:
                return
            self._step()
        raise AssertionError("a request did not end")

    def _leave(self, waiting) -> None:
        """Finished ones, and now and then one that is preempted."""
        for at, slot in enumerate(self.slots):
            request, params, outputs = slot
            whole = [*outputs[:-1], *[i for o, i in self.late if o is outputs]] if outputs else []
            whole = whole if outputs and outputs[-1] < 0 else list(outputs)
            done = request.done if request is not None else len(outputs) > 6
            preempted = not done and self.dice.random() < 0.05
            if done or preempted:
                self.builder.removed_append(at)
                self.slots[at] = None
            if preempted and request is not None:
                request.outputs = whole
                waiting.append((request, params))

    def _enter(self, waiting) -> None:
        while waiting and len(self.slots) < 9 and self.dice.random() < 0.5:
            request, params = waiting.pop(0)
            outputs = list(request.outputs) if request is not None else []
            at = self.builder.pop_removed()
            if at is None:
                at = len(self.slots)
                self.slots.append(None)
            self.slots[at] = (request, params, outputs)
            self.builder.added.append((at, params, [0, 1], outputs))

    def _condense(self) -> None:
        while self.builder.removed:
            while self.slots and self.slots[-1] is None:
                self.slots.pop()
            empty = self.builder.peek_removed()
            if empty >= len(self.slots):
                break
            self.builder.pop_removed()
            last = len(self.slots) - 1
            self.slots[empty], self.slots[last] = self.slots[last], None
            self.builder.moved.append((last, empty, v.MoveDirectionality.UNIDIRECTIONAL))
        while self.slots and self.slots[-1] is None:
            self.slots.pop()

    def _swap(self) -> None:
        if len(self.slots) > 1 and self.dice.random() < 0.3:
            a, b = self.dice.sample(range(len(self.slots)), 2)
            self.slots[a], self.slots[b] = self.slots[b], self.slots[a]
            self.builder.moved.append((a, b, v.MoveDirectionality.SWAP))

    def _step(self) -> None:
        if not self.slots:
            return
        for outputs, token in self.late:  # update_async_output_token_ids, for those still here
            if any(slot[2] is outputs for slot in self.slots):
                outputs[-1] = token
        self.late = []
        batch = torch.stack([self._logits(slot) for slot in self.slots])
        self.processor.apply(batch)
        for (request, params, outputs), row in zip(self.slots, batch, strict=True):
            if self.dice.random() < 0.15:
                continue  # a chunk of the prompt: what was drawn is thrown away
            token = sample(row, greedy=params.temperature == 0)
            outputs.append(-1 if self.in_async else token)
            if self.in_async:
                self.late.append((outputs, token))
            if request is not None:
                request.outputs.append(token)

    def _logits(self, slot) -> torch.Tensor:
        request, *_ = slot
        return request.next_logits() if request is not None else torch.arange(12.0)


@pytest.mark.parametrize("in_async", [False, True], ids=["plain", "async scheduling"])
def test_a_batch_in_motion_equals_each_request_alone(in_async) -> None:
    for seed in range(25):
        dice = random.Random(seed)
        requests = random_requests(dice, 7)
        BatchV1(dice, in_async=in_async).run(requests)
        check(requests)


@pytest.mark.parametrize("in_async", [False, True], ids=["plain", "async scheduling"])
def test_a_row_that_returns_at_once_keeps_the_last_draw(in_async) -> None:
    """Removed and added in one update, after a wait took the place of an end."""
    args = {"max_thinking_tokens": 12, "waits": 2, "wait_strings": ("cd",), "answer_tokens": 2}
    number = 0
    for model in range(40):
        request = ToyRequest(model, [0, 1], _args(Budget(**args)), 0)
        generated = generate_alone(model, [0, 1], request.args, seed=0)
        waits = [event.position for event in generated.events if event.kind.value == "wait"]
        if not waits:
            continue
        number += 1
        _run_with_a_return(request, after=waits[0] + 1, in_async=in_async)
        check([request])
    assert number > 10


def _args(budget: Budget):
    request = Request(
        model="m", numerics="n", prompt_ids=(0, 1), format=TAGS, sampling=Sampling(),
        budget=budget, seed=0,
    )  # fmt: skip
    return read_args(write_args(request, Point(budget.max_thinking_tokens, budget.waits)))


def _run_with_a_return(request: ToyRequest, *, after: int, in_async: bool) -> None:
    forcing, params, builder = (
        processor(torch.device("cpu")),
        params_of(request),
        v.BatchUpdateBuilder(),
    )
    outputs: list[int] = []
    builder.added.append((0, params, [0, 1], outputs))
    while not request.done:
        if len(request.outputs) == after:
            outputs = list(request.outputs)
            builder.added.append((0, params, [0, 1], outputs))
        forcing.update_state(builder.get_and_reset(1))
        outputs[:] = request.outputs
        batch = request.next_logits()[None].clone()
        forcing.apply(batch)
        request.outputs.append(int(batch[0].argmax()))
        outputs.append(-1 if in_async else request.outputs[-1])


class StatesV2:
    """The slots of the V2 model runner, as far as a processor sees them."""

    def __init__(self, number: int) -> None:
        self.device, self.max_num_reqs, self.vocab_size = torch.device("cpu"), number, 12
        self.all_token_ids = SimpleNamespace(gpu=torch.zeros(number, 500, dtype=torch.int32))
        self.prompt_len = SimpleNamespace(np=np.zeros(number, np.int32))
        self.prefill_len = SimpleNamespace(np=np.zeros(number, np.int32))

    def add(self, slot: int, prompt: list[int], outputs: list[int]) -> None:
        ids = [*prompt, *outputs]
        self.prompt_len.np[slot], self.prefill_len.np[slot] = len(prompt), len(ids)
        self.all_token_ids.gpu[slot, : len(ids)] = torch.tensor(ids, dtype=torch.int32)


def run_v2(requests: list[ToyRequest], dice: random.Random) -> None:
    """Slots are recycled, rows ordered anew in every step, some preempted and some in chunks."""
    states = StatesV2(4)
    forcing = processor(states)
    waiting = [(request, params_of(request)) for request in requests]
    slots: dict[int, tuple] = {}
    for _ in range(600):
        for slot, (request, params) in list(slots.items()):
            if request.done or dice.random() < 0.03:
                del slots[slot]
                waiting += [] if request.done else [(request, params)]
        for slot in range(4):
            if slot not in slots and waiting and dice.random() < 0.6:
                slots[slot] = waiting.pop(0)
                states.add(slot, slots[slot][0].prompt, slots[slot][0].outputs)
                assert forcing.add_request(slot, slots[slot][1])
        forcing.apply_staged_writes()
        if not slots and not waiting:
            return
        order = list(slots)
        dice.shuffle(order)
        if order:
            _step_v2(forcing, states, slots, order, dice)
    raise AssertionError("a request did not end")


def _step_v2(forcing, states, slots, order, dice) -> None:
    lengths = []
    for slot in order:
        length = len(slots[slot][0].prompt) + len(slots[slot][0].outputs)
        at_start = states.prefill_len.np[slot] == length and dice.random() < 0.3
        lengths.append(length - 1 if at_start else length)
    padding = [0] * (-len(order) % 4)  # a batch is padded to the size of its CUDA graph
    context = SimpleNamespace(
        idx_mapping_np=np.array(order), seq_lens_upper_bound_np=np.array(lengths + padding)
    )
    batch = torch.stack([slots[slot][0].next_logits() for slot in order])
    edited = forcing.apply(batch, context)
    for slot, length, row in zip(order, lengths, edited, strict=True):
        request, params = slots[slot]
        if length >= states.prefill_len.np[slot]:
            request.outputs.append(sample(row, greedy=params.temperature == 0))


def test_a_batch_of_the_v2_model_runner_equals_each_request_alone() -> None:
    for seed in range(25):
        dice = random.Random(seed)
        requests = random_requests(dice, 7)
        run_v2(requests, dice)
        check(requests)


def test_a_request_without_a_budget_is_not_edited() -> None:
    forcing = processor(StatesV2(2))
    assert not forcing.add_request(0, v.SamplingParams())
    assert not forcing.add_request(1, v.SamplingParams(extra_args={"kv_transfer_params": {}}))
    before = torch.randn(2, 12)
    context = SimpleNamespace(
        idx_mapping_np=np.array([0, 1]), seq_lens_upper_bound_np=np.array([3, 3])
    )
    assert forcing.apply(before.clone(), context).equal(before)


def test_speculative_decoding_is_refused() -> None:
    config = SimpleNamespace(**{**vars(CONFIG), "speculative_config": object()})
    with pytest.raises(EngineError, match="speculative decoding is on"):
        v.Forcing(config, torch.device("cpu"))


BASE = {"slowthink_format": "s1", "slowthink_cap": 8}


@pytest.mark.parametrize(
    ("extra", "more", "message"),
    [
        ({"slowthink_format": "s2"}, {}, "`s2` is unknown"),
        ({"slowthink_cap": -3}, {}, "slowthink_cap: -3; expected a number greater than or equal to 0"),
        ({"slowthink_cap": "many"}, {}, "slowthink_cap: 'many'; expected a number"),
        ({"slowthink_cap": 2.5}, {}, "slowthink_cap: 2.5; expected a valid integer"),
        ({"slowthink_wait": 3}, {}, "did you mean `slowthink_waits`"),
        ({"slowthink_end_rule": "soon"}, {}, "soon'; expected 'drawn', 'argmax' or 'probability'"),
        ({"slowthink_top_p": 1.5}, {}, "slowthink_top_p: 1.5; expected a number less than or equal to 1"),
        ({"slowthink_wait_strings": [1]}, {}, "slowthink_wait_strings: 1; expected a valid string"),
        ({"slowthink_wait_strings": 1}, {}, "expected a text or a list of texts"),
        ({"slowthink_events": [1, 0, 0]}, {}, "a list of 4 numbers for each event"),
        ({"slowthink_events": [1, 9, 0, 3]}, {}, "kinds of events from 0 to 2"),
        ({}, {"n": 2, "temperature": 1.0}, "slowthink_sample"),
        ({}, {"repetition_penalty": 1.1}, "repetition_penalty: 1.1"),
        ({}, {"frequency_penalty": 0.5}, "frequency_penalty: 0.5"),
        ({}, {"presence_penalty": 0.5}, "presence_penalty: 0.5"),
        ({}, {"min_tokens": 5}, "slowthink_min"),
        ({}, {"stop": ["x"]}, "cut the finished answer yourself"),
        ({}, {"stop_token_ids": [3]}, "slowthink_triggers"),
        ({}, {"ignore_eos": True}, "leave it out"),
        ({}, {"structured_outputs": "{}"}, "in a second request"),
        ({}, {"thinking_token_budget": 4}, "slowthink_cap is the budget"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_refused_with_the_remedy(extra, more, message) -> None:
    if "structured_outputs" in more:
        more = {"structured_outputs": v.StructuredOutputsParams(json=more["structured_outputs"])}
    params = v.SamplingParams(extra_args=BASE | extra, max_tokens=99, **more)
    with pytest.raises(ValueError, match=message):
        v.Forcing.validate_params(params)


def test_a_valid_request_is_accepted() -> None:
    v.Forcing.validate_params(v.SamplingParams(extra_args=dict(BASE), max_tokens=99))
    v.Forcing.validate_params(v.SamplingParams(temperature=0.7, repetition_penalty=1.3))


@pytest.mark.parametrize(
    ("extra", "fits", "message"),
    [
        ({"slowthink_cap": 100}, {"max_context": 64}, "the context holds 64"),
        ({"slowthink_cap": 40}, {"max_tokens": 16}, "Set max_tokens to 560"),
        ({"slowthink_cap": 40, "slowthink_answer_tokens": 5}, {}, None),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(extra, fits, message, smollm_tokenizer) -> None:
    compiler = Compiler(smollm_tokenizer, eos_ids=frozenset({2}))
    compiled = compile_args(read_args(BASE | extra), compiler, stop_id=2)
    limits = {"num_prompt": 10, "max_context": 2048, "max_tokens": None} | fits
    if message is None:
        check_fits(compiled, **limits)
        return
    with pytest.raises(ConfigError, match=message):
        check_fits(compiled, **limits)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"slowthink_format": "think-tags"}, "3 tokens of this model's tokenizer"),
        ({"slowthink_wait_strings": [""]}, "has no tokens"),
        ({"slowthink_format": "auto"}, "expected a thinking model"),
    ],
)
def test_a_format_that_the_tokenizer_does_not_allow_is_refused(
    extra, message, smollm_tokenizer
) -> None:
    compiler = Compiler(smollm_tokenizer, eos_ids=frozenset({2}))
    with pytest.raises(ConfigError, match=message):
        compile_args(read_args(BASE | extra), compiler, stop_id=2)


def test_the_cost_of_a_step_is_measured_for_each_kind_of_row(smollm) -> None:
    from benchmarks.forcing_step import KINDS, step_overhead

    figures = step_overhead(batch=3, vocabulary=50_000, steps=3)
    medians = [figures[f"step_microseconds_{kind}"]["median"] for kind in KINDS]
    assert all(median > 0 for median in medians)
    assert medians[0] == min(medians)


def test_the_overhead_of_each_part_is_measured(smollm) -> None:
    from benchmarks.overhead import STEP, Load, measure

    load = Load(rows=(1, 2), cap=16, short_cap=12, num_jobs=2, vocabulary=50_000)
    figures = measure(load, num_rounds=1)
    keys = ["host_ms_2_thinking", "host_ms_2_waits", "host_us_per_request", "host_ms_2_sampled"]
    keys += [f"{part}_ms_2_waits_{format}" for part in STEP for format in ("s1", "plain")]
    keys += [f"step_ms_2_{kind}_s1_v2" for kind in ("thinking", "waits")]
    assert all(figures[key]["median"] > 0 for key in [*keys, "inflight_over_plain"])
