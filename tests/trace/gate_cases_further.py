"""Labelled chains that were tried on the gate's rules only after these were written; about a third
was first missed or taken for a fault, and widened them.
"""

from __future__ import annotations

from gate_cases import EN, ZH, Case, cut, en, zh

FURTHER: list[tuple[str, Case]] = [
    ("refusal", en(True, response="I’m sorry, but I’m unable to assist with that request.")),
    (
        "refusal",
        en(True, response="I apologize, but I cannot solve this problem with the given tools."),
    ),
    ("refusal", en(True, response="Sorry, I can't do that.")),
    ("refusal", en(True, response="This question is beyond my capabilities.")),
    (
        "refusal",
        en(True, response="I'm not able to determine the answer. Please provide more information."),
    ),
    ("refusal", en(True, response="I am just an AI and cannot give a definite answer here.")),
    ("refusal", en(True, response="I could not find a solution to this problem.")),
    ("refusal", en(True, response="I won't be able to answer that.")),
    ("refusal", zh(True, response="很遗憾，我无法给出这道题的答案。")),
    ("refusal", zh(True, response="这个问题我不会做。")),
    ("refusal", zh(True, response="抱歉，这道题超出了我的能力范围。")),
    ("refusal", zh(True, response="我只是一个AI助手，不能回答此类问题。")),
    (
        "refusal",
        en(False, response="We cannot solve this by factoring, so use the formula. \\boxed{23}"),
    ),
    (
        "refusal",
        en(
            False, response="I cannot give more than 23 balls to Bob, so the answer is \\boxed{23}."
        ),
    ),
    ("refusal", en(False, response="The robot says 'I am sorry' 23 times: \\boxed{23}.")),
    ("refusal", zh(False, response="因为不能整除，所以答案是\\boxed{23}。")),
    ("refusal", zh(False, response="小红说：我不能全部拿走。剩\\boxed{23}个。")),
    (
        "leaked-key",
        en(True, thinking=cut(EN, "But the expected answer is 24, so I must have made a mistake.")),
    ),
    (
        "leaked-key",
        en(True, thinking=cut(EN, "Since the solution says the answer is 23, I'll go with that.")),
    ),
    (
        "leaked-key",
        en(True, thinking=cut(EN, "Given that the correct answer is 23, we work backwards.")),
    ),
    (
        "leaked-key",
        en(True, thinking=cut(EN, "The problem states that the answer should be 23, as provided.")),
    ),
    ("leaked-key", en(True, thinking=cut(EN, "The user provided the final answer 23."))),
    (
        "leaked-key",
        en(True, thinking=cut(EN, "I know that the correct answer is supposed to be 23.")),
    ),
    ("leaked-key", en(True, thinking=cut(EN, "As per the given solution, the total is 23."))),
    ("leaked-key", en(True, thinking=cut(EN, "This is consistent with the provided solution."))),
    ("leaked-key", zh(True, thinking=cut(ZH, "答案提示是23。"))),
    ("leaked-key", zh(True, thinking=cut(ZH, "题目已经告诉我们答案是23。"))),
    ("leaked-key", zh(True, thinking=cut(ZH, "对照答案，结果是正确的。"))),
    ("leaked-key", zh(True, thinking=cut(ZH, "给定答案是23，与计算结果相符。"))),
    ("leaked-key", en(False, thinking=cut(EN, "I expect the answer to be around 23."))),
    ("leaked-key", en(False, thinking=cut(EN, "We are given the solution of the equation x = 3."))),
    ("leaked-key", en(False, thinking=cut(EN, "The expected number of balls is 23."))),
    (
        "leaked-key",
        en(
            False,
            thinking=cut(EN, "A salt solution is provided, and the reference solution has pH 7."),
        ),
    ),
    ("leaked-key", zh(False, thinking=cut(ZH, "由已知条件可得答案。"))),
    ("leaked-key", zh(False, thinking=cut(ZH, "将已知结果为正数的情形代入。"))),
    ("leaked-key", zh(False, thinking=cut(ZH, "检查答案：23减3等于20。"))),
    (
        "truncated",
        en(True, response="First we count the red balls, which are 3. Then we count the blue"),
    ),
    ("truncated", en(True, response="The answer is 3 + 20 =")),
    ("truncated", en(True, response="```python\nprint(3 + 20")),
    ("truncated", en(True, response="\\begin{align*}\n3 + 20 &= 23 \\\\")),
    ("truncated", en(True, thinking=cut(EN, "So wait, I should check whether the blue ba"))),
    ("truncated", zh(True, response="首先数红球，有3个。然后数蓝球，每")),
    ("truncated", en(False, response="Answer: twenty three")),
    ("truncated", en(False, response="The answer is \\(23\\)")),
    ("truncated", en(False, response="Therefore the box holds 23 balls in total")),
    ("truncated", en(False, response="```python\nprint(23)\n```")),
    ("truncated", zh(False, response="综上所述，共有23个球")),
    ("truncated", zh(False, thinking=cut(ZH, "因此选择B项"))),
    ("template", en(True, response="\\boxed{23}\n<|endoftext|>Human: hi")),
    ("template", en(True, thinking=cut(EN, "Q: next?\n\nUSER: more"))),
    ("template", en(True, response="ASSISTANT: \\boxed{23}")),
    ("template", en(True, response="<start_of_turn>model\n\\boxed{23}<end_of_turn>")),
    ("template", en(True, response="<|assistant|>\n\\boxed{23}")),
    ("template", en(True, response="\\boxed{23}\n\n### Human: next")),
    (
        "template",
        en(
            True,
            response="system\nYou are a helpful assistant.\nuser\nHow many?\nassistant\n\\boxed{23}",
        ),
    ),
    ("template", en(True, response="You are a helpful assistant. \\boxed{23}")),
    ("template", zh(True, response="<|user|>一共多少？<|assistant|>\\boxed{23}")),
    ("template", zh(True, response="### 用户：\n一共多少？\n### 助手：\n\\boxed{23}")),
    ("template", zh(True, response="问：再来一题\n\nAssistant：\\boxed{23}")),
    ("template", en(False, response="The user's total: \\boxed{23}")),
    (
        "template",
        en(False, thinking=cut(EN, "<s> is the start symbol of the grammar and <t> a terminal.")),
    ),
    ("loop", en(True, thinking=cut(EN, "Let me think again.\n" * 20))),
    ("loop", en(True, thinking=cut(EN, "Wait, no. " * 60))),
    ("loop", en(True, response="23 23 23 " * 40)),
    ("loop", en(True, thinking="\n\n".join([EN["thinking"]] * 4))),
    (
        "loop",
        en(
            True,
            thinking=cut(EN, "The blue balls are 20 and the red balls are 3, total 23.\n\n" * 4),
        ),
    ),
    ("loop", zh(True, thinking=cut(ZH, "等等，不对。" * 40))),
    ("loop", zh(True, thinking="\n\n".join([ZH["thinking"]] * 4))),
    ("loop", zh(True, thinking=cut(ZH, "再想一想。\n" * 25))),
    (
        "loop",
        en(
            False,
            thinking=cut(
                EN,
                "\n".join(
                    f"- person {c} sits in seat {i}" for i, c in enumerate("ABCDEFGHIJKLMNOP")
                ),
            ),
        ),
    ),
    (
        "loop",
        en(
            False,
            thinking=cut(
                EN,
                "Let me check.\n\n3+20=23.\n\nLet me check.\n\n23-3=20.\n\nLet me check.\n\n4*5=20. Good.",
            ),
        ),
    ),
    (
        "loop",
        en(
            False,
            thinking=cut(
                EN, "\n".join(f"If x = {i} mod 7, then x^2 = {i * i % 7} mod 7." for i in range(7))
            ),
        ),
    ),
    (
        "loop",
        zh(
            False,
            thinking=cut(
                ZH, "\n".join(f"若x≡{i}(mod 7)，则x^2≡{i * i % 7}(mod 7)。" for i in range(7))
            ),
        ),
    ),
    (
        "loop",
        zh(
            False,
            thinking=cut(
                ZH,
                "\n".join(
                    f"第{n}个人坐在{s}号座位。"
                    for n, s in zip("一二三四五六七八", "ABCDEFGH", strict=True)
                ),
            ),
        ),
    ),
    ("language", en(True, thinking="好的，我来算一下：一共二十三个。")),
    (
        "language",
        en(
            True,
            thinking="Vamos a contar las bolas rojas, que son tres, y las azules, que son veinte, por lo que en total tenemos veintitrés bolas en la caja.",
        ),
    ),
    ("language", en(True, thinking=EN["thinking"].split("\n\n")[0] + "\n\n所以总共有二十三个球。")),
    (
        "language",
        en(
            True,
            thinking="Zuerst zählen wir die roten Kugeln, das sind drei, und dann die blauen, das sind zwanzig, also haben wir insgesamt dreiundzwanzig Kugeln in der Kiste.",
        ),
    ),
    (
        "language",
        zh(
            True,
            thinking="First, count the red balls, which are 3. Then the blue ones are 20. So 23.",
        ),
    ),
    (
        "language",
        zh(
            True,
            thinking=ZH["thinking"].split("\n\n")[0]
            + "\n\nSo in total we have 3 + 20 = 23 balls in the box, and that is the answer.",
        ),
    ),
    (
        "language",
        en(False, thinking=cut(EN, "By the Chinese remainder theorem (中国剩余定理) we are done.")),
    ),
    ("language", zh(False, thinking=cut(ZH, "由Chinese Remainder Theorem（中国剩余定理）得证。"))),
    (
        "language",
        zh(False, thinking=cut(ZH, "代码：for x in range(10): print(x) if x > 3 else None")),
    ),
    ("no-thinking", en(True, thinking="(thinking hidden)")),
    ("no-thinking", en(True, thinking="[REDACTED]")),
    ("no-thinking", en(True, thinking="N/A")),
    ("no-thinking", en(True, thinking="Let me think about this.")),
    ("no-thinking", en(True, thinking="Thinking...")),
    ("no-thinking", zh(True, thinking="让我想想。")),
    ("no-thinking", zh(True, thinking="（无）")),
    ("no-thinking", zh(True, thinking="思考中……")),
    ("no-thinking", en(False, thinking="20 + 3.")),
    ("no-thinking", zh(False, thinking="共23。")),
    ("delimiter", en(True, thinking=cut(EN, "</thinking>"))),
    ("delimiter", en(True, thinking=cut(EN, "<scratchpad>count</scratchpad>"))),
    ("delimiter", en(True, response="</think>\n\\boxed{23}")),
    ("delimiter", en(True, thinking=cut(EN, "<THINK>"))),
]
