"""Accuracy against thinking tokens: one chain a problem, cut at every budget.

curve = model.sweep(problems, caps=[0, 256, 1024], waits=[1])
curve.points[0]  # {"max_thinking_tokens": 0, "waits": 0, "n": 30, "accuracy": 0.1, "ci95": […], …}
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.api.rows import Rows, to_frame
from slowthink.errors import DataError
from slowthink.records import Problem
from slowthink.stage_rows import EvaluationRow

if TYPE_CHECKING:
    import pandas

    from slowthink.engines.session import Session
    from slowthink.recipe import Generation, Recipe
    from slowthink.sampling.ledger import Ledger

POINT_COLUMNS = (
    "max_thinking_tokens", "waits", "n", "num_samples", "accuracy", "low", "high",
    "mean_thinking_tokens", "mean_answer_tokens", "thinking_natural_rate", "truncated_rate",
    "num_ungradable", "budget_violations",
)  # fmt: skip
"""Columns of `Curve.to_pandas`; `low` and `high` bound the 95 % interval of the accuracy."""


@dataclass(frozen=True)
class Chart:
    """A picture as SVG; notebooks show it."""

    svg: str

    def save(self, path: str | Path) -> Path:
        """Write the SVG file; returns its path. Raises ConfigError for another suffix than .svg,
        and for a folder that does not exist."""
        from slowthink.data.user_files import check_output_path
        from slowthink.serialise import replacing

        path = Path(path)
        check_output_path(path, suffixes=(".svg",))
        with replacing(path) as partial:
            partial.write_text(self.svg, "utf-8")
        return path

    def _repr_html_(self) -> str:
        return self.svg


class Curve:
    """Graded answers of one model at several budgets, and the figures of each budget."""

    def __init__(self, rows: Iterable[EvaluationRow], points: Sequence[dict[str, Any]]) -> None:
        self.rows = Rows(rows)
        """One row per problem, sample and budget."""
        self.points = tuple(points)
        """All figures of each budget, as in `report.json`."""

    def __repr__(self) -> str:
        return f"<Curve of {len(self.points)} budgets, {self.points[0]['n']} problems>"

    def to_pandas(self) -> pandas.DataFrame:
        """A row per budget with the columns POINT_COLUMNS; `curve.rows.to_pandas()` has answers."""
        return to_frame(self._table())

    def plot(self) -> Chart:
        """The chart of the report: accuracy against mean thinking tokens, with 95 % intervals."""
        from slowthink.stages.report.charts import chart_css, curve_svg

        arm = {"name": self.rows[0].arm, "points": self.points}
        return Chart(curve_svg([arm], css=chart_css()))

    def _table(self) -> list[dict[str, Any]]:
        rows = []
        for point in self.points:
            low, high = point["ci95"] or (None, None)
            values = point | {"low": low, "high": high}
            rows.append({name: values[name] for name in POINT_COLUMNS})
        return rows

    def _repr_html_(self) -> str:
        """The chart, and a table of the budgets."""
        head = "".join(f"<th>{escape(name)}</th>" for name in POINT_COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>"
            for row in self._table()
        )
        return f"{self.plot().svg}<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return escape(text)


def sweep(
    session: Session,
    ledger: Ledger,
    config: Generation,
    problems: Sequence[Problem],
    *,
    caps: Sequence[int],
    waits: Sequence[int],
    num_samples: int,
    quiet: bool,
) -> Curve:
    """See `Model.sweep`: the stage evaluate with one arm and one set."""
    from slowthink.data.load import ProblemSet
    from slowthink.grading import Grader
    from slowthink.pipeline.contract import StageContext
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.stages.evaluate.batches import EvaluationContext, sample_batches, sample_rows
    from slowthink.stages.evaluate.disputed import answer_groups
    from slowthink.stages.evaluate.summary import Evaluation, summarise

    if not any(problem.answer for problem in problems):
        raise DataError(
            f"sweep: none of {len(problems)} problems has a reference answer; expected some to "
            "grade by. Load problems with answers: load_problems(FILE, answer_field=COLUMN)"
        )
    recipe = _recipe(config, caps, waits, num_samples)
    sets = [ProblemSet(name="problems", problems=tuple(problems))]
    with (
        tempfile.TemporaryDirectory() as folder,
        Grader() as grader,
        ProgressReporter(quiet=quiet) as reporter,
    ):
        root = Path(folder)
        stage = StageContext(
            stage="evaluate", recipe=recipe, root=root, folder=root, work_folder=root, inputs={},
            notify=reporter.notify, progress=reporter.progress,
        )  # fmt: skip
        context = EvaluationContext(stage=stage, sets=sets, ledger=ledger, grader=grader)
        arm = context.config.arms[0]
        rows = [
            row
            for batch in sample_batches(context, arm, session)
            for row in sample_rows(context, batch)
        ]
        evaluation = Evaluation(
            config=context.config, sets=sets, rows=rows, groups=answer_groups(rows, grader),
            seed=recipe.seed, chat=recipe.chat,
        )  # fmt: skip
        figures = summarise(evaluation)["sets"][0]["arms"][0]
    return Curve(rows, figures["points"])


def _recipe(
    config: Generation, caps: Sequence[int], waits: Sequence[int], num_samples: int
) -> Recipe:
    """A recipe that evaluates this model alone. Raises ConfigError for impossible budgets."""
    from slowthink.recipe.loading import parse_recipe

    sampling = config.sampling.model_dump()
    temperature = sampling.pop("temperature")
    draws = {"temperatures": [temperature], "num_samples": num_samples, **sampling}
    protocol = {"name": f"T={temperature:g}" if temperature else "greedy", "draws": draws}
    arm = {
        "name": Path(config.model).name, "model": config.model, "caps": list(caps),
        "waits": list(waits), "forcing": config.forcing.model_dump(mode="json"),
    }  # fmt: skip
    shared = config.model_dump(mode="json", include={"model", "seed", "chat", "formats"})
    evaluate = {"arms": [arm], "protocols": [protocol]}
    return parse_recipe(shared | {"name": "sweep", "evaluate": evaluate}, where="sweep")
