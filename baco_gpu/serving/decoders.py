"""How rows are made of what is stored of them: said once, for NumPy, PyTorch and graphs of ONNX alike."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.precision import BITS, LEAST_LENGTH, LENGTH_PARTS, ProductFormat, packed_width

OF_IDS = ("residual", "basis", "codes", "secondary", "residual_rows")  # what any table stores beside its rows


class Lookup(Protocol):
    """A lookup of rows of a table in one library.

    What it gives can be computed with by `+`, `-`, `*`, `/` and `@`, between values of the same dtype.
    """

    def rows(self, name: str) -> Any:
        """The rows of a stored array that are looked up: (..., columns)."""

    def numbers(self) -> Any:
        """The numbers of the rows that are looked up: int64 of shape (..., 1)."""

    def array(self, name: str, place: int | None = None) -> Any:
        """A stored array, or one of its entries."""

    def constant(self, value: Any, dtype: Any) -> Any:
        """A number, or an array of some."""

    def cast(self, values: Any, dtype: Any) -> Any:
        """Values in another dtype of NumPy."""

    def take(self, values: Any, places: Any) -> Any:
        """The entries of values that integers of any shape number: (*places.shape, ...)."""

    def columns(self, values: Any, first: int, last: int) -> Any:
        """The columns of values from one to another, which is no more among them."""

    def mean(self, values: Any) -> Any:
        """The mean over the last axis but one."""

    def zeroed(self, values: Any, number: int) -> Any:
        """Values (..., columns) of what is looked up, but zeros where that is this number."""

    def through(self, index: str) -> Lookup:
        """The lookup of what a stored index gives to what is looked up here."""

    def unpacked(self, packed: Any, scales: Any, bits: int, dim: int) -> Any:
        """Float32 values of packed integers: see `baco_gpu.precision`."""

    def joined(self, codes: Any, centroids: Any, form: ProductFormat) -> Any:
        """Rows put together of the pieces that product codes (..., subspaces) are of."""


@dataclass(frozen=True)
class Decoder(ABC):
    """A way to store rows: which arrays and plain values they are made of, and how.

    The keywords of `of` are the names of what is stored, in a file and as buffers: arrays of any shape and dtype, and
    what no array says. A kind of table gives them in `export_arrays`, and as `encoding` the name that its decoder is a
    subclass by: `class LowRankRows(Decoder, name="low rank")`.

    Attributes
    ----------
    dtype : np.dtype
        Of embeddings.
    dim : int
    num_rows : int
    """

    dtype: np.dtype
    dim: int
    num_rows: int

    named: ClassVar[dict[str, type[Decoder]]] = {}

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        if taken := set(OF_IDS) & inspect.signature(cls.of).parameters.keys():
            raise TypeError(f"{cls.__name__} must have other names for what tables store of ids: {', '.join(taken)}")
        if name is not None:
            Decoder.named[name] = cls

    @staticmethod
    def of_name(encoding: str) -> type[Decoder]:
        """The decoder of that name; InputError where there is none."""
        if encoding not in Decoder.named:
            known = ", ".join(map(repr, Decoder.named)) or "none"
            raise InputError(f"encoding must be one that is known here ({known}), got {encoding!r}")
        return Decoder.named[encoding]

    @classmethod
    def in_order(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """What is stored, in the order of the keywords of `of`; InputError where it is not what they say."""
        wanted = inspect.signature(cls.of).parameters
        needed = [name for name, parameter in wanted.items() if parameter.default is parameter.empty]
        if not stored.keys() >= set(needed) or not stored.keys() <= wanted.keys():
            further = [name for name in wanted if name not in needed]
            raise InputError(
                f"{cls.__name__} must be given {', '.join(needed)}"
                + (f" (and may be given {', '.join(further)})" if further else "")
                + f", got {', '.join(stored) or 'nothing'}"
            )
        return {name: stored[name] for name in wanted if name in stored}

    @classmethod
    @abstractmethod
    def of(cls, *arguments: Any, **stored: Any) -> Self:
        """The decoder of what is stored; InputError where its parts do not fit together."""

    @abstractmethod
    def read(self, lookup: Lookup) -> Any:
        """The rows that are looked up: (..., dim)."""


@dataclass(frozen=True)
class FloatRows(Decoder):
    """Floats, as they are."""

    @classmethod
    def of(cls, *, codebook: np.ndarray) -> Self:
        if codebook.ndim != 2 or codebook.dtype.kind != "f":
            raise InputError(
                "codebook must be a matrix of floats, or of integers with scales or centroids, "
                f"got {codebook.dtype} of shape {codebook.shape}"
            )
        return cls(codebook.dtype, codebook.shape[1], len(codebook))

    def read(self, lookup: Lookup) -> Any:
        return lookup.rows("codebook")

    def __str__(self) -> str:
        return str(self.dtype)


@dataclass(frozen=True)
class PackedRows(Decoder):
    """Integers of few bits, see `baco_gpu.precision`, and a scale a row: float32."""

    bits: int

    @classmethod
    def of(cls, *, codebook: np.ndarray, scales: np.ndarray, bits: int, dim: int) -> Self:
        check_integer("bits", bits, minimum=2)
        check_integer("dim", dim, minimum=1)
        if bits not in BITS.values():
            raise InputError(f"bits must be 16, or from 8 to 2, got {bits}")
        check_array("codebook", codebook, np.uint8)
        check_scales(scales, len(codebook))
        width = packed_width(dim, bits)
        if codebook.shape[1] != width:
            raise InputError(
                f"codebook must have {width} bytes a row for {dim} integers of {bits} bits, got {codebook.shape[1]}"
            )
        return cls(np.dtype(np.float32), dim, len(codebook), bits)

    def read(self, lookup: Lookup) -> Any:
        return lookup.unpacked(lookup.rows("codebook"), lookup.rows("scales"), self.bits, self.dim)

    def __str__(self) -> str:
        return f"{self.bits} bits"


@dataclass(frozen=True)
class ProductRows(Decoder):
    """Product codes of `form`, with lengths or without, in the dtype of their centroids."""

    form: ProductFormat
    has_lengths: bool

    @classmethod
    def of(cls, *, codebook: np.ndarray, scales: np.ndarray | None = None, centroids: np.ndarray, dim: int) -> Self:
        check_integer("dim", dim, minimum=1)
        check_array("centroids", centroids, centroids.dtype if centroids.dtype.kind == "f" else np.float32)
        check_array("codebook", codebook, np.uint16 if codebook.dtype == np.uint16 else np.uint8)
        if scales is not None:
            check_scales(scales, len(codebook))
        count, width = centroids.shape
        form = ProductFormat(dim, codebook.shape[1], count, 8 * codebook.itemsize)
        if not 1 <= form.subspaces <= form.dim or width != form.width:
            raise InputError(
                f"centroids must have a width of which {form.subspaces} make up {form.dim} dimensions, got {width}"
            )
        if not 1 <= count <= 1 << form.code_bits:
            raise InputError(f"centroids must be 1 to {1 << form.code_bits} for {codebook.dtype}, got {count}")
        if codebook.size and codebook.max() >= form.codewords:
            raise InputError(f"codebook must be from 0 to {form.codewords - 1}, got up to {codebook.max()}")
        return cls(centroids.dtype, dim, len(codebook), form, scales is not None)

    def read(self, lookup: Lookup) -> Any:
        rows = self.directions(lookup)
        if not self.has_lengths:
            return rows
        least, parts = (lookup.constant(number, np.float32) for number in (LEAST_LENGTH, LENGTH_PARTS))
        return rows * lookup.cast((lookup.cast(lookup.rows("scales"), np.float32) + least) / parts, self.dtype)

    def directions(self, lookup: Lookup) -> Any:
        """Rows as long as rounding makes them."""
        return lookup.joined(lookup.rows("codebook"), lookup.array("centroids"), self.form)

    def __str__(self) -> str:
        return f"{self.form.subspaces} codes of {self.form.centroids} centroids"


def decoder_for(stored: Mapping[str, Any]) -> type[Decoder]:
    """The decoder of rows for which a file has no name, as those from before there were any."""
    if "centroids" in stored:
        return ProductRows
    return PackedRows if stored.keys() & {"scales", "bits", "dim"} else FloatRows


def check_array(name: str, array: np.ndarray, dtype: Any, ndim: int = 2) -> None:
    """Raise InputError unless it has this dtype and so many dimensions."""
    if array.ndim != ndim or array.dtype != dtype:
        what = "matrix" if ndim == 2 else f"array of {ndim} dimensions"
        raise InputError(f"{name} must be a {np.dtype(dtype)} {what}, got {array.dtype} of shape {array.shape}")


def check_scales(scales: np.ndarray, rows: int) -> None:
    """Raise InputError unless they are a byte a row."""
    check_array("scales", scales, np.uint8)
    if scales.shape != (rows, 1):
        raise InputError(f"scales must have shape {(rows, 1)}, got {scales.shape}")
