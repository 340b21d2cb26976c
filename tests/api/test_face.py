"""`import slowthink as st`: the names, what importing costs, and what the model face returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

import slowthink as st
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
