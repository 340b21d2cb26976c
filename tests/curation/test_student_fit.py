"""student-fit and student-loss: the pass, its place in the ledger, a teacher's value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slowthink.curation.scores import SCORES, student
from slowthink.curation.scores.preference import (
    RankedChain,
    higher_is_better,
    order_chains,
    require_score,
)
from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.student_fit import TEACHER_CHAINS, teacher_fits
from slowthink.errors import ConfigError, DataError
from slowthink.forcing.prompts import training_ids
from slowthink.pipeline.contract import stage_settings
from slowthink.recipe import ChatConfig, PreferenceConfig, StudentFitScore, StudentLossScore
from slowthink.recipe.loading import parse_recipe
from slowthink.recipe.models import model_loading_settings, model_uses
from slowthink.records import Cost, Problem
from slowthink.sampling.ledger import Ledger
from slowthink.stages import trace
from tests.curation.scored import value_names
from tests.tiny import make_tiny_model

CHAINS = {
    "What is 17 + 25?": ("17 + 25 is 42. Wait, 7 + 5 = 12, so 42 again.", "Final Answer: 42"),
    "What is 3 * 4?": ("Three fours.", "Final Answer: 12"),
    "求 2 的 5 次方。": ("2, 4, 8, 16, 32。" * 6, "Final Answer: 32"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, smollm_tokenizer) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer)


@pytest.fixture
def one_tokenizer(monkeypatch, smollm_tokenizer) -> None:
    """The tiny model's is the same; reading it takes longer than a test."""
    monkeypatch.setattr(student, "load_tokenizer", lambda *_, **__: smollm_tokenizer)


def chains_of(make_problem: Callable[..., Problem]) -> list[ChainText]:
    return [
        ChainText(
            problem=make_problem(question), thinking=thinking, response=response,
            num_thinking_tokens=0,
        )
        for question, (thinking, response) in CHAINS.items()
    ]  # fmt: skip


def make_context(model: object, root: Path, **settings: Any) -> ScoreContext:
    engine = {"kind": "transformers", "dtype": "float32"}
    recipe = parse_recipe({"name": "t", "model": str(model), "engine": engine} | settings)
    return ScoreContext(
        recipe=recipe, open_ledger=lambda: Ledger(root / "l.sqlite"), tag="trace",
        notify=lambda text: None, progress=lambda done, total: None,
    )  # fmt: skip


