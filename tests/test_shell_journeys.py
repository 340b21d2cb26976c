"""Journeys of newcomers in an empty folder, one for each point of "First minutes".

Tools for files of rows have theirs in `test_row_journeys`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.shell import Shell

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
RECIPE = """\
name: mine
engine: {kind: replay, replay: scripts.jsonl}
pool: {sources: [{kind: file, path: problems.jsonl, num_heldout: 12}]}
filter: {quality: null, difficulty: {num_attempts: 1, max_thinking_tokens: 4, max_pass_rate: 1}}
evaluate:
  arms:
    - {name: direct, model: base, caps: [0, 4, 64], chat: {format: plain}}
    - {name: slow, model: base, caps: [8, 128], waits: [1]}
"""
"""Two arms that share no cap above 0; a third of the answers is missing, and the filter's cap is
short."""

QUESTIONS = (
    "The probability that it rains is 0.2. What is the probability that it stays dry?",
    "A circle on the blackboard has radius 3. Find the area of the circle and of its triangle.",
    "They buy 3 pencils for 2 dollars each and pay with 10 dollars. How much change is left?",
    "Find the smallest prime divisor of 91 and the remainder of 91 modulo 5.",
)


@pytest.fixture
def slowthink(tmp_path: Path) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path)


@pytest.fixture
def with_recipe(slowthink: Shell) -> Shell:
    """A shell in a folder with a recipe on the replay engine, and its files."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(24)]
    scripts = [
        {"question": row["question"], "thinking": [f"{i} + {i} is", " so"],
         "answer": "" if i % 3 == 0 else row["answer"]}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    slowthink.write_jsonl("problems.jsonl", rows)
    slowthink.write_jsonl("scripts.jsonl", scripts)
    (slowthink.folder / "mine.yaml").write_text(RECIPE)
    return slowthink


def test_a_reader_plans_a_papers_recipe_and_follows_a_run(with_recipe: Shell) -> None:
    slowthink = with_recipe
    out, _ = slowthink("run", "limo-v2", "--dry-run")
    assert out.splitlines()[1] == "needed before the run:"
    assert "\nseed: " not in out and "all settings: add --settings" in out
    out, _ = slowthink("run", "limo-v2", "--dry-run", "--settings")
    assert "\nseed: 0\n" in out
    slowthink.write_csv("mine.csv", [{"question": "two\nlines", "answer": 1, "solution": "1"}] * 80)
    out, _ = slowthink("run", "small", "--set", "pool.sources.0.path=mine.csv", "--dry-run")
    assert "at most 80 rows" in out and "unknown until the solutions are read" in out
    assert not re.search(r"\d tokens/s|minutes|hours", out), "no speed is measured yet"
    few = "pool.sources.0.num_heldout=80"
    _, err = slowthink(
        "run", "small", "--set", "pool.sources.0.path=mine.csv", "--set", few, "--dry-run", code=2
    )
    assert "pool.sources.0.num_heldout: 80 of 80 problems would be held out" in err
    assert not (slowthink.folder / "runs").exists(), "a dry run writes nothing"
    slowthink("filter", "mine.yaml", code=1)
    slowthink("pool", "mine.yaml")
    out, _ = slowthink("run", "mine.yaml", "--dry-run")
    assert "pool      done: at most 24 rows" in out and "filter    at most 12 problems" in out


def test_a_laptop_is_judged_for_each_recipe(slowthink: Shell) -> None:
    assert "quickstart can run here" in slowthink("doctor", "quickstart")[0]
    (slowthink.folder / "large.yaml").write_text("extends: s1\nmodel: someone/model-9000B\n")
    out, _ = slowthink("doctor", "large.yaml", code=1)
    assert re.search(r"MISS model +someone/model-9000B on vllm: needs about [\d,]+\.\d GB", out)
    assert "cannot run here: see each MISS above" in out
    out, _ = slowthink("doctor", "own-data", code=1)
    assert "MISS" in out and "train.jsonl" in out
    data = json.loads(slowthink("doctor", "own-data", "--json", code=1)[0])
    assert not data["ok"]


def test_warnings_are_in_terminal_json_and_page(with_recipe: Shell) -> None:
    out, _ = with_recipe("run", "mine.yaml")
    printed = [line.removeprefix("WARNING: ") for line in out.splitlines() if "WARNING: " in line]
    for text in (
        "12 of 12 attempts were cut off", "set it to `solutions`", "41.7% of the samples",
        "last_number: true", "direct and slow on held-out problems share no cap above 0",
    ):  # fmt: skip
        assert any(text in line for line in printed), text
    data = json.loads(with_recipe("report", "mine.yaml", "--json")[0])
    assert [f"{row['stage']}: {row['text']}" for row in data["warnings"]] == printed
    page = (with_recipe.folder / "runs/mine/report/report.html").read_text()
    assert page.count("were cut off at the cap of thinking tokens") == 1


def test_the_headline_has_the_arms_names_and_is_that_of_the_page(with_recipe: Shell) -> None:
    out, _ = with_recipe("run", "mine.yaml")
    assert "Accuracy, direct to slow: 58.3% -> 58.3%" in out
    assert "no difference is established" in out and "thinking pays" not in out.casefold()
    assert "Budgets: all held" in out
    page = (with_recipe.folder / "runs/mine/report/report.html").read_text()
    assert "58.3%" in page and "no difference is established" in page
    single = "evaluate.arms=[{name: alone, samples: samples.jsonl}]"
    rows = [
        {"question": f"What is {i} + {i}?", "answer": str(2 * i), "sample": sample,
         "response": f"\\boxed{{{2 * i if (i + sample) % 4 else -1}}}"}
        for i in range(24) for sample in range(4)
    ]  # fmt: skip
    with_recipe.write_jsonl("samples.jsonl", rows)
    out, _ = with_recipe("run", "mine.yaml", "--set", single, "--out", "one")
    headline = next(line for line in out.splitlines() if line.startswith("Accuracy"))
    assert "alone" in headline and "75.0%" in headline
    assert re.search(r"^pass@4 and maj@4, alone: 100\.0%.* 100\.0%", out, re.MULTILINE)
    assert "Budgets: all held" not in out, "there were none"


def test_a_recipe_is_found_written_extended_and_completed(slowthink: Shell) -> None:
    out, _ = slowthink("recipes")
    assert {"quickstart", "small", "own-data", "s1", "limo-v2"} <= {
        line.split()[0] for line in out.splitlines()
    }
    assert re.fullmatch(r"slowthink \d+\.\d+\.\d+\S*\n", slowthink("--version")[0])
    assert "--install-completion" in slowthink("--help")[0]
    rows = [
        {"problem": f"What is {i} + {i}?", "final_answer": 2 * i, "rationale": f"{i}+{i}={2 * i}."}
        for i in range(40)
    ]  # fmt: skip
    slowthink.write_jsonl("exam.jsonl", rows)
    _, err = slowthink("init", "small", "--data", "exam.jsonl")
    assert "`problem`" in err and "`final_answer`" in err
    text = (slowthink.folder / "exam.yaml").read_text()
    assert "extends: small" in text and len(text.splitlines()) < 15
    (slowthink.folder / "shorter.yaml").write_text(
        "extends: exam.yaml\nname: shorter\nselect: {num_problems: 7}\n"
    )
    plan = json.loads(slowthink("run", "shorter.yaml", "--dry-run", "--json")[0])["plan"]
    assert (plan["pool"]["num_rows"], plan["select"]["num_problems"]) == (40, 7)
    _, err = slowthink("init", "small", "--data", "exam.jsonl", code=2)
    assert "exists already" in err


def test_each_wrong_setting_or_folder_is_answered_by_one_message(with_recipe: Shell) -> None:
    slowthink = with_recipe
    _, err = slowthink("run", "mine.yaml", "--out", "problems.jsonl", "--quiet", code=2)
    assert err.count("\n") == 1 and "expected a folder for the run" in err
    _, err = slowthink("evaluate", "mine.yaml", "--out", "new", code=1)
    assert "error: new has no pool yet. Run: slowthink pool new" in err
    _, err = slowthink("run", "mine.yaml", "--set", "filter.difficulty.num_attempt=3", code=2)
    assert err.count("filter.difficulty.num_attempt:") == 1
    slowthink("pool", "mine.yaml")
    _, err = slowthink("run", "mine.yaml", "--set", "pool.sources.0.num_heldout=11", code=2)
    assert "\n  pool.sources.0.num_heldout: 12 -> 11\n" in err


def test_each_wrong_model_is_answered_by_one_message(with_recipe: Shell) -> None:
    slowthink = with_recipe
    _, err = slowthink("generate", "absent.jsonl", code=2)
    assert err.count("\n") == 1 and "no such file" in err
    broken = slowthink.folder / "broken"
    broken.mkdir()
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
        "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 100,
    }  # fmt: skip
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "model.safetensors").write_text("junk")
    _, err = slowthink("generate", "problems.jsonl", "--model", "broken", code=2)
    assert "its questions are read" in err and err.count("error: ") == 1
    arms = (
        "evaluate.arms=[{name: one, model: base, caps: [8]}, {name: two, model: ./no, caps: [8]}]"
    )
    real = ("--set", "engine.kind=transformers", "--set", "filter=null", "--set", arms)
    slowthink("pool", "mine.yaml", *real)
    out, _ = slowthink("evaluate", "mine.yaml", *real, "--dry-run")
    assert "./no is missing (evaluate.arms.1.model)" in out
    _, err = slowthink("evaluate", "mine.yaml", *real, code=1)
    assert "./no: no such model" in err and "at 1 points" not in err, "before the first token"


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium")
def test_the_page_of_a_first_run_is_read_on_a_phone(with_recipe: Shell) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'slowthink[dev]'")
    out, _ = with_recipe("run", "mine.yaml")
    name = next(line for line in out.splitlines() if line.startswith("Report: "))
    with api.sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto((with_recipe.folder / name.removeprefix("Report: ")).as_uri())
        accuracy = page.locator(".card.lead .big").bounding_box()
        assert accuracy["y"] + accuracy["height"] < 800, "on the first screen"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("document.documentElement.scrollHeight") < 12_000
        browser.close()


