r"""Text of chains as HTML: escaped, its maths as MathML, in steps that fold.

    render("So $\frac12$ < 1")    # So <math …><mfrac>…</mfrac></math> &lt; 1

Text is data of strangers. MathML is written here, from an element tree, with the elements and
attributes named below only: the converter neither escapes `\text{…}` nor refuses `\href{…}`.
Maths that it does not know stays as it was written.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element

from markupsafe import Markup, escape

MAX_LATEX = 2_000
"""Characters of a formula; a longer one stays text."""
MAX_FORMULAS = 3_000
"""Formulas of a text that are converted."""
MIN_STEP = 240
"""Characters: a shorter paragraph is one step with the next."""
GIST = 110
"""Characters shown of a folded step."""
_MATHS = re.compile(
    rf"\$\$(?P<dollars>[^$]{{1,{MAX_LATEX}}})\$\$"
    rf"|\\\[(?P<display>(?:(?!\\[\[\]]).){{1,{MAX_LATEX}}})\\\]"
    rf"|\\\((?P<inline>(?:(?!\\[()]).){{1,{MAX_LATEX}}})\\\)"
    rf"|(?P<env>\\begin\{{(?P<name>align|equation|gather|eqnarray)\*?\}}"
    rf"(?:(?!\\begin|\\end).){{1,{MAX_LATEX}}}\\end\{{(?P=name)\*?\}})"
    r"|(?<![\\$\w])\$(?P<dollar>(?! )[^$\n]{1,400}(?<![ \\]))\$(?![\d$])",
    re.DOTALL,
)
_ALIGNED = re.compile(r"\\(begin|end)\{(aligned|gathered|gather|eqnarray|equation|align)\*?\}")
_BLOCK = Markup('<div class="block">')
_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
_ELEMENTS = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub",
    "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd", "mstyle",
    "menclose", "mpadded", "mphantom", "mmultiscripts", "mprescripts", "none",
}  # fmt: skip
_ATTRIBUTES = {
    "display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "form",
    "accent", "accentunder", "separator", "lspace", "rspace", "linethickness", "columnalign",
    "rowspacing", "columnspacing", "notation", "width", "height", "depth", "minsize", "maxsize",
    "movablelimits", "largeop", "symmetric",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextStep:
    """A step of a chain."""

    html: Markup
    gist: str
    """Its beginning, as plain text."""


def render(text: str) -> Markup:
    """The text as HTML; white space is kept, so it needs `white-space: pre-wrap`."""
    return _join(formula or escape(source) for source, formula in _pieces(text))


@lru_cache(maxsize=256)
def steps(text: str) -> tuple[TextStep, ...]:
    """The text in steps: its paragraphs, short ones together; lines where it has no paragraphs."""
    made, parts, source = [], [Markup("")], ""
    separator = _BREAK if _BREAK.search(text) else re.compile("\n")
    for piece, formula in _pieces(text):
        first, *others = [piece] if formula else _split(separator, piece)
        parts.append(formula or escape(first))
        source += first
        for other in others:
            if len(source) >= MIN_STEP:
                made.append(_step(parts, source))
                parts, source, other = [], "", other.lstrip("\n")
            parts.append(escape(other))
            source += other
    if source.strip() or not made:
        made.append(_step(parts, source))
    return tuple(made)


def _join(parts: Iterable[Markup]) -> Markup:
    """The parts, without the white space around a formula that is a block."""
    joined = [Markup("")]
    for part in parts:
        is_block, after_block = part.startswith(_BLOCK), joined[-1].startswith(_BLOCK)
        joined[-1] = joined[-1].rstrip() if is_block else joined[-1]
        joined.append(part.lstrip() if after_block else part)
    return Markup("").join(joined)


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    """The parts between separators, each with the separator before it."""
    starts = [0, *(match.start() for match in separator.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(starts)]


def _step(parts: list[Markup], source: str) -> TextStep:
    line = " ".join(source.split())
    return TextStep(_join(parts), line[:GIST] + ("…" if len(line) > GIST else ""))


def _pieces(text: str) -> Iterator[tuple[str, Markup | None]]:
    """The text in pieces, in order; those that are formulas with their markup."""
    end = 0
    for number, match in enumerate(_MATHS.finditer(text)):
        latex = next(filter(None, match.group("dollars", "display", "inline", "env", "dollar")))
        is_block = match["dollars"] or match["display"] or match["env"]
        formula = _formula(latex, "block" if is_block else "inline")
        if formula is not None and number < MAX_FORMULAS:
            yield text[end : match.start()], None
            yield match[0], formula
            end = match.end()
    yield text[end:], None


@lru_cache(maxsize=20_000)
def _formula(latex: str, display: str) -> Markup | None:
    """The formula as MathML, which shows its source as a title; None if it cannot be converted."""
    from latex2mathml.converter import convert_to_element

    aligned = _ALIGNED.sub(r"\\\1{align*}", latex.strip())
    try:
        element = convert_to_element(aligned, display=display)
        inner = Markup("").join(_write(child) for child in element)
    except Exception:  # of a converter that meets any text; whatever it is, the source is shown
        return None
    opening = Markup('<math display="{}" title="{}">').format(display, latex.strip())
    formula = opening + inner + Markup("</math>")
    return _BLOCK + formula + Markup("</div>") if display == "block" else formula


def _write(element: Element) -> Markup:
    """An element as markup. Raises ValueError for a foreign one, or for a command left as text."""
    name, text = element.tag, html.unescape(element.text or "")
    if name not in _ELEMENTS or text == "&" or text.startswith("\\"):
        raise ValueError(f"{name} {text:.40}")
    attributes = Markup("").join(
        Markup(' {}="{}"').format(key, value)
        for key, value in element.attrib.items()
        if key in _ATTRIBUTES
    )
    children = Markup("").join(map(_write, element))
    return Markup("<{}{}>{}{}</{}>").format(Markup(name), attributes, text, children, Markup(name))
