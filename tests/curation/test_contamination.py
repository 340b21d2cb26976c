"""Copies of test problems, distinguished from templates and from problems that only sound alike."""

from __future__ import annotations

import random

import pytest

from slowthink.curation.overlap import contamination
from slowthink.curation.overlap.contamination import StrictIndex
from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.leaks import find_leaks, find_leaks_in_chains
from slowthink.recipe import ContaminationConfig

STRICT = ContaminationConfig(preset="strict")
TANK = (
    "A tank holds 120 litres. A pump fills it at 8 litres a minute while a leak loses 3 litres a "
    "minute. After how many minutes is the empty tank full?"
)
CHINESE = "已知函数 $f(x)=x^2-4x+7$ 在区间 $[0,5]$ 上的最大值为 $M$，最小值为 $m$，求 $M-m$ 的值。"
FORM = (
    "Please reason step by step, and put your final answer within \\boxed{}. Express your answer as "
    "a common fraction in lowest terms. The last line of your response should be Answer: $ANSWER."
)
CASES = {
    "word for word": (TANK, TANK, "copy"),
    "different case and punctuation": (TANK, TANK.upper().replace(".", ";"), "copy"),
    "inside a longer text": (TANK, f"Solve this step by step. {TANK} Give a whole number.", "copy"),
    "a part of the problem": (f"{TANK} Give reasons, and say what happens later on.", TANK, "copy"),
    "a word changed": (TANK, TANK.replace("pump", "hose"), "copy"),
    "other numbers": (TANK, TANK.replace("120", "90").replace("8", "7"), "template"),
    "one other number": (TANK, TANK.replace("120", "90"), "template"),
    "Chinese, word for word": (CHINESE, CHINESE, "copy"),
    "Chinese in full width": (CHINESE, CHINESE.replace("4x", "４ｘ").replace("$", ""), "copy"),
    "Chinese, other numbers": (CHINESE, CHINESE.replace("7", "9").replace("5", "6"), "template"),
    "LaTeX typeset otherwise": (
        r"Find all real $x$ with $\dfrac{x+1}{x-2} \leq \frac{3}{4}$ and $x \geq 0$.",
        r"Find all real \(x\) with \( \frac{x+1}{x-2} \le 3/4 \) and \(x \ge 0\)",
        "copy",
    ),
    "short, whole": ("Compute 17 + 25.", "compute $17+25$", "copy"),
    "short, other numbers": ("Compute 17 + 25.", "Compute 17 + 26.", "template"),
    "short, after a line of instruction": ("Express 555 in base 5.",
                                           "Please answer: express $555$ in base $5$", "copy"),
    "short, inside another problem": ("Compute 17 + 25.",
                                      "Compute 17 + 25 + 3 and divide the sum by 9, then round",
                                      None),
    "one shared n-gram": (TANK, "A tank holds 120 litres. What is its height if its base is square "
                      "and each side of the base measures forty centimetres on the inside?", None),
    "another problem": (TANK, CHINESE, None),
    "nothing": (TANK, "", None),
    "only punctuation": (TANK, "$$ ... $$", None),
    "another question": (TANK, TANK.replace("After how many minutes is the empty tank full",
                                            "How many litres does the leak lose by then"), "template"),
    "another sign in the question": (CHINESE, CHINESE.replace("求 $M-m$", "求 $M+m$"), "template"),
    "short, the opposite": ("求 x^2-4x 的最大值", "求x^2-4x的最小值", None),
    "only the answer's form": (f"What is the tenth prime? {FORM}", f"Name a cube root. {FORM}", None),
    "long answer's form": (TANK, f"{FORM} {FORM} {TANK} {FORM} {FORM}", "copy"),
    "answer's form added": (f"{TANK} {FORM}", TANK, "copy"),
    "a word inserted": (TANK, TANK.replace("the empty tank", "the half empty tank"), "template"),
    "in HTML": (TANK, f"<p>{TANK.replace('120', '<b>120</b>')}</p>", "copy"),
    "as a list": (TANK, TANK.replace(". ", ".\n- "), "copy"),
}  # fmt: skip


@pytest.mark.parametrize(("item", "text", "kind"), CASES.values(), ids=CASES)
def test_kind_of_leak(item: str, text: str, kind: str | None) -> None:
    leaks = StrictIndex.from_items([EvaluationItem("set", "1", item)], STRICT).find_leaks([text])[0]
    assert (leaks[0].kind if leaks else None) == kind


def test_a_drawing_counts_as_one_number() -> None:
    drawing = "[asy] " + "draw((0,0)--(1,0)--(1,1)--cycle); " * 9 + "[/asy]"
    item = f"What is the area of the shaded triangle shown below on the grid of squares? {drawing}"
    leaks = StrictIndex.from_items([EvaluationItem("set", "1", item)], STRICT).find_leaks([
        item.replace("shaded triangle", "shaded triangle").replace("draw", "draw "),
        item.replace("(1,1)", "(2,5)"),
        f"How long is the path that a snail takes along this line? {drawing}",
    ])  # fmt: skip
    assert [[leak.kind for leak in text_leaks] for text_leaks in leaks] == [
        ["copy"],
        ["template"],
        [],
    ]


def test_a_leak_has_its_item_span_and_score() -> None:
    items = [EvaluationItem("other", "9", CHINESE), EvaluationItem("set", "37", TANK)]
    leak = StrictIndex.from_items(items, STRICT).find_leaks([f"Think first. {TANK}"])[0][0]
    assert (leak.item.benchmark, leak.item.id, leak.score, leak.item_coverage) == (
        "set",
        "37",
        1.0,
        1.0,
    )
    assert leak.text_coverage < 1 and leak.span.startswith(
        "a tank holds 120 litres a pump fills it at 8"
    )


def test_leaks_depend_neither_on_batches_nor_on_other_texts(monkeypatch) -> None:
    monkeypatch.setattr(contamination, "BATCH_TEXTS", 5)
    items = [EvaluationItem("set", str(i), TANK.replace("120", str(100 + i))) for i in range(300)]
    texts = [items[7].text, CHINESE, items[250].text, "Compute 3."]
    index = StrictIndex.from_items(items, STRICT)
    together = index.find_leaks(texts * 6)
    alone = [index.find_leaks([text])[0] for text in texts]
    assert together == alone * 6
    assert [leak.item.id for leak in alone[0] if leak.kind == "copy"] == ["7"]


def test_a_chain_leaks_if_it_contains_a_problem_not_if_it_resembles_one() -> None:
    filler = " ".join(
        random.Random(0).choices(
            ["so", "we", "add", "the", "two", "and", "check", "it", "again"], k=900
        )
    )
    items = [EvaluationItem("set", "1", TANK), EvaluationItem("set", "2", "Compute 17 + 25.")]
    chains = [f"{filler} I recall: {TANK} {filler}", f"{filler} compute 17 + 25 {filler}", filler]
    leaks = find_leaks_in_chains(chains, items, STRICT)
    assert [[leak.item.id for leak in text_leaks] for text_leaks in leaks] == [["1"], [], []]


def test_s1_drops_a_template_that_strict_keeps() -> None:
    items = [EvaluationItem("set", "1", TANK)]
    template = TANK.replace("120", "90").replace(" 8 ", " 7 ")
    by_ngram = find_leaks([template], items, ContaminationConfig(preset="s1"))
    assert by_ngram[0][0].kind == "run" and len(by_ngram[0][0].span.split()) == 8
    assert find_leaks([template], items, STRICT)[0][0].kind == "template"
