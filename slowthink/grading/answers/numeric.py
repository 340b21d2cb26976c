r"""Values of expressions, exact if possible, and comparison of numbers with tolerance.

Expressions with symbols are equal if they agree to nine digits at all sample points. Example:
`agree(parse(r"\tan^2 y+1"), parse(r"\sec^2 y"))` is True.
"""

from __future__ import annotations

import cmath
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from slowthink.grading.answers.nodes import LimitExceeded, Node, ParseError, operations, symbols

MAX_BITS = 50_000
"""Integers with more bits are not computed."""
NUM_POINTS = 3
"""Sample points at which two expressions are compared."""
PRECISION = 1e-9
"""Relative difference of two floats that is ignored."""
ROUNDING_TOLERANCE = 1e-4
"""Largest relative error of a rounded decimal with fewer digits than `MIN_DIGITS`."""
MIN_DIGITS = 4
"""Significant digits from which a correctly rounded decimal is accepted for the exact number."""

Number = Any
"""Fraction, float or complex."""

_DECIMAL = re.compile(r"^[-+]?(?:(?P<whole>\d*)\.(?P<places>\d+)|(?P<integer>\d+))$")
_SCIENTIFIC = re.compile(
    r"^([-+]?(?:\d+(?:\.\d+)?|\.\d+))\s*(?:(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{?\s*([-+]?\d{1,5})\s*\}?"
    r"|[eE]([-+]?\d{1,4}))$"
)
_SIGN_SENSITIVE_OPERATIONS = frozenset(("abs", "max", "min", "floor", "ceil", "sgn"))


@dataclass(frozen=True, slots=True)
class DecimalLiteral:
    """A number written as a decimal, with the value of its last place."""

    value: Fraction
    last_place: Fraction
    num_digits: int
    """Significant digits."""


def parse_decimal(text: str) -> DecimalLiteral | None:
    """Return a decimal or scientific literal; None for other texts, including plain integers."""
    text = text.replace(" ", "")
    scientific = _SCIENTIFIC.match(text)
    mantissa, exponent = text, 0
    if scientific:
        mantissa = scientific.group(1)
        exponent = int(scientific.group(2) or scientific.group(3))
    match = _DECIMAL.match(mantissa)
    if not match or not (scientific or match["places"]) or len(mantissa) > 400:
        return None
    digits = (match["whole"] or "") + (match["places"] or "") + (match["integer"] or "")
    value = Fraction(mantissa) * Fraction(10) ** exponent
    last_place = Fraction(10) ** (exponent - len(match["places"] or ""))
    return DecimalLiteral(value, last_place, len(digits.lstrip("0")))


def has_long_decimal(text: str) -> bool:
    """Whether an expression contains a decimal that may be a rounded root or constant."""
    return re.search(r"\.\d{3,}", text) is not None


def evaluate(node: Node, env: Mapping[str, float] | None = None) -> Number:
    """Return the value of an expression: a Fraction if exact. `env` has the values of its symbols.

    Raises ParseError if it has no value, LimitExceeded if it is too large to compute.
    """
    try:
        return _evaluate(node, env or {})
    except OverflowError as error:
        raise LimitExceeded("too large a number") from error
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParseError(f"no value: {type(error).__name__}") from error


def _evaluate(node: Node, env: Mapping[str, float]) -> Number:
    if node.op == "num":
        return node.value
    if node.op == "sym":
        return env[node.name]
    if node.op in _CONSTANTS:
        return _CONSTANTS[node.op]
    return _OPERATIONS[node.op](*[_evaluate(arg, env) for arg in node.args])


def _check_size(value: Number) -> Number:
    if isinstance(value, Fraction) and _num_bits(value) > MAX_BITS:
        raise OverflowError
    return value


def _num_bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _to_float(value: Number) -> Number:
    return value if isinstance(value, complex) else float(value)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            if _num_bits(base) * abs(exponent.numerator) > MAX_BITS:
                raise OverflowError
            return base**exponent.numerator
        if base >= 0:
            return _rational_power(base, exponent)
    value = complex(_to_float(base)) ** _to_float(exponent)
    return value.real if abs(value.imag) <= 1e-13 * abs(value.real) else value


def _rational_power(base: Fraction, exponent: Fraction) -> Number:
    """Return base ^ (p/q), exact if base is a perfect q-th power."""
    degree = exponent.denominator
    parts = [base.numerator, base.denominator]
    roots = [math.isqrt(p) if degree == 2 else round(math.pow(p, 1.0 / degree)) for p in parts]
    if degree < 64 and [root**degree for root in roots] == parts:
        return _power(Fraction(*roots), Fraction(exponent.numerator))
    return float(base) ** float(exponent)


def _root(value: Number, degree: Number) -> Number:
    """Return the root; of a negative number the real one if the degree is odd."""
    if isinstance(value, Fraction) and value < 0 and degree == int(degree) and int(degree) % 2:
        return -_power(-value, Fraction(1) / degree)
    return _power(value, Fraction(1) / degree if isinstance(degree, Fraction) else 1.0 / degree)