@cache
def literal(folder: object, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Values:
    """The paper's definition, word for word: sort the vocabulary, look the token up."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0]
    rank = surprisal = 0.0
    for position, token in enumerate(completion, len(prompt)):
        before = logits[position - 1]
        order = before.argsort(descending=True)
        rank += min(int((order == token).nonzero()) + 1, 100)
        surprisal -= float(before.log_softmax(0)[token])
    return {"student-fit": rank / surprisal, "student-loss": surprisal / len(completion)}


def ids_of(chain: ChainText, tokenizer: Any, context: ScoreContext) -> tuple[Any, Any]:
    ids = training_ids(
        tokenizer, chain.problem, thinking=chain.thinking, response=chain.response,
        chat=context.recipe.chat,
    )  # fmt: skip
    return ids.prompt_ids, ids.completion_ids


# --- values ---------------------------------------------------------------------------------------


def test_values_are_those_of_the_literal_formula_on_what_training_shows(
    tiny, tmp_path, make_problem, smollm_tokenizer
) -> None:
    chains, context = chains_of(make_problem), make_context(tiny, tmp_path)
    fits = SCORES["student-fit"](StudentFitScore()).score(chains, context)
    losses = SCORES["student-loss"](StudentLossScore()).score(chains, context)
    for chain, fit, loss in zip(chains, fits, losses, strict=True):
        expected = literal(tiny, *ids_of(chain, smollm_tokenizer, context))
        assert fit["student-fit"] == pytest.approx(expected["student-fit"], rel=1e-4)
        assert set(fit) == value_names(StudentFitScore())
        assert set(loss) == value_names(StudentLossScore())
        assert fit["student-fit.rank"] / fit["student-fit.surprisal"] == fit["student-fit"]
        assert loss == {"student-loss": pytest.approx(expected["student-loss"], rel=1e-5)}


@pytest.mark.parametrize("block_tokens", [7, 90, 10_000])
def test_pieces_and_batches_give_the_same_sums(
    block_tokens, tiny, tmp_path, make_problem, smollm_tokenizer
) -> None:
    from slowthink.engines.transformers.token_ranks import RankModel

    context = make_context(tiny, tmp_path)
    texts = [ids_of(chain, smollm_tokenizer, context) for chain in chains_of(make_problem)]
    texts.append(([5], [6]))
    model = RankModel(tiny, context.recipe.engine, block_tokens=block_tokens)
    sums = {index: value for block in model.measure(texts) for index, value in block.items()}
    alone = RankModel(tiny, context.recipe.engine, block_tokens=10_000)
    for index, text in enumerate(texts):
        ((_, expected),) = next(alone.measure([text])).items()
        assert sums[index].num_tokens == expected.num_tokens == len(text[1])
        assert sums[index].rank == expected.rank
        assert sums[index].surprisal == pytest.approx(expected.surprisal, rel=1e-5)
    assert model.cost == Cost(prefilled=sum(len(p) + len(c) - 1 for p, c in texts))


def test_tied_tokens_share_the_best_rank_and_high_ranks_are_cut() -> None:
    import torch

    from slowthink.engines.transformers.token_ranks import TokenSums, _reduce

    logits = torch.zeros(1, 3, 300)
    logits[0, 0, 7] = 1.0
    logits[0, 1] = torch.arange(300.0)
    (sums,) = _reduce(logits, torch.tensor([[5, 0, -1]]))
    uniform = -torch.log_softmax(logits[0, 0], 0)[5] - torch.log_softmax(logits[0, 1], 0)[0]
    assert (sums.num_tokens, sums.rank) == (2, 2 + 100)
    assert sums == TokenSums(num_tokens=2, rank=102, surprisal=pytest.approx(float(uniform)))


def test_bfloat16_weights_give_float32_logits(tiny) -> None:
    import torch

    from slowthink.engines.transformers.token_ranks import RankModel
    from slowthink.recipe import EngineConfig

    model = RankModel(tiny, EngineConfig(dtype="bfloat16"))._model
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model(torch.tensor([[1, 2]])).logits.dtype == torch.float32


def test_a_chain_longer_than_the_context_has_no_value_and_is_counted(
    tiny, tmp_path, make_problem, one_tokenizer
) -> None:
    engine = {"kind": "openai", "dtype": "float32", "max_context": 110}  # the kind does not matter
    context = make_context(tiny, tmp_path, engine=engine)
    values = SCORES["student-fit"](StudentFitScore()).score(chains_of(make_problem), context)
    assert [bool(value) for value in values] == [True, True, False]
    assert context.facts["num_too_long"] == 1


# --- the ledger -----------------------------------------------------------------------------------


def test_another_score_and_another_run_read_no_chain_again(
    tiny, tmp_path, make_problem, one_tokenizer, monkeypatch
) -> None:
    from slowthink.engines.transformers import token_ranks

    chains, context = chains_of(make_problem), make_context(tiny, tmp_path)
    first = SCORES["student-fit"](StudentFitScore()).score(chains, context)
    with context.open_ledger() as ledger:
        spent, _ = ledger.spent("trace")
    assert spent.prefilled > 100
    monkeypatch.delattr(token_ranks, "RankModel")  # nothing may be loaded now
    assert SCORES["student-fit"](StudentFitScore()).score(chains, context) == first
    losses = SCORES["student-loss"](StudentLossScore()).score(chains, context)
    assert [v["student-loss"] for v in losses] == [v["student-fit.surprisal"] for v in first]


def test_after_a_kill_the_rest_is_read_to_the_same_bits(
    tiny, tmp_path, make_problem, one_tokenizer, monkeypatch
) -> None:
    from slowthink.engines.transformers import token_ranks

    monkeypatch.setattr(token_ranks, "_block_tokens", lambda model: 200)
    chains, score = chains_of(make_problem), SCORES["student-fit"](StudentFitScore())
    expected = score.score(chains, make_context(tiny, tmp_path / "undisturbed"))
    done: list[int] = []

    def stop_once(num_done: int, total: int) -> None:
        done.append(num_done)
        if len(done) == 1:
            raise KeyboardInterrupt

    context = replace(make_context(tiny, tmp_path), progress=stop_once)
    with pytest.raises(KeyboardInterrupt):
        score.score(chains, context)
    assert score.score(chains[::-1], context) == expected[::-1]
    assert done == [2, 3], "two short chains shared a block"
    with context.open_ledger() as ledger:
        cost, _ = ledger.spent("trace")
    with Ledger(tmp_path / "undisturbed" / "l.sqlite") as ledger:
        assert ledger.spent("trace")[0] == cost


def test_the_chat_and_the_dtype_are_part_of_the_key(
    tiny, tmp_path, make_problem, one_tokenizer
) -> None:
    chains = chains_of(make_problem)[:1]
    contexts = [
        make_context(tiny, tmp_path),
        make_context(tiny, tmp_path, chat={"format": "plain"}),
        make_context(tiny, tmp_path, engine={"kind": "transformers", "dtype": "bfloat16"}),
    ]
    values = [SCORES["student-fit"](StudentFitScore()).score(chains, c)[0] for c in contexts]
    assert len({value["student-fit"] for value in values}) == 3


# --- teachers and preferences ---------------------------------------------------------------------


def values_of(rank: float, surprisal: float) -> Values:
    parts = {"student-fit.rank": rank, "student-fit.surprisal": surprisal}
    return {"student-fit": rank / surprisal} | parts


def test_a_teachers_value_is_a_ratio_of_means() -> None:
    chains = [("a", "1", values_of(2, 1)), ("a", "2", values_of(12, 3)), ("a", "3", {}),
              ("b", "4", values_of(3, 1))]  # fmt: skip
    fits = teacher_fits(chains, seed=0)
    assert list(fits) == ["b", "a"]  # 3 / 1 before 7 / 2; a mean of ratios would tie at 3
    assert (fits["a"]["fit"], fits["a"]["num_chains"], fits["b"]["ci95"]) == (3.5, 2, None)
    low, high = fits["a"]["ci95"]  # rank - fit * surprisal: -1.5, 1.5; its deviation 2.12
    assert (low, high) == (pytest.approx(3.5 - 1.47, abs=1e-3), pytest.approx(3.5 + 1.47, abs=1e-3))


def test_a_teacher_is_judged_by_200_chains_drawn_by_seed() -> None:
    chains = [("a", str(index), values_of(index + 1.0, 1.0)) for index in range(500)]
    fit = teacher_fits(chains, seed=0)["a"]
    assert fit["num_chains"] == TEACHER_CHAINS
    assert fit == teacher_fits(chains[::-1], seed=0)["a"]
    assert fit != teacher_fits(chains, seed=1)["a"]


def test_the_chain_nearest_to_the_student_comes_first() -> None:
    assert [higher_is_better(name) for name in ("student-fit", "student-fit.rank", "student-loss",
            "rubric", "rubric.level")] == [False, False, False, True, True]  # fmt: skip
    chains = [
        RankedChain(chain=fit, chain_id=str(fit), num_tokens=9, scores={"student-fit": fit})
        for fit in (4.0, 3.0, 5.0)
    ]
    config = PreferenceConfig(by="student-fit")
    assert order_chains(chains, config, problem_id="p", seed=0) == [3.0, 4.0, 5.0]


def test_chains_without_the_score_come_last_but_one_must_have_it() -> None:
    config, scores = PreferenceConfig(by="student-fit"), [{}, {"student-fit": 9.0}, {}]
    chains = [
        RankedChain(chain=name, chain_id=name, num_tokens=length, scores=values)
        for name, length, values in zip("abc", (5, 9, 1), scores, strict=True)
    ]
    assert order_chains(chains, config, problem_id="p", seed=0) == ["b", "c", "a"]
    require_score(scores, config)
    with pytest.raises(DataError, match=r"no chain has a score `student-fit` \(there is length\)"):
        require_score([{"length": 1.0}], config)


# --- what a recipe with these scores says of itself -----------------------------------------------


def test_models_of_scores_are_planned_checked_and_part_of_the_settings() -> None:
    scores = [
        {"kind": "length"},
        {"kind": "student-fit", "model": "org/small-1B"},
        {"kind": "rubric", "engine": {"kind": "openai", "endpoints": {"urls": ["http://h"]}}},
    ]
    engine = {"kind": "vllm", "dtype": "float32"}
    recipe = parse_recipe({"name": "t", "engine": engine, "trace": {"scores": scores}})
    assert model_loading_settings(recipe, "trace") == ("trace.scores.1", "trace.scores.2")
    assert trace.plan(recipe)["scores"] == [
        "student-fit: org/small-1B reads each chain once",
        "rubric: smollm2-135m rates each chain once",
    ]
    uses = {(use.name, use.engine.kind) for use in model_uses(recipe)}
    assert uses == {("org/small-1B", "transformers"), ("smollm2-135m", "openai")}
    other_chat = recipe.model_copy(update={"chat": ChatConfig(format="plain")})
    assert stage_settings(recipe, "trace") != stage_settings(other_chat, "trace")


def test_two_scores_of_one_kind_are_refused() -> None:
    scores = [{"kind": "student-fit"}, {"kind": "student-fit", "model": "org/other"}]
    with pytest.raises(ConfigError, match=r"trace.scores: two scores of one kind"):
        parse_recipe({"name": "t", "trace": {"scores": scores}})


# --- the embedded model ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("block_tokens", [None, 50])
def test_the_embedded_model_gives_the_literal_values(
    block_tokens, smollm, smollm_tokenizer, tmp_path, make_problem, monkeypatch
) -> None:
    """The last chain takes several blocks, the others share one; with 50 tokens all take several."""
    from slowthink.engines.models import resolve_model
    from slowthink.engines.transformers import token_ranks

    if block_tokens:
        monkeypatch.setattr(token_ranks, "_block_tokens", lambda model: block_tokens)
    steps = " ".join(f"Wait, {n} squared is {n * n}, not {n * n + 1}." for n in range(60))
    chains, context = chains_of(make_problem), make_context(smollm, tmp_path)
    chains.append(replace(chains[0], thinking=steps))
    fits = SCORES["student-fit"](StudentFitScore()).score(chains, context)
    for chain, fit in zip(chains, fits, strict=True):
        expected = literal(resolve_model(smollm), *ids_of(chain, smollm_tokenizer, context))
        assert fit["student-fit"] == pytest.approx(expected["student-fit"], abs=1e-4)


@pytest.mark.slow
def test_the_stage_writes_scores_and_each_teachers_value(smollm, tmp_path) -> None:
    from slowthink.pipeline.run_folder import make_context as make_stage_context
    from slowthink.stages import trace

    path, answer = tmp_path / "mine.jsonl", "Final Answer: 2"
    rows = [
        {"question": "1 + 1?", "thinking": text, "response": answer, "answer": "2", "model": name}
        for text, name in (("One and one is two.", "plain"), ("zq vrk 2 xx two", "odd"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {
        "sources": [{"kind": "file", "path": str(path)}], "prefer": {"by": "student-fit"},
        "scores": [{"kind": "student-fit"}, {"kind": "student-loss"}],
    }  # fmt: skip
    engine = {"kind": "transformers", "dtype": "float32"}
    recipe = parse_recipe({"name": "t", "model": smollm, "engine": engine, "trace": section})
    context = make_stage_context(recipe, tmp_path, "trace", notify=lambda text: None)
    result = trace.run(context)
    (kept,) = result.records
    scores = json.loads(kept.scores)
    facts, fits = result.facts["scores"], result.facts["teacher_fits"]
    assert kept.teacher == next(iter(fits))
    assert set(fits) == {"plain", "odd"}
    assert scores["student-loss"] == scores["student-fit.surprisal"]
    assert (facts["student-fit"]["num_scored"], facts["student-fit"]["version"]) == (2, 1)
