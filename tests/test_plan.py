"""The plan of a run: what is missing, finished and left, before anything runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from huggingface_hub import constants

from slowthink.cli.plan_text import plan_text
from slowthink.cli.recipe_checks import check_recipe
from slowthink.data.registry import limo_ten, published_datasets
from slowthink.data.rows import estimate_rows
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.plan import check_inputs, downloads, missing_inputs, missing_keys
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import EngineConfig, Recipe
from slowthink.recipe.loading import load_recipe, parse_recipe, recipe_names
from tests.test_cli import call


def plan_of(name: str, root: Path, *overrides: str) -> dict:
    return plan_run(load_recipe(name, overrides=overrides), root)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_has_a_plan_before_its_files_are_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(name, tmp_path / "run")
    text = plan_text(plan)
    for needed in plan["needed"]:
        assert f"{needed['path']} is missing ({needed['setting']})" in text
    described = "".join(line for line in text.splitlines() if ": --set " not in line)
    assert "{" not in described and "[" not in described, "no dicts and lists"
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_the_dry_run_of_limo_names_its_chinese_files_first(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "limo-v2", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "needed before the run:"
    assert lines[2].split(": ")[1] == "--set pool.sources.4.path=PATH"
    assert any("LIMO/eval/data/kaoyan/test.jsonl is missing" in line for line in lines)
    assert not any(line.startswith("seed:") for line in lines), "settings need --settings"
    assert call("run", "s1", "--settings") == 0
    assert "\nseed: 0\n" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "teachers"), [
    ("s1", ["deepseek-ai/DeepSeek-R1"]), ("s1.1", ["deepseek-ai/DeepSeek-R1"]),
    ("limo-v1", ["deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
                 "Qwen/Qwen2.5-32B-Instruct"]),
    ("limo-v2", ["deepseek-ai/DeepSeek-R1", "Qwen/QwQ-32B"]),
    ("small-teacher", ["Qwen/Qwen2.5-1.5B-Instruct"]),
])  # fmt: skip
def test_the_papers_recipes_plan_teachers_requests_tokens_and_money(
    name, teachers, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"question": f"What is {n} + 1?", "answer": n + 1}) for n in range(100)]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows))
    first = next(
        index for index, source in enumerate(load_recipe(name).trace.sources)
        if source.kind == "teacher"
    )  # fmt: skip
    price = f"trace.sources.{first}.price={{input: 0.5, output: 2}}"
    plan = plan_of(name, tmp_path / "run", price)
    text = plan_text(plan)
    for teacher in teachers:
        assert re.search(rf"{re.escape(teacher)}: at most [\d,]+ chains for [\d,]+ problems", text)
    figures = plan["plan"]["trace"]
    assert figures["num_requests"] > 0 and figures["estimated_tokens"] > 0
    assert figures["estimated_cost"] > 0 and ", costs " in text
    assert plan["plan"]["select"]["num_problems"] > 0 and plan["plan"]["train"]["num_steps"] > 0


def test_fewer_rows_than_are_held_out_are_refused_by_the_dry_run(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"question": f"What is {n} + 1?", "answer": n + 1}) for n in range(40)]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows))
    assert call("run", "small-teacher", "--dry-run") == 2
    message = capsys.readouterr().err
    assert "50 of 40 problems would be held out" in message
    remedy = "pool.sources.0.num_heldout=8"
    assert f"--set {remedy}," in message
    assert call("run", "small-teacher", "--dry-run", "--set", remedy) == 0


def test_limos_recipes_have_its_chinese_sources_and_ten_benchmarks() -> None:
    for name in ("limo-v1", "limo-v2"):
        recipe = load_recipe(name)
        assert {b.name for b in recipe.evaluate.benchmarks} == set(limo_ten())
        assert recipe.filter.contamination.benchmarks == recipe.evaluate.benchmarks
        assert "chinese-school" in [source.name for source in recipe.pool.sources]


def test_an_earlier_stage_is_offered_as_a_command(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    needed = plan_of("parallel", tmp_path / "run")["needed"]
    assert [item["remedy"] for item in needed] == [
        "run slowthink pool quickstart", "run slowthink train quickstart",
        "run slowthink scorer runs/quickstart --out runs/scorer",
    ]  # fmt: skip
    recipe = load_recipe("quickstart")
    needed = plan_run(recipe, Path("run"), stages=("train",))["needed"]
    assert [item["setting"] for item in needed] == ["pool", "filter", "trace", "select"]
    assert needed[-1]["remedy"] == "run slowthink select quickstart --out run"


def test_a_run_without_its_files_ends_with_all_of_them(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "own-data", "--quiet") == 1
    message = capsys.readouterr().err
    assert "train.jsonl: no such file (pool.sources.0.path)" in message
    assert "test.jsonl" in message


def test_rows_are_counted_by_reading(tmp_path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('question,answer\n"two\nlines",1\n"b",2')
    assert estimate_rows(table, setting="x") == 2
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"question": "a"}\n\n{"question": "b"}')
    assert estimate_rows(lines, setting="x") == 2
    benchmarks = [{"name": "mine", "path": str(lines)}, {"name": "aime24"}]
    arms = [{"name": "base", "model": "base", "caps": [8]}]
    recipe = Recipe.model_validate(
        {"name": "t", "evaluate": {"benchmarks": benchmarks, "arms": arms}}
    )
    assert plan_run(recipe, tmp_path / "run")["plan"]["evaluate"]["num_problems"] == 32


def test_finished_stages_are_marked_and_their_speed_is_used(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "slowthink.pipeline.run_plan._status",
        lambda r, root, s: "done" if s == "filter" else "pending",
    )
    (tmp_path / "filter").mkdir()
    facts = {"tokens": {"decoded": 1000}, "sampling_seconds": 10.0}
    manifest = {"facts": facts, "wall_seconds": 0.1}  # run again, from cached completions
    (tmp_path / "filter" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("slowthink.pipeline.run_plan.read_manifest", lambda _: manifest)
    monkeypatch.setattr("slowthink.pipeline.run_plan.check_run_folder", lambda _: None)
    plan = plan_of("quickstart", tmp_path)
    text = plan_text(plan)
    assert "filter    done: at most" in text
    assert plan["tokens_per_second"] == 100.0
    num_tokens = plan["plan"]["evaluate"]["estimated_tokens"]
    assert plan["estimated_minutes"] == num_tokens / 100 / 60
    assert f" for {num_tokens:,} tokens at 100 tokens/s, measured in this run folder" in text
    del facts["sampling_seconds"]
    assert plan_of("quickstart", tmp_path)["tokens_per_second"] is None, "an older manifest"


def test_stages_that_read_a_changed_one_are_not_done(tmp_path, monkeypatch) -> None:
    """`--update` runs them again; `evaluate` reads the pool's held-out problems."""
    (tmp_path / "recipe.yaml").touch()
    monkeypatch.setattr("slowthink.pipeline.run_plan.check_run_folder", lambda _: None)
    monkeypatch.setattr(
        "slowthink.pipeline.run_plan._status",
        lambda r, root, s: "done" if s != "trace" else "changed",
    )
    plan = plan_of("quickstart", tmp_path)
    changed = [stage for stage, status in plan["status"].items() if status == "changed"]
    assert changed == ["trace", "select", "train", "evaluate", "report"]
    assert plan["estimated_tokens"] == plan["plan"]["evaluate"]["estimated_tokens"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trace.levels={score: limo-v3}", r"trace\.levels\.score: names the score `limo-v3`"),
        ("trace.prefer={by: student-fit}", r"trace\.prefer\.by: .*trace\.scores \(limo-v2\)"),
        ("select={method: limo-v2, score: limo-v}", r"did you mean `limo-v2`"),
        ("select.min_scores={length: 3}", r"select\.min_scores\.length: "),
        ("trace.prefer={by: limo-v2.lenght}", r"did you mean `limo-v2\.length`"),
        ("trace.prefer={by: limo-v2.tokens}", r"\(limo-v2\.length, limo-v2\.verification, "),
    ],
)
def test_a_score_that_no_chain_will_have_is_refused_first(setting, message, tmp_path) -> None:
    # a number of steps, as `auto` measures this machine first
    overrides = ["trace.scores=[{kind: limo-v2}]", "train.max_steps=1", setting]
    recipe = load_recipe("quickstart", overrides=overrides)
    with pytest.raises(ConfigError, match=message):
        plan_run(recipe, tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "pool").exists(), "nothing is done before"


