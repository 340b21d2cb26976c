"""Marks that belong to a chat template, not to a chain; and thinking that holds no thought."""

from __future__ import annotations

import re

from slowthink.curation.gate.text import Fault, GatedText, fault_at
from slowthink.grading.thinking import find_delimiter

DELIMITER_REASON = "a delimiter of thinking inside the text"
TEMPLATE_REASON = "marks of a chat template are left in the text"
NO_THINKING_REASON = "no thinking"
HIDDEN_REASON = "the provider hides the thinking"

_SPECIAL_TOKENS = (
    r"<\|[a-zA-Z]+(?:[_-][a-zA-Z\d]+)+\|>",
    r"<\|(?:endoftext|system|user|assistant|observation|end|eot|eos|pad|bos|message|return|call"
    r"|channel|start)\|>",
    r"<｜[^\s｜]{1,40}｜>",
    r"</s>|<s>(?=\s*\[INST\])|\A\s*<s>|<(?:bos|eos|pad|unk|mask)>|<(?:start|end)_of_turn>",
    r"\[/?INST\]|<</?SYS>>|\[(?:PAD|UNK|CLS|SEP|EOS|BOS)\]",
    r"<(?:extra_id_|unused)\d+>|<0x[0-9A-F]{2}>",
)
_JINJA = (
    r"(?<![\w}\\])\{(?:question|prompt|problem_statement|input_text)\}|"
    r"\{\{-? ?(?:response|question|answer|input|output|prompt|query|problem|solution|completion"
    r"|system_?\w*|user_?\w*|assistant_?\w*) ?-?\}\}|\{%-?\s*(?:for|if|endif|endfor|set|else)\b"
    r"|\{\{-?\s*(?:messages?|bos_token|eos_token"
    r"|content|role)\b"
)
_ROLES = (
    r"^[ \t]*(?:\*\*)?(?:Human|User|Assistant|ChatGPT|USER|ASSISTANT|HUMAN)(?:\*\*)?\s?[:：]",
    r"^[ \t]*(?:\*\*)?(?:人类|用户|助手|助理|AI助手)(?:\*\*)?\s?[:：]",
    r"^[ \t]*#{2,4} ?(?:Instruction|Response|Input|Human|User|Assistant|指令|回答|回复|输入|用户"
    r"|助手)\s?[:：]",
    r"^[ \t]*#{2,4} ?(?:Human|User|Assistant|用户|助手)[ \t]*$",
    r"^(?:system|user)[ \t]*\n(?:.*\n){1,40}?assistant[ \t]*$",
    r"\bYou are (?:a|an) (?:helpful|AI)(?: \w+)? assistant\b|\bYou are Qwen, created by",
    r"^Below is an instruction that describes a task",
)
_DEBRIS = re.compile("|".join((*_SPECIAL_TOKENS, _JINJA)))
_ROLE = re.compile("|".join(_ROLES), re.MULTILINE)

_PLACEHOLDERS = re.compile(
    r"(?:none|null|nan|n[/ ]?a|nil|nothing|empty|hidden|redacted|omitted|skipped|placeholder"
    r"|(?:no|my|the)? ?(?:thinking|thoughts?|reasoning)(?: (?:here|process|goes here|hidden"
    r"|omitted|needed"
    r"|required|is hidden|not shown))?"
    r"|ok(?:ay)?|sure|alright|well|right|yes|hmm*|let me think|let's think|let's see|i see"
    r"|got it|done"
    r"|(?:sure|ok(?:ay)?),? let me think|let me think(?: about (?:this|it))?(?: step by step)?"
    r"|let's think step by step|thinking complete|think(?:ing)? step by step"
    r"|无|空|略|省略|没有|暂无|好的?|嗯+|是的|明白|思考中?|(?:思考|推理)(?:过程)?(?:略|省略|无"
    r"|如下|完毕|结束|已?隐藏)?"
    r"|(?:i need to|let me|i will|i'll|we need to|let's) (?:solve|answer|figure out|start)"
    r"(?: (?:this|the|it|out|step|by|problem|question|with))*"
    r"|让我们?(?:一步一?步)?[地来]*(?:想|思考|分析|解决|解答)(?:一下|这道题|这个问题|问题)?"
    r"|让我(?:想一?想|思考一?下?)|好的?让我(?:想一?想|思考一?下?)|我来想一?想)",
    re.IGNORECASE,
)
_SIGNS = re.compile(
    r"(?:\\[nt]|</?(?:think|thinking|thought|reasoning)>"
    r"|[\s.…。,，!！?？、:：;；()（）\[\]【】<>/*_`\"'“”~-])+"
)


_ANSWER_MARK = re.compile(
    r"</?(?:answer|solution|response|final_answer|output|reflection|think|思考|回答|答案)\s?/?>"
    r"|<\|(?:begin|end)_of_(?:solution|answer|response)\|>"
)
"""A delimiter of the answer, which no thinking should have."""
_STRUCK = re.compile(r"(?<=[\w,.:，。：]) ?<s>[^<>\n]{1,60}</s>")
"""Struck text in HTML, which is no end mark."""


def find_delimiter_inside(text: GatedText) -> Fault | None:
    """Where the thinking or the response has a delimiter of thinking, in quotation marks too: a
    tokenizer does not read these."""
    for part, content in text.parts():
        position = find_delimiter(content)
        if position is None and part == "thinking" and (mark := _ANSWER_MARK.search(content)):
            position = mark.start()
        if position is not None:
            return fault_at(DELIMITER_REASON, part, content, position)
    return None


def find_template(text: GatedText) -> Fault | None:
    """Where a special token, a role's mark or a piece of a template is left."""
    for part, content in text.parts():
        content = _STRUCK.sub(lambda match: " " * len(match.group()), content)
        for pattern in (_DEBRIS, _ROLE):
            for match in pattern.finditer(content):
                if match.group().strip() not in text.question:
                    return fault_at(TEMPLATE_REASON, part, content, match.start())
    return None


def find_no_thinking(text: GatedText) -> Fault | None:
    """Whether the thinking is hidden, of which a summary may be left; empty, a filler, or only the
    response again."""
    if text.hidden:
        return Fault(HIDDEN_REASON, f"{text.hidden}; thinking: {text.thinking.strip()[:80]!r}")
    bare = _SIGNS.sub(" ", text.thinking).strip()
    if not any(map(str.isalnum, bare)) or _PLACEHOLDERS.fullmatch(bare):
        return Fault(NO_THINKING_REASON, f"thinking: {text.thinking.strip()!r}")
    if " ".join(text.thinking.split()) == " ".join(text.response.split()):
        return Fault(NO_THINKING_REASON, f"thinking and response are equal: {text.response[:80]}")
    return None
