"""The evaluate stage on the replay engine: sets, protocols, growth, regrading, stored samples."""

from __future__ import annotations

import json

import pytest

from slowthink.data import tables
from slowthink.data.load import ProblemSet
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline import contract, run as pipeline
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe import ChatConfig
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.recipe.protocols import PROTOCOLS
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate import plan
from slowthink.stages.evaluate.arms import arm_model
from slowthink.stages.evaluate.sets import resolve_chat
from tests.evaluate.made_rows import make_problem

NUM = 6
DRAWS = {"temperatures": [0.5], "num_samples": 2}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(pipeline, "needs_model", lambda recipe, stage: False)


@pytest.fixture
def folder(tmp_path):
    """Two sets, and scripts that answer every third problem right."""
    scripts = []
    for name, sign in (("math500", "+"), ("kaoyan", "*")):
        rows = []
        for i in range(NUM):
            question = f"What is {i} {sign} {i}?"
            answer = i + i if sign == "+" else i * i
            rows.append({"question": question, "answer": str(answer)})
            scripts.append(
                {"question": question, "thinking": ["so", " so"], "answer": str(answer + i % 3)}
            )
        write(tmp_path / f"{name}.jsonl", rows)
    write(tmp_path / "scripts.jsonl", scripts)
    return tmp_path


