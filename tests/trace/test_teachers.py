"""Teachers on the replay engine: chains, stopping, limits, attempts, preview, plan, bad settings."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.app import main
from slowthink.cli.check import check_recipe, result_text
from slowthink.cli.plan_text import plan_text
from slowthink.data.tables import ATTEMPTS_TABLE, read_records
from slowthink.engines.replay import ReplaySession, Script
from slowthink.engines.session import Job, JobResult
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.recipe.models import model_uses
from slowthink.records import AnswerEnd, Completion, Problem, Reported, ThinkingEnd
from slowthink.sampling.provenance import TokenUse, token_use
from slowthink.serialise import plain
from slowthink.stage_rows import Attempt
from slowthink.stages import filter as filter_stage, trace
from slowthink.stages.trace.chains import SourceChains
from slowthink.stages.trace.gather import gather_chains
from slowthink.stages.trace.preview import preview_chains, preview_text
from slowthink.stages.trace.spending import NOTHING, Limits, Spent, fitting_prefix

QUESTIONS = [f"What is {n} + {n}?" for n in range(12)]


@pytest.fixture
def problems(make_problem) -> list[Problem]:
    return [make_problem(q, str(2 * n), source="t") for n, q in enumerate(QUESTIONS)]


def script_file(folder: Path, *, wrong: Sequence[int] = (), thinking: str = "so {n}") -> str:
    """Scripts in which the answers to some of the questions are wrong."""
    path = folder / "script.jsonl"
    rows = [
        {"question": question, "thinking": [thinking.format(n=n)],
         "answer": "-1" if n in wrong else str(2 * n)}
        for n, question in enumerate(QUESTIONS)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe_of(folder: Path, source: dict[str, Any], **trace_settings: Any) -> Recipe:
    script = folder / "script.jsonl"
    replay = {"kind": "replay", "replay": str(script) if script.exists() else script_file(folder)}
    teacher = {"kind": "teacher", "model": "m", "engine": replay, "chat": {"format": "s1"}}
    sources = {"sources": [teacher | source]}
    return parse_recipe(
        {"name": "t", "pool": {"sources": [{"kind": "sandbox"}]}, "trace": sources | trace_settings}
    )


def gather(recipe: Recipe, folder: Path, problems: Sequence[Problem], name="run") -> SourceChains:
    context = make_context(recipe, folder / name, "trace", notify=lambda text: None)
    return gather_chains(context, problems)


def rows_of(gathered: SourceChains) -> list[tuple[str, str, str]]:
    return [(chain.location, chain.thinking, chain.response) for chain in gathered.chains]


def test_a_teacher_writes_a_chain_for_each_problem_with_its_origin(tmp_path, problems) -> None:
    script_file(tmp_path, wrong=[0])
    gathered = gather(recipe_of(tmp_path, {}), tmp_path, problems)
    assert len(gathered.chains) == 12
    chain = next(chain for chain in gathered.chains if chain.problem.question == QUESTIONS[3])
    assert (chain.thinking, chain.response) == ("so 3", "Final Answer: 6")
    assert chain.provenance["sampling"]["temperature"] == 0.6
    assert {k: chain.provenance[k] for k in ("model", "engine", "sample", "tokens")} == {
        "model": "m", "engine": "replay", "sample": 0, "tokens": 19,
    }  # fmt: skip
    assert chain.provenance["date"].endswith("Z")
    (facts,) = gathered.facts["teacher_runs"]
    assert (facts["num_requests"], facts["num_right"], facts["num_truncated"]) == (12, 11, 0)
    assert gathered.facts["warnings"] == []


def test_a_chain_at_its_limit_is_truncated(tmp_path, problems) -> None:
    script_file(tmp_path, thinking="so " * 20)
    recipe = recipe_of(tmp_path, {"budget": {"max_thinking_tokens": 10}})
    gathered = gather(recipe, tmp_path, problems[:2])
    assert [(chain.truncated, chain.response) for chain in gathered.chains] == [(True, "")] * 2
    assert "cut off at their limit" in gathered.facts["warnings"][0]
    forced = recipe_of(tmp_path, {"budget": {"max_thinking_tokens": 10, "force_end": True}})
    gathered = gather(forced, tmp_path, problems[:2], "forced")
    assert [chain.truncated for chain in gathered.chains] == [False] * 2


def test_auto_takes_the_whole_text_of_a_model_without_thinking(tmp_path, problems) -> None:
    script_file(tmp_path, thinking="{n} + {n}: \\boxed{{8}}")
    gathered = gather(recipe_of(tmp_path, {"chat": {"format": "auto"}}), tmp_path, problems[4:5])
    (chain,) = gathered.chains
    assert (chain.thinking, chain.response) == ("4 + 4: \\boxed{8}", "Final Answer: 8")


def test_empty_thinking_is_a_warning(tmp_path, problems) -> None:
    script_file(tmp_path, thinking="")
    gathered = gather(recipe_of(tmp_path, {}), tmp_path, problems)
    assert "12 of 12 chains have no thinking" in gathered.facts["warnings"][0]


# --- until the first right one --------------------------------------------------------------------


class Shuffled(ReplaySession):
    """Answers by sample, and completes jobs a few at a time in any order."""

    def __init__(self, answers: dict[str, str], *, seed: int) -> None:
        super().__init__({q: Script(thinking=("so",), answer="?") for q in answers})
        self.answers, self.rng, self.sample, self.num_done = answers, random.Random(seed), 0, 0

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        keys = sorted(self._queue)
        self.rng.shuffle(keys)
        jobs = [self._queue.pop(key) for key in keys[: self.rng.randint(1, max(1, len(keys)))]]
        self.num_done += len(jobs)
        return [result for job in jobs for result in self._of(job)]

    def _of(self, job: Job) -> list[JobResult]:
        self.sample = job.request.sample
        return list(self._replay(job))

    def _script(self, prompt_ids: Sequence[int]) -> Script:
        text = self.tokenizer.decode(prompt_ids)
        question = text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
        is_right = self.answers[question][self.sample] == "c"
        value = 2 * QUESTIONS.index(question) if is_right else -1
        return Script(thinking=(f"try {self.sample}",), answer=str(value))


@pytest.fixture
def shuffled(monkeypatch):
    """Let teachers open a session that completes in any order; returns the sessions."""
    sessions: list[Shuffled] = []
    letters = random.Random(0)
    answers = {q: "".join(letters.choices("cww", k=4)) for q in QUESTIONS}

    def open_session(*_: Any, **__: Any) -> Shuffled:
        sessions.append(Shuffled(answers, seed=len(sessions)))
        return sessions[-1]

    monkeypatch.setattr("slowthink.stages.trace.sampled.open_session", open_session)
    return answers, sessions


def test_tries_stop_at_the_first_right_one_in_any_order(tmp_path, problems, shuffled) -> None:
    answers, sessions = shuffled
    recipe = recipe_of(tmp_path, {"num_chains": 4, "until_right": True})
    runs = [rows_of(gather(recipe, tmp_path, problems, f"run{n}")) for n in range(3)]
    assert runs[0] == runs[1] == runs[2]
    num_tries = {q: letters.index("c") + 1 if "c" in letters else 4
                 for q, letters in answers.items()}  # fmt: skip
    assert len(runs[0]) == sum(num_tries.values()) == sessions[0].num_done
    again = gather(recipe, tmp_path, problems, "run0")
    assert (rows_of(again), sessions[-1].num_done) == (runs[0], 0)


def test_a_problem_that_cannot_be_graded_gets_one_try(tmp_path, make_problem, shuffled) -> None:
    recipe = recipe_of(tmp_path, {"num_chains": 4, "until_right": True})
    assert len(gather(recipe, tmp_path, [make_problem(QUESTIONS[0], None)]).chains) == 1


def test_equal_chains_of_a_problem_are_dropped(tmp_path, problems) -> None:
    gathered = gather(recipe_of(tmp_path, {"num_chains": 3}), tmp_path, problems[:2])
    assert (len(gathered.chains), len(gathered.dropped), gathered.num_rows) == (2, 4, 6)
    assert {drop.reason for drop in gathered.dropped} == {"equal to another chain of its problem"}


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [90, 150, 10_000])
def test_the_longest_prefix_that_fits_is_passed_on(
    tmp_path, problems, shuffled, max_tokens: int
) -> None:
    _, sessions = shuffled
    source = {"num_chains": 4, "until_right": True}
    whole = gather(recipe_of(tmp_path, source), tmp_path, problems, "whole")
    order = list(dict.fromkeys(chain.problem.id for chain in whole.chains))
    used, expected = 0, []
    for id in order:
        chains = [chain for chain in whole.chains if chain.problem.id == id]
        used += sum(chain.provenance["tokens"] for chain in chains)
        if used > max_tokens:
            break
        expected += chains
    for name in ("a", "b"):
        cut = gather(recipe_of(tmp_path, source, max_tokens=max_tokens), tmp_path, problems, name)
        assert [c.chain_id for c in cut.chains] == [c.chain_id for c in expected]
        (facts,) = cut.facts["teacher_runs"]
        num_paid = facts["num_requests"] + facts["waste"]["num_chains"]
        assert sessions[-1].num_done == num_paid
    if max_tokens < 200:
        assert facts["num_not_asked"] > 0


def test_a_limit_below_the_first_problem_is_an_error(tmp_path, problems) -> None:
    recipe = recipe_of(tmp_path, {}, max_tokens=18)
    with pytest.raises(DataError, match=r"the first problem do not fit \(the first 4 took 7\d"):
        gather(recipe, tmp_path, problems)


def test_cost_is_counted_by_the_price(tmp_path, problems) -> None:
    priced = {"price": {"input": 1.0, "output": 1e6}, "sampling": {"temperature": 0}}
    recipe = recipe_of(tmp_path, priced, max_cost=65)
    (facts,) = gather(recipe, tmp_path, problems).facts["teacher_runs"]
    assert facts["num_problems"] == 3
    assert facts["cost"] == pytest.approx(facts["tokens"] + facts["prompt_tokens"] / 1e6)
    assert facts["waste"]["cost"] + facts["cost"] < 150


def test_the_second_teacher_gets_what_the_first_leaves() -> None:
    decided = {"a": Spent(5), "b": Spent(7), "c": Spent(1)}
    limits = Limits(max_tokens=12)
    assert fitting_prefix("abc", decided, limits, before=NOTHING) == (
        ["a", "b"], Spent(12),
    )  # fmt: skip
    assert fitting_prefix("abc", decided, limits, before=Spent(3)) == (["a"], Spent(8))
    assert fitting_prefix("ac", {"c": Spent(1)}, limits, before=NOTHING) == ([], NOTHING)
    assert limits.num_to_run(Spent(8), before=Spent(4), num_decided=2) == 2
    assert limits.num_to_run(Spent(12), before=NOTHING, num_decided=2) == 0


def test_the_counts_of_an_api_come_before_our_own() -> None:
    counted = {
        "key": "k", "chain_key": "c", "num_prompt_tokens": 7, "thinking_ids": (1, 2),
        "thinking": "", "answer_ids": (3,), "answer": "", "closing_ids": (), "events": (),
        "thinking_end": ThinkingEnd.NATURAL, "answer_end": AnswerEnd.STOP,
    }  # fmt: skip
    assert token_use(Completion(**counted)) == TokenUse(7, 3)
    stated = Reported(num_prompt_tokens=9, num_completion_tokens=912, hidden="counted only")
    assert token_use(Completion(**counted, reported=stated)) == TokenUse(9, 912)


def test_a_limit_of_money_needs_prices(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"max_cost: sources.0 has no price; expected"):
        recipe_of(tmp_path, {}, max_cost=1)


# --- the attempts of the difficulty step ----------------------------------------------------------


def filtered(folder: Path, problems: Sequence[Problem], **trace_settings: Any) -> Recipe:
    """A recipe whose filter has run with a difficulty step on the scripts."""
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(plain(p)) + "\n" for p in problems))
    model = {"model": "m", "engine": {"kind": "replay", "replay": str(folder / "script.jsonl")},
             "max_thinking_tokens": 16, "answer_tokens": 40}  # fmt: skip
    difficulty = {"name": "fine", "models": [model], "num_attempts": 2, "key_check": None}
    settings = {"input": str(path), "quality": None, "duplicates": None, "difficulty": difficulty}
    recipe = parse_recipe({"name": "t", "filter": settings, "trace": trace_settings})
    execute(
        make_context(recipe, folder / "run", "filter", notify=lambda text: None),
        filter_stage.run, version=filter_stage.STAGE_VERSION,
    )  # fmt: skip
    return recipe


def test_attempts_of_the_difficulty_step_are_chains(tmp_path, problems) -> None:
    script_file(tmp_path, wrong=range(6))
    recipe = filtered(tmp_path, problems, sources=[{"kind": "attempts", "step": "fine"}])
    rows = read_records(tmp_path / "run/filter" / ATTEMPTS_TABLE, Attempt)
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert len(rows) == 24
    kept = read_records(tmp_path / "run/filter", Problem)
    gathered = gather(recipe, tmp_path, kept)
    assert len(gathered.chains) == 6
    chain = next(chain for chain in gathered.chains if chain.problem.question == QUESTIONS[2])
    assert (chain.thinking, chain.response, chain.teacher) == ("so 2", "Final Answer: -1", "m")
    assert chain.completion_key and chain.provenance["model"] == "m"
    unknown = recipe.model_copy(update={"trace": parse_recipe(
        {"name": "t", "trace": {"sources": [{"kind": "attempts", "model": "x"}]}}
    ).trace})  # fmt: skip
    with pytest.raises(DataError, match=r"none of 24 attempts .* drew: difficulty: fine by m"):
        gather(unknown, tmp_path, kept)


def test_attempts_need_a_difficulty_step(tmp_path, problems) -> None:
    recipe = parse_recipe({
        "name": "t", "pool": {"sources": [{"kind": "sandbox"}]}, "trace": {"sources": [{"kind": "attempts"}]},
    })  # fmt: skip
    with pytest.raises(ConfigError, match=r"trace.sources.0: .* no difficulty step"):
        trace.plan(recipe)


# --- before anything is spent ---------------------------------------------------------------------


def with_pool(folder: Path, problems: Sequence[Problem], source: dict[str, Any]) -> Recipe:
    """A recipe whose pool has run."""
    path = folder / "pool.jsonl"
    rows = [{"question": p.question, "answer": p.answer} for p in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_of(folder, source)
    sources = parse_recipe(
        {"name": "t", "pool": {"sources": [{"kind": "file", "path": str(path)}]}}
    )
    recipe = recipe.model_copy(update={"pool": sources.pool})
    run_recipe(recipe, folder / "run", stages=["pool"], reporter=ProgressReporter(quiet=True))
    return recipe


def test_preview_is_not_paid_twice_and_writes_no_stage(tmp_path, problems) -> None:
    recipe = with_pool(tmp_path, problems, {"price": {"input": 0, "output": 1e6}})
    steps: list[tuple[int, int]] = []
    preview = preview_chains(
        recipe, tmp_path / "run", 3, notify=lambda text: None,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert (steps[0], steps[-1]) == ((0, 3), (3, 3))
    rows = preview["chains"]
    assert [row["verdict"] for row in rows] == ["correct"] * 3
    assert rows[0]["cost"] == rows[0]["tokens"] > 10
    assert "<|im_start|>think" in rows[0]["prompt"]
    text = preview_text(preview)
    assert "m: 3 of 3 right, tokens_per_chain: 20" in text and "--- correct: read" in text
    assert not list((tmp_path / "run").glob("trace*"))
    train = read_records(tmp_path / "run/pool", Problem)
    all_facts = gather(recipe, tmp_path, train).facts
    (facts,) = all_facts["teacher_runs"]
    assert facts["decoded_tokens"] == facts["tokens"] + 2 * 12  # and the two ends of each
    assert all_facts["tokens"] == {"decoded": facts["decoded_tokens"]}
    assert all_facts["sampling_seconds"] == facts["seconds"], "of the preview too"


def test_the_command_prints_a_preview_as_json(tmp_path, problems, capsys) -> None:
    with_pool(tmp_path, problems, {})
    teacher = f"{{kind: teacher, model: m, chat: {{format: s1}}, engine: {{kind: replay, replay: {tmp_path}/script.jsonl}}}}"
    command = ["trace", str(tmp_path / "run"), "--preview", "1", "--json", "--quiet"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--set", f"trace.sources=[{teacher}]"])
    assert not stopped.value.code
    (row,) = json.loads(capsys.readouterr().out)["chains"]
    assert (row["verdict"], row["thinking"][:2]) == ("correct", "so")


def test_dry_run_prints_teachers_requests_tokens_and_money(tmp_path, problems) -> None:
    source = {
        "num_chains": 4, "tokens_per_chain": 1000, "tokens_per_second": 100,
        "price": {"input": 0.5, "output": 2.0},
    }  # fmt: skip
    recipe = with_pool(tmp_path, problems, source)
    text = plan_text(plan_run(recipe, tmp_path / "new", stages=["trace"]))
    assert "at most 48 chains, at most 48,000 tokens, costs 0.10" in text
    assert "m: at most 48 chains for 12 problems, about 48,000 tokens, 0.13 hours" in text
    limited = recipe_of(tmp_path, source, max_tokens=12_000)
    limited = limited.model_copy(update={"pool": recipe.pool})
    figures = trace.plan(limited)
    assert (figures["estimated_tokens"], figures["num_requests"]) == (12_000, 48)


CHAT = {"kind": "openai", "endpoints": {"urls": ["http://localhost:1/v1"], "api": "chat"}}
BAD = {
    "budget on a chat API": (
        {"engine": CHAT, "budget": {"waits": 1}},
        r"sources.0.budget.waits: a chat API \(`m`\) cannot continue",
    ),
    "language without a line": (
        {"thinking_language": "fr"}, r"thinking_language: no line asks for thinking in `fr`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "message"), BAD.values(), ids=BAD.keys())
def test_bad_settings_are_refused_before_anything_runs(tmp_path, problems, source, message) -> None:
    recipe = recipe_of(tmp_path, source)
    for run in (lambda: trace.plan(recipe), lambda: gather(recipe, tmp_path, problems)):
        with pytest.raises(ConfigError, match=message):
            run()


def test_an_unset_key_of_any_teacher_stops_before_the_first_runs(tmp_path, problems) -> None:
    keyed = {"kind": "openai", "endpoints": {"urls": ["http://localhost:1/v1"],
                                             "api_key_env": "NO_SUCH_KEY"}}  # fmt: skip
    recipe = recipe_of(tmp_path, {})
    values = recipe.model_dump(mode="json")
    values["trace"]["sources"].append({"kind": "teacher", "model": "x", "engine": keyed})
    with pytest.raises(ConfigError, match=r"the environment variable `NO_SUCH_KEY` is not set"):
        gather(parse_recipe(values), tmp_path, problems)
    assert not (tmp_path / "run/ledger.sqlite").exists()


def test_an_unset_key_is_reported_by_the_plan_by_check_and_before_the_first_stage(
    tmp_path, problems, monkeypatch
) -> None:
    keyed = {"kind": "openai", "endpoints": {"urls": ["http://localhost:1/v1"],
                                             "api_key_env": "NO_SUCH_KEY"}}  # fmt: skip
    recipe = with_pool(tmp_path, problems, {"engine": keyed})
    line = (
        "NO_SUCH_KEY is missing (trace.sources.0.engine.endpoints.api_key_env): "
        "run export NO_SUCH_KEY=…"
    )
    assert line in plan_text(plan_run(recipe, tmp_path / "new"))
    checked = check_recipe(recipe)
    assert checked["ok"] and line in result_text(checked)
    with pytest.raises(
        DataError, match=r"NO_SUCH_KEY: no such environment variable \(trace\.sources\.0\.engine"
    ):
        run_recipe(recipe, tmp_path / "new", reporter=ProgressReporter(quiet=True))
    assert not (tmp_path / "new/pool").exists()
    assert plan_run(recipe, tmp_path / "new", stages=["pool"])["needed"] == []
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    assert plan_run(recipe, tmp_path / "new")["needed"] == []


def test_no_problems_and_no_pool_are_errors(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no training problem is left for the teacher `m`"):
        gather(recipe_of(tmp_path, {}), tmp_path, [])
    values = recipe_of(tmp_path, {}).model_dump(mode="json") | {"pool": None}
    with pytest.raises(ConfigError, match=r"has no problems, since the recipe has no `pool`"):
        trace.plan(parse_recipe(values))


# --- languages ------------------------------------------------------------------------------------


def test_a_thinking_language_chooses_texts_and_is_recorded(tmp_path, make_problem) -> None:
    question = "一加一等于几"
    chat = {"format": "s1", "system_prompt": {"en": "Careful.", "zh": "仔细。"},
            "instruction": {"en": "Box it.", "zh": "写在框里。"}}  # fmt: skip
    content = f"{question}\nBox it.\nThink in English."
    script = {"question": content, "thinking": ["one plus one is two"], "answer": "2"}
    (tmp_path / "script.jsonl").write_text(json.dumps(script) + "\n")
    recipe = recipe_of(tmp_path, {"chat": chat, "thinking_language": "en"})
    gathered = gather(recipe, tmp_path, [make_problem(question, "2", language="zh")])
    (chain,) = gathered.chains
    asked, came = (chain.provenance[key] for key in ("thinking_language", "language"))
    assert (asked, came, gathered.facts["warnings"]) == ("en", "en", [])


def test_another_language_than_the_question_is_counted(tmp_path, problems) -> None:
    script_file(tmp_path, thinking="我们来计算第 {n} 题的和")
    (facts,) = gather(recipe_of(tmp_path, {}), tmp_path, problems).facts["teacher_runs"]
    assert facts["num_other_language"] == 12


def test_doctor_names_the_models_of_teachers(tmp_path) -> None:
    uses = list(model_uses(recipe_of(tmp_path, {"model": "someone/teacher-7b"})))
    assert [(use.name, use.engine.kind) for use in uses] == [("someone/teacher-7b", "replay")]
