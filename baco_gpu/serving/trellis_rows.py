"""Rows that are trellis codes: values that overlapping windows of the row's bits number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from baco_gpu.errors import InputError
from baco_gpu.precision import GRADE_BLOCK, GRADES, trellis_windows
from baco_gpu.serving.decoders import Decoder, Lookup, check_array

_BEFORE = 2  # bytes before the first row


@dataclass(frozen=True)
class TrellisRows(Decoder, name="trellis codes"):
    """Windows of the bits of rows, and of which grade these are; see `baco_gpu.tables.trellis`."""

    widths: np.ndarray = field(compare=False)
    windows: tuple[np.ndarray, np.ndarray, np.ndarray] = field(compare=False)

    @classmethod
    def of(
        cls,
        *,
        codebook: np.ndarray,
        shifts: np.ndarray,
        values: np.ndarray,
        means: np.ndarray,
        spreads: np.ndarray,
        places: np.ndarray | None = None,
        bases: np.ndarray | None = None,
    ) -> Self:
        check_array("codebook", codebook, np.uint8, ndim=1)
        check_array("shifts", shifts, np.uint8)
        check_array("values", values, values.dtype if values.dtype.kind == "f" else np.float32, ndim=1)
        grades, dim = shifts.shape
        for name, array in (("means", means), ("spreads", spreads)):
            check_array(name, array, values.dtype, ndim=1)
            if len(array) != shifts.size:
                raise InputError(f"{name} must be {shifts.size}, one for each of shifts, got {len(array)}")
        states = len(values)
        if states & (states - 1) or not 2 <= states <= 1 << 16:
            raise InputError(f"values must be a power of two of them, up to {1 << 16}, got {states}")
        bits = shifts.sum(axis=1, dtype=np.int64)
        if not 1 <= grades <= GRADES or (bits % 8).any() or not bits.all():
            raise InputError(f"shifts must be of 1 to {GRADES} grades and add up to bytes, got {bits.tolist()} bits")
        widths, size = bits // 8, len(codebook) - _BEFORE
        if (grades == 1) != (places is None) or (places is None) != (bases is None):
            raise InputError("places and bases must be given where there are several grades, and only there")
        if places is None or bases is None:
            if size < 0 or size % widths[0]:
                raise InputError(f"codebook must have {_BEFORE} bytes and rows of {widths[0]}, got {len(codebook)}")
            rows = size // int(widths[0])
        else:
            rows = len(places)
            blocks = -(-rows // GRADE_BLOCK)
            check_array("places", places, np.uint8)
            check_array("bases", bases, np.int32, ndim=1)
            if places.shape != (rows, 1) or len(bases) != blocks * grades:
                raise InputError(
                    f"places and bases must have shapes {(rows, 1)} and {(blocks * grades,)}, "
                    f"got {places.shape} and {bases.shape}"
                )
            own, ranks = places[:, 0] // GRADE_BLOCK, places[:, 0] % GRADE_BLOCK
            if rows and own.max() >= grades:
                raise InputError(f"places must be of grades from 0 to {grades - 1}, got {own.max()}")
            starts = bases[np.arange(rows) // GRADE_BLOCK * grades + own] + ranks * widths[own]
            if rows and not 0 <= starts.min() <= (starts + widths[own]).max() <= size:
                raise InputError(f"bases must be places among {size} bytes, got up to {(starts + widths[own]).max()}")
        return cls(values.dtype, dim, rows, widths, trellis_windows(shifts, states))

    def read(self, lookup: Lookup) -> Any:
        def known(array: Any) -> Any:
            return lookup.constant(array, np.int64)

        def number(values: Any) -> Any:
            return lookup.cast(values, np.float32)  # in which what follows is exact

        def whole(values: Any) -> Any:
            return lookup.cast(values, np.int64)

        numbers = lookup.numbers()
        if len(self.widths) == 1:
            starts, grades = numbers * known(self.widths), numbers * known(0)
        else:
            own = lookup.rows("places")
            places, byte = lookup.cast(own, np.int64), np.arange(256)
            grades = lookup.take(known(byte // GRADE_BLOCK), places)
            ranks = lookup.take(known(byte % GRADE_BLOCK), places)
            blocks = whole(lookup.cast(numbers, np.float64) * lookup.constant(1 / GRADE_BLOCK, np.float64))
            bases = lookup.take(lookup.array("bases"), blocks * known(len(self.widths)) + grades)
            starts = whole(bases) + ranks * lookup.take(known(self.widths), grades)
        entries = grades * known(self.dim) + known(np.arange(self.dim))
        first, divisors, moduli = (lookup.take(known(part.ravel()), entries) for part in self.windows)
        window, codes = None, lookup.array("codebook")
        for further in range(_BEFORE + 1):
            here = number(lookup.take(codes, starts + first + known(further)))
            window = here if window is None else window * lookup.constant(256, np.float32) + here
        shifted = number(whole(window / number(divisors)))
        words = shifted - number(whole(shifted / number(moduli))) * number(moduli)
        means, spreads = (lookup.take(lookup.array(name), entries) for name in ("means", "spreads"))
        return lookup.take(lookup.array("values"), whole(words)) * spreads + means

    def __str__(self) -> str:
        return f"trellis codes of {' and '.join(map(str, self.widths))} bytes"
