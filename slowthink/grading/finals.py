r"""Unmarked answers: what the end of a response states without a box or "Answer:" before it.

Example: `last_statement("7 · 2 = 14.\nSo she pays 14 dollars. Let me know if it helps!")` is
`14 dollars`. Precision first: a question, a guess, a refusal, a step, or a text that breaks off
states nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from slowthink.grading.sentences import SPECIAL_TOKEN, any_of, strip_markup
from slowthink.grading.statements import has_value, phrase_in_statement, value_in_statement

MAX_ENDING_LENGTH = 2_000
"""Only this many characters at the end of a text are searched for an unmarked answer."""
MAX_SENTENCES = 4
"""Only this many sentences at the end are read."""

_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\b[ie]\.[eg]\.)(?<!\bca\.)(?<!approx\.)(?<!\bNo\.)(?<!^\d\.)\s+(?=\S)"
    r"|(?<=[。！？])\s*(?=\S)"
)
_ABBREVIATED = re.compile(r"\b(?:vol|no|approx|ca|fig|eq)\.$", re.IGNORECASE)
_CLOSING = re.compile(
    any_of(
        "let me know, i hope, hope (?:this|that), feel free, good luck, (?:i am |i'm )?happy to, "
        "please, if you (?:have|need|want|would), would you like, do you (?:want|need|have), "
        "does (?:this|that), (?:is there )?any(?:thing| other| questions), thanks?, great, "
        "well done, 希望, 如有, 如果你, 如果您, 需要我, 还有"
    ),
    re.IGNORECASE,
)
"""A friendly end, which says nothing about the answer."""
_ASIDE_LINE = re.compile(
    r"\[\d+\]|[-*_=]{3,}$|\(.*\)\W*$|（.*）\W*$|"
    + any_of(
        "check, checking, verification, verify, note, remark, sources?, references?, written, "
        "date, (?:that|which) (?:is|equals|makes) (?:about|roughly|approximately|the same), "
        "(?:this|that) is because, because, indeed, see, refer, cf, where, for instance, "
        "for example, in other words, probe, vérification, comprobación, 验证, 检验, 注"
    ),
    re.IGNORECASE,
)
"""A check, a reference, a reason or a remark after the answer."""
_CANNOT = (
    "(?:cannot|can['’]?t|could not|can not) (?:be (?:sure|right|determined|solved|answered)"
    "|determine|solve|help|tell|decide|answer|find|compute|calculate|say|give|provide|see)"
)
_I_DID_NOT = "i (?:can|could|did|do|was|am|have)(?:n['’]t| ?not)"
_OPEN = re.compile(
    any_of(
        f"{_CANNOT}, {_I_DID_NOT}, unable, sorry, afraid, not enough, insufficient, don['’]t know, "
        "not sure, "
        "unsure, not certain, unclear, no idea, guess\\w*, error \\d+, an error, a mistake, "
        "(?:that|this|it|which) (?:is|was|seems) (?:wrong|incorrect|not right), maybe, perhaps, "
        "possibly, might, may be, (?:wrong|incorrect) answer, "
        "(?:it|this|that|answer) could be, so far, "
        "please provide, "
        "need more, but i(?:['’]m| am| would| need), vielleicht, peut-être, "
        "quizás, tal vez, 无法, 不知道, 不确定, 也许, 或许, 抱歉, 可能是, 猜"
    ),
    re.IGNORECASE,
)
"""A refusal, a guess or a withdrawal."""
_UNFINISHED = re.compile(
    any_of(
        "try, check(?:ing)?, we still, it (?:still )?remains to, first(?:ly)?, next, "
        "let(?:['’]s)?, suppose, assume, consider, recall, now (?:we|let|i|try|take), "
        "we (?:need|have|want|must) to, we (?:are|were) (?:given|told), "
        "to (?:find|solve|begin|start|get|do), "
        "(?:i|we)(?:['’]ll| will), error, warning, 首先, 其次, 接下来, 下一步, 设, 假设, 令"
    ),
    re.IGNORECASE,
)
"""The beginning of a step, not of a conclusion."""
_STEP_LABEL = re.compile(r"(?:step|schritt|étape|paso|步骤)\s*\d+\s*[:.：)]?\s*", re.IGNORECASE)
_CONCLUDES = re.compile(
    any_of(
        "so, thus, hence, therefore, total, altogether, in all, finally, result, consequently, "
        "overall, donc, also, entonces, por lo tanto, quindi, portanto, folglich, somit, damit, "
        "所以, 因此, 一共, 总共, 共, 故, 综上"
    ),
    re.IGNORECASE,
)
_BREAKS_OFF = re.compile(
    r"(?:\b(?:and|or|to|by|of|the|an?|have|has|we|then|with|for|is|are|plus|minus|times|that"
    r"|from|so"
    r"|if|which|und|et|y)|[的和是为]|[-+*/=,:(\\^{，：、])$",
    re.IGNORECASE,
)
"""What no sentence ends with."""
_EQUATION_AT_END = re.compile(r"=\s*[$€£\\(]?[-\d][^=]{0,30}$|\bequals \S{1,20}$")
_ENDS = re.compile(r"[.!。！][\"”'’)）\]】*_`]*$|[$*`]$|\\[\])]$")
_TOTAL = re.compile(
    any_of(
        "(?:grand |sub)?total, sum, all, altogether, overall, result, answer, summe, gesamt, "
        "insgesamt, somme, suma, totale, итого, всего, 합계, 답, 合计, 总计, 总数, 共计, 总和, "
        "合計, 計"
    ),
    re.IGNORECASE,
)
_LABELLED = re.compile(r"[\W\d]*[^\W\d_][^:：|=\d]{1,40}[:：]\s*(?P<value>\S.{0,80})$")
_LIST_ITEM = re.compile(r"(?:[-*•+]|\d{1,2}[.)])\s+(?=\S)")
_WHOLE_BOLD = re.compile(r"\*\*([^*]{1,60})\*\*[.。]?")
_BARE_VALUE = re.compile(
    r"[-−+]?[$€£¥]?\s?\d[\d.,/]*\s?(?:%|°|[^\W\d_]{1,12}[²³]?(?:/[^\W\d_]{1,8})?)?[.。]?"
    r"|\$[^$一-鿿]{1,200}\$[.。]?|\\\((?:(?!\\\)).){1,200}\\\)[.。]?"
)
_IMAGE = re.compile(r"!\[[^\]\n]{0,200}\]\([^)\n]{0,400}\)")
_DELIMITERS = (("\\[", "\\]"), ("\\(", "\\)"))
_PART = re.compile(r"\W{0,4}(?:\(?[a-h]\)|[(（][1-9][)）])\W{0,4}\S")


def last_statement(text: str) -> str | None:
    """Return the answer that the end of a text states; None if it states none."""
    lines = _last_lines(text)
    if not lines:
        return None
    last = lines[-1]
    if "boxed" in last or _is_cut_in_formula(lines):
        return None
    if last.startswith("|") or last.endswith("|"):
        return _total_of_table(last)
    if (parts := labelled_parts(lines)) is not None:
        return parts
    if (alone := _value_alone(last)) is not None:
        return alone
    has_full_stops = len(lines) < 2 or _ENDS.search(lines[-2]) is not None
    return _answer_of_sentences(last, has_full_stops=has_full_stops)


def _is_cut_in_formula(lines: list[str]) -> bool:
    """Whether a text breaks off within a formula."""
    ending = "\n".join(lines)
    return any(ending.rfind(left) > ending.rfind(right) for left, right in _DELIMITERS)


def _last_lines(text: str) -> list[str]:
    """The last lines, without special tokens and without closing lines and remarks after them."""
    ending = _IMAGE.sub("", SPECIAL_TOKEN.sub("", text[-MAX_ENDING_LENGTH:]))
    stripped = (line.strip().lstrip("> ") for line in ending.split("\n"))
    lines = [line for line in stripped if line and line != "```"]
    while lines and any(p.match(lines[-1].lstrip("*_ ")) for p in (_CLOSING, _ASIDE_LINE)):
        lines.pop()
    return _without_display(lines)


def _without_display(lines: list[str]) -> list[str]:
    """The lines, with a displayed formula at the end as one line: its last row."""
    if not lines or lines[-1].rstrip(".") not in ("$$", "\\]"):
        return lines
    opening = "$$" if lines[-1].startswith("$$") else "\\["
    start = next((i for i in range(len(lines) - 2, -1, -1) if lines[i].endswith(opening)), None)
    if start is None:
        return lines
    rows = re.split(r"\\\\|\n", "\n".join(lines[start + 1 : -1]))
    bare = [re.sub(r"\\(?:begin|end|tag|label)\{[^{}]*\}|&", " ", row).strip(" .,") for row in rows]
    row = next((row for row in reversed(bare) if row), "")
    before = lines[start].removesuffix(opening).strip()
    return [*lines[:start], f"{before} ${row}$.".strip()] if row else lines[:start]


def _total_of_table(line: str) -> str | None:
    """The last cell of a table's last row, if the row is a total."""
    cells = [cell.strip(" *_") for cell in line.strip("|").split("|")]
    is_total = len(cells) >= 2 and _TOTAL.match(cells[0]) and has_value(cells[-1])
    return cells[-1] if is_total else None


