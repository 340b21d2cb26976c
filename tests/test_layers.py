"""Imports go one way, nothing imports in a circle, and heavy packages load only when used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import slowthink
from slowthink.recipe import STAGES

ROOT = Path(slowthink.__file__).parent
LAYERS = (
    {"errors", "serialise", "records", "stage_rows", "environment"},
    {"analysis"},
    {"recipe", "grading"},
    {"data", "forcing"},
    {"engines"},
    {"sampling"},
    {"pipeline"},
    {"curation"},
    {"stages", "review"},
    {"export", "publish"},
    {"api"},
    {"cli"},
)
"""From the bottom up; a package imports from layers below its own, and from its own layer."""
HEAVY = {"torch", "transformers", "vllm", "trl", "ray", "peft", "accelerate"}
OPENED_BY_ENGINES = ("engines/transformers/", "engines/vllm/", "stages/train/")
"""Files here may import heavy packages at their top: only their own package opens them."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    named = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in ROOT.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def package_of(module: str) -> str:
    """`slowthink.grading.answers.compare` → `grading`; of `slowthink` itself: nothing."""
    return module.split(".")[1] if "." in module else ""


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of slowthink that a module imports anywhere, those for type checkers too."""
    targets: set[str] = set()
    for node in statements(tree_of(modules()[module])):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("slowthink"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            targets |= {name if name in modules() else node.module for name in names}
        elif isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names if alias.name in modules()}
    return frozenset(targets - {module})


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements of a module; imports are never within an expression."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            yield child
            yield from statements(child)


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in modules()} - {""} == set().union(*LAYERS)


@pytest.mark.parametrize("package", sorted(set().union(*LAYERS)))
def test_a_package_imports_only_from_its_own_layer_and_below(package) -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer} | {"": -1}
    upwards = {
        f"{module} imports {target}"
        for module in modules()
        if package_of(module) == package
        for target in imports(module)
        if level[package_of(target)] > level[package]
    }
    assert upwards == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    remaining = {module: set(imports(module)) for module in modules()}
    while leaves := {
        module for module, targets in remaining.items() if not targets & remaining.keys()
    }:
        remaining = {
            module: targets for module, targets in remaining.items() if module not in leaves
        }
    assert remaining == {}


def test_a_stage_never_imports_a_stage() -> None:
    def stage_of(module: str) -> str:
        return module.split(".")[2] if module.startswith("slowthink.stages.") else ""

    crossing = {
        f"{module} imports {target}"
        for module in modules()
        for target in imports(module)
        if stage_of(module) and stage_of(target) not in ("", stage_of(module))
    }
    assert crossing == set()


def test_heavy_packages_are_imported_inside_functions() -> None:
    offenders = set()
    for path in modules().values():
        name = path.relative_to(ROOT).as_posix()
        top = [n for n in tree_of(path).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        loaded = {alias.name for n in top if isinstance(n, ast.Import) for alias in n.names}
        loaded |= {n.module for n in top if isinstance(n, ast.ImportFrom) and n.module}
        if {m.split(".")[0] for m in loaded} & HEAVY and not name.startswith(OPENED_BY_ENGINES):
            offenders.add(name)
    assert offenders == set()


def loaded_by(code: str) -> set[str]:
    """Top-level packages that are loaded after running code in a fresh interpreter."""
    return {name.split(".")[0] for name in modules_loaded_by(code)}


def modules_loaded_by(code: str) -> list[str]:
    code += "; import sys; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return out.stdout.split()


def test_the_command_line_starts_without_heavy_packages() -> None:
    loaded = loaded_by("import slowthink.cli.app")
    assert loaded & {*HEAVY, "pyarrow", "numpy", "pydantic"} == set()


def test_generating_needs_no_grader_tables_or_stages() -> None:
    modules = "cli.generate", "pipeline.resolve", "sampling.sampler", "engines"
    loaded = modules_loaded_by(f"import {', '.join(f'slowthink.{name}' for name in modules)}")
    unused = ("slowthink.grading", "slowthink.stages", "pyarrow", "sympy", "math_verify", "aiohttp")
    assert [name for name in loaded if name.startswith(unused)] == []


def test_stages_can_be_planned_without_heavy_packages() -> None:
    for stage in STAGES:
        module = importlib.import_module(f"slowthink.stages.{stage}")
        assert module.STAGE_VERSION >= 1
        assert callable(module.run) and callable(module.plan)
    everything = ", ".join(f"slowthink.stages.{stage}" for stage in STAGES)
    assert loaded_by(f"import {everything}") & HEAVY == set()
