"""A scorer is trained, saved and loaded; with tiny random models."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from slowthink.data.tables import write_records
from slowthink.engines.models import resolve_model
from slowthink.engines.transformers import reward_model
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import ChatConfig, EngineConfig, ModelScorer, Recipe
from slowthink.records import Problem, Split
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.parallel.fit import ScorerRequest, make_scorer, write_scorer
from slowthink.sampling.parallel.rollouts import open_run, sample_examples
from slowthink.sampling.parallel.scorers import ScoreItem, open_scorer

ENGINE = EngineConfig(dtype="float32", device="cpu")
SEQUENCES = [(5, 6, 7), (5, 6), (9,), (5, 6, 7, 2, 2), (8, 1, 4, 4)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, smollm):
    """A causal Llama of 4 layers with random weights and the embedded model's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    config = transformers.AutoConfig.from_pretrained(resolve_model(smollm))
    for name, value in {"num_hidden_layers": 4, "hidden_size": 24, "intermediate_size": 32,
                        "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 8}.items():  # fmt: skip
        setattr(config, name, value)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(resolve_model(smollm)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """The same with a head on its first 2 layers."""
    folder = tmp_path_factory.mktemp("scorer")
    model = reward_model.build_untrained(tiny, ENGINE, num_layers=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    reward_model.save(model, tokenizer, (torch.linspace(-1, 1, 24), 0.0), folder)
    return folder


def test_scores_equal_those_of_the_class_in_transformers(saved) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(saved)
    assert model.config.num_hidden_layers == 2
    with torch.inference_mode():
        logits = [float(model(torch.tensor([ids])).logits) for ids in SEQUENCES if 2 not in ids]
    ours = reward_model.RewardModel(saved, ENGINE, batch_size=2).score(SEQUENCES)
    expected = [reward_model.sigmoid(logit) for logit in logits]
    assert [s for s, ids in zip(ours, SEQUENCES, strict=True) if 2 not in ids] == pytest.approx(
        expected, abs=1e-5
    )


def test_a_prefix_of_another_text_costs_nothing_and_scores_the_same(saved) -> None:
    model = reward_model.RewardModel(saved, ENGINE, batch_size=2)
    together = model.score(SEQUENCES)
    assert model.cost.prefilled == 5 + 1 + 4
    assert together == pytest.approx([model.score([ids])[0] for ids in SEQUENCES], abs=1e-5)


def test_a_model_without_a_head_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match="slowthink scorer RUN"):
        reward_model.RewardModel(tiny, ENGINE)


def test_a_scorer_that_does_not_fit_beside_the_sampled_model_says_so(saved, monkeypatch) -> None:
    """vLLM has taken nine tenths of the GPU by then."""

    def full(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ConfigError, match=r"fit in what is free .*gpu_memory_utilization"):
        reward_model.RewardModel(saved, ENGINE)


def test_a_head_minimises_the_penalised_loss() -> None:
    """The gradient vanishes, with and without a bias; the scaling is in the weight."""
    torch.manual_seed(1)
    states = torch.randn(300, 5) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 0.5
    labels = (states[:, 0] + 0.1 * states[:, 1] + torch.randn(300) > 1).tolist()
    for bias in (True, False):
        weight, offset = reward_model.fit_head(states, labels, l2=0.01, bias=bias)
        scale = states.double().std(0)
        w = (weight.double() * scale).requires_grad_(True)
        b = torch.tensor(offset, dtype=torch.float64, requires_grad=True)
        logits = states.double() / scale @ w + b
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(labels, dtype=torch.float64)
        )
        (loss + 0.005 * w.square().sum()).backward()
        assert float(w.grad.abs().max()) < 1e-4
        assert offset == 0 if not bias else abs(float(b.grad)) < 1e-4


def test_a_probability_is_in_range() -> None:
    assert reward_model.sigmoid(-800.0) == 0.0
    assert reward_model.sigmoid(800.0) == 1.0
    assert reward_model.sigmoid(math.log(3)) == pytest.approx(0.75)


@pytest.fixture
def run(tiny, tmp_path, make_problem):
    """A finished run with a random model."""
    root = tmp_path / "run"
    shutil.copytree(tiny, root / "train" / "model")
    recipe = Recipe(
        name="r", engine=ENGINE, chat=ChatConfig(system_prompt=""),
        evaluate={"arms": [{"name": "tuned", "caps": [8], "forcing": {"answer_tokens": 3}}]},
    )  # fmt: skip
    (root / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    (root / "pool").mkdir()
    problems = [make_problem(f"question {i}", "7", source_row=str(i)) for i in range(12)]
    problems.append(make_problem("held out", "7", split=Split.HELDOUT))
    write_records(root / "pool" / "data.parquet", problems, Problem)
    return ScorerRequest(run=root, out=tmp_path / "scorer", num_problems=50, num_samples=2)


def test_chains_that_are_all_wrong_are_an_error(run) -> None:
    with pytest.raises(DataError, match="expected some of each kind"):
        make_scorer(run)
    assert not list(run.out.parent.glob("scorer*"))


def test_a_scorer_is_trained_from_a_run(run, tmp_path, make_problem) -> None:
    """With made-up labels, since a random model has no right answers."""
    finished = open_run(run)
    examples, facts = sample_examples(finished)
    assert (facts["num_problems"], facts["num_chains"], facts["num_right"]) == (12, 24, 0)
    examples = [replace(example, label=len(example.text) % 2 == 0) for example in examples]
    card = write_scorer(finished, examples, facts)
    assert (card["num_held_out"], card["auc"]["final"]["n"]) == (2, 4)
    assert json.loads((run.out / "scorer.json").read_text()) == card
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        config = ModelScorer(model=str(run.out))
        with open_scorer(config, finished.recipe, ledger=ledger) as scorer:
            (scored,) = scorer.score_texts([ScoreItem(make_problem(), "some thinking")])
    assert 0 < scored.score < 1
    assert scored.num_tokens > len(["some", "thinking"])
    with pytest.raises(ConfigError, match="exists already"):
        make_scorer(run)


def test_a_run_without_a_tuned_model_is_refused(run) -> None:
    shutil.rmtree(run.run / "train")
    with pytest.raises(ConfigError, match="no model in"):
        make_scorer(run)