def labelled_parts(lines: Sequence[str]) -> str | None:
    """The last lines if they are the parts (a), (b) … or (1), (2) … of an answer."""
    parts: list[str] = []
    for line in reversed(lines[-8:]):
        if not _PART.match(line) or len(line) > 80:
            break
        parts.insert(0, line.replace("*", "").strip(" .;"))
    is_whole = len(parts) >= 2 and parts[0].lstrip("(（").startswith(("a", "1"))
    return " ".join(parts) if is_whole else None


def _value_alone(line: str) -> str | None:
    """The value of a line that is nothing else, is bold as a whole, or follows a label."""
    if bold := _WHOLE_BOLD.fullmatch(line):
        line = bold.group(1).strip()
        if ":" not in line and len(line.split()) <= 4 and not _STEP_LABEL.match(line):
            return strip_markup(line) or None
    if _BARE_VALUE.fullmatch(line):
        return value_in_statement(line) or strip_markup(line)
    is_item = _LIST_ITEM.match(line)
    line = _LIST_ITEM.sub("", line).replace("**", "")
    labelled = _LABELLED.match(line)
    if not labelled or _STEP_LABEL.match(line) or (is_item and not _TOTAL.match(line)):
        return None
    value = strip_markup(labelled.group("value"))
    return value if _BARE_VALUE.fullmatch(labelled.group("value")) or "=" in value[:4] else None


