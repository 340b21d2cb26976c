"""Charts: scales, ticks, escaping, and pictures that are complete in themselves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial

import pytest
from made_run import CAPS, made_parallel, summary

from slowthink.analysis.votes import METHODS
from slowthink.stages.report import charts, svg

SPACE = "{http://www.w3.org/2000/svg}"


def classes(picture: str) -> list[str]:
    return [node.get("class", "") for node in ET.fromstring(picture).iter()]


def draw(*lines: svg.Line, x: svg.Axis | None = None, y: svg.Axis | None = None) -> str:
    axis = svg.Axis(label="x")
    return svg.line_chart(lines, x=x or axis, y=y or axis, size=svg.WIDE, title="t")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.47, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (0, 7000, [0, 2000, 4000, 6000, 8000]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (5, 5, [5, 6, 7, 8, 9, 10]),
    ],
)
def test_ticks_are_round_and_enclose_the_data(low, high, expected):
    assert svg.ticks(low, high) == expected


def test_log_ticks_double_and_are_few():
    assert svg.log_ticks(128, unit=16) == [0, 16, 32, 64, 128]
    assert len(svg.log_ticks(32000, unit=1)) <= 9


def test_scale_gives_zero_and_doublings_a_position():
    scale = svg.Scale(low=0, high=512, start=0, end=100, transform=partial(svg.doublings, unit=32))
    assert scale.to_pixel(0) == 0 and scale.to_pixel(512) == 100
    assert scale.to_pixel(64) - scale.to_pixel(32) < scale.to_pixel(32) - scale.to_pixel(0)


def test_flat_scale_puts_everything_in_the_middle():
    assert svg.Scale(low=3, high=3, start=0, end=100).to_pixel(3) == 50


def test_line_passes_through_its_marks():
    marks = [svg.ChartPoint(x=0, y=0), svg.ChartPoint(x=10, y=1)]
    (line,) = ET.fromstring(draw(svg.Line(name="a", marks=marks))).iter(f"{SPACE}polyline")
    left, right = (tuple(map(float, pair.split(","))) for pair in line.get("points", "").split())
    assert left[0] == svg.LEFT and right[0] == svg.WIDE.width - 26
    assert left[1] > right[1]


def test_names_and_hints_are_escaped():
    marks = [svg.ChartPoint(x=1, y=1, hint="<script>", label="<b>")]
    picture = draw(svg.Line(name='</svg><img src="x">', marks=marks))
    assert "<script>" not in picture and "<img" not in picture
    assert "</svg><img" in "".join(ET.fromstring(picture).itertext())


def test_interval_below_zero_stays_in_the_picture():
    mark = svg.ChartPoint(x=1, y=0.1, low=-0.2, high=0.3)
    picture = draw(svg.Line(name="a", marks=[mark]))
    whisker = next(node for node in ET.fromstring(picture).iter() if node.get("class") == "whisker")
    assert float(whisker.get("y1", "inf")) <= svg.WIDE.height - 48


@pytest.mark.parametrize("last", [1, 2, 3])
def test_no_axis_has_a_label_twice(last):
    marks = [svg.ChartPoint(x=step, y=step / 1000) for step in range(1, last + 1)]
    x = svg.Axis(label="Optimiser step", format="{:.0f}".format)
    picture = draw(
        svg.Line(name="a", marks=marks), x=x, y=svg.Axis(label="y", format="{:.0%}".format)
    )
    texts = list(ET.fromstring(picture).iter(f"{SPACE}text"))
    x_labels = [node.text for node in texts if (node.text or "").isdigit()]
    assert x_labels == [str(step) for step in range(last + 1)]


def test_crowded_labels_and_ticks_are_thinned_out():
    near = [svg.ChartPoint(x=100 + place, y=0.5, label=f"+{place}") for place in range(3)]
    far = svg.ChartPoint(x=40000, y=0.5, label="+9")
    line = svg.Line(name="a", marks=[*near, far])
    axis = svg.Axis(label="x", log="wide")
    picture = svg.line_chart([line], x=axis, y=axis, size=svg.NARROW, title="t")
    texts = [node.text or "" for node in ET.fromstring(picture).iter(f"{SPACE}text")]
    assert [text for text in texts if text.startswith("+")] == ["+9", "+2"]
    ticks = [text for text in texts if text.isdigit() and int(text) > 1]
    assert len(ticks) <= 6


def test_chart_without_marks_is_refused():
    with pytest.raises(ValueError, match="no marks to draw"):
        draw(svg.Line(name="a", marks=[]))


def test_wide_characters_take_twice_the_room_in_the_legend():
    assert svg.text_width("数论") > 1.8 * svg.text_width("ab")


def test_bar_is_as_long_as_its_share_and_never_longer():
    assert 'width="40.00%"' in svg.bar(0.4) and 'width="100.00%"' in svg.bar(1.7)
    assert 'x1="10.00%" x2="60.00%"' in svg.bar(0.4, bounds=(0.1, 0.6))


def test_curve_draws_caps_waits_and_free_points_apart():
    names = classes(charts.curve_svg(summary("base", "tuned")["sets"][0]["arms"]))
    assert names.count("band") == 2
    num_points = 2 + len(CAPS) + 2
    assert names.count("dot") == num_points + 3  # and three marks in the legend
    assert names.count("ring") == 1 + 1
    assert names.count("whisker") == num_points + 1


def test_curve_of_a_single_point_needs_no_band():
    arm = summary("tuned")["sets"][0]["arms"][0]
    names = classes(charts.curve_svg([arm | {"points": arm["points"][:1]}]))
    assert "band" not in names and names.count("whisker") == 1


def test_curve_without_points_is_empty():
    assert charts.curve_svg([]) == ""


def test_standalone_picture_has_a_background_for_light_and_dark(whole_run):
    picture = (whole_run / "report" / "curve.svg").read_text("utf-8")
    assert "background" in classes(picture)
    assert "prefers-color-scheme: dark" in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_log_axis_gives_doublings_equal_room_and_has_no_zero():
    axis, lines = svg.Axis(label="x", log="always"), []
    marks = [svg.ChartPoint(x=x, y=0.5) for x in (100, 200, 400, 0)]
    lines.append(svg.Line(name="a", marks=marks, shape="dot"))
    picture = svg.line_chart(lines, x=axis, y=svg.Axis(label="y"), size=svg.WIDE, title="t")
    (line,) = ET.fromstring(picture).iter(f"{SPACE}polyline")
    places = [float(pair.split(",")[0]) for pair in line.get("points", "").split()]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    assert places[3] == svg.LEFT
    assert "0" not in [node.text for node in ET.fromstring(picture).iter(f"{SPACE}text")][4:]


def test_parallel_plot_counts_the_scorers_tokens_and_colours_by_method():
    picture = charts.parallel_svg(made_parallel()["curves"])
    hints = [node.text or "" for node in ET.fromstring(picture).iter(f"{SPACE}title")]
    assert any("750.0 tokens per problem" in hint for hint in hints)
    names = classes(picture)
    assert "band" not in names and names.count("whisker") == 14
    assert names.count("hue1") == 2 * 2  # two lines of majority, and their legend marks
    assert charts.parallel_svg([]) == ""


def test_plot_has_room_for_the_votes_over_the_longest_chains():
    curves = [
        {"name": f"{method} {cap}", "method": method, "points": [],
         "sequential_point": {"max_thinking_tokens": cap, "waits": waits, "forced": True}}
        for cap, waits in ((0, 0), (32, 0), (96, 0), (96, 1))
        for method in METHODS
    ]  # fmt: skip
    curves += [{"name": name, "method": name, "points": []} for name in ("sequential", "rebase")]
    drawn = [curve["name"] for curve in charts.select_curves(curves)]
    assert drawn == [
        "majority 32", "weighted 32", "best-of-n 32", "majority 96", "weighted 96", "best-of-n 96",
        "sequential", "rebase",
    ]  # fmt: skip


def test_long_training_has_a_line_without_dots():
    rows = [{"step": step, "loss": 1.0} for step in range(200)]
    assert classes(charts.step_svg(rows)).count("dot") == 0
    assert charts.step_svg(rows[:1]) == ""


@pytest.mark.parametrize("column", charts.STEP_CHARTS)
def test_each_figure_of_the_steps_is_drawn_where_it_was_recorded(column):
    rows = [{"step": step, column: step / 100} for step in range(1, 6)]
    assert charts.STEP_CHARTS[column][0] in charts.step_svg(rows, column=column)
    assert charts.step_svg([{"step": 1}, {"step": 2}], column=column) == ""
