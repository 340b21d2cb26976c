"""Texts that stop in the middle of a sentence, a formula or a block of code."""

from __future__ import annotations

import re

from slowthink.curation.gate.text import Fault, GatedText, fault_at

REASON = "the text is cut off"
_ENGLISH = (
    "the a an of to and or but so then that which whose is are was were be been by for with in on "
    "at from as if because since when where while we i you let let's its it's our my their there's "
    "doesn't don't isn't can't didn't would will could should might may must can has have having "
    "than into between therefore thus hence also however using whether i'll we'll i'm "
    "get gives yields obtain becomes equals implies means every each either including such "
    "consider suppose assume where's that's such these those"
)
_OPEN_WORDS = frozenset(_ENGLISH.split())
"""No sentence ends with one of these, or hardly ever."""
_OPEN_CHINESE = re.compile(
    r"(?:的|和|与|或|及|是|为|在|把|被|将|则|即|设|且|并|而|由|从|对|对于|关于|因为|由于|所以|因此"
    r"|如果|若|那么|但|但是"
    r"|而且|以及|并且|然后|接着|其中|例如|比如|当|等于|得|得到|共有|一共有|总共有|可以|需要|应该"
    r"|应当|必须|我们|考虑|假设|使得|满足"
    r"|[大小多少属位关由介]于|[换变分写化]成|看作|记作|视为|令|使|至[少多]|下列|以下|如下"
    r"|[这那一每]个|另一个"
    r"|(?:^|[，。；])(?:但是?|不过)?(?:如果|若|由于|因为|虽然|既然|假如"
    r"|倘若)[^，。；]{1,30}(?<!成立)(?<!存在))\Z"
)
_OPEN_SIGNS = re.compile(
    r"(?:[,，、(\[（{=+×÷≈≤≥<&]|\n\s*(?:\d{1,2}[.)、]|[-*•]|[（(]\d[)）]"
    r"|第[一二三四五六七八九十\d]+步[:：]?|\*\*[^*\n]+"
    r"|#{1,6} [^\n\d:：]{1,40})|[；;]\s*[①-⑨]"
    r"|\\(?:cdot|times|frac|dfrac|approx|leq?|geq?|neq|sqrt|left|text|pm"
    r"|sum|int|to|quad)|\s[-*/^]|[\d}xyz]\s?[-+*/^_])\s*\Z"
)
_FINAL = re.compile(r"[.!?。！？…:：*)\]}）】》」』$`\"'”’~|>]\Z")
_LETTER_END = re.compile(r"[^\W\d_A-Z]\Z")
_LABEL = re.compile(r"\s*(?:[-*•#>|~]|\d+[.)、]|[^:：\n]{1,40}[:：])")
"""A heading, an item of a list, or a labelled line, which need no full stop."""
_OPEN_CLAUSE = re.compile(
    r"\b(?:so|then|thus|therefore|hence|because|since|if|when|where|that|but|while|as)\s+"
    r"(?:(?:the|a|an|our|its|this|these)(?:\s+(?!is\b|are\b|was\b)[a-z]+){0,2}|we|they|you)\Z"
)
"""A clause that has a subject at most."""
_SENTENCE_WORDS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_CHINESE_SENTENCE = re.compile(r"[\u3400-\u9fff，、]{5,}")
_STATES_RESULT = re.compile(
    r"[\d=$\\~@]|\b(?:answer|total|result|true|false|correct|yes|no|is|are|holds?)\b"
    r"|答案|选|正确|错误|成立|得证|证毕|无解|存在|结论|为|是|有|上界|下界|完成|结束|守恒|解答|略"
    r"|^\s*(?:所以|因此|故|综上|答)",
    re.IGNORECASE,
)
"""A sentence that may be a result, which often has no full stop."""
MIN_SENTENCES = 2
PUNCTUATED_SHARE = 0.9
"""A chain that ends so many of its sentences' lines with a sign is cut off where one has none."""
_DISPLAY = (("\\[", "\\]"), ("\\(", "\\)"))
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-zA-Z]+\*?)\}")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{(?P<content>(?:(?!\\boxed)[^\n])*)\Z")
_OPEN_ROW = re.compile(r"\|[^\S\n]*\n[^\S\n]*\|[^\n]*[^|\s]\Z")
"""A table's row that has no end, after one that has."""
_WORD_END = r"(?!(?:e?[sd]|ly|ing|er|al)\b)[a-z]{2}"
_HALF_DISPLAY = re.compile(r"(?<!\$)\$\$[^$\n]+\$\Z")
_TAIL_CHARS = 600


