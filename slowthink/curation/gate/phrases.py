"""Sentences that give a chain away: it refuses, or it knows the key that it should find."""

from __future__ import annotations

import re

from slowthink.curation.gate.answers import boxes_in
from slowthink.curation.gate.text import Fault, GatedText, fault_at

REFUSAL_REASON = "the response is a refusal"
LEAK_REASON = "the reference answer is known in advance"

_ACT = (
    r"(?:help|assist|answer|respond|comply|fulfil|solve|discuss|engage|do (?:that|this|so|it)\b"
    r"|be able to|(?:give|offer|provide|determine|find|produce|generate|reach|complete)"
    r" (?:\w+ ){0,4}(?:answer|solution|help|response|assistance|information|advice|request|task))"
)
_NOT_ABLE = (
    r"(?:can(?:no|')t|can not|could(?:n't| not)|won't|will not|(?:am|was|'m) (?:not able|unable)"
    r"|(?:'m|am) not (?:allowed|permitted|in a position))(?: to)?"
)
_CANNOT = r"(?:无法|不能|不会|没法|没能|未能|没有办法|难以)"
_ANSWER = (
    r"(?:回答|提供|解答|解出|求解|协助|帮助|完成|处理|满足|做出"
    r"|给出[^，。\n]{0,8}(?:答案|解答|结果))"
)
_REFUSALS = (
    rf"\bI\s?(?:{_NOT_ABLE}) (?:\w+ )?{_ACT}(?! \w* ?further)",
    r"\b(?:as|am|I'm)(?: just| only)? an? (?:AI|artificial intelligence"
    r"|(?:large )?language model)\b",
    r"\bI (?:must|have to|need to) (?:decline|refuse)\b|\bI (?:decline|refuse) to\b",
    r"\bI (?:do not|don't) know (?:the answer|how to (?:solve|answer))",
    rf"\bnot possible for me to {_ACT}|\bI(?:'d| would) rather not {_ACT}",
    r"\bI (?:don't|do not) have enough (?:information|data|context)\b",
    r"\bI (?:give up|have no idea)\b|\bbeyond (?:my|the scope of my) (?:\w+ )?(?:abilit|capabilit"
    r"|knowledge|skill)",
    r"\bplease (?:provide|give me|share) (?:me )?(?:more|further|additional) (?:information|context"
    r"|details)",
    r"\b(?:against|violates?|not allowed by) (?:my|our|the) (?:\w+ )?"
    r"(?:guidelines|policy|policies)\b",
    rf"(?:我|本人|本模型|系统)(?:们)?(?:暂时|目前|实在|确实)?{_CANNOT}"
    rf"(?:为您|为你|给您|给你|直接|继续|再|成功)?{_ANSWER}",
    rf"(?:对不起|抱歉|不好意思|遗憾)[，,！!。\s]{{0,2}}(?:我|这个问题我"
    rf"|这道题我)?(?:暂时)?{_CANNOT}"
    rf"(?:为您|为你)?{_ANSWER}",
    r"(?:作为|是|只是)一?(?:个|名|款)?(?:人工智能|AI|大?语言模型|智能助手)",
    r"我放弃|没有?学会回答|请提供更多(?:信息|条件)|我(?:无法|不能)确定(?:该题|本题|这道题)?的?答案",
    r"我(?:拒绝|必须拒绝|不得不拒绝)|拒绝回答|(?:题|问题)我?(?:真的)?不会(?:做|解)|超出了?我的",
    r"我不(?:知道|清楚|晓得)(?:这道题|这个问题|该题|本题|此题|问题)?的?(?:答案|怎么[做解]"
    r"|如何[做解])",
    r"违反了?(?:我们?的?|相关|使用|安全|内容){0,2}(?:政策|准则|规定|规范|原则)",
)
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)