def _answer_of_sentences(line: str, *, has_full_stops: bool) -> str | None:
    """The answer of the last sentence of a line that states one."""
    if _LIST_ITEM.match(line) and not _CONCLUDES.search(line):
        return None
    sentences = list(_sentences(line))
    for number, sentence in enumerate(reversed(sentences[-MAX_SENTENCES:])):
        if _CLOSING.match(sentence) or _ASIDE_LINE.match(sentence):
            continue
        if _is_open(sentence, may_break_off=has_full_stops and number == 0):
            return None
        if (answer := value_in_statement(sentence)) is not None:
            return answer
        if has_value(sentence):
            return None
        if (answer := phrase_in_statement(sentence)) is not None:
            return answer
    return None


def _is_open(sentence: str, *, may_break_off: bool) -> bool:
    """Whether a sentence states nothing: a question, a guess, a refusal, a step, or broken off."""
    bare = sentence.rstrip(" *_")
    if bare.endswith(("?", "？")) or _OPEN.search(sentence) or _UNFINISHED.match(bare.lstrip("*")):
        return True
    if _ENDS.search(sentence):
        return False
    if _BREAKS_OFF.search(bare):
        return True
    return may_break_off and not (_EQUATION_AT_END.search(bare) or _CONCLUDES.search(bare))


def _sentences(line: str) -> Iterator[str]:
    """The sentences of a line, without labels of steps."""
    joined = ""
    for piece in _SENTENCE_END.split(line):
        joined = f"{joined} {piece}".strip()
        if _ABBREVIATED.search(joined):
            continue
        yield _STEP_LABEL.sub("", joined)
        joined = ""
    if joined:
        yield joined
