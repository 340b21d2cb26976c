"""The Python of the documentation runs: docs/api.md and the README on the replay engine, what needs
a real model and the notebooks slowly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import slowthink as st
from slowthink.cli.plan_text import plan_text
from slowthink.data.hub import open_file
from slowthink.engines.replay import Script
from slowthink.pipeline import run as pipeline_run
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe.loading import parse_recipe
from tests.replayed import replay_models

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("docs/api.md", "docs/curation.md", "README.md")
QUESTIONS = {
    "What is 17 + 25?": "42", "What is 6 * 7?": "42", "How many primes are below 20?": "8",
    "What is the sum of the digits of 2 to the power of 15?": "26", "What is 3 + 4?": "7",
}  # fmt: skip
NEEDS_MODEL = ("ThinkingBudget", "from transformers")


def blocks(document: str, language: str = "python") -> list[str]:
    text = (ROOT / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def needs_model(block: str) -> bool:
    return any(name in block for name in NEEDS_MODEL)


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def replayed(tmp_path, monkeypatch):
    """A folder with a file of problems and a recipe `quickstart`, which goes before the shipped one;
    models are replayed, and the hub has the file."""
    scripts = {q: Script(thinking=("It is", " so"), answer=a) for q, a in QUESTIONS.items()}
    problems = [
        {"question": q, "answer": a, "solution": rf"So \boxed{{{a}}}."}
        for q, a in QUESTIONS.items()
    ]
    path = write_rows(tmp_path / "own-exam.jsonl", problems)
    rows = [{"question": q, "thinking": ["It is"], "answer": a} for q, a in QUESTIONS.items()]
    recipe = {
        "name": "quickstart",
        "engine": {"kind": "replay", "replay": write_rows(tmp_path / "scripts.jsonl", rows)},
        "pool": {"sources": [{"kind": "file", "path": path, "num_heldout": 2}]},
        "evaluate": {"arms": [{"name": n, "model": "base", "caps": [0, 64]} for n in ("base", "tuned")]},
    }  # fmt: skip
    (tmp_path / "quickstart").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline_run, "needs_model", lambda recipe, stage: False)
    monkeypatch.setattr("slowthink.stages.evaluate.check_dependencies", lambda: None)  # seconds
    replay_models(monkeypatch, scripts)
    monkeypatch.setattr(
        "slowthink.data.load.open_published", lambda *_, **__: open_file(path, setting="test")
    )
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_of_a_document_runs(document, replayed, make_problem, monkeypatch) -> None:
    pytest.importorskip("pandas")
    python = blocks(document)
    assert len(python) >= (8 if document.endswith("api.md") else 1)
    traces = [_trace(make_problem(q)) for q in QUESTIONS]
    rows = st.Run.rows
    monkeypatch.setattr(  # the tokenizer of a trace stage is a model's
        st.Run, "rows", lambda run, stage: st.Rows(traces) if stage == "trace" else rows(run, stage)
    )
    names: dict[str, object] = {}
    for block in python:
        if not needs_model(block):
            exec(compile(block, document, "exec"), names)


@pytest.mark.parametrize("block", blocks("docs/curation.md", "yaml"))
def test_the_recipes_on_curation_have_a_plan(block, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = parse_recipe({"name": "docs", **yaml.safe_load(block)})
    assert plan_text(plan_run(recipe, tmp_path / "run")).startswith("docs: writes to ")


def _trace(problem: st.Problem) -> st.Trace:
    return st.Trace(
        problem=problem, thinking="so", response="1", teacher="t", tokenizer="x",
        grade=st.Grade(verdict=st.Verdict.CORRECT), num_thinking_tokens=1, num_response_tokens=1,
    )  # fmt: skip


def test_every_benchmark_is_named_in_their_index_and_the_readme() -> None:
    folder = ROOT / "benchmarks"
    programs = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text("utf-8")}
    programs |= {path.parent.name for path in folder.glob("*/__main__.py")}
    for index in (folder / "__init__.py", ROOT / "README.md"):
        assert programs <= set(re.findall(r"\w+", index.read_text("utf-8"))), index


def test_the_page_about_python_names_every_public_name() -> None:
    text = (ROOT / "docs/api.md").read_text("utf-8")
    results = {
        "Comparison",
        "Curve",
        "Estimate",
        "Grade",
        "Model",
        "Problem",
        "Rows",
        "Thought",
        "Trace",
    }
    assert {name for name in st.__all__ if name not in text} <= results


@pytest.mark.slow
def test_the_blocks_with_a_real_model_run(smollm) -> None:
    from slowthink.engines.models import resolve_model

    for document in DOCUMENTS:
        for block in filter(needs_model, blocks(document)):
            exec(compile(block, document, "exec"), {"st": st, "MODEL": str(resolve_model(smollm))})


@pytest.mark.slow
@pytest.mark.parametrize(
    "notebook", sorted(path.name for path in (ROOT / "docs/notebooks").glob("*.py"))
)
def test_a_notebook_runs(notebook, smollm, tmp_path, monkeypatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    code = (ROOT / "docs/notebooks" / notebook).read_text("utf-8")
    assert code.count("\n# %%") >= 8
    exec(compile(code, notebook, "exec"), {"__name__": "__main__"})
