"""Labelled chains for the gate's rules, in English and Chinese: half break the rule, half only look
like it. They were written before the rules.

CASES["refusal"][0] is (True, {"response": "I'm sorry, but …"}): the rule finds this chain.
"""

from __future__ import annotations

from typing import Any

Case = tuple[bool, dict[str, Any]]

EN = {
    "question": "A box holds 3 red and 4 * 5 blue balls. How many balls are in the box?",
    "thinking": (
        "There are 3 red balls. The blue ones are 4 * 5 = 20.\n\n"
        "So in total we have 3 + 20 = 23. Let me check: 23 - 20 = 3, which fits."
    ),
    "response": "The box holds 3 + 20 = 23 balls.\n\n\\boxed{23}",
}
ZH = {
    "question": "一个盒子里有3个红球和4乘5个蓝球，盒子里一共有多少个球？",
    "thinking": (
        "红球有3个，蓝球有4乘5等于20个。\n\n"
        "所以一共有3加20等于23个。再检查一下：23减20等于3，没有问题。"
    ),
    "response": "盒子里一共有23个球，答案是\\boxed{23}。",
}


def en(found: bool, **fields: Any) -> Case:
    return found, EN | fields


def zh(found: bool, **fields: Any) -> Case:
    return found, ZH | fields


def cut(base: dict[str, Any], tail: str) -> str:
    """Good thinking, with this text after it."""
    return f"{base['thinking']}\n\n{tail}"


EN_REFRAIN = "Wait, let me reconsider the problem. The blue balls number 4 * 5 = 20, so I get 23."
ZH_REFRAIN = "等一下，让我重新考虑这个问题。蓝球有4乘5等于20个，所以我得到23个球。"
EN_NEAR = [
    "Hmm, I should count the blue balls once more to be sure about the total of 23.",
    "Hmm, I should count the blue balls once again to be sure about the total of 23.",
    "Hmm, maybe I should count the blue balls again, to be sure about the total of 23.",
    "Hmm, I should count all the blue balls once more to be quite sure about the total of 23.",
    "Hmm, I should really count the blue balls once more to be sure of the total of 23.",
    "Hmm, so I should count the blue balls once more to be sure about this total of 23.",
]
ZH_NEAR = [
    "嗯，我应该再数一遍蓝球的个数，确认一共是23个球没有错。",
    "嗯，我还是应该再数一遍蓝球的个数，确认一共是23个球没有错误。",
    "嗯，我应该再数一次蓝球的个数，来确认一共是23个球没有错。",
    "嗯，也许我应该再数一遍蓝球的个数，确认一共是23个球没有错。",
    "嗯，我应该重新再数一遍蓝球的个数，确认一共就是23个球没有错。",
    "嗯，我应该再数一遍所有蓝球的个数，确认一共是23个球没错。",
]

