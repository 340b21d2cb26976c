"""Words that make another question, and words that do not: inserted, replaced, on the answer's form."""

from __future__ import annotations

import pytest

from slowthink.curation.overlap.boilerplate import strip_answer_form, strip_boilerplate
from slowthink.curation.overlap.content import asks_the_same, is_same_word, same_words

COUNT = "In how many ways can {}5 {}letters be put into the 3 {}boxes{} so that no box is empty"
POINT = "求满足条件的{}整数点的个数，其中点在圆 x^2+y^2=25 的{}内部{}"
ANGLE = "Soit ABC un triangle {}d'aire 12 et de base 6. Calculer la hauteur {}de ce triangle."
OTHER_WORDS = {
    "distinct": (COUNT.format("", "", "", ""), COUNT.format("", "distinct ", "", "")),
    "labelled": (COUNT.format("", "", "", ""), COUNT.format("", "", "labelled ", "")),
    "at most": (COUNT.format("", "", "", ""), COUNT.format("at most ", "", "", "")),
    "with repetition": (
        COUNT.format("", "", "", ""),
        COUNT.format("", "", "", ", with repetition"),
    ),
    "or": ("How many n are divisible by 3 and 5", "How many n are divisible by 3 or 5"),
    "to": ("The price is raised by 20 euros", "The price is raised to 20 euros"),
    "swapped": ("How many more boys than girls sing", "How many more girls than boys sing"),
    "each": ("The boys get 5 nuts", "The boys get 5 nuts each"),
    "polygons": ("Draw a heptagon with side 2", "Draw a hexagon with side 2"),
    "colours": ("The sum of squares of x and y", "The sum squared of x and y"),
    "正": (POINT.format("", "", ""), POINT.format("正", "", "")),
    "不同": (POINT.format("", "", ""), POINT.format("不同的", "", "")),
    "不在": (POINT.format("", "", ""), POINT.format("", "", "，但不在坐标轴上")),
    "midpoint zh": ("线段 AB 的点 P 在圆上", "线段 AB 的中点 P 在圆上"),
    "rectangle": (ANGLE.format("", ""), ANGLE.format("rectangle ", "")),
    "plus longue": (ANGLE.format("", ""), ANGLE.format("", "la plus longue ")),
}
SAME_WORDS = {
    "article": ("Find the roots of x + 1", "Find roots of the x + 1."),
    "instruction": ("Determine the roots of $x+1$", "Please find the roots of x+1"),
    "typo": ("The perpendicular bisector of AB", "The perpendiclar bisectors of AB"),
    "swapped letters": ("The perpendicular bisector", "The perpendciular bisector"),
    "spelling": ("Put 5 coloured marbles in 3 boxes", "Put 5 colored marbles in 3 boxes"),
    "dots": (r"Add $1, 2, \ldots, 9$", r"Add $1,2,\cdots,9$"),
    "degrees": (r"Turn it by $30^\circ$", "Turn it by 30 degrees"),
    "spaces": ("Let $AB = a b$", "Let A B = ab"),
    "zh": ("请计算三角形ABC的面积", "求三角形 $ABC$ 的面积。"),
    "zh given": ("已知 a=3，求 a+4 的值", "设a=3，计算a+4"),
    "fr": ("Calculer l'aire du carré", "Calculer l’aire du carré."),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), OTHER_WORDS.values(), ids=OTHER_WORDS)
def test_an_inserted_or_replaced_word_asks_something_else(first: str, second: str) -> None:
    assert not same_words(first, second) and not same_words(second, first)


@pytest.mark.parametrize(("first", "second"), SAME_WORDS.values(), ids=SAME_WORDS)
def test_articles_instructions_typing_errors_and_typesetting_are_harmless(
    first: str, second: str
) -> None:
    assert same_words(first, second) and same_words(second, first)


