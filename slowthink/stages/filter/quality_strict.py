r"""Preset `strict`: what s1's rules are meant to drop, in English and Chinese, and no more.

    multi_part(problem("(1) 求a的值; (2) 求b的值"), …) == RuleMatch("asks more than once", "…")
    multi_part(problem("Find the top7. They win."), …) is None      # s1 drops it

A rule searches the text for words that indicate a fault, and returns the matched span. The rules
cannot detect: a missing figure that no word mentions, two questions in one sentence, Latin
languages in texts under 12 words, mojibake of code pages other than Windows-1252 and Latin-1.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from slowthink.data.language import detect_language
from slowthink.data.rows import as_evidence
from slowthink.grading.answers.choice import parse_choice
from slowthink.grading.key_sentences import is_refused
from slowthink.grading.sentinels import says_nothing
from slowthink.recipe.curation import QualityConfig
from slowthink.records import Problem

SPAN_MARGIN = 40
"""Characters of context on either side of a match."""


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A fault that a rule found in a problem."""

    reason: str
    span: str
    """The matched text with context, as evidence."""


StrictRule = Callable[[Problem, QualityConfig], RuleMatch | None]


def configured_rules(config: QualityConfig) -> dict[str, Callable[[Problem], RuleMatch | None]]:
    """The preset's rules under these settings, in the order in which they are applied."""
    return {
        name: functools.partial(_apply_rule, rule, config)
        for name, rule in STRICT_RULES.items()
        if name not in config.skip
    }


def _apply_rule(rule: StrictRule, config: QualityConfig, problem: Problem) -> RuleMatch | None:
    return rule(problem, config)


def span_with_context(text: str, start: int, end: int) -> str:
    """text[start:end] with SPAN_MARGIN characters of context on either side, as evidence."""
    left, right = max(0, start - SPAN_MARGIN), end + SPAN_MARGIN
    return as_evidence(
        ("…" if left else "") + text[left:right] + ("…" if right < len(text) else "")
    )


@dataclass(frozen=True, slots=True)
class FaultPattern:
    """A pattern that finds one kind of fault, and the reason with which problems are dropped."""

    reason: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...] = ()
    """If given, each match contains one of these in lower case; searching for them first is twenty
    times faster."""

    def find(self, text: str) -> RuleMatch | None:
        """The first match in the text."""
        if self.hints:
            lower = text.lower()
            if not any(hint in lower for hint in self.hints):
                return None
        match = self.pattern.search(text)
        return match and RuleMatch(self.reason, span_with_context(text, *match.span()))


# --- the text -------------------------------------------------------------------------------------

DEBRIS_FAULT = FaultPattern("holds encoding debris", re.compile(
    "[\ufffd\ufffe\uffff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff]"
    "|â€[™œ\u009d“”˜¦\u0093\u0094\u0099\u009c]|Ã[\u0080-\u00bf]|Â[\u00a0-\u00bf]|ï¼[\u0080-\u00bf]"
    r"|&(?:amp|lt|gt|nbsp|quot|apos|times|deg|le|ge|minus|ldquo|rdquo|lsquo|rsquo|mdash|ndash"
    r"|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
    r"|</p>|<p\s[^<>\n]{1,200}>|</?(?:div|span|table|tr|td|th|font|script|style|li|ul|ol)(?:\s[^<>\n]{0,200})?/?>"
))  # fmt: skip
IMAGE_PATTERN = re.compile(
    r"\[img\b|!\[[^\]\n]{0,200}\](?:\s?\()?|<img\b|<image[\s_>\d]|<ImageHere>|\\includegraphics|\[图\d?\]"
    r"|如图|下图|右图|左图|上图|见图|附图|如右?所示的?图|图\d?\s?[(（]?[甲乙a-z\d]?[)）]?所示"
    r"|(?i:\b(?:figure|diagram|picture|image|graph|chart|map|drawing|sketch|illustration)s?"
    r" (?:is |are )?(?:shown |given |pictured |drawn )?"
    r"(?:below|above|at (?:the )?(?:right|left)\b))"
    r"|(?i:\b(?:accompanying|adjoining|adjacent|attached) "
    r"(?:figure|diagram|picture|image|graph|chart|drawing|sketch)s?\b)"
    r"|(?i:\b(?:in|from|on|of|see|by|into|to) (?:the|this) (?:\w+ )?"
    r"(?:figure|diagram|illustration)s?\b(?! skat| of merit))"
    r"|(?i:\b(?:in|from|see) (?:the|this) (?:following )?picture\b)"
    r"|(?i:\b(?:as )?(?:shown|pictured|depicted|illustrated|drawn|indicated) (?:here|in "
    r"(?:the )?(?:figure|fig\b|diagram|picture|sketch|image|illustration)))"
    r"|\b[Ff]ig(?:ure|\.)?\s?\d|\bpictured (?:below|above|here)\b"
)
LINK_PATTERN = re.compile(r"(?i:\bhttps?:/?/|\bwww\.\w+\.\w|\bftp://)|\\(?:href|url)\{")
DRAWING_CODE = re.compile(
    r"\[/?asy\]|```asy|\\begin\{(?:tikzpicture|picture|asy|pspicture)\}|\bunitsize\(|\\xymatrix"
)
IMAGE_FAULT = FaultPattern(
    "refers to an image", IMAGE_PATTERN,
    ("fig", "diagram", "pictur", "image", "graph", "chart", "map", "drawing", "sketch", "illustrat",
     "shown", "![", "<img", "[img", "drawn", "图"),
)  # fmt: skip
LINK_FAULT = FaultPattern("holds a link", LINK_PATTERN, ("http", "www.", "ftp:", "\\href", "\\url"))
DRAWING_FAULT = FaultPattern(
    "holds a drawing as code", DRAWING_CODE, ("asy", "picture}", "unitsize", "xymatrix")
)
_ART_LINE = re.compile(r"^(?=.*[|/\\+_])[ \t|_/\\+\-=.oO*'`^<>]{4,}$")
_ART_MARK = re.compile(r"[|/\\+]")
MIN_ART_LINES = 3
"""Minimum number of consecutive lines of strokes that are a drawing."""


