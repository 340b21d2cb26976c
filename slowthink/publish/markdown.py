"""Markdown in which a text is only ever a text: what the cards' templates write with.

`{{ name }}` escapes and shortens, `{{ code(name) }}` is a code span, `{{ table(headers, rows) }}` a
table. Names of datasets, domains and models come from others, and a card must not carry their
markup, nor paths of this machine.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slowthink.publish import card_tables
from slowthink.serialise import printable
from slowthink.stages.report import text as formats

MAX_CHARS = 300
"""Longest text of a card; of longer ones the beginning and the end are shown."""
_ABSOLUTE_PATH = re.compile(r"(^|[\s`'\"(=])~?/(?:[^\s/`'\"()]+/)+([^\s/`'\"()]+)")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#$~!])")


def escape(value: Any) -> Markup:
    r"""The value as text on one line, without markup; marked text stays as it is.

    >>> escape("<b>a_b</b>\n| http://x")
    Markup('\\<b\\>a\\_b\\</b\\> \\| http\\://x')
    >>> escape("the model /home/me/models/qwen thinks")
    Markup('the model …/qwen thinks')
    """
    if isinstance(value, Markup):
        return value
    return Markup(_SPECIAL.sub(r"\\\1", _one_line(value)).replace("://", r"\://"))


def code(value: Any) -> Markup:
    """The value as a code span."""
    return Markup("`" + _one_line(value).replace("`", "'") + "`")


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table; columns whose header begins with `#` are numbers, aligned to the right."""
    names: list[str] = [escape(header.removeprefix("#")) for header in headers]
    rule = ["---:" if header.startswith("#") else "---" for header in headers]
    lines: list[list[str]] = [names, rule, *([_cell(cell) for cell in row] for row in rows)]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value: Any) -> str:
    """A cell; a bar ends it even within a code span, unless it is escaped."""
    return re.sub(r"(?<!\\)\|", r"\\|", escape(value))


def _one_line(value: Any) -> str:
    """The value on one line; of a path of this machine only the last part."""
    value = _ABSOLUTE_PATH.sub(r"\1…/\2", formats.plain(value))
    return formats.shorten(printable(" ".join(value.split())), limit=MAX_CHARS)


def render(template: str, **values: Any) -> str:
    """The text of a template of this package."""
    text = _environment().get_template(template).render(**values)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    """Functions of the report's `text` and of `card_tables` are functions of the templates. Cached
    to compile templates once."""
    environment = Environment(
        loader=PackageLoader("slowthink.publish", package_path=""),
        finalize=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    for module in (formats, card_tables):
        environment.globals.update(inspect.getmembers(module, inspect.isfunction))
    environment.globals.update(code=code, table=table, raw=Markup)
    return environment
