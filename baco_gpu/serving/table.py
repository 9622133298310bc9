"""A compressed table as plain arrays, its file and its lookup: needs NumPy and safetensors, and no PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from baco_gpu.checks import check_integer, check_number, suggestion
from baco_gpu.errors import DAMAGE, InputError, damage
from baco_gpu.precision import ProductFormat, length_values, midpoint, scale_values, unpack
from baco_gpu.serving.decoders import Decoder
from baco_gpu.tensor_file import checksum, load_tensors, save_tensors

FORMAT = "baco_gpu.codebook"
FORMAT_VERSION = 4

_VALUES = ("codebook", "scales", "centroids", "residual", "basis")
_FACTS = ("padding_idx", "own_share", "bits", "dim", "encoding")
_METADATA = {"format", "format_version", "tables", "same", "sha256"}
_INDICES = {"codes": "codebook", "secondary": "codebook", "residual_rows": "residual"}
ARRAYS = (*_VALUES, *_INDICES)


@dataclass(frozen=True, eq=False)
class ServedTable:
    """What a `CodebookEmbedding` looks up, frozen.

    Attributes
    ----------
    codebook : float16, float32 or float64 array of shape (rows, embedding_dim), or packed integers with scales: uint8
        of shape (rows, bytes), see `baco_gpu.precision`, whose embeddings are float32, or the numbers of centroids:
        uint8 or uint16 of shape (rows, subspaces), see `ProductFormat`
    codes : int32 array of shape (ids,), the row of every id; None where id i has row i
    secondary : int32 array of shape (ids,), a second row to take the mean with, or of shape (ids, rows), further rows
        to mix in; None for none
    own_share : float or None, where rows are mixed the share of the first one; the others share the rest alike
    padding_idx : int or None, the id whose embedding is zero
    residual, basis : arrays of shapes (residual rows, rank) and (rank, embedding_dim), or None
    scales : uint8 array of shape (rows, 1), what the integers of a row, or its pieces, are multiplied by, or None
    centroids : float array of shape (centroids, width), of which a row is put together, piece by piece, or None
    bits, dim : int or None, of packed integers how many bits each has; of these and of centroids, the embedding_dim
    encoding : str or None, the name of the `Decoder` of rows that none of the above are for
    residual_rows : int32 array of shape (ids,), or None
        Where there are residuals, `residual[residual_rows[i]] @ basis` is added to the embedding of id i.

    Raises
    ------
    InputError
        If dtypes or shapes are others, or an index is out of range.
    """

    codebook: np.ndarray
    codes: np.ndarray | None = None
    secondary: np.ndarray | None = None
    padding_idx: int | None = None
    residual: np.ndarray | None = None
    basis: np.ndarray | None = None
    residual_rows: np.ndarray | None = None
    scales: np.ndarray | None = None
    centroids: np.ndarray | None = None
    own_share: float | None = None
    bits: int | None = None
    dim: int | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("padding_idx", 0), ("bits", 2), ("dim", 1)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), minimum=least)
        if self.own_share is not None:
            check_number("own_share", self.own_share, minimum=0, maximum=1)
        if self.dtype.kind != "f":
            raise InputError(
                f"codebook must be a matrix of floats, or of integers with scales or centroids, got {self.dtype}"
            )
        kind = Decoder.kind_of(self)
        for name in _VALUES:
            array = getattr(self, name)
            packed = name in ("codebook", "scales") and not (self.scales is None and self.centroids is None)
            numbered = name == "codebook" and self.centroids is not None and self.codebook.dtype == np.uint16
            wanted = np.dtype(np.uint16 if numbered else np.uint8) if packed else self.dtype
            ndim = kind.ndims.get(name, 2)
            if array is not None and (array.ndim != ndim or array.dtype != wanted):
                what = "matrix" if ndim == 2 else f"array of {ndim} dimensions"
                raise InputError(f"{name} must be a {wanted} {what}, got {array.dtype} of shape {array.shape}")
        if self.scales is not None and self.scales.shape != (len(self.codebook), 1):
            raise InputError(f"scales must have shape {(len(self.codebook), 1)}, got {self.scales.shape}")
        _ = self.decoder
        if len({part is None for part in (self.residual, self.basis, self.residual_rows)}) > 1:
            raise InputError("residual, basis and residual_rows must be given together, got some of them")
        if self.residual is not None and self.basis is not None:
            shape = (self.residual.shape[1], self.embedding_dim)
            if self.basis.shape != shape:
                raise InputError(f"basis must have shape {shape}, got {self.basis.shape}")
        for name, into in _INDICES.items():
            index = getattr(self, name)
            if index is None:
                continue
            mixed = name == "secondary" and self.own_share is not None
            if index.dtype != np.int32 or index.ndim != 1 + mixed or len(index) != self.num_embeddings:
                shapes = f"({self.num_embeddings}, rows)" if mixed else f"({self.num_embeddings},)"
                raise InputError(f"{name} must be int32 of shape {shapes}, got {index.dtype} of shape {index.shape}")
            rows = len(getattr(self, into))
            if index.size and not 0 <= index.min() <= index.max() < rows:
                raise InputError(f"{name} must be rows from 0 to {rows - 1}, got {index.min()}..{index.max()}")
        if self.own_share is not None and (self.secondary is None or not self.secondary.shape[1]):
            raise InputError("secondary must have at least one row to mix in where there is an own_share, got none")
        for name in ("codebook", "centroids", "residual", "basis"):
            _check_finite(name, getattr(self, name))
        if self.padding_idx is not None and not 0 <= self.padding_idx < self.num_embeddings:
            raise InputError(f"padding_idx must be from 0 to {self.num_embeddings - 1}, got {self.padding_idx}")

    @property
    def num_embeddings(self) -> int:
        return len(self.codebook if self.codes is None else self.codes)

    @property
    def embedding_dim(self) -> int:
        return self.decoder.dim

    @cached_property
    def decoder(self) -> Decoder:
        """How rows are made of what is stored."""
        return Decoder.kind_of(self).of(self)

    @property
    def dtype(self) -> np.dtype:
        """Of embeddings."""
        if self.centroids is not None:
            return self.centroids.dtype
        return self.codebook.dtype if self.scales is None else np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def __repr__(self) -> str:
        shape = f"{self.num_embeddings:,} ids of {self.embedding_dim}"
        return f"ServedTable({shape}, {len(self.codebook):,} rows in {self.decoder}, {self.nbytes:,} bytes)"

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        parts = {name: getattr(self, name) for name in ARRAYS}
        return {name: array for name, array in parts.items() if array is not None}

    def facts(self) -> dict[str, Any]:
        """What no array says; nothing of an encoding where there is none, as files had it before there were any."""
        return {fact: getattr(self, fact) for fact in _FACTS if fact != "encoding" or self.encoding is not None}

    def lookup(self, ids: Any) -> np.ndarray:
        """Embeddings of ids (integers of any shape): an array of shape (*ids.shape, embedding_dim).

        The same bits as the module gives, in its dtype; with residuals or many rows an id, up to the rounding of
        products and sums, which differs between libraries.

        Raises
        ------
        InputError
            If the ids are no integers, or one is out of range.
        """
        index = np.asarray(ids)
        if index.size and index.dtype.kind not in "iu":
            raise InputError(f"ids must be integers, got {index.dtype}")
        outside = (index < 0) | (index >= self.num_embeddings)
        if outside.any():
            raise InputError(f"ids must be from 0 to {self.num_embeddings - 1}, got {index[outside][0]}")
        index = index.astype(np.int64)
        out = self._rows(index if self.codes is None else self.codes[index])
        if self.secondary is not None:
            # Half precision is added up in single precision, and rounded once.
            wide = out.astype(np.result_type(out.dtype, np.float32))
            if self.own_share is None:
                wide += self._rows(self.secondary[index])
                wide *= wide.dtype.type(0.5)
            else:
                others = self._rows(self.secondary[index]).mean(axis=-2, dtype=wide.dtype)
                wide = wide.dtype.type(self.own_share) * wide + wide.dtype.type(1 - self.own_share) * others
            out = wide.astype(out.dtype)
        if self.padding_idx is not None:
            out[index == self.padding_idx] = 0
        if self.residual is not None and self.basis is not None and self.residual_rows is not None:
            out += self.residual[self.residual_rows[index]] @ self.basis
        return out

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the codebook, as floats."""
        out: np.ndarray = self.decoder.read(_Lookup(self, rows))
        return out


