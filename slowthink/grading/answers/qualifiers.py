r"""What an answer says about its letters: "for all x", "k is an integer", "where x \ge 0".

Each wording becomes a condition after a comma. Example: `unify_qualifiers("f(x)=cx \\text{ for
some constant } c")` is `f(x)=cx, c \in \mathbb{R}`.
"""

from __future__ import annotations

import re

from slowthink.grading.answers.latex import TEXT

_LETTER = r"\\?[a-zA-Z](?![a-zA-Z])(?:_\{?\w\}?)?"
_SET = (
    r"(?:\\mathbb\s*\{?\s*[RZNQC]\s*\}?|[RZNQC](?![a-zA-Z]))"
    r"(?:\s*[\^_]\s*\{?\s*[+*\d-]\s*\}?)?"
)
_HINT = re.compile(
    r"\\forall|\\exists|\\quad|\bfor\b|\bwhere\b|\bwith\b|\bwhen|\bif\b|\bthere\b|\bon\b|\bover\b|[其对当存为是]|\("
    r"|\b(?:integers?|constants?|const|reals?|arbitrary)\b|常数|整数"
)
_OPENER = re.compile(
    r"\s*[,;]?\s*[(]?\s*(?:(?P<all>\\forall(?![a-z])|for\s+(?:all|any|every|each|arbitrary)\b"
    r"|对(?:于)?(?:任意|所有|一切|任何)的?)|(?P<some>for\s+(?:some|an?)\b|for(?=\s+[a-z]\b))"
    rf"|(?P<where>where\b|with\b|whenever\b|when\b|if\b|for(?=\s)|其中|当)"
    rf"|(?<=,)(?P<apposition>)(?=\s*{_LETTER}(?:\s+(?:is|are|=))?\s*(?:an?\s|any\s|some\s)?\s*"
    r"(?:positive |real |arbitrary )?(?:integers?|constants?|const|reals?|arbitrary|常数|整数)\b))"
    r"\s*"
)
_DOMAINS = (
    (re.compile(r"positive (?:integer|whole)|natural|正整数|自然数"), "\\mathbb{N}"),
    (re.compile(r"integer|整数"), "\\mathbb{Z}"),
    (re.compile(r"\bcomplex\b|复数"), "\\mathbb{C}"),
    (re.compile(r"\brational\b|有理数"), "\\mathbb{Q}"),
    (re.compile(r"real|constant|arbitrary|实数|常数|任意"), "\\mathbb{R}"),
)
_RESTRICTING = re.compile(r"\b(?:non-?negative|non-?zero|positive|negative)\b|非零|非负|正|负")
_SIGNS = (
    (re.compile(r"non-?negative|非负"), "\\ge 0"),
    (re.compile(r"non-?zero|非零"), "\\ne 0"),
    (re.compile(r"positive(?! (?:integer|whole))|正(?!整数)"), "> 0"),
    (re.compile(r"negative|负"), "< 0"),
)
_DECLARING = re.compile(
    r"\b(?:reals?|integers?|naturals?|complex|rational|const(?:ants?)?|arbitrary|fixed|numbers?|values?"
    r"|any|all|some|every|each|an?(?=\s+[a-z]{3})|the|is|are|be|of|in|and|positive whole)\b"
    r"|实数|整数|常数|自然数|有理数|复数|任意|正(?=整数)|恒成立|都成立|成立|[的为是和]"
    r"|positive(?= integer)"
)
_INEQUALITY = re.compile(r"[<>]|\\[lg]e(?![a-z])")
_DECLARED = re.compile(
    r"([a-zA-Z](?:_\{?\w\}?)?|\\[a-z]+)\s*\\in\s*(?:\\mathbb\s*\{?\s*([RZNQC])\s*\}?|([RZNQC]))"
    r"(?:\s*[\^_]\s*\{?\s*([+*])\s*\}?)?"
)
_BOUND = re.compile(rf"({_LETTER})\s*(>|<|\\ge(?![a-z])|\\le(?![a-z])|\\ne(?![a-z]))\s*(-?\d+)")
_SIGN_OF_BOUND = {
    "> 0": "positive", "\\ge 1": "positive", "\\ge 0": "nonnegative", "> -1": "nonnegative",
    "< 0": "negative", "\\le -1": "negative", "\\ne 0": "nonzero",
}  # fmt: skip
_IS_ARBITRARY = re.compile(r"\s+(?:is|are)\s+(?:an?\s+)?(?:arbitrary|fixed)(?:\s+constants?)?$")
_NAMES = re.compile(rf"\s*{_LETTER}(?:\s*(?:,|\s)\s*{_LETTER})*\s*")
_MEMBERSHIP = re.compile(rf"\s*({_LETTER}(?:\s*,\s*{_LETTER})*)\s*\\in\s*({_SET})\s*")
_JOINT_MEMBERSHIP = re.compile(rf"([,;]\s*)({_LETTER}(?:\s*,\s*{_LETTER})+\s*\\in\s*(?:{_SET}))$")
_CONDITION = re.compile(r"[^,;一-鿿]*(?:[<>]|\\(?:le|ge|ne)(?![a-z]))[^,;一-鿿]*")
_BRACKETED = re.compile(r"(?<=\S)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)$")
_QUAD = re.compile(r"\s*\\q?quad\s*(?=\(?\s*(?:\\forall|[a-z]\s*(?:\\in|\\ge|\\le|\\ne|[<>])))")
_ON_THE_REALS = re.compile(r"\s*,?\s*(?:on|over)\s+\\mathbb\s*\{?R\}?$")
_LEADING = re.compile(
    rf"^(\\forall(?![a-z])|for (?:all|every|any|each)\b|对(?:于)?任意的?|\\exists(?![a-z])"
    rf"|there exists?(?: an?)?|存在)\s*(?:real(?: numbers?)?\s+|实数)?"
    rf""
    rf"({_LETTER}(?:\s*\\in\s*(?:{_SET}))?)\s*,?\s*"
    r"(?:such that|使得?|都有|有)?\s*,?\s*(?=\S)"
)


