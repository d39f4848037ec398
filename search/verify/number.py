"""Numbers as a text shows them: how many decimals, and whether two may be the same number rounded."""

from collections.abc import Sequence
from statistics import pstdev, stdev
from typing import Self

LARGEST_UNIT = 1e-3  # a score is told apart from others only with three decimals or more
LARGEST_DEVIATION_UNIT = 1e-4  # seeds differ by 1e-4 to 1e-3
SCORE_UNIT = 1e-8  # of the exact score lines of logs
ROUNDING = 1e-12  # of float arithmetic on numbers near 1


class Shown(float):
    """A number of a text, and how many decimals it shows there."""

    __slots__ = ("decimals",)
    decimals: int

    def __new__(cls, text: str) -> Self:
        """Parse the text of a number, such as 1.0810 or 3e-4."""
        number = super().__new__(cls, text)
        mantissa, _, exponent = text.lower().partition("e")
        number.decimals = max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))
        return number


def unit(value: float) -> float:
    """One in the last place that a number shows; a float made by arithmetic shows all its digits."""
    if isinstance(value, Shown):
        return 10.0**-value.decimals
    return 1.0 if isinstance(value, int) else ROUNDING


def agrees(claimed: float, expected: float) -> bool:
    """Whether one number is the other rounded to the digits shown."""
    tolerance = min(max(unit(claimed), unit(expected)), LARGEST_UNIT) / 2
    return abs(claimed - expected) <= tolerance + ROUNDING


def agrees_with_mean(claimed: float, expected: float) -> bool:
    """Whether a number is a mean of rounded terms, itself rounded: one off in the last place at most."""
    tolerance = min(max(unit(claimed), SCORE_UNIT), LARGEST_UNIT)
    return abs(claimed - expected) <= tolerance + ROUNDING


def agrees_with_deviation(claimed: float, expected: float) -> bool:
    """Whether a number is a deviation rounded to the digits shown, of which at least four decimals count."""
    tolerance = min(max(unit(claimed) / 2, SCORE_UNIT), LARGEST_DEVIATION_UNIT)
    return abs(claimed - expected) <= tolerance + ROUNDING


def deviations(terms: Sequence[float]) -> tuple[float, ...]:
    """The deviations that a submission may mean: of a sample, and of a population; none of a single term."""
    return () if len(terms) < 2 else (stdev(terms), pstdev(terms))