class _Lookup(NamedTuple):
    """A `Lookup` of these rows, by NumPy."""

    table: ServedTable
    at: np.ndarray

    def rows(self, name: str) -> np.ndarray:
        out: np.ndarray = getattr(self.table, name)[self.at]
        return out

    def array(self, name: str, place: int | None = None) -> np.ndarray:
        array: np.ndarray = getattr(self.table, name)
        return array if place is None else array[place]

    def columns(self, values: np.ndarray, first: int, last: int) -> np.ndarray:
        return values[..., first:last]

    def unpacked(self, packed: np.ndarray, scales: np.ndarray, bits: int, dim: int) -> np.ndarray:
        return (unpack(packed, bits, dim) - np.float32(midpoint(bits))) * scale_values(scales, bits)

    def joined(self, codes: np.ndarray, centroids: np.ndarray, form: ProductFormat) -> np.ndarray:
        turned = (codes[..., None] & (1 << np.arange(form.signs, dtype=codes.dtype))) != 0
        pieces = centroids[codes >> form.signs]
        signed = pieces[..., : form.signs]
        np.negative(signed, out=signed, where=turned)
        return pieces.reshape(*codes.shape[:-1], form.subspaces * form.width)[..., form.places]

    def lengths(self, scales: np.ndarray) -> np.ndarray:
        return length_values(scales).astype(self.table.dtype)