def test_a_pool_in_chinese_without_solutions(slowthink: Shell) -> None:
    rows: list[dict[str, object]] = [
        {"编号": i, "题目": f"老师有{i}支铅笔，分给学生{i - 1}支，还剩几支？", "答案": 1}
        for i in range(2, 32)
    ]
    slowthink.write_csv("exam.csv", rows, encoding="gbk")
    out, err = slowthink("check", "exam.csv")
    assert "30 of 30 reference answers accepted" in out
    assert err.startswith("exam.csv: not UTF-8; it is read as GB18030 (GBK). ")
    (slowthink.folder / "exam.yaml").write_text(
        "name: exam\npool: {sources: [{kind: file, path: exam.csv}]}\n"
        "trace: {sources: [{kind: solution}]}\n"
    )
    _, err = slowthink("run", "exam.yaml", code=1)
    assert "30 in `zh`" in err
    assert "these problems have none" in err.splitlines()[-1]
    assert "slowthink init evaluate" in err.splitlines()[-1] or "teacher" in err.splitlines()[-1]


def test_word_problems_about_school_are_not_all_education(slowthink: Shell) -> None:
    rows = [
        {"question": f"A teacher and {i} students go to school. {question}", "answer": i}
        for i in range(2, 12) for question in QUESTIONS
    ]  # fmt: skip
    slowthink.write_jsonl("pool.jsonl", rows)
    (slowthink.folder / "school.yaml").write_text(
        "name: school\npool: {sources: [{kind: file, path: pool.jsonl}]}\n"
        "filter: {quality: null, duplicates: null, domains: {methods: [lexical]}}\n"
    )
    out, _ = slowthink("run", "school.yaml")
    assert "WARNING" not in out, "no domain has over half of the pool"
    manifest = json.loads((slowthink.folder / "runs/school/filter/manifest.json").read_text())
    domains = manifest["facts"]["domains"]
    assert sum(domains.values()) == 40 and max(domains.values()) <= 20 and len(domains) > 2