def _factorial(value: Number) -> Number:
    if isinstance(value, Fraction) and value.denominator == 1:
        if not 0 <= value <= 3000:
            raise OverflowError
        return Fraction(math.factorial(int(value)))
    return math.gamma(float(value) + 1)


def _double_factorial(value: Number) -> Number:
    if not (isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= 3000):
        raise ValueError
    return Fraction(math.prod(range(int(value), 0, -2)))


def _binom(n: Number, k: Number) -> Number:
    if all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= 20_000 for v in (n, k)):
        return Fraction(math.comb(int(n), int(k)))
    n, k = float(n), float(k)
    return math.gamma(n + 1) / math.gamma(k + 1) / math.gamma(n - k + 1)


def _log(value: Number) -> Number:
    if isinstance(value, complex) or value < 0:
        return cmath.log(value)
    if isinstance(value, Fraction):
        return math.log(value.numerator) - math.log(value.denominator)
    return math.log(value)


def _complex_function(name: str) -> Any:
    """Return the function of `cmath` with this name; a result that is nearly real becomes real."""

    def function(value: Number) -> Number:
        y = getattr(cmath, name)(complex(_to_float(value)))
        return y.real if abs(y.imag) <= 1e-13 * max(1.0, abs(y.real)) else y

    return function


def _require_integer(value: Number) -> int:
    if value != int(value):
        raise ValueError
    return int(value)


def _require_real(value: Number) -> Number:
    if isinstance(value, complex):
        raise ValueError
    return value


_SIN, _COS, _TAN = (_complex_function(name) for name in ("sin", "cos", "tan"))
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "i": 1j, "inf": math.inf}
_OPERATIONS: dict[str, Any] = {
    "add": lambda a, b: _check_size(a + b),
    "sub": lambda a, b: _check_size(a - b),
    "mul": lambda a, b: _check_size(a * b),
    "div": lambda a, b: _check_size(a / b),
    "neg": lambda a: -a,
    "pow": _power,
    "sqrt": lambda a: _power(a, Fraction(1, 2)),
    "root": _root,
    "factorial": _factorial,
    "factorial2": _double_factorial,
    "binom": _binom,
    "abs": abs,
    "floor": lambda a: Fraction(math.floor(_require_real(a))),
    "ceil": lambda a: Fraction(math.ceil(_require_real(a))),
    "max": lambda *a: max(map(_require_real, a)),
    "min": lambda *a: min(map(_require_real, a)),
    "sgn": lambda a: Fraction((_require_real(a) > 0) - (a < 0)),
    "exp": lambda a: cmath.exp(a) if isinstance(a, complex) else math.exp(a),
    "ln": _log,
    "log": _log,
    "lg": lambda a: _log(a) / math.log(10),
    "sin": _SIN,
    "cos": _COS,
    "tan": _TAN,
    "cot": lambda a: 1 / _TAN(a),
    "sec": lambda a: 1 / _COS(a),
    "csc": lambda a: 1 / _SIN(a),
    **{name: _complex_function(name) for name in ("sinh", "cosh", "tanh")},
    **{
        name: _complex_function("a" + short)
        for short in ("sin", "cos", "tan")
        for name in ("arc" + short, "a" + short)
    },
    "arccot": lambda a: math.pi / 2 - math.atan(a),
    "mod": lambda a, b: _require_real(a) % _require_real(b),
    "gcd": lambda *a: Fraction(math.gcd(*map(_require_integer, a))),
    "lcm": lambda *a: Fraction(math.lcm(*map(_require_integer, a))),
}


def evaluate_reference(node: Node, env: Mapping[str, float] | None = None) -> Number:
    """Return the value of a reference answer. Too large a value raises ParseError (undecided)."""
    try:
        return evaluate(node, env)
    except LimitExceeded as error:
        raise ParseError(str(error)) from error


# --- comparison -----------------------------------------------------------------------------------


def sample_points(names: frozenset[str], *, negative: bool) -> list[dict[str, float]]:
    """Return values in [0.3, 2.7) for the symbols; they depend on the symbol's name only.

    With `negative`, the first two points are repeated with opposite signs.
    """
    points = [
        {name: 0.3 + 2.4 * (zlib.crc32(f"{name}/{k}".encode()) / 2**32) for name in names}
        for k in range(NUM_POINTS)
    ]
    mirrored = [{name: -value for name, value in point.items()} for point in points[:2]]
    return points + mirrored if negative else points


def _points_for_both(gold: Node, pred: Node) -> list[dict[str, float]]:
    used = operations(gold) | operations(pred)
    is_sign_sensitive = bool(used & _SIGN_SENSITIVE_OPERATIONS)
    points = sample_points(symbols(gold) | symbols(pred), negative=is_sign_sensitive)
    if "mod" in used:  # a small number is its own remainder
        points += [{name: float(round(40 * at)) for name, at in p.items()} for p in points]
    return points


