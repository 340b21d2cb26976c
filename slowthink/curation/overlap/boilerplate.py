r"""Removes from a question what it says about the form of its answer, and its markup.

    strip_boilerplate(r"Find 3x if x = 5. Put your final answer within \boxed{}.")  # Find 3x if …

Two questions that share such sentences only have nothing in common, and a question with them is the
same question without them. A sentence counts only if it is addressed to the answer: "Express your
answer in terms of x" does, "Express y in terms of x" is a question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

_END = r"[^.?!:：。！？\n]*(?:\.\d[^.?!:：。！？\n]*)*[.?!:：。！？]?"
"""The rest of a sentence, or of its part before a colon."""
_ANSWER = (
    r"(?:(?:your|the|all|each|only|just|one|a|an|any|of|final|numerical|exact|complete|simplified"
    r"|single|correct|best|right|corresponding|most|appropriate)\s+)*(?:answers?|options?|choices?"
    r"|(?:final )?(?:response|result)s?|letters? (?:of|for|corresponding)"
    r"|(?:correct|corresponding) letters?)\b"
)
_PREFIX = (
    r"(?:(?:please|kindly|let'?s|let us|then|and|also|be sure to|make sure (?:to|you)|remember to"
    r"|you must|you should|finally|at the end|do not forget to|don't forget to)[\s,]+)*"
)
_REQUESTS = (
    rf"(?:express|give|write|put|place|enclose|provide|state|enter|report|present|submit|return"
    rf"|output|box|type|select|choose|pick|mark|format|wrap|leave|round|simplify|indicate)\s+{_ANSWER}",
    r"(?:show|explain|justify)\s+(?:all\s+)?(?:of\s+)?(?:your|the)\s+"
    r"(?:work(?:ing)?|steps|reasoning|answers?|calculations|thinking)\b",
    r"(?:think|reason|solve|work|proceed|go|answer)\b[^:：]{0,80}?step[- ]by[- ]step",
    r"(?:answer|respond|reply)\s+(?:with|in|using|by|only|as)\s",
    r"(?:answer|solve)\s+the\s+following\s+(?:[\w-]+\s+){0,4}?(?:question|problem)s?\b",
    r"(?:give|enter|write|provide)\s+(?:an?|only (?:an?|the)|just (?:an?|the)|only)\s+"
    r"(?:(?:single|whole|exact|positive)\s+)?(?:numbers?|integers?|fraction|decimal|numerical value"
    r"|value)\s*(?=[.!。])",
)
"""What a reader is asked to do, after `_PREFIX`."""
_PATTERNS = (
    rf"{_PREFIX}(?:{'|'.join(_REQUESTS)})",
    r"(?:your|the)\s+(?:final\s+)?answers?\s+(?:should|must|will|needs? to|has to|have to|is to)\s",
    r"(?:the\s+)?last line of your (?:response|answer|reply).*",
    r"(?:only|exactly) one (?:of the )?(?:options?|choices?|answers?)(?: is)? correct",
    r"there is (?:only |exactly )?one correct (?:answer|option|choice)",
    r"(?:donne[rz]?|exprime[rz]?|écri(?:s|vez|re)|indique[rz]?|mettez)\s+(?:votre|ta|la)\s+"
    r"(?:\w+\s+)?réponse",
    r"(?:escrib[ae]|d[ae]|expres[ae]|pon(?:ga)?|indi(?:ca|que)|escreva|dê|expresse|coloque)\s+"
    r"(?:(?:tu|su|la|sua|a)\s+)+(?:\w+\s+)?(?:respuesta|resposta)",
    r"(?:gib|gebe?n?(?: sie)?|schreibe?n?(?: sie)?)\s+(?:deine|ihre|die)\s+(?:\w+\s+)?antwort",
    r"(?:запишите|дайте|укажите|выразите|приведите|поместите|запиши)\s+(?:\w+\s+){0,2}ответ",
    r"\w+\s.{0,60}?(?:paso a paso|pas à pas|étape par étape|schritt für schritt|шаг за шагом"
    r"|passo a passo)",
)
_CHINESE = (
    r"(?:请|并|然后|最后|要求|注意[:：]?)*(?:将|把)?(?:你的|您的)?(?:最终|最后|正确)?的?"
    r"(?:答案|结果|选项(?:的?字母)?)(?:写|填|放|用|以|涂|置|标|请|保留|化|表示)",
    r"请?你?(?:通过)?(?:一步一步|逐步|分步|一步步)地?(?:推理|思考|解答|分析|计算|求解|解决)",
    r"请?写出(?:必要的?|详细的?|完整的?)?(?:计算|解题|解答|推理|求解)?(?:过程|步骤)",
    r"(?:在)?(?:每小?题|下列各题)?给出的[四4]个选项中",
    r"答え?[はを][^:：]*(?:書|入れ|示)",
)
_BOILERPLATE = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(_PATTERNS)}){_END}", re.IGNORECASE)
_CHINESE_BOILERPLATE = re.compile(rf"(?:{'|'.join(_CHINESE)}){_END}")
_HINTS = (
    "nswer", " your ", "tep-by-", "tep by ", "ption", "hoice", "etter of", "olve the foll", "ive a",
    "ive only", "esposta", "espuesta", "ntwort", "paso a ", "passo a ", "chritt", "réponse",
    "pas à", "tape par", "твет", "шаг",
)  # fmt: skip
_CHINESE_HINTS = ("答", "选项", "写出", "结果", "步")
"""Every boilerplate sentence contains one of these; without a capital, to be found in any place."""
_SENTENCE = re.compile(r"[^.?!。！？\n]+(?:\.\d[^.?!。！？\n]*)*[.?!。！？]?")
_ANSWER_FORM = re.compile(
    r"(?:\b(?:can|may) (?:also )?be (?:uniquely )?(?:written|expressed|represented) (?:uniquely )?"
    r"(?:as|in the form)|\bis|\bequals|=)\s*\\?[$(]?\s*(?:\\[dt]?frac\s*)?[{a-z\\][^.?!]{0,60}?"
    r"\bwhere\b[^.?!]{1,120}?\b(?:relatively prime|co-?prime|square-?free"
    r"|not divisible by the square)\b[^.?!]{0,80}[.?!$]{1,2}\s*"
    r"(?:find|compute|determine|what is|evaluate)(?: the value of)?\s[^.?!a-z]{0,3}[a-z\\]"
    r"[^.?!]{0,40}[.?!$]{1,3}",
    re.IGNORECASE,
)
_ANSWER_FORM_HINTS = (
    "relatively prime", "coprime", "co-prime", "squarefree", "square-free",
    "not divisible by the square",
)  # fmt: skip
_TAG_HINTS = ("</", "<br", "[/", "\n- ", "\n* ", "\n•")
_TAG = re.compile(
    r"</?(?:b|i|u|p|br|em|strong|sub|sup|span|div|center|li|ul|ol)(?:\s[^<>]{0,200})?/?>"
    r"|\[/?(?:b|i|u|s|hide|color|size|center|tex|latex|math|quote|code|list)(?:=[^\]\n]{0,40})?\]"
    r"|\[\*\]|^[ \t]*[-*•][ \t]+(?=[^\W\d_]{2})",
    re.IGNORECASE | re.MULTILINE,
)
"""HTML and BBCode tags, and the marks of list items."""


def strip_boilerplate(text: str, *, keep_numbers: bool = False) -> str:
    """The question without its sentences on the form of the answer and without HTML and BBCode
    tags; unchanged if nothing else is in it.

    With `keep_numbers` a sentence with a number stays: the answer in base 2 is not that in base 8.
    """
    stripped = _TAG.sub(" ", text) if _has_any(text, _TAG_HINTS) else text
    if _has_any(text, _HINTS) or (not text.isascii() and _has_any(text, _CHINESE_HINTS)):
        replacement = _blank_without_number if keep_numbers else " "
        stripped = _SENTENCE.sub(partial(_strip_sentence, replacement=replacement), stripped)
    return stripped if any(map(str.isalnum, stripped)) else text


def strip_answer_form(text: str) -> str:
    """The question without AIME's form of answers, in which m + n is asked of a fraction m/n."""
    return _ANSWER_FORM.sub(". ", text) if _has_any(text, _ANSWER_FORM_HINTS) else text


def _strip_sentence(
    sentence: re.Match[str], replacement: str | Callable[[re.Match[str]], str]
) -> str:
    text = sentence[0]
    if _has_any(text, _HINTS):
        text = _BOILERPLATE.sub(replacement, text)
    return _CHINESE_BOILERPLATE.sub(replacement, text) if _has_any(text, _CHINESE_HINTS) else text


def _blank_without_number(match: re.Match[str]) -> str:
    return match[0] if any(map(str.isdigit, match[0])) else " "


def _has_any(text: str, hints: tuple[str, ...]) -> bool:
    return any(hint in text for hint in hints)
