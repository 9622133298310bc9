"""How the values of a codebook are stored: as floats, or as integers of few bits and a scale for every row.

Integers of fewer than 8 bits are packed, several to a byte, the first of them in the lowest bits.
"""

from __future__ import annotations

import numpy as np

FLOAT = "float"
BITS = {"int8": 8, "int4": 4, "int2": 2}  # from the widest on
CODEBOOK_DTYPES = (FLOAT, *BITS)
SCALE_BYTES = 4


def bits_of(dtype: str) -> int | None:
    """Bits of a value of this dtype; None for floats."""
    return BITS.get(dtype)


def packed_width(dim: int, bits: int) -> int:
    """Bytes of a row of so many integers."""
    return -(-dim * bits // 8)


def row_bytes(dim: int, bits: int | None, value_bytes: int) -> int:
    """Bytes of a row: of its floats where `bits` is None, else of its integers and its scale."""
    return dim * value_bytes if bits is None else packed_width(dim, bits) + SCALE_BYTES


def midpoint(bits: int) -> float:
    """What is taken off an unsigned integer of so many bits, so that levels lie alike on both sides of zero."""
    return (2**bits - 1) / 2


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers below 2^bits, uint8 of shape (rows, dim), as bytes of shape (rows, packed_width)."""
    rows, dim = integers.shape
    width = packed_width(dim, bits)
    padded = np.zeros((rows, width * (8 // bits)), np.uint8)
    padded[:, :dim] = integers
    parts = padded.reshape(rows, width, 8 // bits) << _shifts(bits)
    packed: np.ndarray = np.bitwise_or.reduce(parts, axis=2)
    return packed


def unpack(packed: np.ndarray, bits: int, dim: int) -> np.ndarray:
    """The integers of `pack`, from bytes of any shape (..., packed_width): uint8 of shape (..., dim)."""
    parts = (packed[..., None] >> _shifts(bits)) & np.uint8(2**bits - 1)
    *places, width = packed.shape
    return parts.reshape(*places, width * (8 // bits))[..., :dim]


def _shifts(bits: int) -> np.ndarray:
    return np.arange(0, 8, bits, dtype=np.uint8)