def write(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe_of(folder, **evaluate):
    settings = {
        "benchmarks": [
            {"name": "math500", "path": str(folder / "math500.jsonl")},
            {"name": "kaoyan", "path": str(folder / "kaoyan.jsonl")},
        ],
        "protocols": ["s1", {"name": "two", "draws": DRAWS}],
        "arms": [{"name": "one", "model": "base", "caps": [0, 8], "waits": [1]}],
        "num_resamples": 100,
    }
    return parse_recipe(
        {
            "name": "made",
            "engine": {"kind": "replay", "replay": str(folder / "scripts.jsonl")},
            "chat": {"instruction": None},
            "evaluate": settings | evaluate,
        }
    )


def go(recipe, root, **options):
    run_recipe(recipe, root, reporter=ProgressReporter(quiet=True), **options)
    return facts_of(root)


def facts_of(root):
    return contract.read_manifest(root / "evaluate")["facts"]


def rows_of(root):
    return tables.read_records(root / "evaluate", EvaluationRow)


def test_every_set_is_measured_under_every_protocol(folder) -> None:
    recipe = recipe_of(folder, protocols=["s1", {"name": "two", "draws": DRAWS,
                                                 "question_only": True}])  # fmt: skip
    facts = go(recipe, folder / "run")
    measured = [
        (
            set_summary["benchmark"],
            set_summary["protocol"],
            set_summary["arms"][0]["num_samples"],
            set_summary["domain"],
        )
        for set_summary in facts["summary"]["sets"]
    ]
    assert measured == [
        ("math500", "s1", 1, "in"), ("math500", "two", 2, "in"),
        ("kaoyan", "s1", 1, "out"), ("kaoyan", "two", 2, "out"),
    ]  # fmt: skip
    for set_summary in facts["summary"]["sets"]:
        last = set_summary["arms"][0]["points"][-1]
        assert last["accuracy"] == pytest.approx(1 / 3)
        assert last["n"] == NUM
    rows = rows_of(folder / "run")
    assert len(rows) == 2 * NUM * 3 * (1 + 2)
    assert len({row.id for row in rows}) == len(rows)


def test_more_samples_problems_and_budgets_ask_for_the_difference_only(folder) -> None:
    only = {"name": "math500", "path": str(folder / "math500.jsonl")}
    few = {"name": "p", "question_only": True, "draws": DRAWS}
    many = few | {"draws": {"temperatures": [0.5], "num_samples": 5}}
    root = folder / "run"

    def spent(update=True, **more):
        facts = go(recipe_of(folder, benchmarks=[only | more.pop("only", {})], **more), root,
                   update=update)  # fmt: skip
        return facts["arms"]["one"]["tokens"]["decoded"]

    first = spent(protocols=[few], only={"max_problems": 3}, update=False)
    per_sample = first / (3 * 2)
    more_samples = spent(protocols=[many], only={"max_problems": 3})
    assert more_samples == pytest.approx(3 * 5 * per_sample, rel=0.3)
    all_problems = spent(protocols=[many])
    assert all_problems == pytest.approx(NUM * 5 * per_sample, rel=0.3)
    assert spent(protocols=[few]) == all_problems  # all cached
    arm = {"name": "one", "model": "base", "caps": [0, 8, 12], "waits": [1]}
    another_cap = spent(protocols=[few], arms=[arm])
    assert all_problems < another_cap < all_problems * 1.7
    again = spent(protocols=[few], arms=[arm])
    assert again == another_cap


def test_regrade_gives_new_verdicts_and_generates_nothing(folder) -> None:
    recipe = recipe_of(folder, protocols=["s1"])
    root = folder / "run"
    before = go(recipe, root)
    rows = [json.loads(line) for line in (folder / "math500.jsonl").read_text().splitlines()]
    for row in rows:  # new reference answers: every answer that was off by one is correct now
        row["answer"] = str(int(row["answer"]) + 1)
    write(folder / "math500.jsonl", rows)
    (folder / "scripts.jsonl").unlink()  # no engine could answer
    pipeline.regrade(recipe, root, reporter=ProgressReporter(quiet=True))
    after = facts_of(root)
    for name in ("tokens", "sampling_seconds"):
        assert after[name] == before[name]
    right = {row.question for row in rows_of(root) if row.verdict.value == "correct"}
    sums = {question for question in right if "+" in question}
    assert sums == {f"What is {i} + {i}?" for i in range(NUM) if i % 3 == 1}
    assert {question for question in right if "*" in question} == {
        f"What is {i} * {i}?" for i in range(NUM) if i % 3 == 0
    }
    assert list((root / "superseded").glob("evaluate-*/data.parquet"))


def test_regrade_without_an_evaluation_or_with_other_settings_is_refused(folder) -> None:
    root = folder / "run"
    with pytest.raises(ConfigError, match="has not been evaluated yet"):
        pipeline.regrade(recipe_of(folder), root, reporter=ProgressReporter(quiet=True))
    go(recipe_of(folder, protocols=["s1"]), root)
    with pytest.raises(ConfigError, match="num_resamples: 100 -> 200"):
        pipeline.regrade(
            recipe_of(folder, protocols=["s1"], num_resamples=200),
            root,
            reporter=ProgressReporter(quiet=True),
        )


def test_regrade_with_a_problem_gone_says_which(folder) -> None:
    recipe = recipe_of(folder, protocols=["s1"])
    go(recipe, folder / "run")
    lines = (folder / "kaoyan.jsonl").read_text().splitlines()
    (folder / "kaoyan.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(DataError, match=r"kaoyan no longer contains problem p-\w+"):
        pipeline.regrade(recipe, folder / "run", reporter=ProgressReporter(quiet=True))
    assert (folder / "run" / "evaluate" / "data.parquet").exists()  # the old one stays


def test_nothing_to_measure_on_is_refused(folder) -> None:
    with pytest.raises(DataError, match="no benchmark is named"):
        go(recipe_of(folder, benchmarks=[]), folder / "run")


def test_an_unknown_protocol_is_refused_before_any_work(folder) -> None:
    with pytest.raises(ConfigError, match="`limo-v3` is unknown; expected one of greedy"):
        go(recipe_of(folder, protocols=["limo-v3"]), folder / "run")


def test_another_runs_pool_gives_its_held_out_problems(folder) -> None:
    pool = [{"kind": "file", "path": str(folder / "math500.jsonl"), "num_heldout": 2}]
    first = parse_recipe({"name": "first", "pool": {"sources": pool}, "report": None})
    run_recipe(first, folder / "first", reporter=ProgressReporter(quiet=True))
    recipe = recipe_of(
        folder, input=str(folder / "first" / "pool"), benchmarks=[], protocols=["s1"]
    )
    assert plan(recipe)["num_problems"] == NUM  # at most
    go(recipe, folder / "run")
    assert len({row.problem_id for row in rows_of(folder / "run")}) == 2


# --- parallel scaling -----------------------------------------------------------------------------


def closeness(problem, text) -> float:
    """A scorer for tests: 1 where the text contains the reference answer."""
    return float(f" {problem.answer}" in text)


SCORER = {"kind": "function", "function": "tests.evaluate.test_stage:closeness"}
PARALLEL = {"arm": "one", "protocol": "two"}
TWO = {"name": "two", "draws": DRAWS, "question_only": True}


def test_votes_and_rejection_beside_the_sequential_curve(folder) -> None:
    parallel = PARALLEL | {"scorer": SCORER, "rejection": {"limits": [1, 8], "max_tries": 3}}
    root = folder / "run"
    recipe = recipe_of(folder, protocols=["s1", TWO], parallel=parallel)
    facts = go(recipe, root)
    first, second = facts["summary"]["parallel"]
    assert (first["benchmark"], second["benchmark"]) == ("math500", "kaoyan")
    by_method = {}
    for curve in first["curves"]:
        by_method.setdefault(curve["method"], []).append(curve)
    assert set(by_method) == {"sequential", "majority", "weighted", "best-of-n", "rejection"}
    (sequential,) = by_method["sequential"]
    assert [point["k"] for point in sequential["points"]] == [0, 8]
    top = next(c for c in by_method["majority"] if c["sequential_point"]["waits"])
    one, two = top["points"]
    assert (one["k"], two["k"]) == (1, 2)
    assert two["tokens_per_problem"] == pytest.approx(2 * one["tokens_per_problem"])
    assert two["accuracy"] == pytest.approx(1 / 3)
    (rejected,) = by_method["rejection"]
    short, long = rejected["points"]
    assert (short["accuracy"], short["unresolved_rate"]) == (0.0, 1.0)
    assert (long["accuracy"], long["unresolved_rate"]) == (pytest.approx(1 / 3), 0.0)
    assert short["tokens_per_problem"] == pytest.approx(3 * long["tokens_per_problem"], rel=0.2)
    scores = {row.score for row in rows_of(root) if row.protocol == "two"}
    assert scores == {0.0, 1.0}
    assert {row.score for row in rows_of(root) if row.protocol == "s1"} == {None}
    pipeline.regrade(recipe, root, reporter=ProgressReporter(quiet=True))
    again, _ = facts_of(root)["summary"]["parallel"]
    kept = [curve.pop("graded", None) for curve in again["curves"]]
    assert kept.count("before") == 1  # live samples are not in the rows
    assert again == first


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"protocol": "limo-v2"}, "not among evaluate.protocols"),
        ({"protocol": "s1"}, "draws 1 sample"),
    ],
)
def test_a_protocol_that_cannot_vote_is_refused(folder, parallel, message) -> None:
    with pytest.raises(ConfigError, match=message):
        go(recipe_of(folder, protocols=["s1", TWO], parallel=PARALLEL | parallel), folder / "run")


