r"""Texts that data sets write in place of an answer they do not have: "notfound", "略", "N/A".

    says_nothing("Not found."), says_nothing(r"\text{Proof}"), says_nothing("无解")
    # (True, True, False)

The one list for the pool, the filter, `slowthink check` and the grader. An answer that some
question may have ("no solution", "does not exist", "none of these", "undefined", "0") is none.
"""

from __future__ import annotations

import re

MAX_LENGTH = 80
"""A longer text is not looked at."""

_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|framebox|text(?:bf|it|rm|tt)?|math(?:rm|bf|it|tt)|mbox|emph|quad)(?![a-z])"
    r"|\\[,;! ()\[\]]"
    r"|[$*`\"'“”‘’«»()（）【】\[\]{}<>\s_\-.。,，;；:：!！…—–·~?？#|/]+"
)
"""Commands, brackets and marks around or between the words."""
_REAL_SYMBOL = re.compile(r"\\(?![a-z]|[,;! ()\[\]])|^[<>|/!\s]*[<>|/!][<>|/!\s]*$")
r"""`\{\}` is the empty set, and a sign alone (`<`) may be what is asked for."""

_EMPTY_COLLECTION = re.compile(r"[$\s]*(?:\{\s*\}|\[\s*\]|\(\s*\))[$\s]*")
"""A set or list without elements, which may be what is asked for."""
_NOT_AVAILABLE = re.compile(r"(?<![^\W_])(?:NA|[Nn]\s?[/.]\s?[Aa])(?![^\W_])")
"""Not sodium, nor n(A)."""

_PHRASES = """
none|nan|null|nil|notfound|answernotfound|noanswerfound|noanswer|noanswers|noanswergiven
noanswerprovided|noanswerisgiven|nofinalanswer|nofinalanswerfound|noneprovided|nonegiven|notgiven
notprovided|notavailable|notapplicable|answernotavailable|answernotgiven|answernotprovided
noansweravailable|unknown|answerunknown|unknownanswer|unanswered|tbd|tba|todo|tobedetermined
missing|missinganswer|answermissing|placeholder|invalidanswer|noresponse|couldnotextract
noboxedanswer|proof|aproof|proofonly|proofquestion|proofproblem|prove|proofomitted|omitted
answeromitted|solutionomitted|qed|seeanswer|seeabove|seebelow|asabove|answersvary|answersmayvary
answerswillvary|answervaries|answermayvary|answerwillvary|sampleanswer
lefttothereader|leftasanexercise|youranswer|youranswerhere|answer|answerhere|finalanswer|solution
略|答案略|解答略|解略|证略|证明略|略证|过程略|略去|略解|省略|证明|证明题|证明过程略|证明从略|从略|见解析|见解答|见详解|详见解析
详见解答|见答案|见证明|见上|见上文|见下|见下文|参见解析|参考解析|如解析|解析|解答|无答案|没有答案|暂无答案|暂无|暂无解析|无
未知|未找到|未找到答案|找不到答案|未提供|未提供答案|未给出|未给出答案|不详|待定|答案不唯一|同上|答案见解析|答案见详解|具体见解析
sinrespuesta|noencontrado|noencontrada|desconocido|desconocida|nodisponible|demostración
verlasolución|versolución|pasderéponse|sansréponse|nontrouvé|nontrouvée|inconnu|inconnue
démonstration|preuve|voirlasolution|voirsolution|nondisponible|keineantwort|keineangabe
nichtgefunden|unbekannt|beweis|siehelösung|siehebeweis|nichtverfügbar|semresposta|nãoencontrado
desconhecido|demonstração|нетответа|ответанет|ненайдено|неизвестно|доказательство
смрешение|нетданных|неуказано|なし|解答なし|答えなし|証明略|解説参照|不明|답없음|정답없음|없음|풀이참조|해설참조
""".replace(" ", "")
_SENTINELS = frozenset(re.split(r"[|\n]", _PHRASES)) - {""}
_SEE = re.compile(
    r"(?:please )?(?:see|refer to|check|cf\.?)\s+(?:the\s+|in\s+)?(?:attached\s+|full\s+|above\s+"
    r"|detailed\s+)?(?:solutions?|proofs?|explanations?|answers?|work|steps|above|below|figure"
    r"|text|analysis)\b.*|(?:the )?(?:answer|solution|proof) (?:is )?(?:omitted|above|below|not "
    r"(?:found|given|available|provided))",
    re.IGNORECASE | re.DOTALL,
)


def says_nothing(text: str) -> bool:
    """Whether a reference answer is empty, or a note in place of an answer."""
    text = text.strip()
    if not text:
        return True
    if len(text) > MAX_LENGTH or any(map(str.isdigit, text)) or _REAL_SYMBOL.search(text):
        return False
    bare = _WRAPPER.sub("", text).casefold()
    if not bare:
        return not _EMPTY_COLLECTION.fullmatch(text) and all(
            text.count(left) == text.count(right) for left, right in ("()", "[]", "{}")
        )
    if bare in _SENTINELS or (bare == "na" and _NOT_AVAILABLE.search(text)):
        return True
    words = " ".join(_WRAPPER.sub(" ", text).split())
    return _SEE.fullmatch(words) is not None
