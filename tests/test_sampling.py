"""Requests with ledger, replayed session and grader: caching, and every point of a sweep."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slowthink.engines.replay import ReplaySession, Script, read_script
from slowthink.engines.server.chat_session import ChatSession
from slowthink.engines.server.session import OpenAISession
from slowthink.engines.session import Job, Point
from slowthink.errors import ConfigError, DataError
from slowthink.grading import Grader
from slowthink.recipe import ChatConfig, ForcingConfig, Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.records import AnswerEnd, Budget, LoopRule, Sampling, ThinkingEnd, Verdict
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, grade_completion, make_tasks, session_facts
from slowthink.stages.evaluate.batches import segments

QUESTION = "What is 17 + 25?"
SCRIPTS = {
    question: Script(thinking=("17+25=32", " no, 42", " yes"), answer="42")
    for question in (QUESTION, f"{QUESTION}\nThink.")
}
POINTS = [Point(0), Point(4), Point(20), Point(40, 1), Point(40, 2), Point(40, 3)]


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def complete(ledger, problem, points, *, format="s1", scripts=SCRIPTS, **budget):
    session = ReplaySession(scripts)
    tasks = make_tasks(
        session,
        [problem],
        recipe=Recipe(name="r"),
        chat=ChatConfig(format=format),
        budget=Budget(answer_tokens=30, **budget),
        sampling=Sampling(),
        points=points,
    )
    return Sampler(session, ledger, tag="t").complete(tasks)[0], session.cost


def test_every_point_of_a_sweep(ledger, make_problem) -> None:
    completions, _ = complete(ledger, make_problem(), POINTS)
    assert [c.thinking for c in completions] == [
        "",
        "17+2",
        "17+25=32",
        "17+25=32Wait no, 42",
        "17+25=32Wait no, 42Wait yes",
        "17+25=32Wait no, 42Wait yesWait",
    ]
    cap, natural = ThinkingEnd.CAP, ThinkingEnd.NATURAL
    assert [c.thinking_end for c in completions] == [cap, cap, natural, natural, natural, natural]
    assert completions[1].answer == "Final Answer: 42"
    assert completions[2].answer == "Final Answer: 42"
    assert {c.answer_end for c in completions} == {AnswerEnd.STOP}
    assert [c.violations for c in completions] == [()] * len(POINTS)


def test_cached_completions_are_reused(ledger, make_problem) -> None:
    first, _ = complete(ledger, make_problem(), POINTS)
    again, cost = complete(ledger, make_problem(), POINTS)
    assert again == first
    assert cost.decoded == 0


def test_a_larger_cap_and_more_waits_only_add(ledger, make_problem) -> None:
    _, cost = complete(ledger, make_problem(), [Point(4)])
    completions, added = complete(ledger, make_problem(), [Point(4), Point(20), Point(40, 1)])
    forced, natural = len(" 42") + 1, len("Final Answer: 42") + 1  # with the end token
    assert cost.decoded == 4 + forced
    assert added.decoded == len("5=32") + 1 + len(" no, 42") + 1 + 2 * natural
    assert completions[2].thinking == "17+25=32Wait no, 42"


def build_tasks(session, problems, *, points, **more):
    options = {
        "recipe": Recipe(name="r", seed=more.pop("seed", 0)),
        "chat": ChatConfig(**more.pop("chat", {})),
        "sampling": Sampling(**more.pop("sampling", {})),
        "num_samples": more.pop("num_samples", 1),
    }
    budget = Budget(**{"answer_tokens": 30} | more)
    return make_tasks(session, problems, budget=budget, points=points, **options)


AT_20 = (Point(20),)


def decoded(ledger, problems, *, points=AT_20, scripts=SCRIPTS, **more) -> int:
    """Complete the tasks; return the number of decoded tokens."""
    session = ReplaySession(scripts)
    tasks = build_tasks(session, problems, points=points, **more)
    Sampler(session, ledger, tag="t").complete(tasks)
    return session.cost.decoded


OTHER = "What is 1 + 1?"
BOTH = {**SCRIPTS, OTHER: Script(thinking=("2",), answer="2")}


@pytest.mark.parametrize(
    "change",
    [
        {"chat": {"system_prompt": "Be brief."}},
        {"chat": {"instruction": "Think."}},
        {"chat": {"format": "plain"}},
        {"scripts": {**SCRIPTS, "other": Script(thinking=(), answer="")}},
        {"sampling": {"temperature": 0.7}},
        {"min_thinking_tokens": 2},
        {"wait_strings": ("Hmm",)},
        {"end_rule": "argmax"},
        {"loop": LoopRule()},
        {"final_answer_cue": "So:", "points": (Point(4),)},
    ],
    ids=lambda change: next(iter(change)) + str(next(iter(change.values())))[:16],
)
def test_a_change_of_any_setting_samples_anew(ledger, make_problem, change) -> None:
    questions = [make_problem()]
    first = {"points": change["points"]} if "points" in change else {}
    assert decoded(ledger, questions, **first) > 0
    assert decoded(ledger, questions, **first) == 0
    assert decoded(ledger, questions, **change) > 0


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 0.8}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_k": 5},
     {"temperature": 0.7, "min_p": 0.1}],
    ids=lambda sampling: str(sampling),
)  # fmt: skip
def test_every_part_of_sampling_and_the_seed_are_in_the_key(ledger, make_problem, sampling) -> None:
    base = {"temperature": 0.7}
    assert decoded(ledger, [make_problem()], sampling=base) > 0
    assert decoded(ledger, [make_problem()], sampling=sampling) > 0
    assert decoded(ledger, [make_problem()], sampling=base, seed=1) > 0
    assert decoded(ledger, [make_problem()], sampling=base) == 0


def test_a_reordered_or_grown_pool_reuses_everything(ledger, make_problem) -> None:
    first, added = make_problem(), make_problem(OTHER)
    assert decoded(ledger, [first], scripts=BOTH) > 0
    num_decoded = decoded(ledger, [added, first], scripts=BOTH)
    assert num_decoded == len("2") + 1 + len("Final Answer: 2") + 1
    assert decoded(ledger, [first, added, first], scripts=BOTH) == 0


def test_another_answer_limit_samples_only_the_answer(ledger, make_problem) -> None:
    assert decoded(ledger, [make_problem()]) > 0
    again = decoded(ledger, [make_problem()], answer_tokens=5)
    assert again == 5


def test_more_samples_add_to_the_cached_ones(ledger, make_problem) -> None:
    options = {"sampling": {"temperature": 0.7}}
    per_sample = decoded(ledger, [make_problem()], num_samples=1, **options)
    assert decoded(ledger, [make_problem()], num_samples=3, **options) == 2 * per_sample
    assert decoded(ledger, [make_problem()], num_samples=2, **options) == 0


def test_equal_problems_share_one_sample(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS)
    tasks = build_tasks(session, [make_problem()], points=[Point(4)])
    tasks += build_tasks(session, [make_problem()], points=[Point(20)])
    short, long = Sampler(session, ledger, tag="t").complete(tasks)
    assert (short[0].thinking, long[0].thinking) == ("17+2", "17+25=32")


# --- partial results ------------------------------------------------------------------------------


def test_partial_results_of_a_long_job_are_recorded(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS, tokens_per_call=3)
    (task,) = build_tasks(session, [make_problem()], points=POINTS)
    session.submit(Job(request=task.request, points=task.points))
    lengths, num_answers = [], 0
    while True:
        (result,) = session.completed()
        if not result.partial:
            break
        lengths.append(len(result.chain.ids))
        num_answers = max(num_answers, len(result.answers))
    assert lengths[:4] == [3, 6, 12, 12]  # the third ends with a wait string
    assert num_answers == len(result.answers) == 6


def test_progress_counts_completions_and_grows_while_one_job_runs(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS, tokens_per_call=3)
    tasks = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"), chat=ChatConfig(format="s1"),
        budget=Budget(answer_tokens=6), sampling=Sampling(), points=POINTS,
    )  # fmt: skip
    reports: list[tuple[int, int]] = []
    sampler = Sampler(session, ledger, tag="t", progress=lambda *report: reports.append(report))
    sampler.complete(tasks)
    numbers = [done for done, _ in reports]
    assert {total for _, total in reports} == {len(POINTS)}
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, len(POINTS))
    assert len(set(numbers)) > 3, "one job, and progress stood still"
    reports.clear()
    sampler.complete(tasks)
    assert set(reports) == {(len(POINTS), len(POINTS))}


def test_a_run_stopped_between_two_records_resumes_there(ledger, make_problem) -> None:
    expected, cost = complete(ledger, make_problem(), POINTS)

    class Stopped(Exception):
        pass

    class Stopping(ReplaySession):
        calls = 0

        def completed(self, timeout=None):
            self.calls += 1
            if self.calls > 5:
                raise Stopped
            return super().completed(timeout)

    with Ledger(ledger.path.with_name("other.sqlite")) as other:
        stopping = Stopping(SCRIPTS, tokens_per_call=3)
        tasks = build_tasks(stopping, [make_problem()], points=POINTS)
        with pytest.raises(Stopped):
            Sampler(stopping, other, tag="t").complete(tasks)
        assert len(other.chains([tasks[0].request.chain_key()])) == 1
        resumed = ReplaySession(SCRIPTS)
        (completions,) = Sampler(resumed, other, tag="t").complete(tasks)
        assert completions == expected
        assert 0 < resumed.cost.decoded < cost.decoded
        assert other.spent("t")[0].decoded == cost.decoded


def test_the_cap_is_not_in_the_chains_key_but_in_the_requests(make_problem) -> None:
    session = ReplaySession(SCRIPTS)
    small = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"), chat=ChatConfig(),
        budget=Budget(max_thinking_tokens=4), sampling=Sampling(), points=[Point(4)],
    )[0].request  # fmt: skip
    large = replace(small, budget=replace(small.budget, max_thinking_tokens=8, waits=2))
    assert small.chain_key() == large.chain_key()
    assert small.key() != large.key()


@pytest.mark.parametrize(
    ("arm_index", "chain_key", "answer_key"),
    [
        (0, "05e249f1b0be7c147181f48ec403136e", "41a8922ea210613d6193e58291e2252a"),
        (1, "a3aa1984db89a5e25678783c998b7fa6", "cb328f9c70d01ab18fd2702ef2761588"),
    ],
    ids=["plain", "s1"],
)
def test_keys_of_the_quickstart_are_those_of_existing_ledgers(
    make_problem, arm_index, chain_key, answer_key
) -> None:
    """A change makes existing ledgers useless; if it is intended, raise the version in the key."""
    recipe = load_recipe("quickstart")
    arm = recipe.evaluate.arms[arm_index]
    session = ReplaySession({QUESTION: Script(thinking=("17+25=32",), answer="42")})
    (task,) = make_tasks(
        session, [make_problem()], recipe=recipe, chat=arm.chat or recipe.chat,
        budget=lambda problem: arm.forcing.budget(96, 1, language=problem.language),
        sampling=Sampling(), points=[Point(4)],
    )  # fmt: skip
    assert task.request.chain_key() == chain_key
    assert task.request.answer_key((1, 2), (3,)) == answer_key


def test_points_in_steps_and_tokens(ledger, make_problem) -> None:
    """Points in steps share the chain; a larger number of steps only adds."""
    scripts = {QUESTION: Script(thinking=("one\n\ntwo\n\nthree", " four"), answer="42")}
    points = [Point(30, steps=1), Point(30, steps=2), Point(4, steps=1), Point(30, 1, steps=4)]
    first, cost = complete(ledger, make_problem(), points[:3], scripts=scripts)
    assert [c.thinking for c in first] == ["one\n\n", "one\n\ntwo\n\n", "one\n"]
    assert [c.thinking_end for c in first] == [ThinkingEnd.CAP] * 3
    assert cost.decoded == len("one\n\ntwo\n\n") + 3 * (len(" 42") + 1)
    more, added = complete(ledger, make_problem(), points, scripts=scripts)
    assert more[:3] == first
    assert more[3].thinking == "one\n\ntwo\n\nthreeWait four"
    natural = len("Final Answer: 42") + 1
    assert added.decoded == len("three") + 1 + len(" four") + 1 + natural
    assert [c.violations for c in more] == [()] * 4


def test_forced_texts_follow_the_problems_language(ledger, make_problem) -> None:
    session, forcing = ReplaySession(SCRIPTS), ForcingConfig(answer_tokens=30)
    problems = [make_problem(language="en"), make_problem(language="zh")]
    tasks = make_tasks(
        session, problems, recipe=Recipe(name="r"), chat=ChatConfig(),
        budget=lambda problem: forcing.budget(40, 1, language=problem.language),
        sampling=Sampling(), points=[Point(4), Point(40, 1)],
    )  # fmt: skip
    english, chinese = Sampler(session, ledger, tag="t").complete(tasks)
    assert [english[0].answer, chinese[0].answer] == ["Final Answer: 42", "最终答案: 42"]
    assert english[1].thinking == "17+25=32Wait no, 42"
    assert chinese[1].thinking == "17+25=32等等 no, 42"


def test_unforced_thinking_that_does_not_end_has_no_answer(ledger, make_problem) -> None:
    points = [Point(4, 0, False), Point(20, 0, False)]
    completions, _ = complete(ledger, make_problem(), points, format="plain")
    assert [(c.answer, c.answer_end) for c in completions] == [
        ("17+2", AnswerEnd.LENGTH), ("17+25=32", AnswerEnd.STOP),
    ]  # fmt: skip
    with Grader() as grader:
        problem = make_problem(answer="32")
        verdicts = [
            grade_completion(grader, problem, c, last_number=True).verdict for c in completions
        ]
    assert verdicts == [Verdict.TRUNCATED, Verdict.CORRECT]


def test_transcript_marks_what_was_forced(ledger, make_problem) -> None:
    waited, cut = complete(ledger, make_problem(), [Point(40, 1), Point(4)])[0]
    decode = ReplaySession(SCRIPTS).tokenizer.decode
    assert segments(waited, decode) == [
        ("thinking", "17+25=32"),
        ("wait", "Wait"),
        ("thinking", " no, 42"),
        ("closing", "<|im_start|>answer\n"),
        ("answer", "Final Answer: 42"),
    ]
    assert ("closing", "\n<|im_start|>answer\nFinal Answer:") in segments(cut, decode)


def test_a_budget_above_the_context_is_refused_before_any_work(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS, max_context=200)
    tasks = make_tasks(
        session, [make_problem()], recipe=Recipe(name="r"), chat=ChatConfig(),
        budget=Budget(answer_tokens=8), sampling=Sampling(), points=[Point(150)],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="context is 200. Lower caps"):
        Sampler(session, ledger, tag="t").complete(tasks)
    assert session.cost.decoded == 0


@pytest.mark.parametrize("point", [Point(-1), Point(4, -1), Point(4, steps=-2)])
def test_a_negative_budget_is_refused_before_any_work(ledger, make_problem, point) -> None:
    with pytest.raises(ConfigError, match="expected counts of 0 or more"):
        complete(ledger, make_problem(), [point])


def test_a_long_closing_is_part_of_the_context(make_problem) -> None:
    """A cue that exceeds the context, in which the same cap fits with a short one."""
    session = ReplaySession(SCRIPTS, max_context=240)
    for cue, fits in (("Final Answer:", True), ("So, all in all, the " + "final " * 12, False)):
        (task,) = build_tasks(session, [make_problem()], points=[Point(60)], final_answer_cue=cue)
        job = Job(request=task.request, points=task.points)
        if fits:
            session.submit(job)
        else:
            with pytest.raises(ConfigError, match="the model's context is 240"):
                session.submit(job)


@pytest.mark.parametrize("format", ["think-tag", "s2"])
def test_an_unknown_format_is_refused_with_the_names(ledger, make_problem, format) -> None:
    with pytest.raises(ConfigError, match="unknown.*; expected one of auto, gpt-oss, plain, s1"):
        complete(ledger, make_problem(), [Point(4)], format=format)


def test_a_wait_string_of_no_tokens_is_refused_before_any_work(ledger, make_problem) -> None:
    with pytest.raises(ConfigError, match="'' has no tokens.*give an empty list"):
        complete(ledger, make_problem(), [Point(4)], wait_strings=("",))
    assert ledger.spent("t")[0].decoded == 0


def test_a_model_without_a_chat_template_is_refused(ledger, make_problem) -> None:
    session = ReplaySession(SCRIPTS)
    session.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template.*chat_template.jinja"):
        build_tasks(session, [make_problem()], points=[Point(4)])


def test_an_engine_without_roll_back_refuses_a_delimiter_of_several_tokens(
    ledger, make_problem
) -> None:
    with pytest.raises(ConfigError, match="engine `replay` cannot roll back sampled tokens"):
        complete(ledger, make_problem(), [Point(4)], format="think-tags")


def test_scripts_are_read_from_a_file(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"question": "q", "thinking": ["t"], "answer": "a"}) + "\n{}\n")
    with pytest.raises(DataError, match=r"s\.jsonl:2: not a script"):
        read_script(str(path))


@pytest.mark.parametrize("kind", [OpenAISession, ChatSession])
def test_the_anomalies_of_a_server_are_facts_of_a_manifest(kind) -> None:
    """Read from the sessions' property `anomalies`, with made-up counts."""
    assert isinstance(kind.anomalies, property)
    counts = property(lambda self: {"status 429": 2, "no connection": 1})
    session = object.__new__(type("Counted", (kind,), {"anomalies": counts}))
    assert session_facts(session) == {"server": {"no connection": 1, "status 429": 2}}
