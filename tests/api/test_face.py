"""`import slowthink as st`: the names, what importing costs, and what the model face returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

import slowthink as st
from slowthink.api.curve import Chart
from slowthink.engines.replay import Script
from tests.replayed import replay_models

SCRIPTS = {
    "What is 17 + 25?": Script(thinking=("17 + 25 = 32", ", no: 42"), answer="42"),
    "What is 6 * 7?": Script(thinking=("6 * 7 = 42", "."), answer="42"),
    "What is 2 + 2?": Script(thinking=("2 + 2 = 5", "."), answer="5"),
}
PROBLEMS = [
    {"question": "What is 17 + 25?", "answer": "42"},
    {"question": "What is 6 * 7?", "answer": "42"},
    {"question": "What is 2 + 2?", "answer": "4"},
]


@pytest.fixture
def model(monkeypatch):
    """A model on the replay engine, opened as any other."""
    replay_models(monkeypatch, SCRIPTS)
    with st.load_model("scripts", engine="replay", format="s1") as model:
        yield model


def test_an_unknown_format_is_refused_before_anything_is_asked(monkeypatch) -> None:
    replay_models(monkeypatch, SCRIPTS)
    with pytest.raises(st.ConfigError, match="chat.format: `bogus` is unknown"):
        st.load_model("scripts", engine="replay", format="bogus")


def test_the_public_names_are_sorted_few_and_all_there() -> None:
    assert st.__all__ == sorted(st.__all__)
    assert len(st.__all__) <= 40
    assert set(st._MODULES) == set(st.__all__) <= set(dir(st))
    for name in st.__all__:
        if name != "ThinkingBudget":  # loads torch
            assert getattr(st, name) is not None
    assert st.__version__.count(".") == 2


def test_type_checkers_see_the_names_that_are_loaded() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(st.__file__).read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {
        alias.name: node.module.removeprefix("slowthink.")
        for node in typed.body
        for alias in node.names
    }
    assert names == st._MODULES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `grad`"):
        st.grad  # noqa: B018


def test_importing_is_fast_and_loads_nothing_else() -> None:
    code = (
        "import sys, time; start = time.process_time(); import slowthink; "
        "print(time.process_time() - start, *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = out.stdout.split()
    assert float(seconds) < 0.2
    ours = {name for name in modules if name.startswith("slowthink")}
    assert ours == {"slowthink"}, "each name loads its module when it is used"


def test_a_thought_has_its_parts_and_its_cost(model) -> None:
    done = model.think("What is 17 + 25?", max_thinking_tokens=64, waits=1)
    assert done.thinking == "17 + 25 = 32Wait, no: 42"
    assert done.answer == "Final Answer: 42"
    assert (done.thinking_end.value, done.violations) == ("natural", ())
    assert done.cost.decoded > 20 and done.cost.forced > 0
    assert str(done).endswith(f"--- thinking ended: natural, 24 tokens ---\n{done.answer}")
    again = model.think("What is 17 + 25?", max_thinking_tokens=64, waits=1)
    assert again.answer == done.answer and again.cost.decoded == 0, "from the ledger"


def test_several_questions_are_thought_about_together(model) -> None:
    first, second = model.think(["What is 17 + 25?", "What is 6 * 7?"], max_thinking_tokens=4)
    assert [first.num_thinking_tokens, second.num_thinking_tokens] == [4, 4]
    assert [first.thinking_end.value, second.thinking_end.value] == ["cap", "cap"]


def test_settings_of_a_call_do_not_change_the_model(model) -> None:
    settings = {"forcing.wait_strings": ["Hmm"], "forcing.answer_tokens": 3}
    done = model.think("What is 17 + 25?", waits=1, settings=settings)
    assert "Hmm" in done.thinking and done.answer_end.value == "length"
    assert "Wait" in model.think("What is 17 + 25?", waits=1).thinking
    with pytest.raises(st.ConfigError, match="did you mean `forcing`"):
        model.think("What is 17 + 25?", settings={"forcin.answer_tokens": 3})


def test_a_sweep_is_one_chain_per_problem_and_a_row_per_budget(model) -> None:
    pytest.importorskip("pandas")
    problems = st.load_problems(PROBLEMS)
    curve = model.sweep(problems, caps=[0, 4, 64], waits=[1])
    assert len(curve.rows) == 4 * 3
    table = curve.to_pandas()
    assert list(table.max_thinking_tokens) == [0, 4, 64, 64]
    assert list(table.waits) == [0, 0, 0, 1]
    assert list(table.n) == [3] * 4 and table.accuracy[2] == pytest.approx(2 / 3)
    assert (table.low < table.accuracy).all() and (table.budget_violations == 0).all()
    assert curve._repr_html_().count("<tr>") == 5 and "<svg" in curve._repr_html_()
    assert "Mean thinking tokens" in curve.plot().svg
    rows = curve.rows.where(max_thinking_tokens=64, waits=0)
    assert [row.verdict for row in rows].count(st.Verdict.WRONG) == 1
    assert rows.to_pandas().verdict.tolist().count("wrong") == 1


def test_a_sweep_needs_reference_answers(model) -> None:
    problems = st.load_problems([{"question": "What is 6 * 7?", "answer": None}])
    with pytest.raises(st.DataError, match="none of 1 problems has a reference answer"):
        model.sweep(problems, caps=[4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.think(None), "question: None is of type NoneType; expected a text"),
        (lambda m: m.think({"question": "x"}), "question: .* of type dict; expected a text"),
        (lambda m: m.think("x", max_thinking_tokens="64"), "max_thinking_tokens: '64'; expected"),
        (lambda m: m.think("x", max_thinking_tokens=6.5), "max_thinking_tokens: 6.5; expected"),
        (lambda m: m.think("x", max_thinking_tokens=True), "max_thinking_tokens: True; expected"),
        (lambda m: m.think("x", max_thinking_tokens=-1), "max_thinking_tokens: -1; expected"),
        (lambda m: m.think("x", waits=1.5), "waits: 1.5; expected a whole number from 0"),
        (lambda m: m.think("x", settings="seed=1"), r"settings: 'seed=1' .* expected a mapping"),
        (lambda m: m.think("x", settings=5), "settings: 5 is of type int; expected a mapping"),
        (lambda m: m.think("x", settings=[5]), "settings: 5 is of type int; expected a mapping"),
        (lambda m: m.think("x", settings={5: 1}), "settings: 5 is of type int; expected a mapping"),
        (lambda m: m.think("x", history="hi"), "history: 'hi' is a text; expected a list"),
        (lambda m: m.think("x", history=[5]), r"history\[0\]: 5; expected a mapping of the texts"),
        (
            lambda m: m.think("x", history=[{"role": "user"}]),
            r"history\[0\]: .* expected a mapping",
        ),
        (lambda m: m.sweep("own.jsonl", caps=[4]), "problems: 'own.jsonl' is a text; expected"),
        (lambda m: m.sweep(PROBLEMS, caps=[4]), "problem 0: .* of type dict; expected a Problem"),
        (lambda m: m.sweep([], caps=8), r"caps: 8 is of type int; expected a list. Write \[8\]"),
        (lambda m: m.sweep([], caps="48"), "caps: '48' is a text; expected a list"),
        (lambda m: m.sweep([], caps=["4"]), "caps: '4'; expected a whole number from 0"),
        (lambda m: m.sweep([], caps=[4], waits=1), "waits: 1 is of type int; expected a list"),
        (lambda m: m.sweep([], caps=[4], num_samples=0), "num_samples: 0; expected .* from 1"),
        (lambda m: st.load_model(engine="openai", urls="http://h/v1"), "urls: 'http://h/v1' is a"),
    ],
)
def test_arguments_of_a_wrong_type_are_explained(model, call, message) -> None:
    with pytest.raises(st.ConfigError, match=message):
        call(model)


def test_a_history_may_be_any_iterable(model, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "slowthink.sampling.sampler.make_tasks",
        lambda *_, history, **__: seen.append(history) or [],
    )
    messages = [{"role": "user", "content": "Hello"}]
    model.think([], history=(message for message in messages))
    assert seen == [messages]


def test_settings_of_the_loaded_model_are_not_changed_by_a_call(model) -> None:
    with pytest.raises(st.ConfigError, match=r"engine\.dtype: .*, revision: .*: st.load_model"):
        model.think("What is 6 * 7?", settings={"engine.dtype": "float32", "revision": "main"})
    model.think("What is 6 * 7?", settings={"model": "scripts", "seed": 3})


def test_a_closed_model_says_so(model) -> None:
    assert repr(model) == "<Model scripts on replay>"
    model.close()
    assert repr(model) == "<Model scripts on replay, closed>"
    with pytest.raises(st.ConfigError, match="scripts: the model is closed; .* st.load_model"):
        model.think("What is 6 * 7?")
    with pytest.raises(st.ConfigError, match="the model is closed"):
        model.sweep(st.load_problems(PROBLEMS), caps=[4])


def test_a_chart_is_saved_as_svg_into_a_folder_that_exists(tmp_path) -> None:
    chart = Chart("<svg/>")
    assert chart.save(tmp_path / "a.svg").read_text() == "<svg/>"
    with pytest.raises(st.ConfigError, match="mkdir -p"):
        chart.save(tmp_path / "none" / "a.svg")
    with pytest.raises(st.ConfigError, match=r"a\.png: a `\.png` file; expected \.svg"):
        chart.save(tmp_path / "a.png")


def test_a_format_of_the_settings_can_be_the_models(monkeypatch) -> None:
    replay_models(monkeypatch, SCRIPTS)
    mine = {"start": "[think]\n", "end": "[answer]\n", "end_triggers": ["[answer]"]}
    with st.load_model(
        "scripts", engine="replay", format="mine", settings={"formats.mine": mine}
    ) as model:
        assert model.settings.chat.format == "mine"


def test_the_built_in_format_is_detected_or_plain(monkeypatch) -> None:
    replay_models(monkeypatch, SCRIPTS)
    with st.load_model("scripts", engine="replay") as model:
        assert model.settings.chat.format == "plain"
        assert model.settings.engine.kind == "replay"


def test_urls_mean_a_server() -> None:
    from slowthink.api.model import generation_settings

    settings = generation_settings("t", model="m", format="s1", urls=["http://localhost:8000/v1"])
    assert settings.engine.kind == "openai"
    assert settings.engine.endpoints.urls == ("http://localhost:8000/v1",)
