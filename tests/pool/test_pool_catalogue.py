"""Published sets in pools: their facts and rules, each read from small files of its schema."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.preparation import PREPARE
from slowthink.data.problems import SourceProblems
from slowthink.data.registry import expected_problems, published_datasets
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import CatalogueSource, HubSource
from slowthink.records import Problem
from slowthink.stages.pool.catalogue import catalogue_problems
from slowthink.stages.pool.files import hub_problems

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Q = "What is {} + 1?"


def copy(folder: Path, files: dict[str, list[dict[str, Any]]]) -> Path:
    """A folder with a copy of a set: its files by path, as JSONL or CSV."""
    for name, rows in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def read(name: str, path: Path, **settings: Any) -> SourceProblems:
    source = CatalogueSource(name=name, path=str(path), **settings)
    return catalogue_problems(source, seed=0, setting="pool.sources.0")


def problems(source: SourceProblems) -> list[Problem]:
    return [item.problem for item in source.items]


def changes(problem: Problem) -> list[str]:
    source = json.loads(problem.meta)["lineage"]["changes"]
    assert isinstance(source, list)
    return source


# --- facts ----------------------------------------------------------------------------------------


def test_counts_of_s1_add_up_to_59029() -> None:
    counts = [
        problem.counts["s1"]
        for problem in published_datasets("pool").values()
        if "s1" in problem.counts
    ]
    assert (len(counts), sum(counts)) == (16, 59029)


@pytest.mark.parametrize("name", published_datasets("pool"))
def test_each_set_names_changes_that_exist_and_both_variants_are_whole(name: str) -> None:
    for variant in ("paper", "code"):
        source = published_datasets("pool")[name].variant(variant)
        assert set(source.prepare) <= PREPARE.keys()
        assert source.parts and set(source.papers) <= {"s1", "limo"} and source.origin


def test_expected_number_is_the_least_that_is_known() -> None:
    assert expected_problems("xword", None) == 999
    assert expected_problems("xword", 50) == 50
    assert expected_problems("deepscaler", None) == 0


def test_unknown_set_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no set `theoremqaa` .did you mean `theoremqa`"):
        read("theoremqaa", tmp_path)


def test_set_on_no_hub_needs_a_file() -> None:
    source = CatalogueSource(name="chinese-school")
    with pytest.raises(ConfigError, match=r"--set pool\.sources\.0\.path=FILE"):
        catalogue_problems(source, seed=0, setting="pool.sources.0")


# --- each set -------------------------------------------------------------------------------------

BOX = {"problem": Q.format(1), "solution": r"So \boxed{2}."}
AGI = {"passage": "", "question": Q.format(1), "options": None, "solution": "2", "level": None}
GPQA = {
    "Question": Q.format(1), "Correct Answer": "2", "Incorrect Answer 1": "3",
    "Incorrect Answer 2": "4", "Incorrect Answer 3": "5", "Explanation": "Add.",
    "High-level domain": "Physics",
}  # fmt: skip
ARENA = {"problem": Q.format(1), "answer": ["2"], "solution": "Add.", "subject": "Math"}
BENCH = {
    "question": Q.format(1),
    "final_answer": ["2", "3"],
    "solution": ["Add.", "Or so."],
    "context": "Let 1 be one.",
    "subject": "Math",
}
SCI = {
    "question": Q.format(1) + "\n\nA. 2\nB. 3\n\nAnswer:",
    "answer": ["A"],
    "task_name": "SocraticQA",
    "topic": "x",
    "category": "Physics",
}

LOADERS: dict[str, tuple[str, dict[str, list[dict[str, Any]]], list[tuple[str, str | None]]]] = {
    "math": ("math", {"train.jsonl": [BOX | {"answer": "2", "subject": "Algebra"}]}, [(Q.format(1), "2")]),
    "olympic arena: language and modality": (
        "olympic-arena",
        {f"{config}/{split}.jsonl": [ARENA | {"problem": f"{config} {split} {rest['language']} {rest['modality']}?"} | rest for rest in ({"language": "EN", "modality": "text-only"}, {"language": "ZH", "modality": "text-only"}, {"language": "EN", "modality": "multi-modal"})]
         for config in ("Math", "Physics", "Chemistry", "Biology", "Geography", "Astronomy", "CS") for split in ("test", "val")},
        [(f"{config} {split} EN text-only?", "2") for split in ("test", "val") for config in ("Math", "Physics", "Chemistry", "Biology", "Geography", "Astronomy", "CS")],
    ),
    "theoremqa: no picture": (
        "theoremqa",
        {"test.jsonl": [{"Question": "a?", "Answer": "True", "Picture": None}, {"Question": "b?", "Answer": "1", "Picture": {"bytes": "x"}}]},
        [("a?", "True")],
    ),
    "numinamath: last box": ("numinamath", {"data/train-00000-of-00001.jsonl": [BOX | {"source": "cn_k12"}]}, [(Q.format(1), "2")]),
    "numinamath-s1: aops and the 500": (
        "numinamath-s1",
        {"AI-MO/NuminaMath-CoT/train.jsonl": [BOX | {"problem": "a?", "source": "aops_forum"}, BOX | {"problem": "b?", "source": "olympiads"}, BOX | {"problem": "c?", "source": "olympiads"}],
         "simplescaling/numinamath_500/train.jsonl": [{"problem": "b?"}]},
        [("a?", "2"), ("b?", "2")],
    ),
    "omni-math": ("omni-math", {"test.jsonl": [BOX | {"answer": "2"}]}, [(Q.format(1), "2")]),
    "scieval: answers there are, the mark gone": (
        "scieval",
        {"test.jsonl": [SCI, SCI | {"answer": None}], "validation.jsonl": [SCI | {"question": "Bases: x\nOptimal solvent:", "task_name": "reagent selection", "topic": None}]},
        [("What is 1 + 1?\n\nA. 2\nB. 3", "A"), ("Bases: x\nWhat is the optimal solvent?", "A")],
    ),
    "olympiadbench: context and joined answers": (
        "olympiadbench",
        {f"{config}/train.jsonl": [BENCH | {"question": config}] for config in ("OE_TO_maths_en_COMP", "OE_TO_physics_en_COMP", "TP_TO_maths_en_COMP", "TP_TO_physics_en_COMP")},
        [(f"Let 1 be one.\n\n{config}", "2, 3") for config in ("OE_TO_maths_en_COMP", "OE_TO_physics_en_COMP", "TP_TO_maths_en_COMP", "TP_TO_physics_en_COMP")],
    ),
    "jeebench": ("jeebench", {"test.jsonl": [{"question": "a?", "gold": "AC", "subject": "phy"}]}, [("a?", "AC")]),
    "s1-prob: proofs": ("s1-prob", {"train.jsonl": [{"question": "a?", "solution": "Clear."}]}, [("a?", None)]),
    "xword": ("xword", {"train.jsonl": [{"input": "Solve.\n### Clue: Not out (2)", "output": "in"}, {"input": "?a", "output": "b"}]},
              [("Solve this crossword clue; the number of letters stands in brackets.\n\nNot out (2)", "in")]),
    "usaco": ("usaco", {"test.jsonl": [{"question": "Moo?"}]}, [("Moo?", None)]),
    "s1-teasers": ("s1-teasers", {"train.jsonl": [{"Question": "a?", "Answer": "1"}]}, [("a?", "1")]),
    "livecodebench: hard, three files": (
        "livecodebench",
        {f"test{number}.jsonl": [{"question_content": f"q{number}", "difficulty": "hard"}, {"question_content": "easy", "difficulty": "easy"}] for number in ("", 2, 3)} | {"test4.jsonl": [{"question_content": "q4", "difficulty": "hard"}]},
        [("q", None), ("q2", None), ("q3", None)],
    ),
    "aime: years": (
        "aime-1983-2021",
        {"AIME.csv": [{"Year": year, "Question": f"q{year}", "Answer": 7} for year in (1983, 2021, 2022, 2023)]},
        [("q1983", "7"), ("q2021", "7")],
    ),
    "aime-limo: years": (
        "aime-limo",
        {"AIME.csv": [{"Year": year, "Question": f"q{year}", "Answer": 7} for year in (2023, 2024)]},
        [("q2023", "7")],
    ),
    "deepscaler": ("deepscaler", {"train.jsonl": [BOX | {"answer": "2"}]}, [(Q.format(1), "2")]),
    "chinese-school": ("chinese-school", {"train.jsonl": [{"question": "求 $1+1$ 的值。", "answer": "2"}]}, [("求 $1+1$ 的值。", "2")]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "files", "expected"), LOADERS.values(), ids=LOADERS.keys())
def test_set_is_read_by_its_rules(
    tmp_path: Path, name: str, files: dict[str, list[dict[str, Any]]], expected: list[Any]
) -> None:
    source = read(name, copy(tmp_path, files))
    assert [(problem.question, problem.answer) for problem in problems(source)] == expected
    assert source.num_rows == len(source.items) + len(source.dropped)
    assert {drop.step for drop in source.dropped} <= {"rules", "read"}
    assert {problem.licence for problem in problems(source)} == {
        published_datasets("pool")[name].licence
    }


def agieval(folder: Path) -> Path:
    configs = ("sat_en", "sat_math", "lsat_ar", "lsat_lr", "lsat_rc", "logiqa", "aqua_rat")
    rows = {f"{config}/{split}.jsonl": [AGI | {"question": f"{config} {split}"}]
            for config in configs for split in ("test", "few_shot")}  # fmt: skip
    rows["sat_en/test.jsonl"] = [
        AGI | {"passage": "Once.", "options": ["(A)x", "(B)y"], "solution": "A"}
    ]
    for split in ("test", "few_shot"):
        rows[f"math_agieval/{split}.jsonl"] = [
            AGI | {"question": f"{split} {level}", "level": level} for level in (4, 5)
        ]
    return copy(folder, rows)


def test_agieval_has_passages_options_and_level_five_of_math_alone(tmp_path: Path) -> None:
    source = read("agieval", agieval(tmp_path))
    first, *_ = problems(source)
    assert first.question == "Once.\n\nWhat is 1 + 1?\n(A)x\n(B)y"
    assert changes(first) == ["passage put before the question", "options appended"]
    assert [problem.question for problem in problems(source)][-2:] == ["test 5", "few_shot 5"]
    assert [drop.reason for drop in source.dropped] == ["rule: `level` is 4"] * 2
    assert len(source.items) == 16


def test_gpqa_extended_is_without_diamond_and_its_options_are_shuffled(tmp_path: Path) -> None:
    rows = [GPQA | {"Question": Q.format(n)} for n in range(40)]
    folder = copy(tmp_path, {"gpqa_extended.csv": rows, "gpqa_diamond.csv": rows[:3]})
    source = read("gpqa-extended", folder)
    assert len(source.items) == 37
    assert {drop.reason for drop in source.dropped} == {"rule: it is in gpqa_diamond"}
    letters = {problem.answer for problem in problems(source)}
    assert letters == {"A", "B", "C", "D"}
    for problem in problems(source):
        assert f"({problem.answer}) 2" in problem.question and "Answer Choices:" in problem.question
    assert [problem.id for problem in problems(read("gpqa-extended", folder))] == [
        problem.id for problem in problems(source)
    ]


def test_question_that_is_a_list_is_dropped(tmp_path: Path) -> None:
    rows = [GPQA, GPQA | {"Question": [Q.format(2)]}]
    files = {"gpqa_extended.jsonl": rows, "gpqa_diamond.jsonl": [GPQA | {"Question": "else?"}]}
    source = read("gpqa-extended", copy(tmp_path, files))
    assert len(source.items) == 1
    assert [drop.reason for drop in source.dropped] == ["`Question` is a list; expected a string"]


def test_set_that_needs_another_refuses_a_single_file(tmp_path: Path) -> None:
    folder = copy(tmp_path, {"gpqa_extended.csv": [GPQA]})
    with pytest.raises(ConfigError, match="needs gpqa_diamond too"):
        read("gpqa-extended", folder / "gpqa_extended.csv")


def test_variant_code_takes_what_the_code_takes(tmp_path: Path) -> None:
    rows = [{"Year": year, "Question": f"q{year}", "Answer": 7} for year in (2021, 2022, 2023)]
    source = read("aime-1983-2021", copy(tmp_path, {"aime.csv": rows}) / "aime.csv", variant="code")
    assert [problem.question for problem in problems(source)] == ["q2021", "q2022"]
    assert [drop.reason for drop in source.dropped] == ["rule: `Year` is not at most 2022"]


def test_cap_of_scieval_is_shared_by_task_and_topic(tmp_path: Path) -> None:
    socratic = [SCI | {"question": f"s{n}", "topic": "a" if n < 380 else "b"} for n in range(400)]
    medical = [SCI | {"question": f"m{n}", "task_name": "MedQA", "topic": None} for n in range(30)]
    source = read("scieval", copy(tmp_path, {"test.jsonl": socratic + medical}) / "test.jsonl")
    taken = [problem.question for problem in problems(source)]
    assert len(taken) == 250
    assert sum(problem.startswith("m") for problem in taken) == 30
    assert sum(problem.startswith("s") and int(problem[1:]) >= 380 for problem in taken) == 20
    assert {drop.reason for drop in source.dropped} == {"not drawn (max_problems)"}


def test_cap_can_be_overridden_and_broken_rows_are_dropped(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [BOX | {"problem": f"{n}?", "answer": "1"} for n in range(9)]
    source = read(
        "math", copy(tmp_path, {"t.jsonl": [*rows, {"problem": 5}]}) / "t.jsonl", max_problems=4
    )
    assert len(source.items) == 4
    assert source.dropped[0].reason == "`problem` is a number; expected a string"


def test_derived_answer_is_marked_in_the_lineage(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / COMMIT
    source = read("numinamath", copy(folder, {"train.jsonl": [BOX | {"id": "n7"}]}))
    (problem,) = problems(source)
    assert problem.answer_derived and (problem.source, problem.source_row) == ("numinamath", "n7")
    assert json.loads(problem.meta)["lineage"] == {
        "origin": "AI-MO/NuminaMath-CoT/train",
        "revision": COMMIT,
        "changes": ["answer from the solution's last box"],
    }


# --- hub ------------------------------------------------------------------------------------------


def hub(path: Path, **settings: Any) -> SourceProblems:
    source = HubSource(hub_id="me/mine", mirror=str(path), **settings)
    return hub_problems(source, seed=0, setting="pool.sources.0")


def test_copy_in_a_folder_is_read_instead_of_the_hub(tmp_path: Path) -> None:
    rows = [{"question": "a?", "answer": "1"}]
    copy(tmp_path, {"me/mine/main/train-00000-of-00001.jsonl": rows, "me/mine/main/test.jsonl": []})
    source = hub(tmp_path, hub_config="main", licence="MIT")
    (problem,) = problems(source)
    assert (problem.source, problem.licence) == ("me/mine", "MIT")
    assert json.loads(problem.meta)["lineage"]["revision"] is None
    assert source.facts == {
        "hub_id": "me/mine", "hub_config": "main", "split": "train", "revision": None
    }  # fmt: skip


def test_folder_without_the_split_is_an_error_that_names_its_files(tmp_path: Path) -> None:
    copy(tmp_path, {"test.jsonl": [{"question": "a?"}], "dev.jsonl": [{"question": "b?"}]})
    with pytest.raises(DataError, match=r"split train; the folder's are dev\.jsonl, test\.jsonl"):
        hub(tmp_path)


def test_hub_out_of_reach_is_an_error_that_names_the_remedies(monkeypatch: Any) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="a mirror in HF_ENDPOINT, or a cached copy"):
        hub_problems(HubSource(hub_id="me/none-such"), seed=0, setting="pool.sources.0")