def is_near(a: Number, b: Number, *, relative: float = PRECISION) -> bool:
    """Whether two values differ by at most `relative`; at its default, Fractions must be equal."""
    if isinstance(a, Fraction) and isinstance(b, Fraction) and relative <= PRECISION:
        return a == b
    a, b = _to_float(a), _to_float(b)
    if a == b:
        return True
    magnitude = max(abs(a), abs(b))
    if not math.isfinite(magnitude):
        return False
    return bool(abs(a - b) <= relative * magnitude or (magnitude < 1e-13 and 0 in (a, b)))


def agree(gold: Node, pred: Node, *, relative: float = PRECISION) -> bool:
    """Whether two expressions have equal values at all sample points. Raises ParseError."""
    return all(
        is_near(evaluate_reference(gold, env), evaluate(pred, env), relative=relative)
        for env in _points_for_both(gold, pred)
    )


def constant_ratio(gold: Node, pred: Node) -> Number | None:
    """Return c if gold = c * pred at all sample points for a constant c other than 0, else None."""
    ratios = []
    for env in _points_for_both(gold, pred):
        denominator = evaluate(pred, env)
        if abs(denominator) < 1e-12:
            return None
        ratios.append(evaluate(gold, env) / denominator)
    ratio, *others = ratios
    is_constant = abs(ratio) > 1e-12 and all(is_near(r, ratio, relative=1e-8) for r in others)
    return ratio if is_constant else None


def is_only_root(node: Node, name: str, root: Number, env: Mapping[str, float]) -> bool:
    """Whether an expression is linear in symbol `name`, with `root` as its only zero."""
    values = [_to_float(evaluate(node, {**env, name: root + shift})) for shift in (0, 1, 2)]
    steps = (values[1] - values[0], values[2] - values[1])
    is_root = abs(values[0]) <= 1e-8 * max(map(abs, values))
    return bool(is_root and abs(steps[0]) > 1e-8 and is_near(*steps, relative=1e-7))


def components(node: Node, names: Sequence[str]) -> list[Number] | None:
    """Return the factors of the unit vectors i, j and k in a sum; None if it is not one."""
    tree = _with_symbol(node, "i")
    zero = dict.fromkeys(("i", "j", "k"), Fraction(0))
    units = [{**zero, name: Fraction(1)} for name in names]
    found = [evaluate(tree, env) for env in units]  # type: ignore[arg-type]
    everywhere = evaluate(tree, dict.fromkeys(("i", "j", "k"), Fraction(1)))  # type: ignore[arg-type]
    is_linear = evaluate(tree, zero) == 0 and is_near(sum(found), everywhere)  # type: ignore[arg-type]
    return found if is_linear else None


def _with_symbol(node: Node, constant: str) -> Node:
    if node.op == constant:
        return Node("sym", name=constant)
    return node._replace(args=tuple(_with_symbol(arg, constant) for arg in node.args))


def is_additive(node: Node, name: str) -> bool:
    """Whether a symbol is only added to the rest of an expression, as C is in x^2 + C."""
    points = sample_points(symbols(node), negative=False)
    shifted = [{**point, name: point[name] + 1} for point in points]
    return all(
        is_near(evaluate(node, b) - evaluate(node, a), 1.0)
        for a, b in zip(points, shifted, strict=True)
    )


def equal_constants(
    gold: Number,
    pred: Number,
    *,
    gold_decimal: DecimalLiteral | None,
    pred_decimal: DecimalLiteral | None,
    tolerance: float | None = None,
    is_rounded: bool = False,
) -> bool:
    """Whether two numbers are equal, with the tolerance that their decimals allow.

    Integers must be equal. A decimal may differ from the reference answer by half of the last place
    of the coarser decimal, if this decimal has four digits or the relative difference is at most
    1e-4. If the question asks for a rounded number (`is_rounded`), two digits of the reference
    answer are enough.
    """
    if is_near(gold, pred):
        return True
    if isinstance(gold, complex) or isinstance(pred, complex):
        return False
    difference, magnitude = abs(pred - gold), abs(gold)
    if tolerance is not None and difference <= tolerance * magnitude:
        return True
    if gold_decimal is None and pred_decimal is None:
        return False
    if gold_decimal is None and _has_short_decimal(gold):
        return False
    coarser = max(filter(None, (gold_decimal, pred_decimal)), key=lambda d: d.last_place)
    if difference > coarser.last_place * Fraction(50_001, 100_000):
        return False
    min_digits = 2 if is_rounded and coarser is gold_decimal else MIN_DIGITS
    return bool(coarser.num_digits >= min_digits or difference <= ROUNDING_TOLERANCE * magnitude)


def _has_short_decimal(value: Number) -> bool:
    """Whether a number is exactly a decimal of at most six places, which nobody needs to round."""
    return isinstance(value, Fraction) and (value * 10**6).denominator == 1
