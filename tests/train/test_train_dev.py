"""`checkpoint: dev`: problems of their own choose among the models that training saved."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

torch = pytest.importorskip("torch")

from torch._C._distributed_c10d import HashStore

from slowthink.errors import DataError
from slowthink.pipeline.contract import stage_settings
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import DevConfig, TrainConfig
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.records import ThinkingEnd, Verdict
from slowthink.stages.train.candidates import candidate_steps, unchanged
from slowthink.stages.train.checkpoint import candidates
from slowthink.stages.train.dev import best_step, choose_model, figures, split_dev
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.schedule import make_schedule
from slowthink.stages.train.unfinished import set_aside_other_checkpoints
from tests.needs import needs

DEV = TrainConfig(checkpoint="dev", dev=DevConfig(num_problems=3))


def make_traces(number=8):
    """Two chains of each problem; the last problem has no answer."""
    problems = [
        SimpleNamespace(id=f"p-{i}", answer=None if i == number - 1 else str(i))
        for i in range(number)
    ]
    return [SimpleNamespace(problem=p, thinking=t) for p in problems for t in "ab"]


def test_no_chain_of_a_development_problem_is_trained_on():
    traces = make_traces()
    kept, dev = split_dev(traces, DEV, seed=0)
    ids = {problem.id for problem in dev}
    assert len(ids) == 3 and "p-7" not in ids
    assert len(kept) == 10 and not ids & {trace.problem.id for trace in kept}
    again = split_dev(traces[::-1], DEV, seed=0)
    assert again[1] == dev, "the draw depends on the seed alone"
    assert {problem.id for problem in split_dev(traces, DEV, seed=1)[1]} != ids
    assert split_dev(traces, TrainConfig(), seed=0) == (traces, [])


@pytest.mark.parametrize("number", [4, 3])
def test_too_few_problems_are_an_error(number):
    with pytest.raises(DataError, match=r"train\.dev\.num_problems: 3 of \d .*Select more"):
        split_dev(make_traces(number)[: 2 * min(number, 3)], DEV, seed=0)


def test_accuracy_chooses_then_natural_ends_then_the_last():
    measured = [
        {"step": 2, "accuracy": 0.5, "natural_ends": 0.5},
        {"step": 4, "accuracy": 0.5, "natural_ends": 0.75},
        {"step": 6, "accuracy": 0.25, "natural_ends": 1.0},
    ]
    assert best_step(measured) == 4
    assert best_step([*measured, {**measured[1], "step": 8}]) == 8


def test_chains_that_end_are_counted_apart_from_right_answers():
    def row(verdict, end, tokens):
        completion = SimpleNamespace(thinking_end=end, num_thinking_tokens=tokens)
        return completion, SimpleNamespace(verdict=verdict)

    rows = [
        row(Verdict.CORRECT, ThinkingEnd.CAP, 8),
        row(Verdict.WRONG, ThinkingEnd.NATURAL, 2),
        row(Verdict.UNGRADABLE, ThinkingEnd.NATURAL, 2),
        row(Verdict.TRUNCATED, ThinkingEnd.CAP, 8),
    ]
    measured = figures(rows)
    assert (measured["num_correct"], measured["num_graded"]) == (1, 3)
    assert measured["natural_ends"] == 0.5 and measured["mean_thinking_tokens"] == 5
    low, high = measured["ci95"]
    assert low < measured["accuracy"] < high and measured["accuracy"] == 1 / 3


def test_models_are_saved_at_the_ends_of_epochs_but_the_last():
    schedule = make_schedule([5] * 8, TrainConfig(epochs=6, batch_size=4), seed=0)
    assert candidate_steps(schedule, DEV) == {2, 4, 6, 8, 10}
    every = DEV.model_copy(update={"dev": DevConfig(every_epochs=4)})
    assert candidate_steps(schedule, every) == {8}
    assert candidate_steps(schedule, TrainConfig()) == frozenset()


def test_only_models_of_this_schedule_are_measured(tmp_path, monkeypatch):
    """A run with `every_epochs: 1` was killed; this one has 2."""
    for step in (2, 4, 6):
        (tmp_path / "candidates" / f"step-{step}" / "model").mkdir(parents=True)
    context = SimpleNamespace(
        work_folder=tmp_path, folder=tmp_path / "train", notify=print, open_ledger=MagicMock(),
        config=DEV.model_copy(update={"dev": DevConfig(every_epochs=2)}),
    )  # fmt: skip
    row = SimpleNamespace(thinking_end=ThinkingEnd.NATURAL, num_thinking_tokens=1)
    rows = [(row, SimpleNamespace(verdict=Verdict.CORRECT))]
    monkeypatch.setattr("slowthink.stages.train.dev._sample", lambda *_: rows)
    monkeypatch.setattr("slowthink.stages.train.dev.Grader", MagicMock())
    monkeypatch.setattr("slowthink.stages.train.dev.plain", lambda value: 0)
    schedule = make_schedule([5] * 8, TrainConfig(epochs=4, batch_size=4), seed=0)
    facts = choose_model(context, [], schedule)
    assert [measured["step"] for measured in facts["checkpoints"]] == [4, 8]
    assert [measured["epoch"] for measured in facts["checkpoints"]] == [2, 4]


def test_models_of_other_settings_are_set_aside_without_a_checkpoint(tmp_path):
    context = make_context(
        parse_recipe({"name": "m", "train": {"checkpoint": "dev", "input": "rows.jsonl"}}),
        tmp_path, "train", notify=lambda _: None,
    )  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("")
    (context.work_folder / "candidates" / "step-2" / "model").mkdir(parents=True)
    (context.work_folder / "settings.json").write_text('{"train": {"epochs": 9}}')
    set_aside_other_checkpoints(context)
    assert not candidates(context.work_folder)
    assert list((tmp_path / "superseded").glob("*/candidates/step-2"))


def test_saving_changes_no_tensor_of_the_model():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    model.config = SimpleNamespace(dtype=torch.float32, use_cache=False)
    model[0].weight.data.fill_(1 / 3)
    with unchanged(model):
        model.to(torch.bfloat16)
        model.config.use_cache = True
    assert torch.equal(model[0].weight.detach(), torch.full((3, 3), 1 / 3))
    assert model[1].running_mean.dtype is torch.float32 and model.config.use_cache is False


def test_gradients_are_still_averaged_after_saving():
    """A weight whose dtype changes loses the hooks by which processes average its gradient."""
    dist, averaged = torch.distributed, []
    dist.init_process_group("gloo", store=HashStore(), world_size=1, rank=0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(torch.bfloat16)
    model[1].weight, model.config = model[0].weight, SimpleNamespace(dtype=None, use_cache=False)
    optimizer = MasterAdamW([{"params": list(model.parameters())}])
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)

        def average(_, bucket):
            averaged.append(bucket.index())
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        wrapped.register_comm_hook(None, average)
        wrapped(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
        averaged.clear()
        with unchanged(model):
            optimizer.promote(model)
            assert model[1].weight is model[0].weight and model[0].weight.dtype is torch.float32
            assert torch.equal(model[0].weight, optimizer.masters[0])
            model.to(torch.float16)
        assert dict(model.named_parameters()).keys() == before.keys()
        assert all(torch.equal(w, before[name]) for name, w in model.named_parameters())
        wrapped(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
        assert averaged
    finally:
        dist.destroy_process_group()


def test_the_engine_is_a_setting_of_the_stage_only_where_it_measures():
    plain, dev = (
        parse_recipe({"name": "m", "train": {"checkpoint": rule}}) for rule in ("last", "dev")
    )
    assert "engine" not in stage_settings(plain, "train")
    assert "engine" in stage_settings(dev, "train")


@pytest.mark.slow
@needs("trl")
def test_the_best_model_is_evaluated_and_the_last_kept(tiny_model, tmp_path):
    """A tiny model on quickstart's problems: three epochs, and a kill while they are measured."""
    recipe = load_recipe("quickstart", overrides=[
        f"model={tiny_model}", "filter=null", "pool.sources.0.num_problems=16",
        "pool.sources.0.num_heldout=2", "select.num_problems=null", "engine.dtype=float32",
        "train={epochs: 3, batch_size: 4, learning_rate: 1.0e-3, checkpoint: dev,"
        " dev: {num_problems: 6, cap: 4, forcing: {answer_tokens: 2}}}", "evaluate=null",
    ])  # fmt: skip
    quiet = ProgressReporter(quiet=True)
    root, killed = tmp_path / "run", tmp_path / "killed"
    runs = run_recipe(recipe, root, reporter=quiet, stages=("pool", "trace", "select", "train"))
    facts = runs[-1].manifest["facts"]
    assert facts["num_examples"] == 10 and len(facts["dev"]["checkpoints"]) == 3
    steps = [measured["step"] for measured in facts["dev"]["checkpoints"]]
    assert steps == [3, 6, 9] and facts["dev"]["last"] == 9
    assert (root / "train" / "last" / "model").exists() == (facts["dev"]["chosen"] != 9)
    shutil.copytree(root, killed, ignore=shutil.ignore_patterns("train", "report"))
    again = run_recipe(recipe, killed, reporter=quiet, stages=("train",))[0].manifest["facts"]
    assert again["dev"] == facts["dev"], "answers that are in the ledger are not sampled again"
    assert again["model_fingerprint"] == facts["model_fingerprint"]