def test_a_typing_error_is_one_letter_of_a_long_word() -> None:
    pairs = [("divides", "divids"), ("labelled", "labeled"), ("balls", "ball"), ("minimum", "minimal"),
             ("decagon", "dodecagon"), ("while", "white"), ("millimeter", "milliliter")]  # fmt: skip
    assert [is_same_word(*pair) for pair in pairs] == [True] * 3 + [False] * 4


BOX = r"Please reason step by step, and put your final answer within \boxed{}."
ABOUT_THE_ANSWER = {
    "box": BOX,
    "form": "Express your answer as a common fraction in lowest terms.",
    "letter": "Enter the letter of the correct option.",
    "choose": "Choose the correct answer from the options below.",
    "last line": "The last line of your response should be of the form Answer: $ANSWER (without quotes).",
    "own line": 'Remember to put your answer on its own line after "Answer:".',
    "step": "Let's think step by step.",
    "following": "Solve the following math problem step by step:",
    "work": "Show all your work.",
    "number": "Give only a number.",
    "zh box": r"请逐步推理，并将最终答案放在 \boxed{} 中。",
    "zh write": "请把答案写在横线上。",
    "zh process": "请写出详细的解题过程。",
    "zh options": "在每小题给出的四个选项中，只有一项是符合题目要求的。",
    "fr": "Donnez votre réponse sous forme de fraction irréductible.",
    "es": r"Razona paso a paso y escribe tu respuesta en \boxed{}.",
    "de": "Geben Sie die Antwort als Bruch an.",
    "ru": "Запишите ответ в виде десятичной дроби.",
}  # fmt: skip
QUESTIONS = (
    "Express y in terms of x.", "State whether the answer is even.", "Give an integer n with n > 3.",
    "How many steps are there if each step is 12 cm high?", "Choose two of the five options A to E.",
    "求答案的个位数字。", "He puts 5 of 10 answers in a box. How many answers are left?",
    "Write 3/4 as a decimal.", "一步走 3 米，几步走完 30 米？",
)  # fmt: skip


@pytest.mark.parametrize("sentence", ABOUT_THE_ANSWER.values(), ids=ABOUT_THE_ANSWER)
def test_what_is_said_of_the_answers_form_is_no_part_of_the_question(sentence: str) -> None:
    for text in (f"{sentence}\nCompute 17 + 25.", f"Compute 17 + 25. {sentence}"):
        assert "".join(strip_boilerplate(text).split()).strip('".') == "Compute17+25"


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_that_mentions_answers_or_steps_is_kept(question: str) -> None:
    assert strip_boilerplate(question) == question
    assert strip_boilerplate(f"Let x = 2. {question}") == f"Let x = 2. {question}"


def test_tags_are_no_words_and_a_text_of_boilerplate_alone_is_kept() -> None:
    assert strip_boilerplate("<p>Find <b>x</b></p>").split() == ["Find", "x"]
    assert strip_boilerplate("[b](i)[/b] Find x").split() == ["(i)", "Find", "x"]
    assert strip_boilerplate(BOX) == BOX
    base = "Find 5 + 6. Express your answer in base 2."
    assert strip_boilerplate(base).split() == ["Find", "5", "+", "6."]
    assert strip_boilerplate(base, keep_numbers=True) == base


def test_the_form_of_aime_answers_leaves_the_quantity() -> None:
    text = (r"The area of $ABC$ can be written as $\frac{m}{n}$, where $m$ and $n$ are relatively prime "
            "positive integers. Find $m+n$. Note that AB = 3.")  # fmt: skip
    assert strip_answer_form(text).split() == [
        "The",
        "area",
        "of",
        "$ABC$",
        ".",
        "Note",
        "that",
        "AB",
        "=",
        "3.",
    ]


FIELD = ("A rectangular garden is 36 m long and 24 m wide. A fence with posts 4 m apart runs along "
         "its border. ")  # fmt: skip
