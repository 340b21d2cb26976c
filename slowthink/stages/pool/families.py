"""Families of sandbox problems: each draws parameters, phrases the question and solves it.

Difficulty starts at 1 and adds steps. Every step is small (copy two operands, one operation), so
that a model with one token per digit can learn it. A new family is one entry in `FAMILIES`:

    sums, difficulty 2:  parameters (17, ('+', 5), ('-', 8), ('+', 6))
    What is 17 + 5 - 8 + 6?    17 + 5 = 22. 22 - 8 = 14. 14 + 6 = 20. So 20.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slowthink.stages.pool.scratchpad import ImpossibleSlip, Scratchpad

Parameters = Any
"""Nested tuples of the numbers and words that determine the answer."""


@dataclass(frozen=True)
class Family:
    """One kind of problem."""

    domain: str
    draw: Callable[[random.Random, int], Parameters]
    """Draws parameters at a difficulty."""
    phrase: Callable[[Parameters, random.Random], str]
    """Returns the question; the random generator chooses the wording."""
    solve: Callable[[Parameters, Scratchpad], str]
    """Writes the steps on the scratchpad and returns the answer."""


# --- sums: 17 + 5 - 8 + 6 -------------------------------------------------------------------------


def _draw_steps(rng: random.Random, *, start: int, num_steps: int, max_operand: int) -> Parameters:
    """`start`, then additions and subtractions that keep the running value in 1..99."""
    value, steps = start, []
    for _ in range(num_steps):
        operand = rng.randint(2, max_operand)
        is_addition = rng.random() < 0.5
        if value + operand > 99 or value - operand < 1:
            is_addition = value - operand < 1
        steps.append(("+" if is_addition else "-", operand))
        value += operand if is_addition else -operand
    return (start, *steps)


def _draw_sums(rng: random.Random, difficulty: int) -> Parameters:
    return _draw_steps(
        rng, start=rng.randint(10, 60), num_steps=difficulty + 1,
        max_operand=9 if difficulty <= 3 else 20,
    )  # fmt: skip


def _expression(parameters: Parameters) -> str:
    return str(parameters[0]) + "".join(f" {sign} {operand}" for sign, operand in parameters[1:])


def _phrase_sums(parameters: Parameters, rng: random.Random) -> str:
    return rng.choice(["What is {}?", "Work out {}."]).format(_expression(parameters))


def _solve_steps(parameters: Parameters, scratchpad: Scratchpad) -> str:
    value: int = parameters[0]
    for operation, operand in parameters[1:]:
        value = scratchpad.calculate(value, operation, operand)
    return str(value)


# --- mixed: ((3 + 4) * 2) - 5 ---------------------------------------------------------------------


def _draw_mixed(rng: random.Random, difficulty: int) -> Parameters:
    """Operations that keep the running value in 1..99, at least one of them a multiplication."""
    start = value = rng.randint(2, 9)
    steps: list[tuple[str, int]] = []
    product_index = rng.randrange(difficulty + 1)
    for index in range(difficulty + 1):
        operation = "*" if index == product_index else rng.choice("+-*")
        if (operation == "*" and value > 19) or (operation == "-" and value < 11):
            operation = "+" if value < 90 else "-"
        operand = rng.randint(2, 5 if operation == "*" else 9)
        steps.append((operation, operand))
        value = Scratchpad().calculate(value, operation, operand)
    return (start, *steps)


def _phrase_mixed(parameters: Parameters, rng: random.Random) -> str:
    text = str(parameters[0])
    for index, (operation, operand) in enumerate(parameters[1:]):
        text = f"({text}) {operation} {operand}" if index else f"{text} {operation} {operand}"
    return rng.choice(["What is {}?", "Work out {}."]).format(text)


# --- modular: (5 + 9 + 4) mod 7 -------------------------------------------------------------------


def _draw_modular(rng: random.Random, difficulty: int) -> Parameters:
    modulus = rng.randint(5, 12)
    return (modulus, *(rng.randint(1, modulus - 1) for _ in range(difficulty + 2)))


def _phrase_modular(parameters: Parameters, rng: random.Random) -> str:
    modulus, *terms = parameters
    return f"What is ({' + '.join(map(str, terms))}) mod {modulus}?"


def _solve_modular(parameters: Parameters, scratchpad: Scratchpad) -> str:
    """Add one term at a time and subtract the modulus as soon as it is reached."""
    modulus, value, *terms = parameters
    for term in terms:
        value = scratchpad.calculate(value, "+", term)
        while value >= modulus:
            value = scratchpad.calculate(value, "-", modulus)
    return str(value)


# --- equations: 2(3x + 5) - 4 = 30 ----------------------------------------------------------------


def _draw_equations(rng: random.Random, difficulty: int) -> Parameters:
    """The right-hand side, then the operations on x in order (times, plus or minus, times, ...)."""
    value = rng.randint(2, 12)
    steps: list[tuple[str, int]] = []
    for index in range(difficulty + 1):
        operation = "*" if index % 2 == 0 else rng.choice("+-" if value > 9 else "+")
        operand = rng.randint(2, (5 if index == 0 else 3) if operation == "*" else 9)
        steps.append((operation, operand))
        value = Scratchpad().calculate(value, operation, operand)
    return (value, *steps)


def _phrase_equations(parameters: Parameters, rng: random.Random) -> str:
    text = "x"
    for operation, operand in parameters[1:]:
        if operation == "*":
            text = f"{operand}({text})" if " " in text else f"{operand}{text}"
        else:
            text = f"{text} {operation} {operand}"
    return f"Solve {text} = {parameters[0]} for x."


def _solve_equations(parameters: Parameters, scratchpad: Scratchpad) -> str:
    """Undo the steps, last first."""
    undo = {"*": "/", "+": "-", "-": "+"}
    value: int = parameters[0]
    for operation, operand in reversed(parameters[1:]):
        value = scratchpad.calculate(value, undo[operation], operand)
    return str(value)


# --- bases: 1201 in base 3 ------------------------------------------------------------------------


def _draw_bases(rng: random.Random, difficulty: int) -> Parameters:
    bases = {1: (3, 4, 5), 2: (2, 3, 4)}.get(difficulty, (2, 3))
    base = rng.choices(bases, weights=[base ** (difficulty + 2) for base in bases])[0]
    first_digit = rng.randint(1, base - 1)
    return (base, first_digit, *(rng.randrange(base) for _ in range(difficulty + 1)))


def _phrase_bases(parameters: Parameters, rng: random.Random) -> str:
    base, *digits = parameters
    return f"Write the base {base} number {''.join(map(str, digits))} in base 10."


def _solve_bases(parameters: Parameters, scratchpad: Scratchpad) -> str:
    base, value, *digits = parameters
    for digit in digits:
        value = scratchpad.calculate(value, "*", base)
        value = scratchpad.calculate(value, "+", digit)
    return str(value)


# --- lists: the sum of the numbers above 5 --------------------------------------------------------


def _draw_lists(rng: random.Random, difficulty: int) -> Parameters:
    limit = rng.randint(2, 6)
    numbers = [rng.randint(1, 9) for _ in range(difficulty + 1)]
    numbers += [rng.randint(limit + 1, 9), rng.randint(limit + 1, 9)]
    rng.shuffle(numbers)
    return (limit, *numbers)


def _phrase_lists(parameters: Parameters, rng: random.Random) -> str:
    limit, *numbers = parameters
    return f"Add up the numbers above {limit} in this list: {', '.join(map(str, numbers))}."


def _solve_lists(parameters: Parameters, scratchpad: Scratchpad) -> str:
    limit, *numbers = parameters
    total = 0
    for number in numbers:
        if number > limit:
            total = scratchpad.calculate(total, "+", number, prefix=f"{number} yes: ")
        else:
            scratchpad.write(f"{number} no")
    return str(total)


# --- counting: how many a in b a n a n a ----------------------------------------------------------


def _draw_counting(rng: random.Random, difficulty: int) -> Parameters:
    alphabet = rng.sample("abcdefghijklmnopqrstuvwxyz", 3)
    letters = [rng.choice(alphabet) for _ in range(2 * difficulty + 3)]
    return (alphabet[0], *letters, alphabet[0])


def _phrase_counting(parameters: Parameters, rng: random.Random) -> str:
    target, *letters = parameters
    return f"How many times does {target} appear in: {' '.join(letters)}?"


def _solve_counting(parameters: Parameters, scratchpad: Scratchpad) -> str:
    """Write each letter with the count up to it."""
    target, *letters = parameters
    count = 0
    for letter in letters:
        count = scratchpad.next_value(count + (letter == target))
        scratchpad.write(f"{letter} ", count)
    return str(count)


# --- words: Ann has 12 apples ---------------------------------------------------------------------

PEOPLE = (("Ann", "She"), ("Ben", "He"), ("Mia", "She"), ("Tom", "He"), ("Eva", "She"))
OBJECTS = ("apples", "books", "cards", "coins", "pens", "shells")
GAINS = ("buys", "finds", "gets")
LOSSES = ("gives away", "loses", "sells")


def _draw_words(rng: random.Random, difficulty: int) -> Parameters:
    """`start`, then events (sign, bags, number per bag); several bags from difficulty 2."""
    start, *steps = _draw_steps(
        rng, start=rng.randint(10, 50), num_steps=difficulty + 1, max_operand=9
    )  # fmt: skip
    events: list[tuple[str, int, int]] = [(sign, 1, operand) for sign, operand in steps]
    if difficulty >= 2:
        events[-1] = ("+", rng.randint(2, 4), rng.randint(2, 6))
    return (start, *events)


def _phrase_words(parameters: Parameters, rng: random.Random) -> str:
    (name, pronoun), objects = rng.choice(PEOPLE), rng.choice(OBJECTS)
    start, *events = parameters
    sentences = [f"{name} has {start} {objects}."]
    for sign, bags, per_bag in events:
        amount = f"{bags} bags of {per_bag}" if bags > 1 else str(per_bag)
        sentences.append(f"{pronoun} {rng.choice(GAINS if sign == '+' else LOSSES)} {amount}.")
    return " ".join([*sentences, f"How many {objects} does {name} have now?"])


def _solve_words(parameters: Parameters, scratchpad: Scratchpad) -> str:
    value, *events = parameters
    for sign, bags, per_bag in events:
        amount = scratchpad.calculate(bags, "*", per_bag) if bags > 1 else per_bag
        value = scratchpad.calculate(value, sign, amount)
    return str(value)


# --- sorting: 7, 2, 9 -----------------------------------------------------------------------------


def _draw_sorting(rng: random.Random, difficulty: int) -> Parameters:
    largest = 9 if difficulty <= 4 else 99
    return tuple(rng.sample(range(1, largest + 1), difficulty + 2))


def _phrase_sorting(parameters: Parameters, rng: random.Random) -> str:
    return f"Sort from small to large: {', '.join(map(str, parameters))}."


def _solve_sorting(parameters: Parameters, scratchpad: Scratchpad) -> str:
    """Insert one number after the other into the sorted list."""
    ordered: list[int] = []
    for number in parameters:
        position = scratchpad.next_value(sum(smaller < number for smaller in ordered))
        if position > len(ordered):
            raise ImpossibleSlip
        ordered.insert(position, number)
        scratchpad.write(f"Put {number}: ", ", ".join(map(str, ordered)))
    return ", ".join(map(str, ordered))


FAMILIES: dict[str, Family] = {
    "sums": Family("addition and subtraction", _draw_sums, _phrase_sums, _solve_steps),
    "mixed": Family("mixed arithmetic", _draw_mixed, _phrase_mixed, _solve_steps),
    "modular": Family("modular arithmetic", _draw_modular, _phrase_modular, _solve_modular),
    "equations": Family("linear equations", _draw_equations, _phrase_equations, _solve_equations),
    "bases": Family("number bases", _draw_bases, _phrase_bases, _solve_bases),
    "lists": Family("lists", _draw_lists, _phrase_lists, _solve_lists),
    "counting": Family("counting", _draw_counting, _phrase_counting, _solve_counting),
    "words": Family("word problems", _draw_words, _phrase_words, _solve_words),
    "sorting": Family("sorting", _draw_sorting, _phrase_sorting, _solve_sorting),
}
