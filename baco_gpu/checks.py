"""Checks of scalar arguments, shared by every public function: the name, what was expected and what came."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable

from baco_gpu.errors import InputError


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int in [minimum, maximum]; raise InputError otherwise. A bool is no integer."""
    bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} must be an integer {bounds}, got {value!r}")
    integer = int(value)
    if integer < minimum or (maximum is not None and integer > maximum):
        raise InputError(f"{name} must be an integer {bounds}, got {integer}")
    return integer


def check_number(
    name: str, value: object, *, above: float | None = None, minimum: float | None = None, maximum: float = math.inf
) -> float:
    """Return `value` as a finite float, greater than `above` or at least `minimum`, and at most `maximum`."""
    lower = f"above {above:g}" if above is not None else f"of at least {minimum:g}" if minimum is not None else ""
    upper = f"at most {maximum:g}" if math.isfinite(maximum) else ""
    bounds = " and ".join(part for part in (lower, upper) if part)
    expected = f"a finite number {bounds}".rstrip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} must be {expected}, got {value!r}")
    number = float(value)
    if (above is not None and number <= above) or (minimum is not None and number < minimum) or number > maximum:
        raise InputError(f"{name} must be {expected}, got {number:g}")
    return number


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
