"""Alpha and kappa against examples computed by hand, and against brute force."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest

from slowthink.analysis.agreement import krippendorff_alpha, quadratic_kappa

KRIPPENDORFF = (
    "1 1 - 1", "2 2 3 2", "3 3 3 3", "3 3 3 3", "2 2 2 2", "1 2 3 4", "4 4 4 4", "1 1 2 1",
    "2 2 2 2", "- 5 5 5", "- - 1 1", "- - 3 -",
)  # fmt: skip
"""The example of Krippendorff (2011): 12 units, 4 observers."""


def test_alpha_of_the_published_example() -> None:
    units = [[int(value) for value in row.split() if value != "-"] for row in KRIPPENDORFF]
    assert krippendorff_alpha(units) == pytest.approx(0.815, abs=0.0005)


def test_alpha_by_hand() -> None:
    # Values 1, 1, 2, 3 in two units (1, 2), (1, 3). n_1 = 2, n_2 = n_3 = 1; middles 1, 2.5, 3.5.
    # D_o: pairs (1,2), (1,3) twice each: 2 * 1.5^2 + 2 * 2.5^2 = 17.
    # D_e: 2 (2 * 1.5^2 + 2 * 2.5^2 + 1 * 1^2) / 3 = 36 / 3 = 12. alpha = 1 - 17 / 12.
    assert krippendorff_alpha([(1, 2), (1, 3)]) == pytest.approx(float(1 - Fraction(17, 12)))
    assert krippendorff_alpha([(1, 1), (5, 5)]) == 1.0


@pytest.mark.parametrize(
    "units", [[], [(1,), (2,)], [(3, 3), (3, 3)]], ids=["none", "one each", "equal"]
)
def test_alpha_is_none_without_variation(units) -> None:
    assert krippendorff_alpha(units) is None


def test_kappa_by_hand() -> None:
    # Differences 0, 1, 1, 2: mean square 6/4. All pairs of (1,2,3,5) and (1,3,2,3):
    # squares from 1: 0,4,1,4; from 2: 1,1,0,1; from 3: 4,0,1,0; from 5: 16,4,9,4; sum 50 of 16.
    assert quadratic_kappa([1, 2, 3, 5], [1, 3, 2, 3]) == pytest.approx(1 - (6 / 4) / (50 / 16))
    assert quadratic_kappa([1, 2], [2, 1]) == pytest.approx(-1.0)
    assert quadratic_kappa([2, 2], [2, 2]) is None and quadratic_kappa([], []) is None
    with pytest.raises(ValueError, match="1 and 2 ratings"):
        quadratic_kappa([1], [1, 2])


def brute_alpha(units) -> float:
    """The definition, pair by pair."""
    rated = [unit for unit in units if len(unit) > 1]
    values = [value for unit in rated for value in unit]
    n = {value: values.count(value) for value in set(values)}

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        return (sum(n[g] for g in n if low <= g <= high) - (n[a] + n[b]) / 2) ** 2

    observed = sum(
        distance(a, b) / (len(unit) - 1)
        for unit in rated
        for a, b in itertools.permutations(unit, 2)
    )
    expected = sum(distance(a, b) for a, b in itertools.permutations(values, 2))
    return 1 - observed / (expected / (len(values) - 1))


def test_alpha_and_kappa_by_their_definitions() -> None:
    """The second reader is off by one in every third chain: alpha and kappa by the definitions."""
    rng = random.Random(7)
    truth = [1 + number % 5 for number in range(50)]
    other = [
        level if number % 3 else min(5, max(1, level + rng.choice((-1, 1))))
        for number, level in enumerate(truth)
    ]
    units = list(zip(truth, other, strict=True))
    assert sum(a != b for a, b in units) >= 10
    assert krippendorff_alpha(units) == pytest.approx(brute_alpha(units))
    between = [(a - b) ** 2 for a in truth for b in other]
    within = [(a - b) ** 2 for a, b in units]
    kappa = 1 - (sum(within) / 50) / (sum(between) / 2500)
    assert quadratic_kappa(truth, other) == pytest.approx(kappa)
    more = [(*unit, rng.randint(1, 5)) for unit in units[:20]] + [(3,)]
    assert krippendorff_alpha(more) == pytest.approx(brute_alpha(more))
