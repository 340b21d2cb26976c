"""Recipes: every shipped one parses; all errors are reported at once."""

from __future__ import annotations

import json

import pytest
from pydantic_core import PydanticUndefined

from slowthink import recipe as recipes
from slowthink.cli.run import open_recipe
from slowthink.errors import ConfigError
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import Recipe, Settings
from slowthink.recipe.loading import load_recipe, parse_recipe, recipe_names
from slowthink.serialise import load_yaml


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_parses_and_round_trips(name, tmp_path) -> None:
    import yaml

    recipe = load_recipe(name)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(str(path)) == recipe
    assert load_recipe(str(path)).digest() == recipe.digest()


@pytest.mark.parametrize("name", ["s1", "s1.1", "limo-v1", "limo-v2", "small", "own-chains"])
def test_shipped_recipe_has_a_plan(name, tmp_path) -> None:
    """Each file that the user provides is replaced by one of 600 rows. No network, no model."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "What is 1 + 1?", "thinking": "So", "response": "2"}\n' * 600)
    recipe = load_recipe(name)
    data = recipe.model_dump(mode="json")
    for section in ("pool", "trace"):
        for source in (data[section] or {}).get("sources", ()):
            if source["kind"] == "file":
                source |= {"path": str(rows)}
    path = tmp_path / f"{name}.yaml"
    path.write_text(json.dumps(data))
    plan = plan_run(*open_recipe(str(path)))["plan"]
    assert list(plan) == list(recipe.stages())
    assert "train" not in plan or plan["train"]["num_examples"] > 0


def test_recipes_in_folders_are_found_by_their_path() -> None:
    assert "ablations/wait-strings" in recipe_names()
    wait_strings = [
        arm.forcing.wait_strings for arm in load_recipe("ablations/wait-strings").evaluate.arms
    ]
    assert wait_strings == [(), ("Alternatively",), ("Hmm",), ("Wait",)]
    with pytest.raises(ConfigError, match="did you mean `ablations/wait-strings`"):
        load_recipe("ablations/wait-string")


def test_the_ablation_of_control_methods_has_all_of_s1s_rows() -> None:
    """Six here, and rejection sampling in its own recipe. Training and evaluation use the same chat."""
    arms = {arm.name: arm for arm in load_recipe("ablations/control-methods").evaluate.arms}
    methods = {name.split(" ")[0] for name in arms}
    assert methods == {"BF", "TCC", "SCC", "SCC+BF", "CCC"}
    for name, recipe in (("TCC 64", "control-tokens"), ("SCC 8", "control-steps")):
        trained = load_recipe(f"ablations/{recipe}").chat
        evaluated = arms[name].chat
        control = evaluated.control.model_copy(update={"amount": None})
        assert evaluated.model_copy(update={"control": control}) == trained
    assert arms["TCC 64"].caps == (64, 320), "TCC+BF and TCC share their chain"
    assert arms["SCC+BF 8"].forcing.max_thinking_steps == 8
    assert load_recipe("ablations/control-rejection").evaluate.parallel.rejection is not None


def test_overrides_reach_into_mappings_and_lists() -> None:
    recipe = load_recipe(
        "quickstart",
        overrides=["train.epochs=7", "evaluate.arms.1.caps=[1,2]", "filter.difficulty=null"],
    )
    assert (recipe.train.epochs, recipe.evaluate.arms[1].caps) == (7, (1, 2))
    assert recipe.filter.difficulty is None


def test_all_errors_are_reported_at_once_with_the_closest_name() -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("quickstart", overrides=["train.epochz=3", "sed=1", "select.method=best"])
    text = str(error.value)
    assert "3 setting(s)" in text
    assert "train.epochz: unknown key (did you mean `epochs`?)" in text
    assert "sed: unknown key (did you mean `seed`?)" in text
    assert "select.method: Input should be 's1', 'limo-v1'" in text and "; saw 'best'" in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "expected KEY=VALUE"),
        ("seed.x=1", "has no settings inside"),
        ("evaluate.arms.9.caps=[1]", "not an index of a list of 2"),
        ("train.epochs=zero", "train.epochs: Input should be a valid integer"),
        (
            "evaluate.arms.0.caps=[-1]",
            "evaluate.arms.0.caps.0: Input should be greater than or equal to 0; saw -1",
        ),
        ("evaluate.protocols=[{name: x, draws: {num_samples: 2}}]", "temperature above 0"),
        ("filter.difficulty.min_pass_rate=0.9", "no problem could be kept"),
        ("evaluate.arms=x", "evaluate.arms: Input should be a list, e.g. [x]; saw 'x'"),
        ("seed=-1", "seed: Input should be greater than or equal to 0; saw -1"),
        ("train=5", "train: Input should be a mapping of settings; saw 5"),
        (
            "evaluate.arms.0.forcing.wait_strings=Hmm",
            "a list, e.g. [Hmm], or: Input should be a mapping; saw 'Hmm'",
        ),
    ],
)
def test_a_bad_override_is_explained(override, expected) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")):
        load_recipe("quickstart", overrides=[override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
        ("seed: 1", "name: missing"),
        ("name: x\nseed: 1\nseed: 2", r"`seed` stands in line 2 and again in line 3"),
        ("name: x\ntrain: {epochs: 1, epochs: 1}", "`epochs` stands in line 2 and again in line 2"),
    ],
)
def test_a_bad_file_is_explained(tmp_path, text, expected) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load_recipe(str(path))


def test_a_recipe_to_extend_that_cannot_be_read_is_named_with_the_one_that_extends_it(
    tmp_path,
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("extends: quickstrat")
    with pytest.raises(ConfigError, match=r"r\.yaml: extends: recipe `quickstrat`: no such file"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["exam.csv", "exam.jsonl", "exam.parquet"])
def test_a_file_of_rows_is_no_recipe(tmp_path, name) -> None:
    path = tmp_path / name
    path.write_bytes(b"question,answer\xff\n")
    with pytest.raises(ConfigError, match=rf"a file of rows; .* init own-data --data .*{name}"):
        load_recipe(str(path))


def test_a_merged_mapping_may_be_overridden(tmp_path) -> None:
    """Merge keys (`<<`) repeat keys on purpose; also where a merged mapping is nested deeper."""
    path = tmp_path / "r.yaml"
    path.write_text(
        "formats: {a: &b {seed: 1}}\nx: {y: {z: &a {<<: *b, seed: 2}}}\nc: {<<: *a, seed: 3}\n"
    )
    assert load_yaml(path.read_text())["x"] == {"y": {"z": {"seed": 2}}}
    assert load_yaml(path.read_text())["c"] == {"seed": 3}


def test_a_file_that_is_not_text_is_explained(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", recipe_names())
def test_caps_of_shipped_recipes_fit_the_context_of_qwen(name) -> None:
    """With prompt, closing and answer: else the evaluation fails, after hours of training."""
    recipe = load_recipe(name)
    for arm in recipe.evaluate.arms if recipe.evaluate and "Qwen2.5" in recipe.model else ():
        forcing = arm.forcing or recipe.forcing
        assert max(arm.caps) + forcing.answer_tokens + 1_500 <= 32_768, arm.name


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean `quickstart`"):
        load_recipe("quickstrat")


def test_a_recipe_may_begin_anywhere() -> None:
    recipe = parse_recipe({"name": "x", "train": {"input": "mine.parquet"}})
    assert recipe.stages() == ("train", "report")


def settings_classes() -> list[type[Settings]]:
    return [c for c in vars(recipes).values() if isinstance(c, type) and issubclass(c, Settings)]


@pytest.mark.parametrize("cls", settings_classes(), ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_under_itself(cls) -> None:
    undocumented = [name for name, field in cls.model_fields.items() if not field.description]
    assert [name for name in undocumented if name not in ("kind",)] == []


def test_required_settings_have_no_default() -> None:
    assert Recipe.model_fields["name"].default is PydanticUndefined


def test_a_removed_setting_with_its_old_default_is_ignored() -> None:
    difficulty = {"stop": "exact", "max_error": 0.05}
    steps = {"steps": [{"name": "a", "max_error": 0.05}], "max_error": 0.05}
    for old in (difficulty, steps):
        recipe = parse_recipe({"name": "t", "filter": {"input": "p", "difficulty": old}})
        assert "max_error" not in json.dumps(recipe.model_dump(mode="json"))
    with pytest.raises(ConfigError, match=r"filter.difficulty.steps.0.max_error: unknown key"):
        steps["steps"][0]["max_error"] = 0.1
        parse_recipe({"name": "t", "filter": {"input": "p", "difficulty": steps}})