def test_tree_search_needs_a_scorer(folder) -> None:
    with pytest.raises(ConfigError, match="rebase needs a scorer"):
        recipe_of(folder, protocols=[TWO], parallel=PARALLEL | {"rebase": {"widths": [2]}})


# --- the prompt -----------------------------------------------------------------------------------

SET = ProblemSet(name="x", problems=(make_problem("q"),), instruction="Answer with a letter.")


def test_the_chat_goes_before_set_and_protocol() -> None:
    own = ChatConfig(instruction="Be brief.", system_prompt="")
    chat = resolve_chat(own, PROTOCOLS["limo-v1"], SET)
    assert (chat.instruction, chat.system_prompt) == ("Be brief.", "")
    chat = resolve_chat(ChatConfig(), PROTOCOLS["limo-v1"], SET)
    assert chat.instruction == "Answer with a letter."
    assert chat.system_prompt is not None
    assert "\\boxed{}" in chat.system_prompt


def test_s1_asks_the_question_alone() -> None:
    chat = resolve_chat(ChatConfig(instruction="Be brief."), PROTOCOLS["s1"], SET)
    assert (chat.instruction, chat.system_prompt) == (None, None)


def test_an_arm_of_a_model_that_is_not_trained_names_the_command(tmp_path) -> None:
    recipe = load_recipe("quickstart")
    context = StageContext(
        stage="evaluate", recipe=recipe, root=tmp_path, folder=tmp_path, work_folder=tmp_path,
        inputs={"train": tmp_path / "train"}, notify=print, progress=print,
    )  # fmt: skip
    (tuned,) = [arm for arm in recipe.evaluate.arms if arm.model == "tuned"]
    with pytest.raises(DataError, match=r"has not been trained yet\. Run: slowthink train"):
        arm_model(context, tuned)