def save_codebooks(tables: Mapping[str, ServedTable], path: str | os.PathLike[str]) -> Path:
    """Write tables to one safetensors file, whole or not at all; returns the path.

    The tensors are NAME.codebook, NAME.codes and so on, as in `ServedTable`; the metadata has format, format_version,
    tables, a JSON object of the names and their padding_idx, own_share, bits, dim and encoding (where there is one),
    and sha256, the checksum of all. A codebook that several tables have is there once, and `same` in the metadata
    names it for the others.

    Raises
    ------
    InputError
        If there is no table, or `path` is a folder, or lies in a folder that does not exist.
    OSError
        If the file cannot be written.
    """
    if not tables:
        raise InputError("tables must be at least one, got none")
    tensors = {
        f"{name}.{part}": np.ascontiguousarray(array)
        for name, table in tables.items()
        for part, array in table.arrays().items()
    }
    rows = (".codebook", ".scales", ".centroids")
    same = _equals({name: array for name, array in tensors.items() if name.endswith(rows)})
    tensors = {name: array for name, array in tensors.items() if name not in same}
    facts = {name: table.facts() for name, table in tables.items()}
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "tables": json.dumps(facts)}
    metadata["same"] = json.dumps(same)
    metadata["sha256"] = _checksum(tensors, metadata)
    return save_tensors(save_file, tensors, path, metadata)


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    return checksum(tensors, f"{metadata['tables']}\n{metadata['same']}")


def _check_finite(name: str, array: np.ndarray | None) -> None:
    """Raise InputError for infinite or missing values of floats; takes no memory, as both are their extremes."""
    if array is not None and array.dtype.kind == "f" and array.size:
        lowest, highest = array.min(), array.max()
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            raise InputError(f"{name} must hold finite numbers, got {lowest if np.isfinite(highest) else highest}")


def _equals(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """For every array that equals one before it, the name of that."""
    first: dict[str, np.ndarray] = {}
    same = {}
    for name, array in arrays.items():
        equals = (
            other for other, known in first.items() if known.dtype == array.dtype and np.array_equal(known, array)
        )
        twin = next(equals, None)
        if twin is None:
            first[name] = array
        else:
            same[name] = twin
    return same


def load_codebooks(path: str | os.PathLike[str]) -> dict[str, ServedTable]:
    """All tables of a file that `export_codebook` wrote, by name.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, another program's, of a newer format, or damaged.
    """
    tensors, metadata = load_tensors(
        path, FORMAT, FORMAT_VERSION, what="codebooks exported by baco_gpu", written_by="export_codebook"
    )
    try:
        unknown = metadata.keys() - _METADATA
        if unknown:
            raise ValueError(f"it has a {min(unknown)!r}")
        # Files written before there was a checksum lack it.
        if "sha256" in metadata and metadata["sha256"] != _checksum(tensors, metadata):
            raise ValueError("its contents do not match their checksum")
        facts_of = json.loads(metadata["tables"])
        parts = {f"{name}.{part}" for name in facts_of for part in ARRAYS}
        if not parts.issuperset(tensors):
            raise ValueError(f"{min(tensors.keys() - parts)!r} is of no table")
        for name, twin in json.loads(metadata.get("same", "{}")).items():
            tensors[name] = tensors[twin]
        return {
            name: ServedTable(
                **{part: tensors[f"{name}.{part}"] for part in ARRAYS if f"{name}.{part}" in tensors},
                **facts,
            )
            for name, facts in facts_of.items()
        }
    except DAMAGE as error:
        raise InputError(f"{path}: damaged codebooks ({damage(error)})") from error


def load_codebook(path: str | os.PathLike[str], name: str | None = None) -> ServedTable:
    """One table of a file: the one of that name, or the only one.

    Raises
    ------
    InputError
        As of `load_codebooks`, for an unknown name, and for none where there are several tables.
    """
    tables = load_codebooks(path)
    if name is None and len(tables) == 1:
        return next(iter(tables.values()))
    if name not in tables:
        raise InputError(f"name must be one of {', '.join(map(repr, tables))}, got {name!r}{suggestion(name, tables)}")
    return tables[name]
