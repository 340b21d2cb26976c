"""Chains that know the answer before they find it.

A leak refers to an answer from outside: by its name (reference answer, answer key, 标准答案), by
who states it (the prompt, the user, 书上), by a comparison with the correct one, or by the
speaker's own words (I was told). "So the correct answer is 23" refers to nobody, "the given answer
choices" to no answer, and "the expected answer is an integer" states none.
"""

from __future__ import annotations

import re

from slowthink.curation.gate.text import Fault, GatedText, fault_at

REASON = "the reference answer is known in advance"

_VALUE = (
    r"[\s:：*=]*(?:option |choice |\()?(?:\$|\\|[-+(\[]?\d(?![\d.,]* ?(?:digit|decimal"
    r"|significant))"
    r"|(?-i:[A-E])\b|`|\"|“|‘)"
)
_ANSWER = r"(?:answer|solution|result|output|option|choice)s?"
_TRUE = r"(?:correct|right|true|actual|real|final|boxed|numerical|expected|desired|target|intended)"
_OUTSIDE = (
    r"(?:reference|provided|official|gold(?:en)?|ground[- ]truth|supplied|published|annotated"
    r"|labell?ed|textbook(?:'s)?|book's|editorial|author'?s|teacher'?s|model)"
)
_NAMED = (
    rf"(?:{_OUTSIDE} (?:{_TRUE} )?(?:answer|solution|result|response)s?"
    rf"|(?:given|known|target|stated|listed) (?:{_TRUE} )?answers?|(?:answer|solution) (?:key"
    rf"|manual"
    r"|sheet)|marking scheme|ground truth)\b"
    r"(?! (?:choice|option|form|set|space|would|(?:\w+ )?format|has (?:a )?(?:pH|conc)))"
)
_WHO = (
    r"(?:metadata|prompts?|hints?|dataset|key|references?|user|problem|question|task|system"
    r"|instructions?|statement|solution|book|textbook|manual|teacher|author|they|it)"
)
_FILE = r"(?:metadata|(?:system )?prompt|hint|dataset|key|manual|reference)"
_SAYS = (
    r"(?:says?|said|states?|stated|tells?|told|gives?|gave|given|has|had|have given|gets?|got"
    r"|lists?"
    r"|reads?|provide[sd]?|mentions?|indicates?|claims?|wants?|specif\w+|contains?|includes?)"
)
_COMPARED = (
    r"(?:match(?:es|ing|ed)?|agrees?(?: with)?|disagrees?(?: with)?|consistent with|differs? from"
    r"|different from|compar(?:ed?|ing) (?:it |this )?(?:with|to)|same as|contradicts?|equals?"
    r"|off from|confirmed by|in line with|identical to)"
)
_IS = r"(?:is|was|of|as|are|should be|must be|to be|being|equals|reads|has to be|needs to be)"
_ENGLISH = (
    rf"\b(?:the|this|that|their|an?|(?:problem|question|prompt|user|book|task)'s) {_NAMED}"
    rf"|\b(?:reference|gold|ground[- ]truth) answer\b|\bground truth{_VALUE}"
    rf"|\bexpected answer:{_VALUE}",
    rf"\bexpected (?:answer|result|solution|output)(?: \w+){{0,2}} {_IS}{_VALUE}",
    rf"\b{_COMPARED} (?:\w+ )?the (?:correct|right|true|actual|real|official|reference|provided"
    r"|stated) (?:answer|solution|result|one|option|output)\b"
    rf"|\b{_COMPARED} (?:\w+ )?the (?:answer|solution) (?:provided|given|supplied)\b(?! by)",
    r"\b(?:according to|per|based on|as (?:in|per)|match(?:es|ing)?|agrees? with|consistent with"
    r"|contradicts?|differs from) the (?:references?|labels?|metadata|key)(?=\s*(?:[,.:;()]|$))",
    rf"\b(?:{_WHO}|answer) [^.,\n]{{0,30}}?\b{_SAYS}(?: (?:us|me))?(?: that)?"
    rf" (?:the |its |an? )?(?:{_TRUE} )?(?:answer|result|option)(?: (?:is|as|should be|to be"
    rf"|must be"
    rf"|of|equals))?{_VALUE}",
    rf"\b(?:the|this) {_FILE} (?:\w+ ){{0,4}}?{_SAYS}(?: (?:us|me))?(?: that)?"
    rf"(?: it(?:'s| is| should be))?(?: \"?answer)?{_VALUE}",
    r"\b(?:user|prompt|they|system)(?:'ve| has| have)? (?:already )?(?:provided|gave|given|gives"
    r"|included|told (?:us|me)) (?:us |me )?the (?:correct |final |right |expected )?answer\b",
    rf"\bgot{_VALUE}\S* (?:in|for|as) (?:the|their) answer\b",
    r"\banswers? (?:(?:that|which) )?(?:they|I|we|you|the (?:user|problem|prompt))(?:'ve| have"
    r"| has"
    r"| was| were|'s)?(?: been)? (?:gave|give|given|told|provided|handed|state[sd]?)\b",
    r"\b(?:answer|solution|result) (?:that|which) (?:was|is|has been) (?:given|provided"
    r"|supplied)\b(?! by)",
    rf"\b(?:answer|solution|result|option) (?:was |is )?(?:given|provided|supplied|stated|listed"
    rf"|attached)(?: to (?:me|us))?(?: by the (?:user|problem|prompt|question|teacher|author)"
    rf"| (?:is|as|was"
    rf"|says|to be){_VALUE}| (?:in|at) the (?:prompt|back|book|textbook|metadata)| (?:uses|starts"
    rf"|says"
    r"|begins|adds))",
    r"\b(?:answer|result|solution|option) (?:in|at) the (?:prompt|back|end of|reference|textbook"
    r"|book"
    r"|metadata|key|dataset)\b",
    r"\banswer,? (?:as|which (?:is|was)) (?:given|provided|stated|told|listed)\b(?! by)",
    rf"\b(?:answer|result) {_IS}{_VALUE}[^.\n]{{0,15}}? (?:according to the|as (?:given|stated"
    rf"|provided)"
    r"|per the)\b",
    rf"\b(?:given|know(?:ing)?|aware|told|since|because"
    rf"|as)(?: that)? (?:the )?{_TRUE} {_ANSWER} {_IS}"
    rf"(?: supposed to be)?{_VALUE}",
    rf"\b(?:answer is supposed to be|told (?:that )?the (?:answer|result) is|knowing that it should"
    rf" (?:come out (?:to|as|at)?|be|equal)|come out to be){_VALUE}",
    rf"\bI (?:already |do )?(?:have|know) the (?:{_TRUE} )?answer(?: already)?[,:]? ?(?:is|it's"
    rf"|it is"
    rf"|which is|to be){_VALUE}",
    r"\b(?:I (?:was|am|'m|have been)|we (?:are|were)|I've been|been) (?:given|told|shown|provided"
    r" with) (?:that )?the (?:correct |final |right )?(?:answer|solution)\b(?! (?:of|to|set))",
    r"\bI(?:'ve| have| had)?(?: already)? (?:seen|saw|peeked at|looked up|read) (?:the|its) "
    r"(?:correct |final |right )?(?:answer|solution|key)\b",
    r"\bpretend(?:ing)? (?:to (?:derive|find|work|solve|figure|compute)|(?:that )?I (?:don't|do not"
    r"|didn't|never))|\breverse[- ]engineer (?:it|this|the (?:answer|solution|reasoning|steps))\b"
    r"|\bwork(?:ing)? backwards? from (?:the|this|that) (?:\w+ )?"
    r"answer\b",
    rf"\b(?:arrive at|reach|reproduce|get(?: to)?|obtain|justify) (?:the|that) (?:given|known"
    rf"|stated"
    rf"|provided|correct) (?:result|answer|value)(?: of)?{_VALUE}",
    r"\b(?:correct|right|final|true) (?:answer|option) (?:is|was) (?:listed|marked)\b",
    r"\b(?:as|in) the (?:solution|answer),? (?:says|states|shows|claims|suggests|they)\b"
    r"|\bthe (?:solution|answer) (?:says|states|claims)\b",
    r"\b(?:as|per|from|to|with|in) the given (?:solution|answer)\b(?! (?:of|to|set|choice|option))",
    rf"(?:since|correct|right|known|given) (?:the |that the )?(?:final )?answer (?:is|as|being)"
    rf"{_VALUE}[^.]{{0,40}}\bwork(?:ing)? backwards?",
)
_VALUE_ZH = r"[\s:：“\"(（]*(?:选项?|选择)?\s*(?:\$|\\|[-+]?\d|[A-E])"
_ANALYSIS = r"解析(?![式几法函延表])"
_ANSWER_ZH = rf"(?:答案|解答|题解|解法|{_ANALYSIS})"
_IS_ZH = r"(?:就是|应该?是|应为|是|为|等于|[：:])"
_KNOWN = r"(?:正确|最终|标准|参考|真实|给定|已知|所给|预期|期望|目标|题目)"
_ENDS = r"(?!的?(?:形式|格式|选项|个数|范围|区间|唯一))"
_BOOK = r"(?:用户|系统|数据集?|书[上中后本]|课本|教材|出题人|元数据|提示词)"
_TELLS = r"(?:告诉我们?|给出|给定|给了?|提供|包含|附|写着?|说|标注?|显示|提示|告知|指出|里|中)"
_CHINESE = (
    r"参考(?:答案|解答|答|解法|解析|结果)|标准(?:答案|解答)|官方(?:答案|解答|解析|题解)|真实答案"
    r"|标答",
    rf"(?:题目|题干|题[中里]|提示|原题|老师|{_BOOK})[^，。\n]{{0,8}}?{_TELLS}[^，。\n]{{0,6}}?"
    rf"(?:答案|结果|标签)的?{_IS_ZH}?{_VALUE_ZH}",
    rf"{_BOOK}[^，。\n]{{0,8}}(?:答案|解答)|(?:题目|题干)给了?的?答案|(?:用户|系统|题目"
    rf"|题干)[^，。\n]{{0,4}}"
    rf"告诉我们?[^，。\n]{{0,4}}答案|(?:老师|对方|他们)给(?:出|的)+答案|数据集[^，。\n]{{0,4}}标签",
    rf"(?:所给|给定|所附)(?:出?的)?(?:正确|最终)?{_ANSWER_ZH}{_ENDS}|(?:给出|提供|附带?|附上|附"
    rf"|已有|现成)的"
    rf"(?:正确|最终|标准)?{_ANSWER_ZH}{_ENDS}",
    rf"(?:由|从|根据|按照?|依据|对照|对比|参照|查看|翻看|核对|偷看|看|查|照着)[了过]?(?:一下|一眼"
    rf"|下)?"
    rf"(?:正确|提供的|给出的|所给的?|后面的?|题目的?)?(?:答案|题解|{_ANALYSIS})"
    r"(?:可知|可见|知|看出?|得知|来看|的(?:说法|思路|提示|步骤|做法)|[，。是里上]|$)",
    rf"(?:看过|知道|得知|看到)了?{_KNOWN}?的?(?:答案|结果){_IS_ZH}{_VALUE_ZH}"
    r"|(?:看过|知道|得知|看到)了?(?:正确|参考|最终|标准)的?答案|看过了?答案|已经?(?:知道"
    r"|看到)了?答案"
    r"|假装[^，。\n]{0,6}(?:答案|推导|不知道|没看)",
    rf"答案(?:里|中|上|那里)?(?:写|给|说|标|显示|提示)(?:的|出的?|了|着)?(?:是|为|：|:)?{_VALUE_ZH}"
    rf"|答案(?:却|竟|竟然|居然|明明)[是为]{_VALUE_ZH}",
    rf"{_ANALYSIS}[中里上]?(?:的?说法|说|写|给出|认为|先|用的?是)",
    rf"(?:与|和|跟|同|合|于){_KNOWN}的?(?:答案|结果)[^，。\n]{{0,8}}?(?:一致|相同|不同|相符|不符"
    rf"|吻合|对不上|矛盾"
    r"|有出入|一样|差)",
    r"(?:为了|需要|必须|只要|想要?)(?:得到|凑出|达到|推出)(?:给定|题目|已知|所给|正确)的?(?:结果"
    r"|答案)",
    rf"答案{_IS_ZH}[^。，\n]{{0,12}}[（(，,]\s*(?:题目|题[中里]|题干)?(?:中|里)?(?:已经?)?"
    rf"(?:给出|给定|告知|提供)",
    rf"(?:已知|给定|给出的?|提供的?|预期的?|期望的?|目标)(?:正确|最终)?(?:答案"
    rf"|结果){_IS_ZH}{_VALUE_ZH}"
    rf"|正确答案给的?是?{_VALUE_ZH}",
    r"(?:既然|已知|正确)[^。，\n]{0,6}答案[^。\n]{0,24}(?:倒推|反推|逆推|凑出?)",
)
_MENTION = re.compile(
    r"^.*(?:answer|solution|truth|expected|result|\bkey\b|reference|\blabel|metadata|hint|prompt"
    r"|pretend|official|option|output|dataset|manual|knowing|engineer|答案|解答|参考|标答|解析"
    r"|题解|结果"
    r"|标签|假装).*$",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that may have a leak."""
_ENGLISH_LEAK = re.compile("|".join(_ENGLISH), re.IGNORECASE)
_LEAK = re.compile("|".join((*_ENGLISH, *_CHINESE)), re.IGNORECASE)


def find_leaked_key(text: GatedText) -> Fault | None:
    """Where the thinking or the response refers to an answer that it was given."""
    for part, content in text.parts():
        for line in _MENTION.finditer(content.replace("’", "'")):
            words = line.group()
            match = (_ENGLISH_LEAK if words.isascii() else _LEAK).search(words)
            if match is not None and match.group() not in text.question:
                return fault_at(REASON, part, content, line.start() + match.start())
    return None
