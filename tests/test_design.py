"""DESIGN.md is held to the code: its package map, its reading path, its glossary."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import slowthink

PACKAGE = Path(slowthink.__file__).parent
DESIGN = (PACKAGE.parent / "DESIGN.md").read_text("utf-8")
STEP = re.compile(r"^\d+\. `([\w/]+\.py)` (\d+)–(\d+), `(\w+)`(?: to `(\w+)`)?: ", re.MULTILINE)
"""1. `forcing/machine.py` 36–315, `ForcingRules` to `ForcingMachine`: what it shows."""


def section(title: str) -> str:
    return DESIGN.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_package_map_names_every_package_and_module_at_the_top() -> None:
    rows = re.findall(r"^\| `([\w.]+/?)` \|", section("Package map"), re.MULTILINE)
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert sorted(rows) == sorted(packages | modules)


def test_the_reading_path_names_lines_as_they_are() -> None:
    steps = STEP.findall(section("Reading path"))
    assert [tuple(map(int, step[1:3])) for step in steps] == [
        lines_of(step[0], step[3], step[4] or step[3]) for step in steps
    ]
    num_lines = sum(int(last) - int(first) + 1 for _, first, last, _, _ in steps)
    assert 900 <= num_lines <= 1150, "about a thousand lines in all"
    assert steps[0][0].startswith("forcing/")
    assert steps[-1][3:] == ("cut_chain", "")


def lines_of(file: str, first: str, last: str) -> tuple[int, int]:
    """First and last line of these definitions of a file of the package."""
    body = ast.parse((PACKAGE / file).read_text("utf-8")).body
    nodes = {node.name: node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    decorators = [decorator.lineno for decorator in nodes[first].decorator_list]
    return min([nodes[first].lineno, *decorators]), nodes[last].end_lineno or 0


def test_the_glossary_is_sorted_and_defines_each_term_once() -> None:
    terms = re.findall(r"^\| ([^|]+) \| ", section("Glossary"), re.MULTILINE)[2:]
    assert terms == sorted(set(terms), key=str.lower)
    assert len(terms) >= 40


def test_the_life_of_a_problem_and_of_a_token_take_eight_steps_each() -> None:
    for title in ("The life of a problem", "The life of a token"):
        assert re.findall(r"^(\d)\. ", section(title), re.MULTILINE) == list("12345678")


def test_files_that_design_names_exist() -> None:
    files = set(re.findall(r"`((?:\w+/)+\w+\.py)`", DESIGN))
    assert {file for file in files if not (PACKAGE / file).exists()} <= {
        file for file in files if (PACKAGE.parent / file).exists()
    }
