"""Loops compiled by Numba, kept on the disk where there is a folder for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit

_told = False


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit(cache=True, **options)`, and without a cache where no folder for it can be written."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _tell()
            return njit(**options)(function)

    return decorate


def _tell() -> None:
    global _told
    if not _told:
        _told = True
        warnings.warn(
            "Numba finds no folder that it can write its cache into: every process compiles its loops anew, for "
            "some seconds (NUMBA_CACHE_DIR names another folder)",
            stacklevel=4,
        )
