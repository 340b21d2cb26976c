"""Steps of fixed shapes, as CUDA graphs capture them: same ids as exact shapes, nothing that waits.

Without CUDA the same code runs uncaptured; only `_capture` itself and the replay need a card.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")

torch = pytest.importorskip("torch")

from benchmarks import sweep
from slowthink.engines.auto import GPU_BATCH_SIZE
from slowthink.engines.session import Point, generate
from slowthink.engines.transformers.decoding import Decoder, DecodingRow
from slowthink.engines.transformers.kv_cache import KeyValues
from slowthink.engines.transformers.session import (
    TransformersSession,
    _max_cached,
    _notify_of_idle_cards,
    pick_device,
    token_limits,
)
from slowthink.engines.transformers.static_step import (
    MAX_GRAPHS,
    RefuseSynchronisation,
    StaticStep,
    SynchronisationError,
    bucket,
    rounded_sizes,
)
from slowthink.errors import ConfigError, EngineError
from slowthink.forcing.machine import AnswerMachine
from slowthink.recipe import EngineConfig
from slowthink.records import Sampling
from tests.tiny import END_PROBABILITY

LOAD = sweep.Workload(
    caps=(4, 16, 64, 110), waits=(1, 2), num_questions=4, minimum=40,
    end_probability=END_PROBABILITY, answer_tokens=6,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small layers gain nothing from a second thread, which waits on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    from slowthink.engines.transformers.kv_cache import ATTENTION

    torch.manual_seed(0)
    config = LlamaConfig(**{
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "initializer_range": 0.6,
    })  # fmt: skip
    config._attn_implementation = ATTENTION
    return LlamaForCausalLM(config).eval()


def make_row(prompt: tuple[int, ...], num_tokens: int, sampling: Sampling) -> DecodingRow:
    machine = AnswerMachine(max_tokens=num_tokens, eos_ids=frozenset({3}))
    return DecodingRow(
        prefix=prompt, machine=machine, sampling=sampling, max_tokens=len(prompt) + num_tokens,
        uniform=lambda key: (key[0] * 0.37 + prompt[0] * 0.11) % 1,
    )  # fmt: skip


def decode(model, sampling: Sampling, *, static: bool, together: bool = True) -> list[list[int]]:
    """Tokens of rows with prompts and lengths that differ, by the row."""
    rows = [
        make_row(tuple(range(number + 4, 6 + 3 * number)), 4 + 17 * number % 30, sampling)
        for number in range(1, 6)
    ]
    late = [make_row((9,) * length, 8, sampling) for length in (1, 140)]
    remaining = list(late)

    def admit(num_free, num_running):
        return [remaining.pop()] if remaining else []

    with torch.inference_mode():
        if together:
            list(Decoder(model, "cpu", static=static).decode(rows, admit))
        else:
            for row in (*rows, *late):
                list(Decoder(model, "cpu", static=static).decode([row]))
    return [row.machine.ids for row in (*rows, *late)]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_p=0.9)])
def test_rows_that_join_and_leave_decode_as_alone_whatever_the_shapes(sampling) -> None:
    model = make_model()
    alone = decode(model, sampling, static=False, together=False)
    assert max(map(len, alone)) > 20
    assert decode(model, sampling, static=False) == alone
    assert decode(model, sampling, static=True) == alone


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0)])
def test_weights_that_are_no_numbers_draw_no_token(sampling) -> None:
    model = make_model()
    with torch.inference_mode():
        model.lm_head.weight[7, 2] = float("nan")
        with pytest.raises(EngineError, match=r"not numbers \(NaN, torch.float32\).*engine.dtype"):
            list(Decoder(model, "cpu").decode([make_row((5, 6, 7), 15, sampling)]))


def test_the_next_tokens_of_a_whole_forward_pass_are_decoded() -> None:
    model = make_model()
    row = make_row((5, 6, 7), 15, Sampling())
    with torch.inference_mode():
        list(Decoder(model, "cpu", static=True).decode([row]))
        ids = torch.tensor([row.tokens])
        mask = torch.zeros(len(row.tokens), len(row.tokens)).masked_fill_(
            torch.ones(len(row.tokens), len(row.tokens)).triu(1) > 0, float("-inf")
        )
        logits = model(input_ids=ids, attention_mask=mask[None, None], use_cache=False).logits[0]
    assert row.machine.ids == logits[2:-1].argmax(-1).tolist()


def test_a_long_prompt_is_fed_in_pieces(monkeypatch) -> None:
    """The mask of 30,000 tokens at once, with 7 query heads, would take 13 GB."""
    from slowthink.engines.transformers import decoding

    model, ids, fed = make_model(), [], []
    masks = decoding.causal_mask
    monkeypatch.setattr(decoding, "causal_mask", lambda p, *a: fed.append(p.shape) or masks(p, *a))
    for size in (4096, 16):
        monkeypatch.setattr(decoding, "_PIECE_TOKENS", size)
        rows = [make_row(tuple(range(4, 40)), 6, Sampling()), make_row((5, 6), 6, Sampling())]
        monkeypatch.setattr(decoding, "_PREFILL_TOKENS_ON_CPU", 32)
        with torch.inference_mode():
            list(Decoder(model, "cpu").decode(rows))
        ids.append([row.machine.ids for row in rows])
    assert ids[0] == ids[1]
    assert [shape for shape in fed if shape[1] > 1] == [
        (1, 2),
        (1, 36),
        (1, 2),
        (1, 16),
        (1, 16),
        (1, 4),
    ]


def shapes_and_padding(batch_size: int, prompt: int, cap: int) -> tuple[int, float]:
    """Shapes of the steps of 1,000 chains of exponential length and their answers, and the padded
    rows over the others."""
    random, answer, shapes = Random(0), 24, set()
    lengths = [min(cap, int(random.expovariate(3 / cap)) + 1) + answer for _ in range(1000)]
    columns = sorted({bucket(n, 128) for n in range(prompt, prompt + cap + answer)})
    num_rows = num_padded = 0
    for start in range(0, 1000, batch_size):
        ends = sorted(lengths[start : start + batch_size])
        for at, row in enumerate(ends):
            num_steps = row - (ends[at - 1] if at else 0)
            alive = len(ends) - at
            num_rows, num_padded = (
                num_rows + num_steps * alive,
                num_padded + num_steps * bucket(alive),
            )
            steps = (bucket(prompt + row - num_steps + 1, 128), bucket(prompt + row, 128))
            shapes |= {
                (bucket(alive), n) for n in columns if num_steps and steps[0] <= n <= steps[1]
            }
    return len(shapes), num_padded / num_rows - 1


def test_the_default_batch_of_a_gpu_needs_no_more_graphs_than_a_small_one() -> None:
    """The figures of `GPU_BATCH_SIZE`; a full batch is not padded."""
    assert bucket(GPU_BATCH_SIZE) == GPU_BATCH_SIZE
    loads = ((100, 256), (150, 2048), (200, 8192))
    large, small = ([shapes_and_padding(n, *load) for load in loads] for n in (GPU_BATCH_SIZE, 48))
    assert [number for number, _ in large] == [14, 23, 30]
    assert max(number for number, _ in large) <= MAX_GRAPHS
    assert [number for number, _ in small] == [18, 36, 42]
    assert all(0.135 < share < 0.185 for _, share in large)
    assert all(0.125 < share < 0.175 for _, share in small)


@pytest.mark.parametrize(("batch_tokens", "max_cached"), [(1000, None), (1000, 1200), (1000, 9000)])
def test_longer_prompts_seldom_need_new_buffers(batch_tokens, max_cached) -> None:
    """Which would drop all graphs: the columns of a batch are rounded up if the memory has room."""
    tokens, rounded = token_limits(batch_tokens, max_cached)
    assert tokens == batch_tokens
    assert rounded == (None if max_cached is None else min(max_cached, 1500))
    for num_rows, num_columns in ((5, 200), (3, 330)):
        columns = rounded_sizes(num_rows, num_columns, rounded)[0][1]
        has_room = max_cached is None or num_rows * bucket(num_columns, 128) <= max_cached
        assert columns == (bucket(num_columns, 128) if has_room else num_columns)
    assert token_limits(1000, 800) == (800, 800)


def test_shapes_are_few_and_graphs_are_bounded() -> None:
    sizes = sorted({bucket(number) for number in range(1, 257)})
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert {bucket(number, 128) for number in (1, 128)} == {128}
    assert bucket(129, 128) == 192
    decoder = Decoder(make_model(), "cpu", static=True)
    with torch.inference_mode():
        list(decoder.decode([make_row((5,) * (120 + n), 2 * n + 6, Sampling()) for n in range(12)]))
    step = decoder.static_step
    assert step is not None and step.refusal is None
    assert len(step._graphs) > 3
    assert set(step._graphs) <= {(r, c) for r in sizes for c in (128, 192, 256)}


def allocations(monkeypatch, limit: int | None = None) -> list[tuple[int, int]]:
    """Sizes of the key-value buffers allocated from now on; larger ones than `limit` tokens raise."""
    sizes, allocate = [], KeyValues.allocate

    def record(kv, like):
        if limit is not None and kv.num_slots * kv.num_columns > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append((kv.num_slots, kv.num_columns))
        return allocate(kv, like)

    monkeypatch.setattr(KeyValues, "allocate", record)
    return sizes


def test_sizes_are_rounded_up_only_as_far_as_the_memory_reaches(monkeypatch) -> None:
    """By up to 2.25 times otherwise: 5 slots of 129 columns become 6 of 192."""
    model, sampling = make_model(), Sampling()
    rows = {
        limit: [make_row((n, 6) * 60, 9, sampling) for n in range(4, 9)]
        for limit in (None, 6 * 192, 1000, 700, 1)
    }
    sizes = {}
    for limit in rows:
        with monkeypatch.context() as patch, torch.inference_mode():
            recorded = allocations(patch)
            list(Decoder(model, "cpu", static=True, max_cached=limit).decode(rows[limit]))
            sizes[limit] = set(recorded)
    assert sizes == {
        None: {(6, 192)}, 6 * 192: {(6, 192)}, 1000: {(5, 192)}, 700: {(5, 129)}, 1: {(5, 129)}
    }  # fmt: skip
    assert len({str([row.machine.ids for row in batch]) for batch in rows.values()}) == 1


def test_a_full_memory_is_tried_with_less_rounding_and_rows_go_on(monkeypatch) -> None:
    """First while a row is decoded, whose keys and values must be kept, then between batches."""
    model = make_model()
    prompts = [((4, 5), 2), ((5, 6), 2), ((6, 7), 40), ((9,) * 300, 8), ((7,) * 400, 8)]
    ids = []
    for is_alone in (True, False):
        *first, late, second = rows = [make_row(*prompt, Sampling()) for prompt in prompts]
        waiting = iter([[late]])
        decoder = Decoder(model, "cpu", static=not is_alone)
        with monkeypatch.context() as patch, torch.inference_mode():
            sizes = allocations(patch, limit=2 * 384 - 1)
            for row in rows if is_alone else ():
                list(decoder.decode([row]))
            if not is_alone:
                list(decoder.decode(first, partial(lambda waiting, *_: next(waiting, []), waiting)))
                patch.undo()
                sizes += allocations(patch, limit=512 - 1)
                list(decoder.decode([second]))
        ids.append([row.machine.ids for row in rows])
    assert ids[0] == ids[1]
    assert list(dict.fromkeys(sizes)) == [(3, 128), (2, 308)]
    assert (decoder._kv.num_slots, decoder._kv.num_columns) == (1, 408)


class Graphs:
    """Stands in for CUDA's graphs: a replay runs the pass again, and as in PyTorch's allocator a
    pool that was captured into is refused once its graphs are gone."""

    def __init__(self, monkeypatch, step: StaticStep) -> None:
        self.users: dict[int, int] = {}
        self.num_captured = 0
        graphs = self

        class Graph:
            def pool(self) -> int:
                return self._pool

            def replay(self) -> None:
                step._run(self.shape)

            def __del__(self) -> None:
                graphs.users[self._pool] -= 1

        @contextmanager
        def capture(graph, pool=None, stream=None, **_: object):
            assert stream == "of the model's device"
            graph._pool = len(self.users) if pool is None else pool
            assert self.users.get(graph._pool) != 0, "use_count > 0 INTERNAL ASSERT FAILED"
            self.users[graph._pool] = self.users.get(graph._pool, 0) + 1
            self.num_captured += 1
            yield

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", capture)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: len(self.users))
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        captured = step._capture

        def capture_shape(shape):
            graph = captured(shape)
            graph.shape = shape
            return graph

        step._on_cuda, step._capture = True, capture_shape
        step._capture_stream = "of the model's device"


def test_graphs_are_captured_again_after_buffers_were_replaced(monkeypatch) -> None:
    """The pool of the graphs that were dropped cannot be captured into."""
    model = make_model()
    decoder = Decoder(model, "cpu", static=True)
    graphs = Graphs(monkeypatch, decoder.static_step)
    ids, num_captured = [], []
    with torch.inference_mode():
        for prompt in ((5, 6, 7), (8,) * 150, (9,) * 300):  # each needs more columns
            row, alone = (make_row(prompt, 12, Sampling()) for _ in range(2))
            list(decoder.decode([row]))
            list(Decoder(model, "cpu", static=False).decode([alone]))
            ids.append((row.machine.ids, alone.machine.ids))
            num_captured.append(graphs.num_captured)
    assert decoder.static_step.refusal is None
    assert num_captured == [1, 2, 3]
    assert all(ours == expected for ours, expected in ids)


def test_the_end_of_a_copy_is_recorded_on_the_models_device(monkeypatch) -> None:
    """Which need not be the current one: `engine.device: cuda:1`."""
    decoder = Decoder(make_model(), "cpu", static=True)
    step, recorded = decoder.static_step, []
    step._inputs_copied = SimpleNamespace(synchronize=lambda: None, record=recorded.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream", device))
    with torch.inference_mode():
        list(decoder.decode([make_row((5, 6, 7), 2, Sampling())]))
    assert set(recorded) == {("stream", torch.device("cpu"))}


def test_what_is_captured_neither_waits_for_the_device_nor_depends_on_values() -> None:
    """Of the whole pass, cache and attention included; each shape's first run checks it again."""
    decoder = Decoder(make_model(), "cpu", static=True)
    row = make_row((5, 6, 7), 4, Sampling())
    with torch.inference_mode():
        list(decoder.decode([row]))
        step = decoder.static_step
        with RefuseSynchronisation():
            step._run((1, 128))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.max().item(), lambda x: x.nonzero(), lambda x: x[x > 0],
        lambda x: bool((x > 0).any()), lambda x: x.unique(), lambda x: x.to("meta"),
        lambda x: x.sum().to("meta"), lambda x: torch.where(x > 0), lambda x: torch.argwhere(x),
        lambda x: x.repeat_interleave(x.long()), lambda x: torch.nn.functional.one_hot(x.long()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inference", [False, True])
def test_operations_that_wait_for_the_device_are_refused(operation, inference) -> None:
    """In inference mode too, in which the engine decodes, and operations arrive undivided."""
    refused = pytest.raises(SynchronisationError)
    with torch.inference_mode(inference), refused, RefuseSynchronisation():
        operation(torch.arange(3.0))


@pytest.mark.parametrize("inference", [False, True])
def test_operations_that_wait_for_nothing_run(inference) -> None:
    x = torch.arange(6.0).view(2, 3)
    with torch.inference_mode(inference), RefuseSynchronisation():
        doubled = x.repeat_interleave(2, -1)  # of GLM's and Cohere's rotary embeddings
        out = torch.nn.functional.linear(doubled.to(torch.float64), torch.ones(2, 6).double())
    assert out.tolist() == [[6.0, 6.0], [24.0, 24.0]]


def test_a_model_that_synchronises_is_decoded_eagerly() -> None:
    calls = []

    def forward(ids, positions, num_columns):
        calls.append(num_columns)
        return torch.full((len(ids), 5), float(ids.max()))

    step = StaticStep(forward, torch.device("cpu"))
    largest = 8, 200
    assert step([2, 3, 4, 5, 1], [1, 2, 3, 4, 5], largest).tolist() == [[5.0] * 5] * 5
    assert step.refusal == "the model's forward pass calls `_local_scalar_dense`"
    assert step([7], [199], largest).tolist() == [[7.0] * 5]
    assert calls == [128, 128, 200]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_k=20)])
