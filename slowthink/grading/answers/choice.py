r"""Multiple choice: option letters and option texts.

Example: `parse_choice("C. {x \mid x<4}")` has the letter C and the text after it; "A, B, C" has
three letters.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"
MAX_CHOICE_LENGTH = 2_000
"""Longest text that can be a choice, in characters."""

_FONT_COMMAND = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|textit|bf)(?![a-zA-Z])\s*")
_SPACES = re.compile(r"\\(?:[ ,;:!]|q?quad(?![a-zA-Z]))|~")
_BRACED_LETTER = re.compile(r"\{\s*(\(?[A-Ja-j]\)?|[,、&和与]|and)\s*\}")
_FULL_WIDTH = {ord("Ａ") + i: letter for i, letter in enumerate(LETTERS)} | {
    ord("（"): "(",
    ord("）"): ")",
}
_SINGLE_LETTER = re.compile(r"^[\s({\[*$]*([A-Ja-j])[\s)}\]*$.:。]*$")
_SEVERAL_LETTERS = re.compile(
    r"^[\s({\[*$]*([A-J](?:\s*(?:,|、|and|和|&|\)\s*,?\s*\()?\s*[A-J])+)[\s)}\]*$.]*$"
)
_SEVERAL_FIRST = re.compile(
    r"[\s({\[*$]*([A-J](?:\s*(?:,|，|、|and|和|与|&|\)\s*,?\s*\()?\s*[A-J])+)(?![A-Za-z])[\s)}\]*$]*"
    r"(?:[.．。;；]|$)"
)
"""Several letters, all chosen, and the end of the sentence."""
_IN_BRACKETS = r"\(([A-J])\)"
_BEFORE_MARK = r"([A-J])(?:\s?(?:\.(?!\d)|．)|[:：](?=\s|$|[一-鿿])|[、)])"
_BEFORE_WORD = r"([A-J])(?<![AI](?=\s+[a-z]{2}))(?=\s+(?!and\b|or\b|am\b)(?:[A-Za-z]{2}|[一-鿿]))"
_LETTER_AND_TEXT = re.compile(
    rf"^[\s{{*$]*(?:{_IN_BRACKETS}|{_BEFORE_MARK}|{_BEFORE_WORD})[}}*$\s]*(.*)$", re.DOTALL
)
_LETTER_AND_DASH = re.compile(r"^[\s{*$]*()()([A-J])\s+[-–—]\s*(\S.*)$", re.DOTALL)
_LETTER_AND_EQUALS = re.compile(r"^[\s{*$]*([A-J])\s+=\s*(\S.*)$", re.DOTALL)
_LETTER_AND_BRACKET = re.compile(r"^[\s{*$]*()()([A-J])\s*\((.+)\)[\s}*$.]*$", re.DOTALL)
_LOWER_LETTER_AND_TEXT = re.compile(r"^[\s{*$]*()()(?:\(([a-j])\))[}*$\s]+(.*)$", re.DOTALL)
_TEXT_AND_LETTER = re.compile(r"^([^()]*[\w}%$])[\s~}{]+\(([A-J])\)[\s}*$.]*$", re.DOTALL)
_LEAD_IN = re.compile(
    r"^[\s{*$]*(?:(?:(?:the|la|die|a)\s+)?(?:(?:correct|right|final|best|bonne|richtige)\s+)?"
    r"(?:answer|statement|antwort|respuesta|r[ée]ponse|risposta|resposta|ответ|option|choice"
    r"|opci[oó]n|opção|opzione|alternativa|вариант)\s*(?:is|ist|es|est)?[\s:：*{(]*"
    r"(?:(?:option|choice|opci[oó]n|вариант)\s+)?(?=[({]*[A-J](?![A-Za-z]))"
    r"|(?:答案|故|应|正确)*(?:选项|选择|选|答案)[是为:：\s]*|(?:正解|答え)は?[:：\s]*|정답은?[:：\s]*)",
    re.IGNORECASE,
)
_LEAD_OUT = re.compile(
    r"(?:(?:选项|项)\s*(?:正确|成立)?|正确|成立|\sis (?:correct|right))[}\s.。*]*$"
)
_OPTION_LABEL = re.compile(
    r"(?:(?<=\s)|(?<=^)|(?<=[)）】。，,;；\\]))(?:\(([A-J])\)|([A-J])\s?[.．、:：)])\s*"
)

_LETTER = r"(?<![A-Za-z0-9'’\\_^°])[A-J](?![A-Za-z0-9'’_+]|-[a-z])"
_LETTER_GROUP = re.compile(
    rf"{_LETTER}(?:[\s)*]*(?:[,，、/&]|(?:and|or|through|to|und|oder|et|ou|y|o|e)\b|[和或与及至])"
    rf"{{1,2}}[\s(*]*(?:(?:and|or)\s+)?{_LETTER})*"
)
"""A letter, or a list of letters, which are chosen or rejected together."""
_REJECTED_BEFORE = re.compile(
    r"(?:\bnot|(?:all|anything|everything) but|n['’]t(?: be)?|\bcannot be|instead of|rather than"
    r"|other than|unlike|except|\bneither"
    r"|\bnor|without|\bover|\bthan|exclud\w+|eliminat\w+|rul\w+ out|reject\w*|discard\w*|dismiss\w*"
    r"|cross\w* out|\bno(?: es)?|\bni|nicht|weder|\bpas|descart\w+|statt|não é|не"
    r"|不是|不选|不能选|而非|并非|排除|除了)"
    r"\s*(?:(?:the|both)\s+)?(?:options?|choices?|answers?|选项|la|le)?[\s(*{]*\Z",
    re.IGNORECASE,
)
_REJECTED_AFTER = re.compile(
    r"[\s)*}$]*(?:项|选项)?\s*(?:(?:are|is|was|were|sont|est|sind|ist|son|es|both|all|also|均|都)\s*)*"
    r"(?:(?:too|clearly|obviously|therefore|thus|trop)\s+)*"
    r"(?:wrong|false|incorrect|not\b|out\b|too\b|ruled out|rejected|excluded|eliminated|impossible"
    r"|irrelevant|unrelated|unlikely"
    r"|invalid|fails?\b|is an? (?!correct|right|valid|true|good)|would\b(?! be (?:correct|right"
    r"|the))|cannot|can['’]t|do(?:es)?n['’]t|does not|do not|breaks?\b|violates?\b"
    r"|contradicts?\b|falsch|fausses?|falsas?|petite|ne\b|错|不(?!是 ?[A-J])|排除|矛盾"
    r"|(?:looks?|seems?|is|was) (?:tempting|plausible|attractive|close|almost|nearly|a trap"
    r"|an? (?:common )?(?:distractor|decoy|mistake))|[?？]|有误|[,(]?\s?(?:no[,.]? )?wait\b"
    r"|,?\s?(?:but|yet|although)\s(?!not\b)"
    r"|(?:では|じゃ|でも)な|でも(?= ?[A-J]でもな)|[이가]? ?아[니닌]"
    r"|は(?:誤り|不正解|間違)|[✗✘×❌⊂⊆⊃⊇∪∩∈∉⊥∥≅])",
    re.IGNORECASE,
)
_CHOSEN_BEFORE = re.compile(
    r"(?:\b(?:is|be|it['’]s|so|thus|hence|therefore|but|choose|chose|select|pick|leaves?|leaving"
    r"|left with|answer|option|choice|est|es|ist|sondern|sino|mais|mas|maar|choisir|wähle|elegir"
    r"|antwort"
    r"|respuesta|r[ée]ponse"
    r"|queda|only|а|но|это|(?:go|going|stick) with|opt for|settle on"
    r"|bleibt|reste|remains?)\b|选择?|故|即|为|是|有|答案|は|은|는|[:：→])[\s,*({$]*"
    r"(?:(?:option|choice|answer|statement|letter|the|only|definitely|clearly|la|das"
    r"|选项)[\s*({]+)*\Z",
    re.IGNORECASE,
)
_STATED_FIRST = re.compile(
    r"[)*]*(?:[,，;；。]|\.(?!\w)|:|\s(?:because|since|is (?:correct|right|the (?:answer|right"
    r"|correct))))"
)
_AFFIRMED_AFTER = re.compile(
    r"[\s)*}]*(?:(?:is|est|ist|es|è)\s+(?:(?:the|therefore|thus|indeed|clearly)\s+)*"
    r"(?:correct|right|true|valid|answer|richtig|correcte?|correct[ao]|best|only)\b"
    r"|(?:项|选项)?(?:是?正确|符合|成立)|が正(?:しい|解)|[✓✔✅√])",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    rf"(?:\b(?:maybe|perhaps|possibly|alternatively|could also be|vielleicht|peut-être|quizás)"
    rf"|也可能是?|或许是?)\s*(?:(?:option|choice|also)\s+)?\(?{_LETTER}",
    re.IGNORECASE,
)
"""A second guess: "A, maybe B"."""
_ONLY_LETTER = re.compile(r"[\s*_({\[$]*([A-J])[\s*_)}\]$.。]*")
_LOWER_LETTER = re.compile(
    r"(?<!\w)\(([a-j])\)|^([a-j])[).](?=\s)|(?:\bis|[:：])[\s*]+([a-j])(?=\)?[\s.*]*$)"
)
_ARTICLE = re.compile(
    r"\s+(?!(?:or|and|because|since|as|is|was|by|fits?|works|holds|follows|seems|the|it"
    r"|we)\b)[a-z]{2,}"
)
_UNIT_BEFORE = re.compile(r"\d\s*(?:\\[,;: !]|~)*\s*\{?\Z")


@dataclass(frozen=True)
class ChosenOption:
    """The letters of the chosen options, and the text of the option if it follows its letter."""

    letters: frozenset[str] = frozenset()
    text: str = ""


def parse_choice(text: str, *, any_case: bool = False) -> ChosenOption:
    """Return the options that a text chooses; `letters` is empty if the text is not a choice.

    With `any_case`, for a text that is known to answer a question with options, a bare lower-case
    letter counts too, and so do the forms "C - 14" and "14 (C)".
    """
    if len(text) > MAX_CHOICE_LENGTH:
        return ChosenOption(text=text)
    bare = _without_fonts(text)
    lead_in = _LEAD_IN.match(bare)
    bare = _LEAD_OUT.sub("", bare[lead_in.end() if lead_in else 0 :])
    single = _SINGLE_LETTER.match(bare)
    letter = single.group(1) if single else ""
    if letter and (any_case or letter.isupper() or bare.strip(" $") == f"({letter})"):
        return ChosenOption(frozenset(letter.upper()))
    several = _SEVERAL_LETTERS.match(bare)
    letters = re.findall(r"[A-J]", several.group(1)) if several else []
    if letters and len(set(letters)) == len(letters):
        return ChosenOption(frozenset(letters))
    return _letter_with_text(bare, any_case=any_case) or ChosenOption(text=text)


def letter_and_equal(text: str) -> tuple[str, str] | None:
    """Return the letter and the text of "C = 14", which may also be a formula; else None."""
    match = _LETTER_AND_EQUALS.match(_without_fonts(text[:MAX_CHOICE_LENGTH]))
    return (match.group(1), _without_open_markup(match.group(2))) if match else None


def _without_fonts(text: str) -> str:
    bare = _FONT_COMMAND.sub("", _SPACES.sub(" ", text))
    return _BRACED_LETTER.sub(r"\1", bare.translate(_FULL_WIDTH)).strip()


def _letter_with_text(bare: str, *, any_case: bool) -> ChosenOption | None:
    """Return the option that is given by its letter and its text; None if there is none."""
    leading = _LETTER_AND_TEXT.match(bare)
    is_rejected = leading and leading.group(3) and _REJECTED_AFTER.match(bare, leading.end(3))
    if leading is None and any_case:
        patterns = (_LETTER_AND_DASH, _LETTER_AND_BRACKET, _LOWER_LETTER_AND_TEXT)
        leading = next(filter(None, (pattern.match(bare) for pattern in patterns)), None)
    if leading and not is_rejected:
        *letters, option = leading.groups()
        named = frozenset(letter.upper() for letter in letters if letter)
        return ChosenOption(named, _without_open_markup(option))
    trailing = _TEXT_AND_LETTER.match(bare) if any_case else None
    if trailing:
        return ChosenOption(frozenset(trailing.group(2)), _without_open_markup(trailing.group(1)))
    return None


def _without_open_markup(text: str) -> str:
    """Remove the end of markup that began before the letter: "2}" of \\textbf{B. 2}."""
    text = text.strip(" $*")
    while text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].strip(" $*")
    return text


def letter_in_sentence(
    line: str, *, num_options: int = len(LETTERS), is_marked: bool = True
) -> str | None:
    """Return the option letter that a sentence chooses; None if it has none or leaves several.

    Several letters count only if the sentence after a mark is nothing else: "故选 A、B、D".
    Letters that it rejects do not count ("instead of D", "A and B fail"), nor do articles and
    units. Of the others the first counts if the sentence begins with it, else the last one that is
    named as the choice ("so C", "leaving D"), else the only one. If `is_marked` is false, no words
    before the sentence say that it is the answer, so that only a named choice or a letter that
    stands alone counts.
    """
    bare = _FONT_COMMAND.sub("", line).translate(_FULL_WIDTH)
    if _ALTERNATIVE.search(bare) or bare.endswith("？"):
        return None
    if alone := _ONLY_LETTER.fullmatch(bare):
        return alone.group(1) if alone.group(1) in LETTERS[:num_options] else None
    if (letters := _several_letters(bare, num_options)) and (
        is_marked or bare.endswith(letters[-1])
    ):
        return letters
    groups = [
        match
        for match in _LETTER_GROUP.finditer(bare)
        if not _is_article_or_unit(bare, match)
        and not _is_rejected(bare, match)
        and _is_option(match.group(), num_options)
    ]
    if not groups:
        return _lower_letter(bare, num_options=num_options)
    letter = _chosen_letter(bare, groups, is_marked=is_marked)
    return letter if letter is not None and letter in LETTERS[:num_options] else None


def _is_option(letters: str, num_options: int) -> bool:
    """Whether a letter, or each in a list of letters, names an option: I may be the pronoun."""
    return set(re.findall(r"\b[A-J]\b", letters)) <= set(LETTERS[:num_options])


def _several_letters(text: str, num_options: int) -> str | None:
    """Return the letters that a sentence consists of, "A、B、D" or "ABD", without separators."""
    several = _SEVERAL_FIRST.match(text)
    letters = "".join(re.findall(r"[A-J]", several.group(1))) if several else ""
    is_choice = len(set(letters)) == len(letters) and set(letters) <= set(LETTERS[:num_options])
    return letters if is_choice else None


def _chosen_letter(text: str, groups: list[re.Match[str]], *, is_marked: bool) -> str | None:
    affirmed = [match for match in groups if _AFFIRMED_AFTER.match(text, match.end())]
    if len(affirmed) == 1:
        return affirmed[0].group() if len(affirmed[0].group()) == 1 else None
    first = groups[0]
    if is_marked and not text[: first.start()].strip(" ({[*$") and len(first.group()) == 1:
        return first.group()
    if not text[: first.start()].strip(" *(") and _STATED_FIRST.match(text, first.end()):
        return first.group() if len(first.group()) == 1 else None
    named = [match for match in groups if _CHOSEN_BEFORE.search(text[: match.start()][-60:])]
    if named:
        return named[-1].group() if len(named[-1].group()) == 1 else None
    letters = {match.group() for match in groups}
    return letters.pop() if is_marked and letters <= set(LETTERS) and len(letters) == 1 else None


def _is_article_or_unit(text: str, match: re.Match[str]) -> bool:
    """Whether a letter is the article A, the pronoun I, or a unit after a number."""
    if len(match.group()) > 1:
        return False
    if match.group() in "AI" and _ARTICLE.match(text, match.end()):
        return True
    return _UNIT_BEFORE.search(text[: match.start()][-20:]) is not None


def _is_rejected(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 60) : match.start()]
    after = text[match.end() : match.end() + 60]
    return bool(_REJECTED_BEFORE.search(before) or _REJECTED_AFTER.match(after))


def _lower_letter(text: str, *, num_options: int) -> str | None:
    """Return the letter of "(c)", or of "is c" at the end of a sentence, as a capital."""
    letters = [match.group(match.lastindex or 0).upper() for match in _LOWER_LETTER.finditer(text)]
    is_one = len(set(letters)) == 1 and letters[0] in LETTERS[:num_options]
    return letters[0] if is_one else None


@functools.lru_cache(maxsize=2048)
def options_in_question(question: str) -> dict[str, str]:
    """Return the options in a question ("A. … B. …", "(A) … (B) …") by letter, if three or more."""
    text = question[-20_000:]
    longest: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for match in _OPTION_LABEL.finditer(text):
        letter = match.group(1) or match.group(2)
        if letter == LETTERS[len(run) % len(LETTERS)]:
            run.append(match)
        else:
            run = [match] if letter == "A" else []
        longest = list(run) if len(run) >= len(longest) else longest
    if len(longest) < 3:
        return {}
    ends = [match.start() for match in longest[1:]] + [len(text)]
    return {
        LETTERS[i]: text[match.end() : end].lstrip(" \n;,").rstrip(" \n\\;,")
        for i, (match, end) in enumerate(zip(longest, ends, strict=True))
    }
