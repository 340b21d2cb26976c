r"""Sentences in which a model may state an answer, made of a reference answer to test it.

A reference answer that is compared with itself is always right. Read out of a sentence, "Answer: B"
is B, which does not equal the reference answer: no response could be right.
"""

from __future__ import annotations

from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.grading.extract import extract
from slowthink.grading.keys import read_key
from slowthink.grading.sentences import is_verbal

KEY_SENTENCES = (r"\boxed{%s}", "The final answer is %s.")


def is_refused(key: str) -> bool:
    """Whether the rules call what is read out of a sentence of KEY_SENTENCES another answer."""
    gold = read_key(key)
    if gold is None:
        return True
    for sentence in KEY_SENTENCES:
        answer = extract(sentence % gold, whole_line=is_verbal(gold))
        if answer is None or compare(gold, answer, context=AnswerContext()).equal is False:
            return True
    return False
