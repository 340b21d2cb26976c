"""The tree in the errors' module docstring is the real one."""

from __future__ import annotations

import inspect
import re

from slowthink import errors

LINE = re.compile(r" {4}(?:[├└]── )?(\w+)\((\w+)\)(?: {2,}\S.*)?")


def test_the_diagram_shows_each_class_with_its_base_on_a_line_of_its_own() -> None:
    _, _, diagram = (errors.__doc__ or "").partition("\n\n    ")
    lines = ["    " + line.removeprefix("    ") for line in diagram.rstrip().splitlines()]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    drawn = [(match[1], match[2]) for match in matches if match]
    classes = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    ]
    real = [(kind.__name__, kind.__bases__[-1].__name__) for kind in classes]
    assert sorted(drawn) == sorted(real)
    assert drawn[0] == ("SlowthinkError", "Exception")
    assert all(
        kind.__bases__[0] is errors.SlowthinkError
        for kind in errors.SlowthinkError.__subclasses__()
    )
    assert all(" " * 2 in line for line in lines[1:])
