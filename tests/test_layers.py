"""Imports go one way, a stage never imports a stage, and heavy packages load only when used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import slowthink
from slowthink.recipe import STAGES

ROOT = Path(slowthink.__file__).parent
LAYERS = (
    {"errors", "plain", "records"},
    {"recipe", "loading", "rows", "stats", "protocols", "published", "catalogue"},
    {"runs", "ledger", "runner", "hub"},
    {"thinking", "grading", "engines", "funnel", "problems", "overlap"},
    {"benchmarks", "sampling", "stored"},
    {"asking"},
    {"judging", "domains"},
    {"parallel"},
    set(STAGES),
    {"progress", "pipeline", "generate", "chat", "serve", "check", "export", "benches"},
    {"commands"},
    {"doctor"},
    {"cli"},
)
HEAVY = {"torch", "transformers", "vllm", "trl", "ray", "peft", "accelerate"}
HEAVY_FILES = {
    "engines/kv.py",
    "engines/decoding.py",
    "engines/packed.py",
    "engines/vllm.py",
    "engines/vllm_rows.py",
    "engines/vllm_draw.py",
}
"""Loaded only from inside functions of engines/, or by vLLM."""


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    """`slowthink.grading.math` → `grading`."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def layer_of(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> list[str]:
    """Modules that a file imports, not counting those for type checkers only."""
    tree = tree_of(path)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module]
            found += [
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "slowthink"
            ]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def test_every_part_has_a_layer() -> None:
    parts = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in files()} - {"__init__"}
    assert parts == set().union(*LAYERS)


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    parts = {part_of(m) for m in imports(path) if m.startswith("slowthink.")} - {"", "__version__"}
    wrong = {part for part in parts - {own} if layer_of(part) > layer_of(own)}
    assert wrong == set(), f"{own} imports from a layer above"
    if own in STAGES:
        assert parts & set(STAGES) <= {own}, "a stage imports a stage"


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_heavy_packages_are_imported_inside_functions_of_their_places(path) -> None:
    name = path.relative_to(ROOT).as_posix()
    top = tree_of(path).body
    at_top = [n for n in top if isinstance(n, (ast.Import, ast.ImportFrom))]
    modules = {a.name for n in at_top if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in at_top if isinstance(n, ast.ImportFrom) and n.module}
    heavy = {m.split(".")[0] for m in modules} & HEAVY
    if name not in HEAVY_FILES and not name.startswith("train/"):
        assert heavy == set()


def test_the_command_line_starts_without_heavy_packages() -> None:
    assert loaded_by("slowthink.cli") & {*HEAVY, "pyarrow", "numpy", "pydantic"} == set()


def loaded_by(module: str) -> set[str]:
    """Top-level packages that importing a module loads, in a fresh interpreter."""
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in out.stdout.split()}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_planned_without_heavy_packages(stage) -> None:
    module = importlib.import_module(f"slowthink.{stage}")
    assert module.STAGE_VERSION >= 1
    assert callable(module.run) and callable(module.plan)
    assert loaded_by(f"slowthink.{stage}") & HEAVY == set()