def test_parts_of_scores_are_names_too(tmp_path) -> None:
    scores = "trace.scores=[{kind: limo-v2}, {kind: rubric}, {kind: step-redundancy}]"
    levels = "trace.levels={score: rubric.level, cut: value}"
    prefer = "trace.prefer={by: limo-v2.length}"
    plan_of("quickstart", tmp_path / "run", scores, levels, prefer)
    levels = "trace.levels={score: step-redundancy, cut: value}"
    with pytest.raises(ConfigError, match="low values are the good ones; .*cut=equal"):
        plan_of("quickstart", tmp_path / "run", scores, levels)


def test_a_greedy_teacher_counts_one_chain_for_each_problem(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"question": "What is 1 + 1?", "answer": "2"})
    (tmp_path / "pool.jsonl").write_text("\n".join([row] * 100))
    greedy = "trace.sources.0.sampling.temperature=0"
    for overrides, num_chains in (([], 200), ([greedy], 50)):
        overrides = [*overrides, "select={method: full, num_problems: null}"]
        figures = plan_of("small-teacher", tmp_path / "run", *overrides)["plan"]
        assert figures["trace"]["num_chains"] == num_chains
        assert figures["select"]["num_chains"] == num_chains


def test_a_model_that_is_not_on_this_machine_is_needed_or_downloaded(tmp_path, monkeypatch) -> None:
    """`someone/…` is not in the Hub's cache; the folder of `judge` has a config."""
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.json").write_text("{}")
    judge = {"kind": "model", "model": str(tmp_path / "judge")}
    arm = {"name": "other", "model": "someone/other", "caps": [8]}
    recipe = Recipe.model_validate({
        "name": "t", "model": "someone/base", "revision": "v1", "engine": {"kind": "transformers"},
        "train": {"input": str(tmp_path)},
        "evaluate": {
            "input": str(tmp_path), "arms": [arm, arm | {"name": "tuned", "model": "tuned"}],
            "protocols": [{"name": "p"}],
            "parallel": {"arm": "other", "protocol": "p", "scorer": judge},
        },
    })  # fmt: skip
    assert {(m.setting, m.path, m.kind) for m in missing_inputs(recipe, recipe.stages())} == {
        ("model", "someone/base", "model"), ("evaluate.arms.0.model", "someone/other", "model"),
    }  # fmt: skip
    (needed,) = missing_inputs(recipe, ["evaluate"])
    assert needed.remedy.startswith("--set evaluate.arms.0.model=FOLDER, or with a network: hf dow")
    with pytest.raises(DataError, match=r"someone/base: no such model \(model\): --set model=FOL"):
        check_inputs(recipe, ["train"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert missing_inputs(recipe, recipe.stages()) == []
    assert set(downloads(recipe, recipe.stages())) == {"someone/base", "someone/other"}
    served = recipe.model_copy(update={"engine": EngineConfig(kind="openai"), "train": None})
    assert downloads(served, ["evaluate"]) == []


def test_published_sets_that_are_not_in_the_cache_are_needed_or_downloaded(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    Path("exam.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}\n')
    settings = {
        "name": "t",
        "pool": {"sources": [
            {"kind": "hub", "hub_id": "someone/Their-Problems"},
            {"kind": "hub", "hub_id": "someone/other", "mirror": str(tmp_path)},
            {"kind": "catalogue", "name": "olympic-arena"},
        ]},
        "filter": {"contamination": {"benchmarks": [{"name": "aime25"}]}},
        "evaluate": {
            "benchmarks": [{"name": "math500"}, {"name": "aime24", "path": "exam.jsonl"}],
            "arms": [{"name": "base", "model": "smollm2-135m", "caps": [8]}],
        },
    }  # fmt: skip
    recipe = parse_recipe(settings)
    needed = {m.setting: m.path for m in missing_inputs(recipe, recipe.stages())}
    assert needed == {
        "pool.sources.0.mirror": "someone/Their-Problems",
        "pool.sources.2.path": f"olympic-arena ({published_datasets()['olympic-arena'].hub_id})",
        "filter.contamination.benchmarks.0.path": "aime25 (MathArena/aime_2025)",
        "evaluate.benchmarks.0.path": "math500 (HuggingFaceH4/MATH-500)",
    }
    Path("t.yaml").write_text(json.dumps(settings))
    assert call("run", "t.yaml", "--dry-run") == 0
    assert (
        "  math500 (HuggingFaceH4/MATH-500) is missing (evaluate.benchmarks.0.path): --set "
        "evaluate.benchmarks.0.path=FILE, or start once with a network, which fills the cache\n"
    ) in capsys.readouterr().out
    with pytest.raises(DataError, match=r"math500 .*: no such cached dataset \(evaluate"):
        check_inputs(recipe, ["evaluate"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert missing_inputs(recipe, recipe.stages()) == []
    assert downloads(recipe, ["evaluate"]) == ["HuggingFaceH4/MATH-500"]
    cached = tmp_path / "hub/datasets/HuggingFaceH4___math-500/default/0.0.0/abc"
    cached.mkdir(parents=True)
    assert downloads(recipe, ["evaluate"]) == []


@pytest.mark.parametrize("place", ["evaluate", "filter.contamination"])
def test_an_unknown_benchmark_is_refused_before_the_run(place, tmp_path) -> None:
    """Not after the training, when the evaluation would load it."""
    override = f"{place}.benchmarks=[{{name: math50}}]"
    message = rf"{place}.benchmarks.0.name: `math50` is not .* \(did you mean `math500`\?\)"
    with pytest.raises(ConfigError, match=message):
        plan_of("quickstart", tmp_path, "filter.contamination={}", override)


def test_only_the_methods_of_domains_that_are_used_need_a_model() -> None:
    domains = {"methods": ["lexical"], "llm": {"model": "someone/llm"}}
    settings = {"name": "t", "engine": {"kind": "transformers"}, "filter": {"domains": domains}}
    assert missing_inputs(Recipe.model_validate(settings), ["filter"]) == []
    domains["methods"] = ["lexical", "llm"]
    (needed,) = missing_inputs(Recipe.model_validate(settings), ["filter"])
    assert needed.setting == "filter.domains.llm.model"


def test_a_difficulty_model_is_named_by_a_setting_that_replaces_it() -> None:
    someone = {"model": "someone/model"}
    served = {"kind": "openai", "endpoints": {"urls": ["http://h"], "api_key_env": "NO_SUCH_KEY"}}
    for difficulty, place in (
        ({"models": [{}, someone]}, "models.1"),
        ({"steps": [{"name": "a"}, {"name": "b", "models": [someone]}]}, "steps.1.models.0"),
        ({"preset": "limo-v2", "models": [{}, someone]}, "models.1"),
    ):
        settings = {"name": "t", "engine": {"kind": "transformers"},
                    "filter": {"difficulty": difficulty}}  # fmt: skip
        (needed,) = missing_inputs(parse_recipe(settings), ["filter"])
        assert needed.setting == f"filter.difficulty.{place}.model"
        assert needed.remedy.startswith(f"--set {needed.setting}=FOLDER, or")
        override = f"filter.difficulty.{place}.engine={json.dumps(served)}"
        (needed,) = missing_inputs(
            parse_recipe(deepcopy(settings), overrides=[override]), ["filter"]
        )
        assert needed.setting == f"filter.difficulty.{place}.engine.endpoints.api_key_env"


def test_a_model_of_a_difficulty_preset_is_replaced_in_the_list_of_all() -> None:
    settings = {"name": "t", "engine": {"kind": "transformers"},
                "filter": {"difficulty": {"preset": "limo-v1"}}}  # fmt: skip
    needed = missing_inputs(parse_recipe(settings), ["filter"])[1]
    assert needed.path == "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
    remedy, _ = needed.remedy.split(", or with a network")
    flag, override = shlex.split(remedy)
    assert flag == "--set"
    models = parse_recipe(settings, overrides=[override]).filter.difficulty.models
    assert [model.model for model in models] == [
        "Qwen/Qwen2.5-Math-7B-Instruct", "FOLDER", "deepseek-ai/DeepSeek-R1",
    ]  # fmt: skip
    assert models[0].max_thinking_tokens == 3072, "a replaced model keeps its limits"


def test_a_tokenizer_alone_is_enough_for_the_stages_that_load_no_weights(
    tmp_path, monkeypatch
) -> None:
    revision = "0" * 40
    cached = tmp_path / "models--someone--base" / "snapshots" / revision
    cached.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    arm = {"name": "stored", "samples": str(tmp_path)}
    recipe = Recipe.model_validate({
        "name": "t", "model": "someone/base", "revision": revision, "trace": {}, "train": {},
        "engine": {"kind": "transformers"},
        "evaluate": {"input": str(tmp_path), "arms": [arm]},
    })  # fmt: skip

    def absent(stage: str) -> list[str]:
        return [needed.path for needed in missing_inputs(recipe, [stage])]

    stages = ("trace", "train", "evaluate")
    assert [absent(stage) for stage in stages] == [["someone/base"]] * 3
    (cached / "tokenizer_config.json").write_text("{}")
    assert [absent(stage) for stage in stages] == [[], ["someone/base"], []]


def test_the_keys_that_doctor_checks_are_those_that_a_run_needs() -> None:
    """A server's key is not needed where no stage asks the server."""
    endpoints = {"urls": ["http://h"], "api_key_env": "NO_SUCH_KEY"}
    for kind, num_needed in (("openai", 1), ("transformers", 0)):
        recipe = Recipe.model_validate({
            "name": "t", "engine": {"kind": kind, "endpoints": endpoints},
            "evaluate": {"input": "x", "arms": [{"name": "base", "model": "base", "caps": [8]}]},
        })  # fmt: skip
        keys = [check for check in check_recipe(recipe) if check.name == "key"]
        assert len(keys) == len(missing_keys(recipe, recipe.stages())) == num_needed


def test_a_dataset_is_missing_where_nothing_can_load_it(tmp_path, monkeypatch) -> None:
    """`datasets` has its own switch, and prefers a folder of the name; a package that is not
    installed is named when the dataset is opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    arm = {"name": "base", "model": "smollm2-135m", "caps": [8]}
    evaluate = {"benchmarks": [{"name": "math500"}], "arms": [arm]}
    recipe = parse_recipe({"name": "t", "evaluate": evaluate})
    hub_id = "HuggingFaceH4/MATH-500"
    assert not missing_inputs(recipe, ["evaluate"])
    assert downloads(recipe, ["evaluate"]) == [hub_id]
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert [m.path for m in missing_inputs(recipe, ["evaluate"])] == [f"math500 ({hub_id})"]
    assert not downloads(recipe, ["evaluate"])
    Path(hub_id).mkdir(parents=True)
    assert not missing_inputs(recipe, ["evaluate"])
    Path(hub_id).rmdir()
    for name in ("huggingface_hub", "huggingface_hub.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not missing_inputs(recipe, ["evaluate"])
