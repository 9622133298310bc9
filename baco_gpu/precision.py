"""How rows of a codebook are stored: as floats, as integers of few bits and a scale, or as codes of centroids.

Integers are packed: the bits of a row follow one another from the lowest of its first byte on, across bytes. A scale is
a byte, too: a float without sign, of 5 bits of exponent and 3 of mantissa. For codes of
centroids see `ProductFormat`.

What reads them is here in NumPy, for who serves has no PyTorch. `baco_gpu.ops.quantization` and
`baco_gpu.ops.product_quantization` read the same bytes on a device, and alone write them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

FLOAT = "float"
BITS = {f"int{bits}": bits for bits in (16, *range(8, 1, -1))}  # from the widest on
CODEBOOK_DTYPES = (FLOAT, *BITS)
SCALE_BYTES = 1

SCALE_PLACE = 20  # in a float32, of the last bit that a scale has

CODE_BITS = (8, 16)  # of product codes
# The length of a row of these is a byte and this, in as many parts: one is as long as rounding made it.
LEAST_LENGTH, LENGTH_PARTS = 128, 256

# Of trellis codes, the place of a row is a byte: its grade, and its rank among the rows of its grade in a block.
GRADES, GRADE_BLOCK = 4, 64


def bits_of(dtype: str) -> int | None:
    """Bits of a value of this dtype; None for floats."""
    return BITS.get(dtype)


def packed_width(dim: int, bits: int) -> int:
    """Bytes of a row of so many integers."""
    return -(-dim * bits // 8)


def row_bytes(dim: int, bits: int | None, value_bytes: int) -> int:
    """Bytes of a row: of its floats where `bits` is None, else of its integers and its scale."""
    return dim * value_bytes if bits is None else packed_width(dim, bits) + SCALE_BYTES


def least_scale(bits: int) -> int:
    """What is taken off those bits of a float32 that follow its sign, 8 of exponent and 3 of mantissa, to have a scale.

    Those of 2^-16; where there are more than 8 bits a value, levels lie closer, and it is so much less.
    """
    return (127 - 16 - max(bits - 8, 0)) << 3


def scale_values(scales: np.ndarray, bits: int) -> np.ndarray:
    """Float32 values of scales of rows of so many bits a value, uint8 of any shape.

    They are 0, and from 2^-16 * 9/8 to 2^15 * 15/8; with 16 bits a 256th of that.
    """
    values: np.ndarray = ((scales.astype(np.int32) + least_scale(bits)) << SCALE_PLACE).view(np.float32)
    return np.where(scales == 0, np.float32(0), values)


def midpoint(bits: int) -> float:
    """What is taken off an unsigned integer of so many bits, so that levels lie alike on both sides of zero."""
    return (2**bits - 1) / 2


def places(dim: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the integers of a row are: the bytes that hold their low and their high bits, and the place of the lowest.

    An integer is (low + 256 * high) >> place, of which its bits are the lowest. The two bytes are one where the integer
    ends in it, for what is then above its bits does not count.
    """
    first = np.arange(dim) * bits
    low = first // 8
    return low, np.minimum(low + 1, packed_width(dim, bits) - 1), first % 8


def unpack(packed: np.ndarray, bits: int, dim: int) -> np.ndarray:
    """Integers from packed bytes of any shape (..., packed_width): uint16 of shape (..., dim)."""
    low, high, place = places(dim, bits)
    pairs = packed[..., low].astype(np.uint16) | (packed[..., high].astype(np.uint16) << 8)
    integers: np.ndarray = (pairs >> place.astype(np.uint16)) & np.uint16(2**bits - 1)
    return integers


def piece_widths(dim: int, subspaces: int) -> list[int]:
    """How wide the pieces of a row are that is cut as evenly as can be, the wider ones first."""
    return [dim // subspaces + (place < dim % subspaces) for place in range(subspaces)]


def trellis_windows(shifts: np.ndarray, states: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where in the bits of a row the windows are that number its values; see `baco_gpu.ops.trellis_coding`.

    A window ends with the bits that its value brings, and before it begins the row there are zeros. With `first` the
    place of the first of three bytes, counted from two bytes before the row on, a number is
    (65536 * byte + 256 * next + last) // divisor % modulus.

    Parameters
    ----------
    shifts : integers of shape (..., dim), how many bits each value brings
    states : int, a power of two up to 2^16

    Returns
    -------
    int64 arrays of shape (..., dim): first, divisors, moduli.
    """
    ends = np.cumsum(shifts, axis=-1, dtype=np.int64)
    last = np.maximum(ends - 1, 0) // 8
    return last, 1 << np.minimum(8 * (last + 1) - ends, 8), np.minimum(1 << np.minimum(ends, 16), states)


class ProductFormat(NamedTuple):
    """How rows are put together of pieces, each of which a code says.

    Pieces are as even as can be, those first that are as wide as a centroid; of others, its last value does not count.
    The high bits of a code number a centroid. The low ones say, from the lowest on, which of the first values
    of the piece are those of the centroid with the sign turned: whatever bits the centroids leave, up to one a value.
    So as many centroids make up `codewords` pieces, and these are what a table has, whose values are as often above as
    below zero.
    """

    dim: int
    subspaces: int
    centroids: int
    code_bits: int

    @property
    def width(self) -> int:
        """Values of a centroid."""
        return -(-self.dim // self.subspaces)

    @property
    def wide(self) -> int:
        """Pieces of a row that are as wide; others are narrower by one."""
        return self.dim - self.subspaces * (self.width - 1)

    @property
    def signs(self) -> int:
        """Bits of a code that are signs."""
        return min(self.width, self.code_bits - (self.centroids - 1).bit_length())

    @property
    def codewords(self) -> int:
        """Pieces that there are codes for."""
        return self.centroids << self.signs

    @property
    def error(self) -> float:
        """About the share of their squares that is rounded away of normally distributed rows, their values alike.

        Zador's formula, with the spheres that bound its constant from below (Gersho, "Asymptotically optimal block
        quantization", IEEE Transactions on Information Theory 25, 1979). It holds where there are many bits.
        """
        left = 0.0
        for width in piece_widths(self.dim, self.subspaces):
            bits = math.log2(self.centroids) + min(self.signs, width)
            loss = 2 / width * math.gamma(width / 2 + 1) ** (2 / width) * (1 + 2 / width) ** (width / 2)
            left += width * loss * 4 ** (-bits / width)
        return left / self.dim

    @property
    def places(self) -> np.ndarray:
        """Where, of pieces of the full width, those values are that a row has."""
        widths = np.array(piece_widths(self.dim, self.subspaces))
        return np.flatnonzero(np.arange(self.width) < widths[:, None])

    @property
    def dtype(self) -> np.dtype:
        """Of codes."""
        return np.dtype(f"uint{self.code_bits}")
