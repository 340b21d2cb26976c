"""Names that are data: they stand in users' recipes, tables, ledgers and requests, and do not change.

`fixtures/data_names.json` holds them. A setting, a column or a key that is added, renamed or dropped
on purpose is changed there by hand, in the commit that does it and says so in the changelog.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from slowthink import records, stage_rows
from slowthink.engines.session import Point
from slowthink.engines.vllm.request_args import write_args
from slowthink.forcing.formats import FORMATS
from slowthink.recipe import Generation, Recipe
from slowthink.sampling.ledger import Ledger
from slowthink.serialise import arrow_schema
from slowthink.stages.report import ReportPoint

GOLDEN = Path(__file__).parent / "fixtures" / "data_names.json"
TABLES = (
    records.Problem, records.Dropped, records.Trace, stage_rows.TrainingStep, stage_rows.EvaluationRow,
    stage_rows.Attempt,
    ReportPoint,
)  # fmt: skip
ENUMS = (
    records.Split, records.Verdict, records.ThinkingEnd, records.AnswerEnd, records.ChainState,
    records.EventKind,
)  # fmt: skip
REQUEST = records.Request(
    model="m" * 32,
    numerics="transformers/float32",
    prompt_ids=(1, 2, 3),
    format=FORMATS["s1"],
    sampling=records.Sampling(temperature=0.7, top_p=0.95),
    budget=records.Budget(max_thinking_tokens=64, waits=2, answer_tokens=16),
    seed=5,
    sample=1,
)


def test_settings_keep_their_names_values_and_defaults() -> None:
    assert settings_of(Recipe) == golden("recipe")
    assert list(Generation.model_fields) == golden("generate")


def test_columns_of_the_tables_keep_their_names_and_types() -> None:
    columns = {cls.__name__: [f"{f.name}: {f.type}" for f in arrow_schema(cls)] for cls in TABLES}
    assert columns == golden("tables")


def test_values_in_tables_and_ledger_keep_their_names() -> None:
    assert {cls.__name__: [member.value for member in cls] for cls in ENUMS} == golden("values")


def test_keys_of_the_ledger_stay() -> None:
    assert REQUEST.chain_key() == "938c1e5b4b0be9feb4b69febbc3056a2"
    assert REQUEST.answer_key((7, 8), (9,)) == "58eb73ff2872a83a10460ca593cf459f"
    assert REQUEST.key() == "1e845feec2949fd1f1a890880829abe8"


def test_tables_of_the_ledger_keep_their_columns(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite"):
        pass
    with sqlite3.connect(tmp_path / "ledger.sqlite") as ledger:
        rows = ledger.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert {name: " ".join((sql or "").split()) for name, sql in rows} == golden("ledger")


@pytest.mark.parametrize("case", ["thinking", "steps, closed"])
def test_arguments_of_a_request_in_flight_keep_their_names_and_values(case: str) -> None:
    more: dict[str, Any] = {"log": "r1"} if case == "thinking" else {"closed": 1, "answer": False}
    point = Point(64, 2, steps=None if case == "thinking" else 3)
    assert write_args(REQUEST, point, **more) == golden("request arguments")[case]


def golden(part: str) -> Any:
    return json.loads(GOLDEN.read_text("utf-8"))[part]


def settings_of(model: type) -> list[str]:
    """`train.epochs = 5` for each setting, `<kind>` where a section has several forms."""
    schema = model.model_json_schema()
    return sorted(set(_lines(schema, schema.get("$defs", {}), "", ())))


def _lines(
    node: dict[str, Any], defs: dict[str, Any], path: str, seen: tuple[str, ...]
) -> list[str]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return [] if name in seen else _lines(defs[name], defs, path, (*seen, name))
    lines = []
    for form in [*node.get("anyOf", ()), *node.get("oneOf", ())]:
        lines += _lines(form, defs, path, seen)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            lines += _lines(node[key], defs, f"{path}[]", seen)
    lines += [f"{path}: {json.dumps(value)}" for value in node.get("enum", ())]
    kind = node.get("properties", {}).get("kind", {}).get("const")
    prefix = f"{path}<{kind}>" if kind else path
    for name, field in node.get("properties", {}).items():
        default = json.dumps(field["default"]) if "default" in field else "required"
        own = f"{prefix}.{name}".lstrip(".")
        lines += [] if default.startswith("{") else [f"{own} = {default}"]
        lines += _lines(field, defs, own, seen)
    return lines
