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

_KEY = (
    r"(?:(?:the|an?|any|its|final|correct|boxed|ground|reference|gold|expected|model|full) )*"
    r"(?:answers?|solutions?|proofs?|explanations?|responses?|results?|keys?|labels?|truth)"
)
_ABSENT = _KEY.replace("|solutions?", "").replace("|responses?|results?", "") + "|data"
"""What "no …" leaves out; "no solution", "no response" and "no result" may be answers."""
_GIVEN = (
    r"(?:found|given|provided|available|applicable|known|specified|stated|supplied|shown"
    r"|extracted|parsed|recorded|returned|generated)"
)
_ENGLISH = (
    r"none|nan|null|nil|idk|blank|pending|skip(?:ped)?|missing|placeholder|omitted|unanswered|qed"
    r"|tb[ad]|to do|unknown|sample answer|left blank",
    rf"(?:(?:{_KEY}|it) )?(?:is |are |was |were )?not (?:yet |been )*{_GIVEN}",
    rf"no (?:{_ABSENT})(?: (?:is|was|were))?(?: {_GIVEN})?|none {_GIVEN}",
    rf"{_KEY} (?:is )?(?:unknown|unavailable|unspecified|missing|omitted|pending)",
    rf"(?:unknown|missing|omitted|invalid|unavailable|unspecified) {_KEY}",
    r"(?:unable|failed|failure|could not|couldn t) (?:to )?(?:extract|parse|find|locate|retrieve"
    rf"|read|load|generate|produce|match)(?: {_KEY}| boxed)?",
    r"(?:(?:parsing|parse|runtime|server|api|timeout|extraction|unknown) )?error|timed? out"
    r"|error (?:while|parsing|extracting|timeout|no|could|failed).*",
    r"to be (?:determined|added|announced|filled(?: in)?|completed|done)",
    rf"(?:{_KEY} )?(?:(?:may|will|can|could) )?var(?:y|ies)|i do(?: not|n t|nt) know",
    r"(?:left )?(?:to|for|as) (?:the|an?) (?:reader|exercise)",
    r"(?:a )?proof(?: (?:only|question|problem|required))?|prove|(?:as|see) (?:above|below)"
    r"|(?:your )?(?:final )?answer(?: here)?|solution",
    rf"(?:please )?(?:see|refer to|check|cf) (?:in )?(?:the )?"
    r"(?:(?:attached|full|above|detailed) )?"
    rf"(?:{_KEY}|work|steps|above|below|figure|text|analysis).*",
)
_CHINESE_KEY = (
    r"(?:标准|参考|最终|正确|具体)?(?:答案|解析|解答|详解|分析|证明|过程|步骤|结果|数据){1,2}"
)
_CHINESE_KEY_ALONE = r"(?:标准|参考)?(?:答案|解析|解答|详解|证明){1,2}"
"""Others alone, such as 结果 or 数据, may be what is asked for."""
_CHINESE = (
    rf"(?:{_CHINESE_KEY}|证|解)?(?:从|已)?(?:省?略|略去|省略)|略[证解答写]|{_CHINESE_KEY_ALONE}|证明题",
    rf"(?:{_CHINESE_KEY})?(?:具体|[请详可])*(?:参[见考照]|[见如看])"
    rf"(?:{_CHINESE_KEY}|[上下图书]文?|原文|附件)(?:所示)?",
    rf"[暂尚]?(?:没有|无|缺少|缺失?){_CHINESE_KEY}|暂?无|缺失?|缺少",
    rf"(?:{_CHINESE_KEY})?[暂尚]?(?:未|没有?)(?:找到|提供|给出|知|公布|录入|填写|提取到?)"
    rf"(?:{_CHINESE_KEY})?",
    rf"找不到(?:答案)?|(?:{_CHINESE_KEY})?待(?:补充?|定|完善|更新|添加|录入|解答)"
    rf"|{_CHINESE_KEY}缺失?|不(?:知道|清楚|详)|同上|答案不唯一",
)
_OTHERS = (
    r"sin respuesta|(?:respuesta )?no (?:encontrad[oa]|disponible|hay respuesta)|desconocid[oa]"
    r"|demostración",
    r"(?:ver|véase|vedi|voir)(?: l[ae])? (?:solución|respuesta|solution|réponse|corrigé|preuve"
    r"|soluzione)",
    r"(?:pas de|sans) réponse|inconnue?|preuve"
    r"|(?:réponse |risposta )?non (?:trouvée?|disponib[il]+e|fournie?|trovat[oa]|fornita)"
    r"|démonstration",
    r"keine (?:antwort|angabe)|unbekannt|beweis"
    r"|(?:(?:antwort|lösung) )?nicht (?:gefunden|verfügbar|angegeben|vorhanden)",
    r"(?:siehe|s)(?: die)? (?:lösung|beweis|oben|unten)",
    r"sem resposta|(?:resposta )?não (?:encontrad|disponível|informad)[oa]?|desconhecid[oa]"
    r"|demonstração"
    r"|ver a? solução|senza risposta",
    r"нет (?:ответа|данных)|ответа нет|не (?:найдено|указано|известно)|неизвестно|доказательство"
    r"|см решение",
    r"(?:該当|解答|答え|答)?なし|(?:(?:証明|解答)は?)?省?略|(?:解説|解答)を?参照|不明"
    r"|(?:정?답 )?없음|(?:풀이|해설) 참[조고]|생략",
)
_NOTE = re.compile("|".join((*_ENGLISH, *_CHINESE, *_OTHERS)).replace(" ", ""), re.IGNORECASE)
"""A note without its spaces, which are often missing: "notfound"."""


def says_nothing(text: str) -> bool:
    """Whether a reference answer is empty, or a note in place of an answer."""
    text = text.strip()
    if not text:
        return True
    if len(text) > MAX_LENGTH or any(map(str.isdigit, text)) or _REAL_SYMBOL.search(text):
        return False
    if not _WRAPPER.sub("", text):
        return not _EMPTY_COLLECTION.fullmatch(text) and all(
            text.count(left) == text.count(right) for left, right in ("()", "[]", "{}")
        )
    words = _WRAPPER.sub("", _NOT_AVAILABLE.sub(" ", text))
    return not words or _NOTE.fullmatch(words) is not None
