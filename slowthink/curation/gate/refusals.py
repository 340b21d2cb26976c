"""Responses that do not answer: refusals, questions back, texts of a content filter.

A sentence refuses if a speaker (I, my) is unable or unwilling (cannot, decline) and the object is
the task (answer, help, figure). In a mathematical text "we cannot factor it" lacks the speaker, "I
cannot see a pattern" the task; and an answer follows, which makes it no refusal anyway.
"""

from __future__ import annotations

import re

from slowthink.curation.gate.answers import boxes_in
from slowthink.curation.gate.text import Fault, GatedText, fault_at

REASON = "the response is a refusal"

MAX_QUESTION = 200
"""A response without an answer that ends with a question of so many characters asks back."""
_SPEAKER = (
    r"(?-i:\bI\b(?!\s*[=<>(_^]|\s+is\b))|\b(?:me|my|myself)\b|\bthis (?:model|assistant|tool)\b"
    r"|^\W*Unable to|\bwe(?:'re| are) unable"
    r"|我(?![们国省市校厂队军班县])|本人|本模型|本助手|抱歉|对不起|不好意思|遗憾|恕|暂时|作为"
    r"|由于缺"
)
_UNABLE = (
    r"\b(?:can(?:no|')t|can not|(?:could|wo|would|do|does|did|have|has|is|are|must|should|am)"
    r"(?:n't| not)(?! (?:only|just|need|want to see))|(?:'m|'re) not|can only|only (?:able"
    r"|designed|trained)|couldn't|will not|unable|incapable|impossible"
    r"|not (?:been |yet |currently )?(?:able|allowed|permitted|possible|visible|something"
    r"|comfortable|willing|qualified|equipped|capable|sure how|in a position|familiar)"
    r"|(?:have|has|with|got) no\b|no (?:idea|clue|way|access)|rather not|prefer not|pass on"
    r"|inappropriate|not appropriate|(?:ran|run) out of|lack\w*"
    r"|declin\w+|refus\w+|refrain|avoid|giv(?:e|ing) up|gave up|fail(?:ed|s)? to|beyond|exceeds?"
    r"|outside|more than I|too (?:hard|difficult|complex) for|against|stuck|not enough"
    r"|insufficient)"
    r"|无法|不能|不会|不了|没法|没能|未能|没有办法|没办法|难以|不知道|不清楚|不懂|不明白"
    r"|[解做答算求]不出|拒绝|不便|不可以|看不[到见清]|没有?学[会过]|没有?收到|没有看到|没看到|不予"
    r"|不足以|超出|不擅长|缺[少乏]?|不具备|不打算|没有能力|无从|不敢|不在我|只能(?:回答|处理|放弃)"
    r"|不太会|想不出|[看听]不懂|没[看听]懂"
)
_TASK = (
    r"\b(?:answer(?:s|ing)?|solutions?|solv\w+|help|assist\w*|respon[ds]\w*|compl[yi]\w*|fulfil\w*"
    r"|requests?"
    r"|questions?|(?:this|the|your|that|such) (?:\w+ )?(?:problem|task|exercise|puzzle|content"
    r"|topic)"
    r"|homework|exams?|assignment|determine|conclusions?|engage|discuss|handle|proceed|go on"
    r"|view|access|open|images?|pictures?|figures?|diagrams?|photos?|attachments?|screenshots?"
    r"|files?|links?|do (?:this|that|so|it|your)|(?:I can|able to|to) do\b|this one|finish|provide"
    r"|offer|tell you|say (?:how|what)"
    r"|information|advice|context|abilit\w+|capabilit\w+|knowledge|expertise|skills?"
    r"|guidelines|polic(?:y|ies)|academic integrity)\b"
    r"|回答|作答|解答|解决|求解|答案|提供|协助|帮|给出|得出|算出|解[出不]|做[出不]|答不出|算不出"
    r"|求不出"
    r"|结果|判断|计算|处理|完成|满足|请求|这道?题|该题|本题|此题|题目?我|问题|图|表格|附件|文件"
    r"|内容"
    r"|显示|查看|告诉|讨论|能力|水平|范围|放弃|这类|确定|如何|怎么"
)
_CLOSED = (
    r"\b(?:as|am|I'm)(?: just| only| merely)? an? (?:AI|artificial intelligence|(?:large )?language"
    r" model|virtual assistant|chatbot)\b"
    r"|\blet(?:'s| us) (?:talk|chat) (?:about|of)|\bchange (?:of|the) (?:subject|topic)"
    r"|\bI (?:(?:really |honestly |simply |just )*(?:do not|don't) know\W*$|give up"
    r"|have no (?:idea|clue))"
    r"|^\W*no (?:answer|response)\W*$|\bsomething went wrong|\btry again later|\b(?:server|internal"
    r"|network|system) error|^\W*error\b"
    r"|(?:作为|我是|只是)一?[个名款位]?(?:人工智能|AI|大?语言模型|智能助手)"
    r"|[换聊]一?[个些点]?(?:别的)?话题"
    r"|聊点?别的|无能为力|爱莫能助|帮不[了上到]|我放弃|稍后再试|系统繁忙|再说一遍|^\W*(?:暂时"
    r"|暂)?[没无]有?答案|想不出来|不予(?:显示|回答|展示)|(?:怎么|如何|不会)[做解]。?$"
    r"|^\W*(?:无法|不能)(?:回答|解答|作答|提供|协助|显示)"
)
"""Refusals without a task."""
_GIVE = (
    r"(?:provide|share|send|upload|attach|describe|clarify|specify|supply|paste|post|rephrase"
    r"|re-?send|re-?upload|re-?submit|modify|revise|retry|try again|tell me|give me|let me know"
    r" (?:what|which|how|the|whether)|confirm|elaborate|include|double-check the problem)\b"
)
_GIVE_ZH = (
    r"(?:提供|补充|上传|发送|重新?发|发给|发一|发来|发过来|告诉我|告知|描述|说明一下|修改|重试"
    r"|重新|澄清|明确"
    r"|咨询|更换|换一[个种]|给出完整|贴出|核对题|确认题)"
)
_ASKS = (
    rf"\b(?:please|kindly|(?:could|can|would|will) you|may I|if you (?:can|could)?)\b"
    rf"(?! (?:note|see|observe|remember|recall))[^.!?\n]{{0,30}}?\b{_GIVE}"
    r"|\bI(?:'d| would|'ll| will)? (?:need|require) (?:to (?:know|see)|more|further|additional"
    r"|(?:the|a) (?:full|complete|exact|missing|actual|figure|image|picture|diagram)"
    r"|[^.!?\n]{1,40} (?:first|before)\b)"
    r"|\b(?:did|do|have) you (?:mean|forget|forgotten|intend)\b"
    rf"|(?:请(?!求|注意|看|问题)|麻烦|劳烦|烦请)(?:[您你])?[^。！？\n]{{0,8}}?{_GIVE_ZH}"
    r"|(?:能否|可否|可以|能不能|可不可以|方便|能)(?:请?[您你])?(?:再|先|重新)?"
    r"[^。，！？\n]{0,4}?(?:提供|补充|上传|发|告诉我|告知|描述|说明|解释|澄清)[^。！？\n]*[？?吗]"
    r"|需要(?:更多|进一步|补充|完整)的?(?:信息|条件|资料|题目)|请问[您你]|[您你](?:是指|指的是"
    r"|说的)"
)
"""Asks the user for something."""
_FILTERED = (
    r"\b(?:filtered|removed|blocked|flagged|withheld|rejected|redacted|stopped|triggered|prohibited"
    r"|violat\w+|against|not (?:allowed|permitted|comply)|cannot|can't|unavailable|disallowed)\b"
    r"|不予|拦截|违反|触发|屏蔽|删除|隐藏|不能|无法|未通过|过滤|不符合|涉及|不当"
)
_POLICY = (
    r"\b(?:polic(?:y|ies)|guidelines|(?:content|safety) filters?|safety|moderation|terms of (?:use"
    r"|service)|inappropriate|harmful|copyright|usage rules)\b"
    r"|规定|政策|法律法规|法规|安全|违规|敏感|准则|规范|审核"
)
_QUESTION = re.compile(r"[^.!?。！？\n]*[?？][\s*_\"'）)]*\Z", re.IGNORECASE)
_COURTESY = re.compile(
    r"\b(?:would you like|do you (?:see|want|agree)|can you see|make sense|any (?:other|more"
    r"|questions)"
    r"|anything else|right\?|isn't it)|对吗|对吧|是不是|明白了?吗|还有",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"[^.!?。！？；\n]+[.!?。！？；]*(?:(?<=\d\.)\d[^.!?。！？；\n]*[.!?。！？；]*)*"
)
_FREE = re.compile(r"\$[^$\n]*\$|\"[^\"\n]*\"|“[^“”\n]*”|「[^「」\n]*」|[：:]“[^”\n]*")
"""Formulas, and what others say."""
_STATED = re.compile(
    r"\b(?i:answer|result|total|solution|value|sum|probability|number)\b[^.!?\n]{0,30}?"
    r"(?:\bis\b|\bare\b|=|:|\bequals\b)\W{0,6}(?:[\d$\\]|[A-E]\b)"
    r"|\b(?i:so|thus|hence|therefore|gives?|yields?|leaves?|get|obtain|must be)\b[^.!?\n]{0,40}"
    r"[\d$\\]"
    r"|(?:答案|结果|总数|所以|因此|故|于是|可得|得到|[^难]得|[一总]共|[选为是])[^。！？\n]{0,8}"
    r"(?:[\d$\\]|[A-E](?![A-Za-z]))"
    r"|[=≈]\s*[-\d.,/\\{}a-zπ]+\s*\$?\W*\Z"
)
"""An answer."""


def _all_of(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


_SIGNS = (
    _all_of(_CLOSED), _all_of(_ASKS), _all_of(_FILTERED, _POLICY), _all_of(_SPEAKER, _UNABLE, _TASK)
)  # fmt: skip
"""A sentence refuses if all patterns of one of these are found in it."""


def find_refusal(text: GatedText) -> Fault | None:
    """Where the response refuses, gives up or asks back, and states no answer from there on."""
    response = text.response.replace("’", "'")
    if boxes_in(response):
        return None
    last_answer = max((match.start() for match in _STATED.finditer(response)), default=-1)
    free = _FREE.sub(lambda match: " " * len(match.group()), response)
    asked = _QUESTION.search(free, max(last_answer + 1, len(free.rstrip()) - MAX_QUESTION))
    if asked is not None and last_answer < 0 and not _COURTESY.search(asked.group()):
        return fault_at(REASON, "response", text.response, asked.start())
    for sentence in _SENTENCE.finditer(free, last_answer + 1):
        words = sentence.group()
        if any(all(part.search(words) for part in sign) for sign in _SIGNS):
            start = sentence.end() - len(words.lstrip())
            return fault_at(REASON, "response", text.response, start)
    return None