def find_cut(text: GatedText) -> Fault | None:
    """The end of the thinking or of the response, if it is no end; or that a limit was reached."""
    if text.truncated:
        return Fault(REASON, "it reached its limit of tokens")
    for part, content in text.parts():
        content = content.rstrip()
        is_open = part == "response" and content.endswith((":", "："))
        if content and (is_open or _is_cut(content, text)):
            return fault_at(REASON, part, content, max(0, len(content) - 60))
    return None


def _is_cut(text: str, chain: GatedText) -> bool:
    if _has_open_block(text):
        return True
    if _OPEN_SIGNS.search(text) and not text.endswith(("\\{", "\\[")):
        return True
    if _FINAL.search(text):
        return False
    last_line = text.rpartition("\n")[2]
    if last_line.split()[-1] in _OPEN_WORDS or _OPEN_CHINESE.search(last_line):
        return True
    if _OPEN_CLAUSE.search(last_line):
        return True
    return _has_open_formula(last_line) or _breaks_habit(last_line, chain)


def _has_open_block(text: str) -> bool:
    """Whether a box, a displayed formula, an environment or a block of code stays open."""
    box = _OPEN_BOX.search(text)
    if box is not None and box["content"].count("{") >= box["content"].count("}"):
        return True
    tail = text.rpartition("\n\n")[2][-_TAIL_CHARS:]
    if _HALF_DISPLAY.search(tail) or any(
        tail.rfind(opening) > tail.rfind(closing) for opening, closing in _DISPLAY
    ):
        return True
    marks = _ENVIRONMENT.findall(tail)
    if marks and marks[-1][0] == "begin":
        return True
    if _OPEN_ROW.search(text):
        return True
    return len(_FENCE.findall(text)) % 2 == 1 and not text.endswith(("```", "~~~"))


def _has_open_formula(line: str) -> bool:
    """Whether a line without a final sign has an odd number of dollar signs, the last one of them
    not before an amount."""
    is_odd = (line.count("$") - line.count("\\$")) % 2 == 1
    return is_odd and re.match(r"\s*[\d<.]", line.rpartition("$")[2]) is None


def _breaks_habit(last_line: str, chain: GatedText) -> bool:
    """Whether the last sentence, in words alone, has no full stop in a chain that sets them."""
    sentence = _SENTENCE_END.split(last_line)[-1]
    if _breaks_word(last_line, chain):
        return True
    if not _LETTER_END.search(sentence) or _STATES_RESULT.search(sentence):
        return False
    if not (_is_sentence(sentence) or _CHINESE_SENTENCE.search(sentence)):
        return False
    if sentence != last_line:
        return True
    lines = [line.rstrip() for _, part in chain.parts() for line in part.split("\n")]
    lines = [line for line in lines if _is_sentence(line) or _CHINESE_SENTENCE.search(line)]
    num_punctuated = sum(_FINAL.search(line) is not None for line in lines)
    return num_punctuated >= max(MIN_SENTENCES, PUNCTUATED_SHARE * (len(lines) - 1))


def _breaks_word(last_line: str, chain: GatedText) -> bool:
    """Whether the last word occurs nowhere else, but begins a longer word of the chain."""
    word = re.search(r"(?<![\w\\$])[a-z]+\Z", last_line)
    if word is None or len(last_line.split()) < _SENTENCE_WORDS:
        return False
    texts = f"{chain.question} {chain.thinking} {chain.response}".lower()
    begun = rf"(?<![a-z\\]){word.group()}"
    is_known = len(re.findall(rf"{begun}(?![a-z])", texts)) > 1
    return not is_known and re.search(begun + _WORD_END, texts) is not None


def _is_sentence(line: str) -> bool:
    return len(line.split()) >= _SENTENCE_WORDS and _LABEL.match(line) is None