def test_a_sweep_with_branches_is_the_same_on_static_steps(tiny_model, sampling) -> None:
    """Of 20 ids: of all 49,152 at temperature 1, rounding alone decides some of 900 draws."""
    results = []
    for static in (False, True):
        config = EngineConfig(dtype="float32", batch_size=3, reproducible=False)
        with TransformersSession(tiny_model, config) as session:
            session._decoder = Decoder(session._decoder.model, "cpu", static=static)
            jobs = [
                replace(job, request=replace(job.request, sampling=sampling), points=points)
                for job in sweep.make_jobs(session, LOAD)
                for points in (LOAD.points, (*LOAD.points[:3], Point(90, 1)))
            ]
            jobs = [
                replace(job, request=replace(job.request, sample=i)) for i, job in enumerate(jobs)
            ]
            generated = {result.key: result for result in generate(session, jobs)}
            results.append({key: (r.chain, set(r.answers)) for key, r in generated.items()})
            if static:
                assert session._decoder.static_step.refusal is None
    assert len(results[0]) == len(jobs)
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_closed_session_leaves_its_memory_to_the_next_one(tiny_model) -> None:
    """Not to some later garbage collection: two models of 7B do not fit on a card of 24 GB."""
    gc.collect()
    gc.disable()
    try:
        with TransformersSession(tiny_model, EngineConfig(dtype="float32")) as session:
            session._decoder = Decoder(session._decoder.model, "cpu", static=True)
            list(generate(session, sweep.make_jobs(session, LOAD)))
            decoder = session._decoder
            buffers = [buffer for layer in decoder._kv.layers for buffer in layer.buffers]
            assert buffers
            kept = [weakref.ref(held) for held in (decoder.model, decoder.static_step, *buffers)]
            del decoder, buffers
        assert [ref() for ref in kept if ref() is not None] == []
    finally:
        gc.enable()


