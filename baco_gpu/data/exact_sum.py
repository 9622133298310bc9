"""Sums of floats that do not depend on their order, nor on how they are divided: exact ones, rounded once."""

from __future__ import annotations

import math

import numpy as np

_LEAST = -1073  # the exponent of the smallest float64, as frexp has it
_BINS = 1024 - _LEAST + 1
_BITS, _LOW = 53, 26  # of a mantissa, and of its lower half
_PIECE = 1 << 22  # entries at once: sums of their halves stay below 2**53, which float64 holds


class ExactSum:
    """The sum of non-negative float64 numbers.

    Attributes
    ----------
    bins : int64 array of shape (2, 2098)
        The summed upper and lower halves of the mantissas, by exponent. Those of the parts of an array add up to the
        whole's. Good for 2**36 numbers.
    """

    def __init__(self, bins: np.ndarray) -> None:
        self.bins = bins

    @classmethod
    def of(cls, values: np.ndarray) -> ExactSum:
        """The sum of a float64 array of shape (n,), finite and non-negative."""
        bins = np.zeros((2, _BINS), dtype=np.int64)
        for start in range(0, len(values), _PIECE):
            fractions, exponents = np.frexp(values[start : start + _PIECE])
            mantissas = np.ldexp(fractions, _BITS).astype(np.int64)
            places = exponents - _LEAST
            for half, part in zip(bins, (mantissas >> _LOW, mantissas & ((1 << _LOW) - 1)), strict=True):
                half += np.bincount(places, weights=part, minlength=_BINS).astype(np.int64)
        return cls(bins)

    @property
    def exponent(self) -> int:
        """The e of 2**(e - 1) <= sum < 2**e; 0 for a sum of zero."""
        units = self._units()
        return units.bit_length() + _LEAST - _BITS if units else 0

    def __float__(self) -> float:
        """The sum, correctly rounded; infinity beyond what float64 holds."""
        try:
            return self._units() / (1 << (_BITS - _LEAST))
        except OverflowError:
            return math.inf

    def _units(self) -> int:
        """The sum in units of 2**(-1073 - 53)."""
        upper, lower = self.bins.tolist()
        return sum(((high << _LOW) + low) << place for place, (high, low) in enumerate(zip(upper, lower, strict=True)))