def unify_qualifiers(text: str) -> str:
    """Return the text with its qualifiers as conditions after commas; other texts unchanged."""
    if len(text) > 500:
        return text
    if "\\in" in text:
        text = _JOINT_MEMBERSHIP.sub(
            lambda m: m.group(1) + (_declaration(m.group(2), keyword="") or ""), text
        )
    if not _HINT.search(text):
        return text
    plain = re.sub(r"\s+", " ", TEXT.sub(r" \1 ", _QUAD.sub(", ", text))).strip()
    plain, is_on_reals = _ON_THE_REALS.subn("", re.sub(r",\s*,", ",", plain))
    leading = _LEADING.match(plain)
    if leading:
        return _with_leading(leading, plain[leading.end() :])
    for match in _OPENER.finditer(plain):
        body, rest = plain[: match.start()].strip(), plain[match.end() :]
        rest = rest.removesuffix(")" * match.group().count("("))
        body = body.rstrip(" ,;")
        condition = _declaration(rest, keyword=match.lastgroup or "") if body else None
        is_membership = condition and "\\in" in condition
        if is_membership and match.lastgroup == "all" and not re.search("[a-zA-Z]", body):
            return body
        if condition is None:
            continue
        if (
            match.lastgroup != "where"
            and _MEMBERSHIP.fullmatch(condition)
            and _INEQUALITY.search(body)
        ):
            return f"\\{'forall' if match.lastgroup == 'all' else 'exists'} {condition}, {body}"
        return f"{body}, {condition}"
    if is_on_reals:
        return plain
    bracketed = _BRACKETED.search(plain)
    if bracketed and (condition := _declaration(bracketed.group(1), keyword="brackets")):
        return f"{plain[: bracketed.start()].strip(' ,')}, {condition}"
    return text


def _with_leading(leading: re.Match[str], body: str) -> str:
    """Put "for all x" behind an equation; keep other quantifiers before their statement."""
    quantifier, letters = leading.groups()
    is_all = not quantifier.startswith(("\\exists", "there", "存在"))
    if is_all and "=" in body and not _INEQUALITY.search(body):
        return f"{body}, {letters}" + ("" if "in" in letters else " \\in \\mathbb{R}")
    return f"\\{'forall' if is_all else 'exists'} {letters}, {body}"