SEATS = "Five men and four women sit in a row of 9 seats. In how many ways can they sit{}?"
OTHER_QUESTIONS = {
    "area": (FIELD + "What is its perimeter?", FIELD + "What is its area?"),
    "posts": (FIELD + "How many posts are there?", FIELD + "How long is the fence?"),
    "mean": ("The numbers are 3, 5, 5, 9, 13. Find their mean.",
             "The numbers are 3, 5, 5, 9, 13. Find their median."),
    "no two": (SEATS.format(" if no two women are adjacent"),
               SEATS.format(" if at least two women are adjacent")),
    "condition": (SEATS.format(""), SEATS.format(" if no two women are adjacent")),
    "negated": ("How many divisors of 360 are multiples of 4 and not multiples of 9?",
                "How many divisors of 360 are multiples of 4 and not perfect squares?"),
    "extremum": ("For real x with 0 < x < 5, find the largest value of x(5 - x).",
                 "For real x with 0 < x < 5, find the smallest value of x(5 - x)."),
    "argument": ("Decide by a truth table whether the following argument is valid. If P then Q; P; so Q.",
                 "Decide by a truth table whether the following argument is valid. R or S; not R; so S."),
    "data before": ("No two of the 7 lines are parallel. How many points are there at which they meet?",
                    "At least two of the 7 lines are parallel. How many points are there at which "
                    "they meet?"),
    "zh extremum": ("已知 x>0，y>0，x+2y=4，求 xy 的最大值。", "已知 x>0，y>0，x+2y=4，求 xy 的最小值。"),
    "zh quantity": ("一个圆锥的底面半径为3，高为4，求它的体积。", "一个圆锥的底面半径为3，高为4，求它的侧面积。"),
    "zh at least": ("从5名男生和4名女生中选3人，求没有女生的概率。",
                    "从5名男生和4名女生中选3人，求至少有一名女生的概率。"),
    "fr": ("Un rectangle mesure 12 m sur 5 m. Quelle est son aire ?",
           "Un rectangle mesure 12 m sur 5 m. Quel est son périmètre ?"),
    "ru": ("Даны числа 2, 4, 4, 10. Найдите их среднее.", "Даны числа 2, 4, 4, 10. Найдите их медиану."),
}  # fmt: skip
SAME_QUESTION = {
    "prefix": (FIELD + "What is its area?", "Question 7. " + FIELD + "What is its area?"),
    "line breaks": (FIELD + "What is its area?", FIELD.replace(". ", ".\n") + "Find its area"),
    "embedded": (SEATS.format(""), "Warm-up: " + SEATS.format("") + " Then explain why."),
    "clauses": ("Given that $x = 3$, find $x^2$.", "Suppose x=3. Determine the value of x^2"),
    "replaced noun": ("A tank holds 120 litres and a pump fills it in 8 minutes. How much is that a "
                      "minute?", "A tank holds 120 litres and a hose fills it in 8 minutes. How much is "
                      "that a minute?"),
    "formula apart": ("Find the value of\n\n$$S = 1 + 2 + 3$$", "Find the value of $S=1+2+3$."),
    "formula letters": (r"Let $y = ax + b$. Find $a\cdot b$.", "Let $y = a x + b$. Find $ab$."),
    "word order": ("How many ordered pairs (x, y) of integers are there?",
                   "How many ordered pairs of integers (x, y) are there?"),
    "zh punctuation": ("已知 x>0，y>0，求 xy 的最大值。", "已知x>0,y>0,\n求xy的最大值"),
    "fr": ("Un rectangle mesure 12 m. Quelle est son aire ?", "Un rectangle mesure 12 m. Quelle est son aire?"),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), OTHER_QUESTIONS.values(), ids=OTHER_QUESTIONS)
def test_another_question_about_the_same_data_is_another_problem(first: str, second: str) -> None:
    assert not asks_the_same(first, second) and not asks_the_same(second, first)


@pytest.mark.parametrize(("inner", "outer"), SAME_QUESTION.values(), ids=SAME_QUESTION)
def test_a_copy_that_is_embedded_or_typeset_otherwise_asks_the_same(inner: str, outer: str) -> None:
    assert asks_the_same(inner, outer)