def test_a_batch_is_as_large_as_the_gpu_holds(monkeypatch) -> None:
    """Llama 2 13B on 48 GB: 800 KiB for each token in bf16, beside 26 GB of weights."""
    config = SimpleNamespace(num_attention_heads=40, hidden_size=5120, num_hidden_layers=40)
    config.get_text_config = lambda: config
    model = SimpleNamespace(config=config, dtype=torch.bfloat16, device=torch.device("cuda:1"))
    card = SimpleNamespace(total_memory=48e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: int(26e9))
    assert _max_cached(model) == int((0.9 * 48e9 - 26e9 - 2e9) / (800 * 1024))
    card.total_memory = 24e9
    assert _max_cached(model) == 1
    model.device = torch.device("cpu")
    assert _max_cached(model) is None


def test_a_full_memory_is_reported_with_what_to_do() -> None:
    session = object.__new__(TransformersSession)
    session._batch, session._queue = None, {"key": None}
    session._batch_size, session._batch_tokens = 48, 4096

    def fill_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")

    session._next_batch = fill_memory
    with pytest.raises(EngineError, match=r"memory is full.*engine\.batch_tokens: 4096.*Lower"):
        session.completed()


def test_a_card_that_is_not_there_is_refused_with_what_to_do(monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"`cuda:1`, but torch finds (no|\d+) CUDA device"):
        pick_device(f"cuda:{max(1, torch.cuda.device_count())}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert pick_device("cuda:7") == "cuda:7"
    with pytest.raises(ConfigError, match=r"`cuda:8`, but torch finds 8 .*CUDA_VISIBLE_DEVICES"):
        pick_device("cuda:8")


def test_cards_that_stay_idle_are_reported(monkeypatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    _notify_of_idle_cards(torch.device("cpu"), messages.append)
    assert messages == []
    _notify_of_idle_cards(torch.device("cuda", 0), messages.append)
    assert "one of 8 CUDA devices, cuda:0" in messages[0]
    assert "engine.vllm.tensor_parallel_size=N" in messages[0]