def _declaration(text: str, *, keyword: str) -> str | None:
    """Return a declaration of letters as a membership, a condition as it is; None for others."""
    text = text.strip(" .,;")
    if membership := _MEMBERSHIP.fullmatch(_IS_ARBITRARY.sub("", text)):
        letters, domain = membership.groups()
        return ", ".join(f"{letter} \\in {domain}" for letter in re.findall(_LETTER, letters))
    condition = re.sub(r"\s+", " ", _DECLARING.sub(" ", text)).strip()
    if _CONDITION.fullmatch(condition):
        has_words = re.search(r"[a-zA-Z]{3,}", re.sub(r"\\[a-z]+", "", condition))
        return None if has_words else condition
    said = next((said for pattern, said in _SIGNS if pattern.search(text)), None)
    names = _DECLARING.sub(" ", _RESTRICTING.sub(" ", text) if said else text)
    is_bare = names.strip() == text.strip()
    if is_bare and keyword in ("where", "brackets"):
        return None
    if not _NAMES.fullmatch(names):
        return None
    letters = re.findall(_LETTER, names)
    if said:
        return ", ".join(f"{letter} {said}" for letter in letters)
    domain = next((name for pattern, name in _DOMAINS if pattern.search(text)), "\\mathbb{R}")
    return ", ".join(f"{letter} \\in {domain}" for letter in letters)


def stated_range(text: str) -> tuple[str, frozenset[str]] | None:
    """Return what a text says of its one parameter: its number set, if named, and possible signs;
    None if it says nothing, or something of several letters.

    "k is a positive integer" is ("Z", {"positive", "nonnegative"}): N may hold 0 or not.
    """
    text = unify_qualifiers(text)
    domains: dict[str, str] = {}
    signs: dict[str, frozenset[str]] = {}
    for match in _DECLARED.finditer(text):
        name, domain = match.group(1), match.group(2) or match.group(3)
        domains[name] = "Z" if domain == "N" else domain
        if match.group(4) or domain == "N":
            signs[name] = frozenset(
                ("positive",) if match.group(4) else ("positive", "nonnegative")
            )
    for part in re.split(r"\s*[,;]\s*", text)[1:]:
        if bound := _BOUND.fullmatch(part.strip()):
            name, sign, number = bound.groups()
            signs[name] = frozenset((_SIGN_OF_BOUND.get(f"{sign} {number}", part),))
    names = {*domains, *signs}
    name = names.pop() if len(names) == 1 else ""
    return (domains.get(name, ""), signs.get(name, frozenset(("any",)))) if name else None


def have_other_ranges(gold: str, pred: str) -> bool:
    """Whether two texts say different things of their parameter: "k > 0" and "k is an integer"."""
    first, second = stated_range(gold), stated_range(pred)
    if first is None or second is None:
        return False
    domains = {first[0], second[0]} - {""}
    return len(domains) > 1 or not first[1] & second[1]


def without_declarations(parts: list[str]) -> list[str]:
    """Leave out "k \\in \\mathbb{Z}" after a formula with k. A letter in an inequality may only be
    declared real: that n is an integer is then part of the answer."""
    declared = [_DECLARED.fullmatch(part.strip()) for part in parts]
    others = [part for part, match in zip(parts, declared, strict=True) if not match]
    bare = [re.sub(r"\\[a-zA-Z]+", " ", part) for part in others]
    kept = []
    for part, match in zip(parts, declared, strict=True):
        if match is None:
            kept.append(part)
            continue
        name, domain = match.group(1), match.group(2) or match.group(3)
        using = [
            o for o, b in zip(others, bare, strict=True) if name in (o if name[0] == "\\" else b)
        ]
        is_parameter = not any(re.search(r"[<>]|\\(?:[lgn]e|in)(?![a-z])", o) for o in using)
        is_real = domain in "RC" and not match.group(4)
        is_free = is_real or (is_parameter and domain in ("Z", "N", "Q"))
        if not (using and is_free):
            kept.append(part)
    return kept