_VALUE = r"[\s:：*]*(?:\$|\\|[-+(\[]?\d|(?-i:[A-E])\b|`|\"|“|‘)"
_KEY = (
    r"(?:(?:reference|provided|official|gold|ground[- ]truth|supplied|published|model)"
    r" (?:answer|solution|result|response)|(?:given|known|target) answer|answer key)s?"
)
_LEAKS = (
    rf"\bexpected (?:answer|result|solution|output)(?: \w+){{0,2}} (?:is|of|was|should be"
    rf"|equals){_VALUE}",
    rf"\b(?:according to|based on|as (?:in|stated in|given in|per)|from"
    rf"|per) the {_KEY}\b(?! \w+ (?:form|format))",
    rf"\b(?:match(?:es|ing)?|agrees? with|consistent with|equals?|contradicts?|differs? from|reach"
    rf"|arrive at|get to|same as)(?: \w+){{0,2}} (?:the|this|that) {_KEY}\b",
    rf"\b(?:the|this|that|their) {_KEY} (?:is|was|says?|states?|gives?|equals?|shows?|claims?"
    rf"|must be){_VALUE}",
    r"\b(?:reference|ground[- ]truth|gold) (?:answer|solution (?:is|was|says|gives|indicates|states"
    r"|shows|uses|claims))\b",
    r"\b(?:as|per|from|to|with|in) the given (?:solution|answer)\b(?! (?:of|to|set))",
    rf"\b(?:given|knowing|i know|we know|aware) (?:that )?the (?:correct|right|final|true|expected)"
    rf" answer (?:is|should be|must be)(?: supposed to be)?{_VALUE}",
    rf"\banswer is supposed to be{_VALUE}|\btold (?:that )?the answer is{_VALUE}",
    rf"\bthe (?:solution|problem|question|user|prompt|task) (?:says|states|tells (?:us|me)|gives"
    rf"|mentions|indicates|claims)(?: that)? (?:the )?(?:correct |final |right |expected )?answer"
    rf"(?: is| as| should be| to be)?{_VALUE}",
    r"\b(?:user|problem|prompt|question|task) (?:provided|gave|has given|already (?:gives"
    r"|gave)) the"
    r" (?:correct |final |right |expected )?answer\b",
    r"\bground truth(?: \w+)? (?:is|says)\b",
    r"\b(?:answer|solution) key (?:is|says|gives|states|has|shows|claims|must)\b",
    r"\b(?:the )?(?:correct|right|final|true) answer (?:is|was) (?:given|provided|known"
    r"|stated) (?:as|to be|in)\b",
    r"\b(?:i (?:was|am|'m|have been)|we (?:are|were)|i've been) (?:given|told"
    r"|provided with) (?:that )?the"
    r" (?:correct |final |right )?(?:answer|solution)\b(?! (?:of|to|set))",
    r"\b(?:answer|solution) (?:provided|given|supplied) (?:is|says|states|was)" + _VALUE,
    r"参考(?:答案|解答|答|解法)|标准(?:答案|解答)|官方(?:答案|解答)",
    r"(?:根据|按照|依据|由|从|与|和|跟|同)(?:题目|题干|系统|用户|所|已经?)?(?:给出|提供|给定"
    r"|所给|已知)的?(?:正确|最终)?"
    r"(?:答案|解答|结果为)",
    r"(?:题目|题干|系统|用户|提示)(?:中|里)?(?:已经?)?(?:给出|提供|给定|告诉我们?)了?的?(?:正确"
    r"|最终)?(?:答案|解答)"
    r"(?:是|为|就是|等于|[：:])",
    r"(?:已知|给定|给出的?|提供的?|预期的?|期望的?|目标)(?:正确|最终)?(?:答案|结果)(?:是|为|应为"
    r"|等于|[：:])"
    r"\s*(?:\$|\\|[-+(（]?\d|[A-E])",
    r"(?:题目|题干|系统|用户)给了?的?答案|答案提示(?:是|为|：|:)?\s*(?:\$|\\|\d)|对照(?:了?一?下)?(?:参考|标准|正确)?答案",
    r"答案给(?:的|出的?)(?:是|为)?\s*(?:\$|\\|\d|[A-E])",
)
_MENTION = re.compile(
    r"^.*(?:answer|solution|ground.truth|expected|答案|解答|参考).*$", re.IGNORECASE | re.MULTILINE
)
"""A line that may have one of them."""
_LEAK = re.compile("|".join(_LEAKS), re.IGNORECASE)


def find_refusal(text: GatedText) -> Fault | None:
    """Where the response refuses, or gives up, without a boxed answer."""
    match = _REFUSAL.search(text.response.replace("’", "'"))
    if match is None or boxes_in(text.response):
        return None
    return fault_at(REFUSAL_REASON, "response", text.response, match.start())


def find_leaked_key(text: GatedText) -> Fault | None:
    """Where the thinking or the response refers to an answer that it was given."""
    for part, content in text.parts():
        for line in _MENTION.finditer(content.replace("’", "'")):
            match = _LEAK.search(line.group())
            if match is not None and match.group() not in text.question:
                return fault_at(LEAK_REASON, part, content, line.start() + match.start())
    return None
