"""Checks of scalar arguments, shared by every public function: the name, what was expected and what came."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from baco_gpu.errors import InputError

_SHOWN = 80  # characters of a value in a message


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int in [minimum, maximum]; raise InputError otherwise. A bool is no integer."""
    bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} must be an integer {bounds}, got {shown(value)}")
    integer = int(value)
    if integer < minimum or (maximum is not None and integer > maximum):
        raise InputError(f"{name} must be an integer {bounds}, got {shown(integer)}")
    return integer


def check_number(
    name: str, value: object, *, above: float | None = None, minimum: float | None = None, maximum: float = math.inf
) -> float:
    """Return `value` as a finite float, greater than `above` or at least `minimum`, and at most `maximum`."""
    lower = f"above {above:g}" if above is not None else f"of at least {minimum:g}" if minimum is not None else ""
    upper = f"at most {maximum:g}" if math.isfinite(maximum) else ""
    bounds = " and ".join(part for part in (lower, upper) if part)
    expected = f"a finite number {bounds}".rstrip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} must be {expected}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer or fraction beyond every float
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} must be {expected}, got {shown(value)}")
    if (above is not None and number <= above) or (minimum is not None and number < minimum) or number > maximum:
        raise InputError(f"{name} must be {expected}, got {number:g}")
    return number


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    known = list(choices)
    # The type first: comparing an array with a string gives an array, or fails.
    if not any(isinstance(value, type(choice)) and value == choice for choice in known):
        raise InputError(
            f"{name} must be one of {', '.join(map(repr, known))}, got {shown(value)}{suggestion(value, known)}"
        )


def check_flag(name: str, value: object) -> bool:
    """Return `value` as a bool; raise InputError for what is only true or false in the way that all things are."""
    if type(value).__name__ not in ("bool", "bool_"):  # Python's, and NumPy's
        raise InputError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_sequence(name: str, value: object) -> list[Any]:
    """Return what is in `value` as a list; raise InputError for a string, a mapping, and what nothing is in."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{name} must be a list, got {shown(value)}")
    try:
        return list(value)
    except TypeError:  # an array of no dimension
        raise InputError(f"{name} must be a list, got {shown(value)}") from None


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise InputError unless `value` is of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} must be {article} {kind.__name__}, got {shown(value)}")


def check_text(name: str, value: object) -> None:
    """Raise InputError unless `value` is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, got {shown(value)}")


def check_mapping(name: str, value: object, content: str) -> None:
    """Raise InputError unless `value` is a mapping; `content` says of what."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a mapping of {content}, got {shown(value)}")


def check_path(name: str, value: object) -> Path:
    """Return `value` as a path; raise InputError where it is none."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} must be a path, got {shown(value)}")
    return Path(value)


# Suffixes that say a format, which readers go by.
_FORMATS = {".bin", ".csv", ".h5", ".html", ".json", ".jsonl", ".npy", ".npz", ".onnx", ".parquet", ".pickle", ".pkl"}
_FORMATS |= {".png", ".pt", ".pth", ".safetensors", ".txt", ".yml"}


def check_file_name(name: str, value: object, suffix: str) -> Path:
    """Return `value` as the path of a file whose format `suffix` says; raise InputError where its own says another."""
    path = check_path(name, value)
    if path.suffix.lower() in _FORMATS - {suffix}:
        raise InputError(f"{name} {path}: expected a name that ends in {suffix}, got {path.suffix!r}")
    return path


def listed(value: Any) -> list[Any]:
    """What is in `value`, or itself where nothing is: for checks of what lists hold."""
    try:
        return list(value)
    except TypeError:
        return [value]


def suggestion(value: object, choices: Iterable[object]) -> str:
    """What ends the message over a name that is none of the choices: " (did you mean 'product'?)", or nothing."""
    names = [choice for choice in choices if isinstance(choice, str)]
    near = get_close_matches(value.lower(), names, n=1) if isinstance(value, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: object) -> str:
    """The repr of a value on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes out no integer of more than 4300 digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