def encoding(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """Replacement and control characters, mojibake, HTML entities and blocks (not `<br>`)."""
    return DEBRIS_FAULT.find(problem.question)


def image(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """A missing figure: its markup, or words that refer to it."""
    return IMAGE_FAULT.find(problem.question)


def drawing(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """A drawing as code or in characters."""
    text = problem.question
    return DRAWING_FAULT.find(text) or _find_ascii_art(text)


def _find_ascii_art(text: str) -> RuleMatch | None:
    if text.count("\n") < MIN_ART_LINES - 1 or not _ART_MARK.search(text):
        return None
    lines = text.split("\n")
    num_art_lines = 0
    for index, line in enumerate(lines):
        is_art = _ART_LINE.match(line) and not set(line) <= set("\\ ") and "---|" not in line
        num_art_lines = num_art_lines + 1 if is_art else 0
        if num_art_lines == MIN_ART_LINES:
            span = "\n".join(lines[index + 1 - MIN_ART_LINES :])
            return RuleMatch("holds a drawing in characters", as_evidence(span))
    return None


def link(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """A web address."""
    return LINK_FAULT.find(problem.question)


# --- the question ---------------------------------------------------------------------------------

ASKS_VALUE = re.compile(
    r"(?i:\b(?:find|determine|compute|calculate|evaluate|what|how|which|when|where|who|express|solve"
    r"|estimate|simplify|factor|derive|give|obtain|state|sketch|is it|are there|does there|can)\b)"
    r"|求(?!证)|计算|多少|几[个种次]|是否|哪|为何值|取值范围|化简|[?？]"
)
PROOF_PATTERN = re.compile(
    r"(?:^|[.:;,!?)\]$。；，：！？）]\s*|\n\s*"
    r"|\b(?:[Aa]nd|[Tt]hen|[Pp]lease|[Hh]ence|[Tt]hus|also) )"
    r"(?:[Pp]rove|[Ss]how|[Dd]isprove|[Vv]erify)\b(?!\s+(?:me|your|up|work|all|the steps))"
    r"|(?<!要)求证|试证|证明[:：，,]"
    r"|(?<![可已被能经易以的未于了])(?<!不需要|不要求)(?<!不[需必用]|无[需须])证明(?!了|过|题|书|的|是|中|方法)"
)
PROOF_FAULT = FaultPattern("asks for a proof", PROOF_PATTERN, ("prove", "show", "verify", "证"))
_PART_LABELS = (
    re.compile(r"(?<![\w\\^_{(])[(（]([a-h])[)）]"),
    re.compile(r"(?<![\w\\^_{(])[(（](i{1,3}|iv|v|vi{1,3})[)）]"),
    re.compile(r"(?<![\w\\^_{(=])[(（]([1-9])[)）]"),
    re.compile(r"(?:^|\n)\s*\**([a-h]|[1-9])[.)]\**\s"),
    re.compile(r"(?<!\w)\**[Pp]([1-9]\d{0,2})\.(?=\s|\*)"),
    re.compile(r"\*\*\(?(?:[Pp]art |[Pp]roblem )?([1-9A-Da-d])[.:)]*\*\*"),
    re.compile(r"([①②③④⑤⑥])"),
    re.compile(r"(?:^|\n)\s*(?:[Pp]art|PART) ([A-D1-4])\b"),
    re.compile(r"第([一二三四])[问题小]"),
)
_SERIES = ("abcdefgh", "123456789", "①②③④⑤⑥", "ABCD", "一二三四", ("i", "ii", "iii", "iv", "v"))
_ASKS_PART = re.compile(
    r"(?i:^\W{0,6}(?:hence |then |now |also |if [^.?]{1,120}[,.] ?)?"
    r"(?:find|determine|compute|calculate|evaluate|what|how|which|why|express|solve|prove"
    r"|wh(?:en|ere) (?:is|are|was|were|does|do|did|will|would|can|should)"
    r"|show|verify|estimate|simplify|derive|give|explain|obtain|sketch|is|are|does|do|can|write)\b)"
    r"|[?？]|求|证明|计算|写出|判断|多少|讨论"
)
_MAY_HAVE_PARTS = re.compile(r"[(（][ai1][)）]|(?:^|\n)\s*\**[a1][.)]|[Pp]1\.|\*\*|①|art [A1]|第一")


def multi_part(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """Two or more labelled parts that ask something; labelled conditions and options do not."""
    text = problem.question
    if not _MAY_HAVE_PARTS.search(text):
        return None
    for pattern in _PART_LABELS:
        labels = _labels_in_series(list(pattern.finditer(text)))
        ends = [*(label.start() for label in labels[1:]), len(text)]
        asking = [
            label
            for label, end in zip(labels, ends, strict=False)
            if _ASKS_PART.search(text[label.end() : end])
        ]
        if len(asking) > 1:
            return RuleMatch("asks more than once", span_with_context(text, *asking[1].span()))
    return None


def _labels_in_series(labels: list[re.Match[str]]) -> list[re.Match[str]]:
    """The labels that are the start of a series such as a, b, c; [] if fewer than two are."""
    for series in _SERIES:
        in_series: list[re.Match[str]] = []
        for label in labels:
            if len(in_series) < len(series) and label[1] == series[len(in_series)]:
                in_series.append(label)
        if len(in_series) > 1:
            return in_series
    return []


def proof(problem: Problem, _: QualityConfig) -> RuleMatch | None:
    """A question that asks for a proof and not also for a value that the answer gives."""
    match = PROOF_FAULT.find(problem.question)
    if match is None or (problem.answer and ASKS_VALUE.search(problem.question)):
        return None
    return match


# --- the answer -----------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+−]?\$?[-+]?\d[\d,]*\$?")
_NUMBER = re.compile(r"\$?[-+−]?(?:\d+(?:\.\d+)?|\.\d+|\\[dt]?frac\{-?\d+\}\{\d+\}|\d+/\d+)\$?%?")


def answer(problem: Problem, config: QualityConfig) -> RuleMatch | None:
    """No answer, or one that the grader cannot use as a reference."""
    text = (problem.answer or "").strip()
    if not text:
        return RuleMatch("has no answer", as_evidence(problem.question))
    if _INTEGER.fullmatch(text):
        return None
    if len(text) > 3 and len(text.split()) > config.max_answer_words:
        return RuleMatch(f"the answer has over {config.max_answer_words} words", as_evidence(text))
    return _find_answer_fault(text)


@functools.lru_cache(maxsize=200_000)
def _find_answer_fault(text: str) -> RuleMatch | None:
    """The fault of an answer that names no value or that the grader does not accept."""
    if says_nothing(text):
        return RuleMatch("the answer says nothing", as_evidence(text))
    if is_refused(text):
        return RuleMatch("the grader refuses the answer as a key", as_evidence(text))
    return None


def classify_answer(problem: Problem) -> str:
    """The type of the answer: choice, integer, number, list, words or expression."""
    text = (problem.answer or "").strip()
    if parse_choice(text).letters and (problem.choices or len(text) <= 3):
        return "choice"
    if _INTEGER.fullmatch(text):
        return "integer"
    if _NUMBER.fullmatch(text):
        return "number"
    if re.search(r"[A-Za-z]{3,} [A-Za-z]{2,}|[\u4e00-\u9fff]{2}", text):
        return "words"
    return "list" if re.search(r"[,;，；]", text) else "expression"


def answer_type(problem: Problem, config: QualityConfig) -> RuleMatch | None:
    """An answer of a type that the settings do not allow."""
    if config.answer_types is None or (kind := classify_answer(problem)) in config.answer_types:
        return None
    return RuleMatch(f"the answer is of kind {kind}", as_evidence(problem.answer or ""))


# --- the language ---------------------------------------------------------------------------------


def language(problem: Problem, config: QualityConfig) -> RuleMatch | None:
    """A language that the settings do not allow."""
    if config.languages is None or (name := detect_language(problem.question)) in config.languages:
        return None
    return RuleMatch(f"the language is {name}", as_evidence(problem.question))


STRICT_RULES: dict[str, StrictRule] = {
    "encoding": encoding,
    "image": image,
    "drawing": drawing,
    "link": link,
    "multi_part": multi_part,
    "proof": proof,
    "answer": answer,
    "language": language,
    "answer_type": answer_type,
}
"""In the order in which they are applied: faults of the question before those of the answer."""
