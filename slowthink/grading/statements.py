r"""The value that one sentence states as its result, among the other numbers in it.

Example: `value_in_statement("At 15 km/h for three hours, the cyclist rides 45 km.")` is `45 km`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from slowthink.grading.answers.units import unit_by_name
from slowthink.grading.answers.words import number_from_words
from slowthink.grading.bounds import is_bounded, without_rejected
from slowthink.grading.sentences import FORMULA, NUMBER, TWO_WORDS, any_of, value_of_equation

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DATE = re.compile(
    rf"\b\d{{1,2}}(?:st|nd|rd|th)?\.? {_MONTH}(?:,? \d{{4}}\b)?|\b{_MONTH} \d{{1,2}}(?:st|nd|rd"
    rf"|th)?\b"
    r"(?:,? \d{4}\b)?|\b\d{4}-\d\d?-\d\d?\b|\b\d\d?[./]\d\d?[./]\d{2,4}\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b(?!s|['’])"
    r"|\d{4}年\d+月(?:\d+日)?|\d+月\d+日|\b\d\d?:\d\d\b(?:\s?[ap]\.?m\.?)?",
    re.IGNORECASE,
)
"""Dates and times are values as a whole; no number within them is one."""
_ODDS = re.compile(
    r"\b(1) in (\d+)\b|\bratio\b.{0,60}?\b(\d+) to (\d+)\b"
    r"|\b(?:chances?|probability|odds)\b.{0,40}?\b(\d+) out of (\d+)\b"
)
_RATIO = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?:\s?:\s?\d+(?:\.\d+)?)+(?![\d.]\d)")
_TUPLE = re.compile(r"[(\[]\s*[-−]?[\d./]+(?:\s*,\s*[-−]?[\d./]+)+\s*[)\]]")
_ROUNDED = re.compile(
    r"(?<![\w.,/=])[-−]?\d[\d.,]*(?:/\d+)?\s*≈\s*[-−]?\d[\d.,]*(?<=\d)\s?%?(?![\d/])"
)
"""A number and its decimals, "5/36 ≈ 0.139": one value."""
_UNIT = re.compile(
    r"(?:\s?(?:[a-zA-Zа-я]{1,12}|°[CF]?|℃|[€£¥])(?:[²³]|\^?\{?[23]\}?(?!\d))?"
    r"(?:\s?/\s?[a-zA-Z]{1,8}|\s+per\s+[a-zA-Z]{1,12})?|[一-鿿]{1,3})(?![a-zA-Zа-я])"
)
_LABEL_BEFORE = re.compile(
    r"\b(?:step|case|part|section|question|problem|figure|table|chapter|page|exercise|equation"
    r"|line|no\.?|vol\.?"
    r"|(?<![A-Za-z])[a-zA-Z]\s?[/*^]|\\sqrt\{|example|method|option|rule|theorem|lemma|year"
    r"|since|in(?= (?:19|20)\d\d$))\s*[(#]?$|第$",
    re.IGNORECASE,
)
"""What makes a number a label: "Step 2", "case 3"."""
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals?|equal to|becomes?|makes?|gives?|costs?|totals?|pays?|has"
    r"|have|gets?"
    r"|needs?|earns?|takes?|remains?|yields?|(?:ends? up|left|finish(?:es)?) with"
    r"|est|sont|ist|sind|beträgt|hat|es|son|è|sono|é|são"
    r"|quedan?|reste|равн[аоы]|составляет|adalah|là)\b(?!\s*(?:not|n['’]t)\b)|是|为|等于|有|得|需要?|要付"
    r"|は|=|≈|\\approx",
    re.IGNORECASE,
)
_COPULA_BEFORE = re.compile(r"\b(?:is|are|be|was|were) (?:only |exactly |just )?$")
_PREPOSITION = re.compile(
    r"(?:\b(?:at|for|from|(?<!up )(?<!left )(?<!finish )(?<!finishes )with"
    r"|per|by|after|out of|in|on|within|every|each|than|to|zu je|für"
    r"|pour|par|por"
    r"|di|von|mit|из|на)"
    r"|(?<!total)(?<!sum)(?<!profit)(?<!average)(?<!chance)(?<!probability)(?<!area)"
    r"(?<!length)(?<!speed)(?<!price)(?<!cost)(?<!value)(?<!distance)(?<!perimeter)\s(?:of|de))"
    r"\s+(?:(?:the|these|those|all|its|his|her|their|der|die|das|les|los)\s+)?"
    r"(?:(?:real|positive|negative|natural|integers?|numbers?|values? of)\s+){0,3}[$€£¥]?$"
    r"|^\W*(?:so |thus |hence |therefore,? )?(?:the|these|those|all)\s+$",
    re.IGNORECASE,
)
_RELATED_AFTER = re.compile(
    r"\s*(?:[|∣]\s*[a-z]\b|\w+ ago\b|(?:squared|cubed|factorial|minus|plus|choose|divides)\b"
    r"|(?:to|–|-)\s?\d"
    r"|(?:st|nd|rd|th)\b|(?:less|more) than [a-z]\b|is an? (?:factor|divisor|multiple"
    r"|lower bound|upper bound)\b)"
)
"""What makes a number another, or a condition: "6 squared", "6 divides n"."""
_COMPARES = re.compile(
    r"\s*(?:[^\W\d_]+\s+)?(?:times (?:as|the)|(?:more|less|fewer|older|younger|taller|times \w+)"
    r" than)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:no|not|never|none|nothing|cannot|kein\w*|nicht|aucune?|pas|ningun[oa]?|ningún"
    r"|nenhum)\b|n['’]t\b"
    r"|(?<!\w)(?:не|нет)(?!\w)|没有|不存在|无法|ない|없",
    re.IGNORECASE,
)
"""Of what a clause denies no number is stated: "with 12 chairs there is no way"."""
_CLAUSE_END = re.compile(
    r"[;；—]|(?<![\d$)}%\]]),(?=\s)|,(?=\s+(?!(?:and"
    r"|or)\s+[\d$\\])[^\d\s$\\*(−-])|，(?!\d)|、(?=[^\d一二三四五六七八九十两])"
    r"|\s(?=(?:because|since|but|then|so that|as required)\b)|(?<=\S)(?=因此|所以|因为)"
)
_ASIDE = re.compile(
    r"\W*"
    + any_of(
        "because, since, which(?! (?:leaves|gives|makes|means|yields|brings|results)), starting, "
        "if, when, where, whenever, rounded, due to, unlike, instead of, rather than, weil, da, "
        "denn, car, puisque, porque, 因为, 由于, 如果, 若"
    ),
    re.IGNORECASE,
)
"""Begins a reason, a condition or a remark."""
_RESTATES = re.compile(r"\W*(?:that is|or (?:about|roughly|equivalently))\b", re.IGNORECASE)
"""Begins the same value in another unit."""
_CIRCUMSTANCE = re.compile(r"\W*(?:with|using|given|as|assuming|including|per)\b", re.IGNORECASE)
"""Begins an aside if no verb follows."""
_BETWEEN_LIST = re.compile(
    r"\s*(?:(?:,|、|;|\band\b|\bor\b|\bund\b|\bet\b|\by\b|和|或|与|及)\s*)+", re.IGNORECASE
)
_NAME = (
    r"(?:(?<![\w\\+*/^.-])|(?<=[以此得即故则为是或者和与及且]))(?<![+*/^-]\s)"
    r"(\\?[A-Za-z](?:_\{?\w\}?|[\d₀-₉])?(?:\([a-z\d]\))?|[A-Z]{2,3})"
)
_ASSIGNMENT = re.compile(
    rf"{_NAME}\s*(?:=|\bequals\b)\s*"
    r"(?:(?:(?!\b(?:and|or|und|oder|et|ou)\b"
    r"|\b[a-z]{2,}\s+\\?[A-Za-z]\s*=)[^=;,，。、或和与及且得则故即]){1,40}=\s*)*(?=[-−$\\\d(])"
)
"""A name and its value; between them there may be a chain of expressions, but no other equation."""
_BETWEEN_EQUATIONS = re.compile(
    r"[\s$]*(?:(?:[,，、;]|\b(?:and|or|und|oder|et|ou|y|o|e)\b|或者?|和|与|及|且)[\s$]*)+",
    re.IGNORECASE,
)
_UNSOLVED = re.compile(
    r"(?:^|[:,，]|\b[a-z]{2,}\s)\s*"
    r"((?=[^=]*[a-zA-Z])(?=[^=]*\d)(?:(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])|[-+*/^\d\s.])+"
    r"=\s*[-−]?\d[\d.,/]*)[.。]?\s*$",
    re.IGNORECASE,
)
"""An equation of a letter with numbers, which states no value: "2x + 1 = 7"."""
_NAMED_FORMULA = re.compile(r"(\\?[A-Za-z]\w{0,8}(?:_\{?\w\}?)?)\s*=[^=]+")
_NAME_ALONE = re.compile(r"\\?[A-Za-z]\w{0,8}(?:_\{?\w+\}?)?(?:\(\w\))?")
_ARROW = re.compile(r"\\(?:Long)?[Rr]ightarrow|\\implies|\\therefore")
_REST_OF_TERM = re.compile(
    r"\^\{?-?\d+\}?|(?:\s?[-+*/]\s?\d*[A-Za-z](?![A-Za-z]))+"
    r"|[A-Za-z](?:[A-Za-z0-9^_{}()]|[-+*/](?=[\w(]))*(?:\s[-+]\s\d+)?"
)
"""What belongs to a number without a space: "2x+1"."""
_ANGLE = re.compile(
    r"(?:∠|\\angle|\bangle)\s*\$?\s*([A-Z]{1,3})\$?\s*(?:is|=|equals|measures|是|为|等于)\s*(?=\S)"
)
_BOLD_WORD_AT_END = re.compile(
    r"(?:\b(?:is|are|be|was|on|an?|the)\s+|[=为是]\s*)\*\*([^*:]{1,40})\*\*(?=\W*$)"
)
_NO_FORMULA = re.compile(r"^[\d.,]+ +\w*[^\W\d]|[\d.,]\s+and$|[一-鿿]{2}")
"""What stands between two prices, or a Chinese sentence in dollar signs."""
_CHINESE_LATEX = re.compile(r"(?<=[一-鿿，：])[^一-鿿，。；：、$\n]*\\[a-z][^一-鿿，。；：、$\n]*")
"""A formula without delimiters in a Chinese sentence."""
_BOLD = re.compile(r"\*\*([^*]{1,80})\*\*")
_NUMBER_WORD = (
    r"(?:(?:twen|thir|for|fif|six|seven|eigh|nine)ty|zero|two|three|four|five|six|seven|eight|nine"
    r"|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen)"
)
_PART_WORD = "(?:hal(?:f|ve)|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?"
_NUMBER_WORDS = re.compile(
    rf"\b(?:one|{_NUMBER_WORD})[ -]{_PART_WORD}\b"
    rf"|\b(?:{_NUMBER_WORD}|(?:a|one)(?= (?:hundred|thousand)))"
    rf"(?:[ -](?:and )?(?:{_NUMBER_WORD}|one|hundred|thousand)\b)*\b",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\b(?:is|are|has|have) (?:(?:therefore|thus|hence|clearly|indeed|an?) )?((?:no"
    r"|infinitely many)(?: (?:real|integer|positive|such|other"
    r"|possible))*"
    r" [a-z]+|(?:not )?(?:true|false)(?=[.*\s]*$))",
    re.IGNORECASE,
)


class _Value(NamedTuple):
    start: int
    end: int
    text: str
    is_formula: bool = False


def has_value(text: str) -> bool:
    """Whether a text contains a number, a formula or a date."""
    return bool(_values(text))


def value_in_statement(sentence: str) -> str | None:
    """Return the value that a sentence states as its result; None if none can be told."""
    sentence = without_rejected(sentence)
    word = _BOLD_WORD_AT_END.search(sentence)
    if word and not has_value(word.group(1)):
        return word.group(1).strip()
    bold = [text for text in _BOLD.findall(sentence) if has_value(text)]
    if bold and len(_values(sentence)) > len(_values(bold[-1])):
        return value_in_statement(bold[-1].rstrip(":"))
    plain = sentence.replace("**", "").strip()
    if angle := _ANGLE.search(plain):
        values = _values(plain[angle.end() :])
        return rf"\angle {angle.group(1)} = {values[0].text}" if values else None
    if assigned := _assignments(plain):
        return assigned
    if unsolved := _UNSOLVED.search(plain):
        return unsolved.group(1)
    for clause in _by_weight(_clauses(plain)):
        if (result := _result_of_worked_equation(clause)) is not None:
            return result
        values = _values(clause)
        if not values and not _BOLD.search(sentence):
            values = _numbers_in_words(clause)
        if values and (result := _result_of_clause(clause, values)):
            return result
    return None


def _by_weight(clauses: list[str]) -> list[str]:
    """The clauses from the last to the first; then asides that hold an equation."""
    restates = [number > 0 and _RESTATES.match(clause) for number, clause in enumerate(clauses)]
    asides = [_is_aside(clause) for clause in clauses]
    pairs = list(zip(clauses, asides, restates, strict=True))[::-1]
    return [
        *(clause for clause, is_aside, again in pairs if not is_aside and not again),
        *(clause for clause, is_aside, _ in pairs if is_aside and "=" in clause),
    ]


def _result_of_worked_equation(clause: str) -> str | None:
    """The value after the last "=" of arithmetic in a clause, unless it lies within a formula."""
    last = clause.rfind("=")
    if any(v.is_formula and v.start < last < v.end for v in _values(clause)):
        return None
    values = _values(value_of_equation(clause) or "")
    return values[0].text if values else None


def _clauses(text: str) -> list[str]:
    """The clauses of a sentence. A comma within a formula ends none."""
    masked = FORMULA.sub(lambda match: "0" * len(match.group()), text)
    ends = list(_CLAUSE_END.finditer(masked))
    starts = [0, *(match.end() for match in ends)]
    stops = [*(match.start() for match in ends), len(text)]
    return [text[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _is_aside(clause: str) -> bool:
    if _ASIDE.match(clause):
        return True
    return _CIRCUMSTANCE.match(clause) is not None and _COPULA.search(clause) is None


def phrase_in_statement(sentence: str) -> str | None:
    """Return an answer in words: "no solution" of "there is no solution", or a bold word."""
    if phrase := _PHRASE.search(sentence):
        return phrase.group(1)
    bold = _BOLD.findall(sentence)
    is_answer = bold and len(bold[-1].split()) <= 4 and bold[-1].strip()[-1:] not in (":", "：")
    return bold[-1].strip(" .") if is_answer else None


def _assignments(text: str) -> str | None:
    """The values of several names, "x = 3 and y = 1", as a list; of one name if it comes last."""
    formulas = [value.text for value in _values(text) if value.is_formula]
    is_named = [_NAMED_FORMULA.fullmatch(formula) for formula in formulas]
    if formulas and all(is_named) and _ASSIGNMENT.search(FORMULA.sub("", text)):
        text = re.sub(r"\$|\\[()]", "", text)  # some equations are formulas, others are plain
    elif formulas:
        named = {match.group(1): match.group() for match in is_named if match}
        return ", ".join(named.values()) if len(named) == len(formulas) >= 2 else None
    equations = [e for e in _equations(text) if not is_bounded(text, e.start)]
    if not equations:
        return None
    is_in_last_clause = "=" in _clauses(text)[-1]
    rest = text[equations[-1].end :]
    if _values(rest) and ("=" in rest or (len(equations) > 1 and _COPULA.search(rest))):
        return None  # these are conditions: "with a=3 and b=4 the area is 12"
    if len(equations) == 1 and not is_in_last_clause:
        return None
    return ", ".join(equation.text for equation in equations)


class _Equation(NamedTuple):
    start: int
    end: int
    name: str
    text: str


def _equations(text: str) -> list[_Equation]:
    """The equations of names and values. A later value of a name replaces an earlier one, unless
    both are in one list: "x = 2 or x = 1"."""
    equations: list[_Equation] = []
    for match in _ASSIGNMENT.finditer(text):
        rest = text[match.end() : match.end() + 80]
        values = _values(rest)
        if not values or values[0].start > 0:
            continue
        name, listed = match.group(1), _with_list(rest, values, values[0])
        is_whole_list = len(values) > 1 and not rest[values[-1].end :].strip(" .。")
        is_list = is_whole_list and listed == ", ".join(value.text for value in values)
        end = match.end() + values[-1 if is_list else 0].end
        equation = _Equation(
            match.start(), end, name, f"{name} = {listed if is_list else values[0].text}"
        )
        before = text[equations[-1].end : match.start()] if equations else ""
        if not _BETWEEN_EQUATIONS.fullmatch(before):
            equations = [other for other in equations if other.name != name]
        equations.append(equation)
    return equations


def _result_of_clause(clause: str, values: list[_Value]) -> str | None:
    """The value after the last verb, else the one that is no circumstance, with its list."""
    usable = [
        value
        for value in values
        if not is_bounded(clause, value.start) and not _RELATED_AFTER.match(clause, value.end)
    ]
    usable = [v for v in usable if v is values[-1] or not _COMPARES.match(clause, v.end)]
    verbs = [match.end() for match in _COPULA.finditer(clause) if match.end() <= values[-1].start]
    last_verb = verbs[-1] if verbs else 0
    free = [value for value in usable if not _is_circumstance(clause, value)]
    after_verb = [value for value in free if value.start >= last_verb] if verbs else []
    later = [word for word in _numbers_in_words(clause) if word.start >= values[-1].end]
    in_words = [word for word in later if _COPULA_BEFORE.search(clause[: word.start])]
    others = [*free[-1:], *([] if _DENIES.search(clause) else usable[-1:])]
    ranked = [*in_words[:1], *after_verb[:1], *others]
    return _with_list(clause, values, ranked[0]) if ranked else None


def _is_circumstance(clause: str, value: _Value) -> bool:
    return _PREPOSITION.search(clause[max(0, value.start - 40) : value.start]) is not None


def _with_list(clause: str, values: list[_Value], chosen: _Value) -> str:
    """A value with those that follow or precede it in the same list."""
    if chosen not in values:
        return chosen.text
    first = last = values.index(chosen)
    while first > 0 and _is_list(clause[values[first - 1].end : values[first].start]):
        first -= 1
    while last + 1 < len(values) and _is_list(clause[values[last].end : values[last + 1].start]):
        last += 1
    return ", ".join(value.text for value in values[first : last + 1])


def _is_list(between: str) -> bool:
    return _BETWEEN_LIST.fullmatch(between) is not None


def _values(text: str) -> list[_Value]:
    """The formulas, dates and numbers of a text, in order. Numbers keep a unit that is known."""
    values: list[_Value] = []
    for pattern in (FORMULA, _CHINESE_LATEX, _DATE, _ODDS, _TUPLE, _RATIO, _ROUNDED, NUMBER):
        for match in pattern.finditer(text):
            value = _value_of(match)
            if value is not None and match.group().strip():
                values.append(value)
                blank = " " * (value.end - match.start())
                text = text[: match.start()] + blank + text[value.end :]
    return sorted(values)


def _value_of(match: re.Match[str]) -> _Value | None:
    start, end, text = match.start(), match.end(), match.group()
    if match.re is FORMULA:
        content = next(filter(None, match.groups())).strip()
        is_formula = (
            bool(content) and not _NO_FORMULA.search(content) and not TWO_WORDS.search(content)
        )
        return _Value(start, end, _end_of_chain(content), True) if is_formula else None
    if match.re is _CHINESE_LATEX:
        return _Value(start, end, _end_of_chain(text.strip(" .")), True)
    if match.re is _ODDS:
        numbers = [number for number in match.groups() if number]
        return _Value(start, end, "/".join(numbers))
    if match.re is NUMBER:
        if _LABEL_BEFORE.search(match.string[max(0, start - 20) : start]):
            return None
        unit = "" if "%" in text else _known_unit(match.string, end)
        end += len(unit)
        if not unit and (term := _REST_OF_TERM.match(match.string, len(text.rstrip()) + start)):
            end = term.end()
        return _Value(start, end, match.string[start:end].replace("$", "").strip())
    return _Value(start, end, text)


def _end_of_chain(formula: str) -> str:
    """Of "x = 6/2 = 3" the name and the last value; of a chain of expressions the last value."""
    formula = _ARROW.split(formula)[-1].strip()
    first, *others = re.split(r"(?<![<>!:\\])=", formula)
    if not others or "\\\\" in formula:
        return formula
    if not first.strip() or (len(others) >= 2 and not _NAME_ALONE.fullmatch(first.strip())):
        return others[-1].strip()
    if len(others) >= 2:
        return f"{first.strip()} = {others[-1].strip()}"
    return value_of_equation(formula) or formula


def _known_unit(text: str, start: int) -> str:
    """The known unit that follows a number. Of a Chinese word its first characters may be one."""
    match = _UNIT.match(text, start)
    if match is None or match.group().strip() == "in":
        return ""
    unit = match.group()
    shorter = [unit[:length] for length in range(len(unit), 0, -1)] if unit[0] >= "一" else [unit]
    return next((name for name in shorter if unit_by_name(name).dimension), "")


def _numbers_in_words(clause: str) -> list[_Value]:
    matches = _NUMBER_WORDS.finditer(clause)
    return [
        _Value(match.start(), match.end(), match.group())
        for match in matches
        if number_from_words(match.group()) is not None
    ]


def values_of_clauses(sentence: str) -> str | None:
    """Return the values of a sentence of alike clauses, "甲有12本，乙有18本"; None for others."""
    clauses = [_values(clause) for clause in re.split(r"[,，、；;](?=\D)", sentence)]
    is_list = len(clauses) >= 2 and all(len(values) == 1 for values in clauses)
    return ", ".join(values[0].text for values in clauses) if is_list else None
