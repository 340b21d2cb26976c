"""Chains that contain a test problem are dropped, and the certificate records why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext, read_manifest
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Dropped
from slowthink.stages import trace
from slowthink.stages.trace.chains import SourceChain
from slowthink.stages.trace.contamination import drop_contaminated
from slowthink.stages.trace.sources import read_chains

TESTED = "A tank holds 120 litres. A pump fills it at 8 litres a minute and a tap drains 3. After \
how many minutes is it full?"
TEMPLATE = TESTED.replace("120", "90").replace(" 8 ", " 7 ").replace(" 3.", " 4.")
PRESETS = pytest.mark.parametrize("preset", ["s1", "strict"])


def row(question: str, thinking: str) -> dict[str, str]:
    return {
        "question": question,
        "thinking": thinking,
        "response": r"So it is \boxed{2}.",
        "answer": "2",
    }


CHAINS = [
    row("What is 1 + 1?", f"This reminds me of one that I know: {TESTED} Never mind. It is 2."),
    row("What is 4 - 2?", f"It is like this one: {TEMPLATE} But here we only subtract: 2."),
    row("What is 6 : 3?", "Two times three is six, so it is 2."),
]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def stage(folder: Path, *files: str, **sections: Any) -> StageContext:
    own = write(folder / "own.jsonl", [{"question": TESTED, "answer": "24"}])
    contamination = {"benchmarks": [{"name": "own", "path": own}]} | sections.pop("settings", {})
    section = {
        "sources": [{"kind": "file", "path": file} for file in files],
        "contamination": contamination,
    }
    recipe = parse_recipe({"name": "t", "trace": section, **sections})
    return make_context(recipe, folder / "run", "trace", notify=lambda text: None)


def checked(
    folder: Path, *files: str, **sections: Any
) -> tuple[list[SourceChain], list[Dropped], dict[str, Any]]:
    """Chains kept, chains dropped, the certificate."""
    context = stage(folder, *files, **sections)
    context.folder.mkdir(parents=True, exist_ok=True)
    chains = [
        chain for source in context.config.sources
        for chain in read_chains(source, seed=0, setting="s").chains
    ]  # fmt: skip
    kept, dropped, facts = drop_contaminated(chains, [], context)
    report = json.loads((context.folder / "contamination.json").read_text())
    assert facts["contamination"]["num_dropped"] == report["num_dropped"]  # type: ignore[index]
    return kept, dropped, report


@PRESETS
def test_copy_is_dropped_template_reported_and_clean_chain_kept(
    tmp_path: Path, preset: str
) -> None:
    path = write(tmp_path / "chains.jsonl", CHAINS)
    kept, dropped, report = checked(tmp_path, path, settings={"preset": preset})
    assert [chain.location for chain in kept] == ["chains.jsonl:2", "chains.jsonl:3"]
    assert [(drop.id, drop.step, drop.reason) for drop in dropped] == [
        ("chains.jsonl:1", "contamination", "holds a problem of own")
    ]
    assert dropped[0].evidence.startswith("own 1: a tank holds 120 litres a pump fills it at 8")
    hits = {hit["id"]: (hit["kind"], hit["dropped"]) for hit in report["hits"]}
    assert hits == {"chains.jsonl:1": ("copy", True), "chains.jsonl:2": ("template", False)}
    assert report["settings"]["preset"] == "strict"  # the only preset for chains
    assert (report["checked"]["what"], report["checked"]["num"]) == ("chains", 3)


def test_templates_are_dropped_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "chains.jsonl", CHAINS)
    kept, dropped, _ = checked(tmp_path, path, settings={"templates": "drop"})
    assert [chain.location for chain in kept] == ["chains.jsonl:3"]
    assert [drop.id for drop in dropped] == ["chains.jsonl:1", "chains.jsonl:2"]


def test_the_response_is_checked_like_the_thinking(tmp_path: Path) -> None:
    chain = CHAINS[2] | {"response": rf"As in: {TESTED} Here it is \boxed{{2}}."}
    _, dropped, _ = checked(tmp_path, write(tmp_path / "chains.jsonl", [chain]))
    assert [drop.id for drop in dropped] == ["chains.jsonl:1"]


def test_chain_of_a_test_problem_is_dropped_if_no_filter_checked_it(tmp_path: Path) -> None:
    """The chain does not repeat its question, and the recipe begins with chains."""
    path = write(tmp_path / "chains.jsonl", [row(TESTED, "Five a minute, so 24."), CHAINS[2]])
    kept, dropped, report = checked(tmp_path, path)
    assert [chain.location for chain in kept] == ["chains.jsonl:2"]
    assert dropped[0].evidence.startswith("own 1: a tank holds")
    assert report["num_dropped"] == 1
    kept, dropped, _ = checked(tmp_path, path, filter={"contamination": {}})
    assert (len(kept), dropped) == (2, [])


def test_clean_chain_of_another_file_with_the_same_name_is_kept(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a" / "chains.jsonl", CHAINS[:1]),
        write(tmp_path / "b" / "chains.jsonl", CHAINS[2:]),
    ]
    kept, dropped, report = checked(tmp_path, *files)
    assert [chain.problem.question for chain in kept] == ["What is 6 : 3?"]
    assert [drop.id for drop in dropped] == ["chains.jsonl:1"]
    assert (report["num_dropped"], len(report["hits"])) == (1, 1)


def test_without_the_setting_nothing_is_checked_or_written(tmp_path: Path) -> None:
    path = write(tmp_path / "chains.jsonl", CHAINS)
    section = {"sources": [{"kind": "file", "path": path}]}
    recipe = parse_recipe({"name": "t", "trace": section})
    context = make_context(recipe, tmp_path / "run", "trace", notify=lambda text: None)
    chains = read_chains(context.config.sources[0], seed=0, setting="s").chains
    assert drop_contaminated(chains, [], context) == (chains, [], {})
    assert not list((tmp_path / "run").rglob("contamination.json"))


def test_error_if_every_chain_is_contaminated_names_the_reason(
    tmp_path: Path, tokenizers_once: None
) -> None:
    context = stage(tmp_path, write(tmp_path / "chains.jsonl", CHAINS[:1]))
    with pytest.raises(DataError, match=r"\(1 x holds a problem of own\).*Name other chains"):
        execute(context, trace.run, version=trace.STAGE_VERSION)


@pytest.mark.slow
@PRESETS
def test_the_whole_stage_writes_drop_step_and_certificate(
    tmp_path: Path, preset: str, smollm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it would fail
    path = write(tmp_path / "chains.jsonl", CHAINS)
    context = stage(tmp_path, path, settings={"preset": preset}, model=smollm)
    execute(context, trace.run, version=trace.STAGE_VERSION)
    folder = tmp_path / "run/trace"
    manifest = read_manifest(folder)
    steps = {step["name"]: (step["num_in"], step["num_out"]) for step in manifest["steps"]}
    assert steps["contamination"] == (3, 2) and steps["one per problem"] == (2, 2)
    (drop,) = read_records(folder / "dropped.parquet", Dropped)
    assert (drop.id, drop.step, drop.reason) == (
        "chains.jsonl:1", "contamination", "holds a problem of own",
    )  # fmt: skip
    assert "120 litres" in drop.evidence
    report = json.loads((folder / "contamination.json").read_text())
    assert report["against"][0]["num_hits"] == {"copy": 1, "template": 1}
    assert manifest["facts"]["contamination"]["num_hits"] == {"copy": 1, "template": 1}
