"""How rows are made of what is stored of them: said once, for NumPy, PyTorch and graphs of ONNX alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from baco_gpu.errors import InputError
from baco_gpu.precision import BITS, ProductFormat, packed_width


class Lookup(Protocol):
    """A lookup of rows of a table in one library, whose values can be added and multiplied."""

    def rows(self, name: str) -> Any:
        """The rows of a stored array that are looked up: (..., columns)."""

    def array(self, name: str, place: int | None = None) -> Any:
        """A stored array, or one of its entries."""

    def columns(self, values: Any, first: int, last: int) -> Any:
        """The columns of values from one to another, which is no more among them."""

    def unpacked(self, packed: Any, scales: Any, bits: int, dim: int) -> Any:
        """Float32 values of packed integers: see `baco_gpu.precision`."""

    def joined(self, codes: Any, centroids: Any, form: ProductFormat) -> Any:
        """Rows put together of the pieces that product codes (..., subspaces) are of."""

    def lengths(self, scales: Any) -> Any:
        """What rows of product codes are multiplied by, in the dtype of the embeddings."""


@dataclass(frozen=True)
class Decoder(ABC):
    """A way to store rows, and what of it no array says.

    A kind of table that stores rows in a new way brings a subclass along, with a name that its `export_arrays` gives as
    `encoding`.

    Attributes
    ----------
    dtype : np.dtype
        Of embeddings.
    dim : int
    """

    dtype: np.dtype
    dim: int

    named: ClassVar[dict[str, type[Decoder]]] = {}
    ndims: ClassVar[Mapping[str, int]] = {}  # of arrays that are no matrices

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        if name is not None:
            Decoder.named[name] = cls

    @staticmethod
    def kind_of(table: Any) -> type[Decoder]:
        """The decoder of the table's name, or, where it has none, the one that its arrays are for."""
        if table.encoding is not None:
            if table.encoding not in Decoder.named:
                known = ", ".join(map(repr, Decoder.named)) or "none"
                raise InputError(f"encoding must be one that is known here ({known}), got {table.encoding!r}")
            return Decoder.named[table.encoding]
        if table.centroids is not None:
            return ProductRows
        return FloatRows if table.scales is None and table.bits is None and table.dim is None else PackedRows

    @classmethod
    @abstractmethod
    def of(cls, table: Any) -> Self:
        """The decoder of a table; InputError where its arrays do not fit together."""

    @abstractmethod
    def read(self, lookup: Lookup) -> Any:
        """The rows that are looked up: (..., dim)."""


@dataclass(frozen=True)
class FloatRows(Decoder):
    """Floats, as they are."""

    @classmethod
    def of(cls, table: Any) -> Self:
        return cls(table.dtype, table.codebook.shape[1])

    def read(self, lookup: Lookup) -> Any:
        return lookup.rows("codebook")

    def __str__(self) -> str:
        return str(self.dtype)


@dataclass(frozen=True)
class PackedRows(Decoder):
    """Integers of few bits, and a scale a row."""

    bits: int

    @classmethod
    def of(cls, table: Any) -> Self:
        if table.bits is None or table.dim is None or table.scales is None:
            raise InputError("bits, dim and scales must be given together, got some of them")
        if table.bits not in BITS.values():
            raise InputError(f"bits must be 16, or from 8 to 2, got {table.bits}")
        width = packed_width(table.dim, table.bits)
        if table.codebook.shape[1] != width:
            raise InputError(
                f"codebook must have {width} bytes a row for {table.dim} integers of {table.bits} bits, "
                f"got {table.codebook.shape[1]}"
            )
        return cls(table.dtype, table.dim, table.bits)

    def read(self, lookup: Lookup) -> Any:
        return lookup.unpacked(lookup.rows("codebook"), lookup.rows("scales"), self.bits, self.dim)

    def __str__(self) -> str:
        return f"{self.bits} bits"


@dataclass(frozen=True)
class ProductRows(Decoder):
    """Product codes of `form`, with lengths or without."""

    form: ProductFormat
    has_lengths: bool

    @classmethod
    def of(cls, table: Any) -> Self:
        if table.bits is not None or table.dim is None or table.centroids is None:
            raise InputError("centroids must be given with dim, and without bits")
        *_, count, width = table.centroids.shape
        form = ProductFormat(table.dim, cls.subspaces_of(table), count, 8 * table.codebook.itemsize)
        if not 1 <= form.subspaces <= form.dim or width != form.width:
            raise InputError(
                f"centroids must have a width of which {form.subspaces} make up {form.dim} dimensions, got {width}"
            )
        if not 1 <= count <= 1 << form.code_bits:
            raise InputError(f"centroids must be 1 to {1 << form.code_bits} for {table.codebook.dtype}, got {count}")
        if table.codebook.size and table.codebook.max() >= form.codewords:
            raise InputError(f"codebook must be from 0 to {form.codewords - 1}, got up to {table.codebook.max()}")
        return cls(table.dtype, form.dim, form, table.scales is not None)

    @classmethod
    def subspaces_of(cls, table: Any) -> int:
        return table.codebook.shape[1]

    def read(self, lookup: Lookup) -> Any:
        rows = self.directions(lookup)
        return rows * lookup.lengths(lookup.rows("scales")) if self.has_lengths else rows

    def directions(self, lookup: Lookup) -> Any:
        """Rows as long as rounding makes them."""
        return lookup.joined(lookup.rows("codebook"), lookup.array("centroids"), self.form)

    def __str__(self) -> str:
        return f"{self.form.subspaces} codes of {self.form.centroids} centroids"