CASES: dict[str, list[Case]] = {
    "truncated": [
        en(True, response="The box holds 3 red balls and 4 * 5 = 20 blue balls, so the total"),
        en(True, response="We add the two numbers and get\n\\[ 3 + 20 = "),
        en(True, response="The total is therefore \\boxed{2"),
        en(True, thinking=cut(EN, "Now suppose that we take out two of the balls, and then the")),
        en(True, thinking=cut(EN, "Let me also use $n = 3 + 4 \\cdot")),
        en(True, truncated=True),
        zh(True, response="红球有3个，蓝球有20个，所以一共有"),
        zh(True, response="我们把两个数相加，得到\\[ 3 + 20 ="),
        zh(True, response="因此总数为\\boxed{2"),
        zh(True, thinking=cut(ZH, "接下来我们考虑取出两个球的情形，因为")),
        zh(True, thinking=cut(ZH, "设总数为$n = 3 + ")),
        zh(True, response="把红球和蓝球的个数相加，"),
        en(False, response="The total is 23"),
        en(False, response="**Final Answer**\n\\boxed{23}"),
        en(False, response="- red: 3\n- blue: 20\n\nAnswer: 23 balls"),
        en(False, response="The sequence goes on forever: 3, 23, 43, ...\n\n\\boxed{23}"),
        en(False, thinking=cut(EN, "So the answer is 23")),
        en(False, thinking=cut(EN, "Therefore the total is\n\\[ 3 + 20 = 23 \\]")),
        en(False, thinking=cut(EN, "It costs $3 plus $20.")),
        zh(False, response="一共有23个"),
        zh(False, response="答案：23"),
        zh(False, response="所以选C"),
        zh(False, thinking=cut(ZH, "所以总数是23")),
        zh(False, thinking=cut(ZH, "故总数为$3+20=23$")),
    ],
    "loop": [
        en(True, thinking=cut(EN, "\n\n".join([EN_REFRAIN] * 6))),
        en(True, thinking=cut(EN, " ".join([EN_REFRAIN] * 6))),
        en(True, thinking=cut(EN, "\n\n".join(EN_NEAR))),
        en(True, thinking=cut(EN, "so the total is the total is " + "the total is " * 40)),
        en(True, thinking=cut(EN, f"{EN_REFRAIN}\n\nBut is that so? Let me see.\n\n" * 5)),
        en(True, response="The answer is 23. " * 30 + "\\boxed{23}"),
        zh(True, thinking=cut(ZH, "\n\n".join([ZH_REFRAIN] * 6))),
        zh(True, thinking=cut(ZH, ZH_REFRAIN * 6)),
        zh(True, thinking=cut(ZH, "\n\n".join(ZH_NEAR))),
        zh(True, thinking=cut(ZH, "所以一共是" * 40)),
        zh(True, thinking=cut(ZH, f"{ZH_REFRAIN}\n\n真的是这样吗？再看一看。\n\n" * 5)),
        zh(True, response="所以答案是23个球。" * 30 + "\\boxed{23}"),
        en(False, thinking=cut(EN, f"{EN_REFRAIN}\n\nYes: 20 + 3 = 23.\n\n{EN_REFRAIN}")),
        en(
            False,
            thinking=cut(
                EN,
                "\n".join(
                    f"For n = {n}: n^2 + 1 = {n * n + 1}, which is not a perfect square."
                    for n in range(1, 40)
                ),
            ),
        ),
        en(False, thinking=cut(EN, "The decimal expansion is 0." + "3" * 300)),
        en(False, thinking=cut(EN, "The row is " + "0, " * 60 + "0, then a 1 at the end.")),
        en(False, thinking=cut(EN, "| red | blue |\n| --- | --- |\n" + "| 0 | 0 |\n" * 12)),
        en(
            False,
            thinking=cut(
                EN,
                "\n\n".join(
                    f"Step {n}: move the disk from peg {'ABC'[n % 3]} to peg {'BCA'[n % 3]}."
                    for n in range(1, 31)
                ),
            ),
        ),
        zh(False, thinking=cut(ZH, f"{ZH_REFRAIN}\n\n是的，20加3等于23。\n\n{ZH_REFRAIN}")),
        zh(
            False,
            thinking=cut(
                ZH,
                "\n".join(f"当n={n}时，n^2+1={n * n + 1}，不是完全平方数。" for n in range(1, 40)),
            ),
        ),
        zh(False, thinking=cut(ZH, "小数展开为0." + "142857" * 40)),
        zh(False, thinking=cut(ZH, "这一行是" + "0、" * 60 + "最后是1。")),
        zh(
            False,
            thinking=cut(
                ZH,
                "\n".join(
                    f"第{n}步：把圆盘从{'甲乙丙'[n % 3]}柱移到{'乙丙甲'[n % 3]}柱。"
                    for n in range(1, 31)
                ),
            ),
        ),
        zh(
            False,
            thinking=cut(ZH, "再检查一遍。\n\n3加20等于23。\n\n再检查一遍。\n\n23减3等于20。"),
        ),
    ],
    "refusal": [
        en(True, response="I'm sorry, but I can't help with that."),
        en(True, response="As an AI language model, I am not able to answer this question."),
        en(True, response="I cannot assist with this request. Please consult a teacher."),
        en(True, response="Unfortunately, I was unable to solve this problem."),
        en(True, response="I don't know the answer to this question."),
        en(True, response="I must decline to answer, as this violates my guidelines."),
        zh(True, response="对不起，我无法回答这个问题。"),
        zh(True, response="很抱歉，我不能提供这方面的帮助。"),
        zh(True, response="作为一个人工智能语言模型，我无法解答这类题目。"),
        zh(True, response="抱歉，我没能解出这道题。"),
        zh(True, response="我不知道这道题的答案。"),
        zh(True, response="您的请求违反了使用政策，我拒绝回答。"),
        en(False, response="Sorry, I made a slip above: 4 * 5 is 20. The answer is \\boxed{23}."),
        en(False, response="We cannot factor this any further, so the answer is \\boxed{23}."),
        en(False, response="I can't simplify 23/7 further, so the answer is \\boxed{23}."),
        en(False, response="The number of balls that Ann is unable to see is \\boxed{23}."),
        en(False, response="The colours cannot be determined, but the total can: \\boxed{23}."),
        en(False, thinking=cut(EN, "I don't know how to count them yet. Let me try rows.")),
        zh(False, response="抱歉，上面写错了，4乘5等于20。答案是\\boxed{23}。"),
        zh(False, response="分数无法再约分，所以答案是\\boxed{23}。"),
        zh(False, response="由于无法确定颜色，只能求总数，答案是\\boxed{23}。"),
        zh(False, response="小明不能看到的球共有\\boxed{23}个。"),
        zh(False, response="方程无解的情形不存在，答案是\\boxed{23}。"),
        zh(False, thinking=cut(ZH, "我还不知道怎么数，先试一试按行来数。")),
    ],
    "language": [
        en(True, thinking=ZH["thinking"] * 2),
        en(True, thinking=cut(EN, "接下来我们把红球和蓝球的个数相加，得到一共二十三个球。")),
        en(True, thinking="Сначала посчитаем красные шары, их три. Синих шаров двадцать."),
        en(
            True,
            thinking="D'abord, nous comptons les boules rouges : il y en a trois. Ensuite, nous "
            "comptons les boules bleues, et nous avons donc vingt-trois boules dans la boîte.",
        ),
        en(True, thinking=cut(EN, "So we add them. 因此总共有二十三个球，答案是二十三。 Done.")),
        en(True, response="盒子里一共有二十三个球，所以最后的答案是\\boxed{23}。"),
        en(True, language="zh"),
        zh(True, thinking=EN["thinking"]),
        zh(
            True,
            thinking=cut(
                ZH,
                "Wait, let me check this again. There are 3 red balls and 20 blue ones, so "
                "the total number of balls in the box is 23.",
            ),
        ),
        zh(
            True,
            thinking="まず赤い球を数えます。三つあります。青い球は二十個あるので、全部で二十三個です。",
        ),
        zh(True, thinking=cut(ZH, "먼저 빨간 공을 세고 파란 공을 세면 모두 스물세 개입니다.")),
        zh(True, response="There are 3 red balls and 20 blue balls, so the box holds \\boxed{23}."),
        zh(True, language="en"),
        zh(False, language="en", thinking=EN["thinking"]),
        en(False, language="zh", thinking=ZH["thinking"]),
        en(False, thinking=cut(EN, "The Chinese word for ball is 球, and for red it is 红色.")),
        en(
            False,
            question="Translate: 床前明月光，疑是地上霜。",
            thinking='The poem says "床前明月光，疑是地上霜". That is Li Bai, about the moon.',
            response="The moon before my bed is bright, like frost on the ground.",
        ),
        en(False, thinking="$3 + 4 \\cdot 5 = 3 + 20 = 23$"),
        en(
            False, thinking=cut(EN, "By Bézout, and the Poincaré and Erdős results, this is naïve.")
        ),
        en(False, thinking=cut(EN, "Let α, β and γ be the angles; then α + β + γ = π.")),
        zh(False, thinking=cut(ZH, "由Cauchy-Schwarz不等式和AM-GM不等式可知结论成立。")),
        zh(False, thinking=cut(ZH, "设f(x)=\\sin x，由Fermat小定理，gcd(a,b)=1，QED。")),
        zh(False, thinking="3+4×5=3+20=23"),
        zh(False, thinking=cut(ZH, "这里用到的定理叫做Fundamental Theorem of Calculus。")),
        zh(False, thinking=cut(ZH, "int main() { for (int i = 0; i < n; i++) sum += a[i]; }")),
        zh(False, question="求 $3+4\\times5$", thinking="$3+20$，所以是$23$。"),
    ],
    "delimiter": [
        en(True, thinking=cut(EN, "</think>\n\nThe answer is 23.\n\nWait, no.")),
        en(True, thinking=f"<think>{EN['thinking']}"),
        en(True, thinking=cut(EN, "<|begin_of_thought|> So we add 3 and 20.")),
        en(True, thinking=cut(EN, "[/THINK] So we add 3 and 20.")),
        en(True, thinking=cut(EN, "<|im_start|>answer\nThere are 23 balls.")),
        en(True, thinking=cut(EN, "assistant<|channel|>final<|message|>There are 23 balls.")),
        zh(True, thinking=cut(ZH, "</think>\n\n答案是23。")),
        zh(True, thinking=f"<think>\n{ZH['thinking']}"),
        zh(True, thinking=cut(ZH, "◁/think▷所以一共有23个。")),
        zh(True, thinking=cut(ZH, "<seed:think>再想一想。")),
        zh(True, thinking=cut(ZH, "</reasoning>所以一共有23个。")),
        zh(True, response="<think>\n红球有3个。</think>答案是\\boxed{23}。"),
        en(False, thinking=cut(EN, "I think 3 < 20, and I think 20 > 3.")),
        en(False, thinking=cut(EN, "Suppose a<think of a number>b as a placeholder.")),
        en(False, thinking=cut(EN, "The HTML is <b>bold</b> and <br/>.")),
        en(False, thinking=cut(EN, "My reasoning: [THINKING CAP ON] count again.")),
        en(False, thinking=cut(EN, "Then |channel| is the width, and <x|y> a product.")),
        en(False, thinking=cut(EN, "Here is my thought, and my response to it: 23.")),
        zh(False, thinking=cut(ZH, "我想3<20，再想20>3。")),
        zh(False, thinking=cut(ZH, "思考：先数红球。回答：23。")),
        zh(False, thinking=cut(ZH, "由<a,b>=0知两向量垂直。")),
        zh(False, thinking=cut(ZH, "【思考】先数红球，再数蓝球。")),
        zh(False, thinking=cut(ZH, "设|x|<1，则<|x|>不必考虑。")),
        zh(False, thinking=cut(ZH, "think一词的意思是思考。")),
    ],
    "no-thinking": [
        en(True, thinking=""),
        en(True, thinking="   \n\n"),
        en(True, thinking="..."),
        en(True, thinking="Okay."),
        en(True, thinking="None"),
        en(True, thinking=EN["response"]),
        en(True, thinking="", hidden="encrypted"),
        zh(True, thinking=""),
        zh(True, thinking="……"),
        zh(True, thinking="好的。"),
        zh(True, thinking="无"),
        zh(True, thinking=ZH["response"]),
        zh(True, thinking="（思考过程略）"),
        en(False, thinking="3 + 20 = 23"),
        en(False, thinking="Add 3 and 20."),
        en(False, thinking="Okay, 3 and 20 make 23."),
        en(False, thinking="$23$, since $4 \\cdot 5 = 20$."),
        en(False, thinking="None of the balls is green, so 23."),
        en(True, thinking=EN["thinking"], hidden="summary"),
        zh(True, thinking=ZH["thinking"], hidden="counted only"),
        zh(False, thinking="3+20=23"),
        zh(False, thinking="相加得23。"),
        zh(False, thinking="好的，3加20是23。"),
        zh(False, thinking="$4\\times5=20$，故23。"),
        zh(False, thinking="无绿球，所以是23个。"),
        zh(False, thinking="略去绿球不计，共23个。"),
    ],
    "template": [
        en(True, response="\\boxed{23}<|im_end|>\n<|im_start|>user\nThanks"),
        en(True, response="\\boxed{23}\n\nHuman: What about 24?\n\nAssistant: That is 24."),
        en(True, thinking=f"### Instruction:\nCount.\n\n### Response:\n{EN['thinking']}"),
        en(True, response="\\boxed{23}</s>[INST] Next one [/INST]"),
        en(True, response="\\boxed{23}<|eot_id|><|start_header_id|>user<|end_header_id|>"),
        en(True, response="{{ bos_token }}{% for message in messages %} \\boxed{23}"),
        zh(True, response="\\boxed{23}<|im_end|>\n<|im_start|>user\n谢谢"),
        zh(True, response="答案是\\boxed{23}。\n\n用户：那24呢？\n\n助手：是24。"),
        zh(True, thinking=f"### 指令：\n数一数。\n\n### 回答：\n{ZH['thinking']}"),
        zh(True, response="\\boxed{23}<｜end▁of▁sentence｜><｜User｜>下一题"),
        zh(True, response="\\boxed{23}<|endoftext|>"),
        zh(True, response="人类：一共多少个球？\n\\boxed{23}"),
        en(False, thinking=cut(EN, "Ann: I have 3.\nBob: I have 20.\nAnn: So 23.")),
        en(False, thinking=cut(EN, "Every human: one ball each. The user: none.")),
        en(False, thinking=cut(EN, "System of equations:\nx + y = 23\nx = 3")),
        en(False, thinking=cut(EN, "### Step 1: count\n\n### Answer\n23")),
        en(False, thinking=cut(EN, "In code: a[i] < s && s > 0, {x | x > 3}, {{1, 2}, {3}}.")),
        en(False, response="### Solution\n\nInstruction: add.\n\nQuestion: 3 + 20?\n\n\\boxed{23}"),
        zh(False, thinking=cut(ZH, "甲：我有3个。\n乙：我有20个。")),
        zh(False, thinking=cut(ZH, "每个用户：一个球。人类的总数是23。")),
        zh(False, thinking=cut(ZH, "方程组：\nx+y=23\n解：x=3")),
        zh(False, thinking=cut(ZH, "### 第一步：数红球\n\n### 答案\n23")),
        zh(False, thinking=cut(ZH, "若0<|x|且|y|>1，集合{{1,2},{3}}。")),
        zh(False, response="问题：一共多少个？\n解答：\\boxed{23}"),
    ],
    "leaked-key": [
        en(True, thinking=cut(EN, "The expected answer is 23, so this must be right.")),
        en(True, thinking=cut(EN, "According to the provided answer, the total is 23.")),
        en(True, thinking=cut(EN, "This matches the reference solution, which gives 23.")),
        en(True, thinking=cut(EN, "The answer key says 23. Let me find how to get there.")),
        en(True, thinking=cut(EN, "But the given answer is $23$, so I need to arrive at that.")),
        en(True, response="The ground truth answer is 23, as computed.\n\n\\boxed{23}"),
        zh(True, thinking=cut(ZH, "参考答案是23，所以这样做是对的。")),
        zh(True, thinking=cut(ZH, "根据提供的答案，总数应为23。")),
        zh(True, thinking=cut(ZH, "这与标准答案一致。")),
        zh(True, thinking=cut(ZH, "题目给出的答案是23，我需要凑出这个结果。")),
        zh(True, thinking=cut(ZH, "已知正确答案为23，下面反推过程。")),
        zh(True, response="参考答案：23\n\n\\boxed{23}"),
        en(False, thinking=cut(EN, "The expected value is 23, by linearity of expectation.")),
        en(False, thinking=cut(EN, "The expected answer is an integer, so I should not round.")),
        en(False, thinking=cut(EN, "Provided the answer is positive, we may take the root.")),
        en(
            False,
            thinking=cut(EN, "The given equation is x = 23, and the reference frame is fixed."),
        ),
        en(False, thinking=cut(EN, "So the answer is 23. The correct answer is B, then.")),
        en(False, thinking=cut(EN, "The key is that the blue balls come in 4 rows. Answer: 23.")),
        zh(False, thinking=cut(ZH, "所以正确答案是B。")),
        zh(False, thinking=cut(ZH, "根据题目给出的条件，答案应为整数。")),
        zh(False, thinking=cut(ZH, "参考系选为地面，标准形式为x+y=23。")),
        zh(False, thinking=cut(ZH, "期望值是23。")),
        zh(False, thinking=cut(ZH, "答案需要化成标准形式，题目要求给出整数答案。")),
        zh(False, thinking=cut(ZH, "所以本题的答案是23，关键在于先数蓝球。")),
    ],
    "stray-box": [
        en(True, thinking=cut(EN, "So the answer is \\boxed{23}.")),
        en(True, thinking="First \\boxed{20} blue balls, and then 3 red ones make 23."),
        en(True, thinking=cut(EN, "Hence $\\fbox{23}$.")),
        zh(True, thinking=cut(ZH, "所以答案是\\boxed{23}。")),
        zh(True, thinking="先得\\boxed{20}个蓝球，再加3个红球得23。"),
        zh(True, thinking=cut(ZH, "故$\\boxed{\\text{23}}$。")),
        en(False),
        en(False, thinking=cut(EN, "I must put the answer in a box, \\boxed{}, at the end.")),
        en(False, thinking=cut(EN, "The balls are boxed {in pairs}.")),
        zh(False),
        zh(False, thinking=cut(ZH, "最后要把答案写在\\boxed{...}里。")),
        zh(False, thinking=cut(ZH, "盒子boxed一词不用管。")),
    ],
    "second-answer": [
        en(True, response="The answer is \\boxed{22}.\n\nWait, that is off by one: \\boxed{23}."),
        en(True, response="**Final Answer**\n\\boxed{22}\n\n**Final Answer**\n\\boxed{23}"),
        en(
            True, response="It is \\boxed{24}. Let me recount the blue ones. Now it is \\boxed{23}."
        ),
        zh(True, response="答案是\\boxed{22}。\n\n等等，少数了一个，应该是\\boxed{23}。"),
        zh(True, response="**最终答案**\n\\boxed{22}\n\n**最终答案**\n\\boxed{23}"),
        zh(True, response="共\\boxed{24}个。重新数蓝球。现在是\\boxed{23}个。"),
        en(False),
        en(False, response="It is \\boxed{23}.\n\n**Final Answer**\n\\boxed{23}"),
        en(False, response="The roots are \\boxed{3} and \\boxed{20}."),
        zh(False),
        zh(False, response="共\\boxed{23}个。\n\n最终答案：\\boxed{23}"),
        zh(False, response="两个根为\\boxed{3}和\\boxed{20}。"),
    ],
}
"""By the name of the rule."""
