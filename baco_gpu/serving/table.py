"""A compressed table as plain arrays, its file and its lookup: needs NumPy and safetensors, and no PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from baco_gpu.checks import check_integer, check_number, suggestion
from baco_gpu.errors import DAMAGE, InputError, damage
from baco_gpu.precision import ProductFormat, midpoint, scale_values, unpack
from baco_gpu.serving.decoders import OF_IDS, Decoder, check_array, decoder_for
from baco_gpu.serving.embeddings import embeddings
from baco_gpu.tensor_file import checksum, file_checksum, load_tensors, save_tensors

FORMAT = "baco_gpu.codebook"
FORMAT_VERSION = 4

_METADATA = {"format", "format_version", "tables", "same", "sha256", "model", "beside"}


class ServedTable:
    """A table of `baco_gpu.tables` as plain arrays, with its lookup.

    Parameters
    ----------
    codebook : float16, float32 or float64 array of shape (rows, embedding_dim)
        Or what the rows are stored as, with further arrays and plain values by their names: see `stored`.
    codes : int32 array of shape (ids,), the row of every id; None where id i has row i
    secondary : int32 array of shape (ids,), a second row to take the mean with, or of shape (ids, rows), further rows
        to mix in; None for none
    padding_idx : int or None, the id whose embedding is zero
    own_share : float or None, where rows are mixed the share of the first one; the others share the rest alike
    residual, basis : arrays of shapes (residual rows, rank) and (rank, embedding_dim), or None
    residual_rows : int32 array of shape (ids,), or None
        Where there are residuals, `residual[residual_rows[i]] @ basis` is added to the embedding of id i.
    encoding : str or None
        The name of the `Decoder` of the rows; None for those of `baco_gpu.serving.decoders`.
    stored
        What this decoder makes rows of. Of packed integers: `codebook`, uint8 of shape (rows, bytes), `scales`, uint8
        of shape (rows, 1), `bits` and `dim`. Of product codes: `codebook`, uint8 or uint16 of shape (rows, subspaces),
        `centroids`, floats of shape (centroids, width), `dim`, and `scales` where rows have lengths.

    Attributes
    ----------
    decoder : Decoder
        How rows are made of what is stored of them.
    stored : dict
        What that is, by name; all of it are attributes, too.
    codes, secondary, padding_idx, own_share, residual, basis, residual_rows, encoding : as above

    Raises
    ------
    InputError
        If dtypes or shapes are others, an index is out of range, or floats are not finite.
    """

    def __init__(
        self,
        codebook: np.ndarray | None = None,
        codes: np.ndarray | None = None,
        secondary: np.ndarray | None = None,
        padding_idx: int | None = None,
        *,
        residual: np.ndarray | None = None,
        basis: np.ndarray | None = None,
        residual_rows: np.ndarray | None = None,
        own_share: float | None = None,
        encoding: str | None = None,
        **stored: Any,
    ) -> None:
        given = {name: part for name, part in {"codebook": codebook, **stored}.items() if part is not None}
        kind = decoder_for(given) if encoding is None else Decoder.of_name(encoding)
        self.encoding, self.stored = encoding, kind.in_order(given)
        self.decoder = kind.of(**self.stored)
        self.codes, self.secondary, self.padding_idx, self.own_share = codes, secondary, padding_idx, own_share
        self.residual, self.basis, self.residual_rows = residual, basis, residual_rows
        if padding_idx is not None:
            check_integer("padding_idx", padding_idx, minimum=0)
        if own_share is not None:
            check_number("own_share", own_share, minimum=0, maximum=1)
        if len({part is None for part in (residual, basis, residual_rows)}) > 1:
            raise InputError("residual, basis and residual_rows must be given together, got some of them")
        if residual is not None and basis is not None:
            check_array("residual", residual, self.dtype)
            check_array("basis", basis, self.dtype)
            shape = (residual.shape[1], self.embedding_dim)
            if basis.shape != shape:
                raise InputError(f"basis must have shape {shape}, got {basis.shape}")
        self._check_index("codes", codes, self.decoder.num_rows)
        self._check_index("secondary", secondary, self.decoder.num_rows, mixed=own_share is not None)
        self._check_index("residual_rows", residual_rows, 0 if residual is None else len(residual))
        if own_share is not None and (secondary is None or not secondary.shape[1]):
            raise InputError("secondary must have at least one row to mix in where there is an own_share, got none")
        for name, array in self.arrays().items():
            _check_finite(name, array)
        if padding_idx is not None and padding_idx >= self.num_embeddings:
            raise InputError(f"padding_idx must be from 0 to {self.num_embeddings - 1}, got {padding_idx}")

    def _check_index(self, name: str, index: np.ndarray | None, rows: int, *, mixed: bool = False) -> None:
        if index is None:
            return
        if index.dtype != np.int32 or index.ndim != 1 + mixed or len(index) != self.num_embeddings:
            shapes = f"({self.num_embeddings}, rows)" if mixed else f"({self.num_embeddings},)"
            raise InputError(f"{name} must be int32 of shape {shapes}, got {index.dtype} of shape {index.shape}")
        if index.size and not 0 <= index.min() <= index.max() < rows:
            raise InputError(f"{name} must be rows from 0 to {rows - 1}, got {index.min()}..{index.max()}")

    def __getattr__(self, name: str) -> Any:
        stored = vars(self).get("stored", {})
        if name not in stored:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return stored[name]

    @property
    def num_embeddings(self) -> int:
        return self.decoder.num_rows if self.codes is None else len(self.codes)

    @property
    def embedding_dim(self) -> int:
        return self.decoder.dim

    @property
    def dtype(self) -> np.dtype:
        """Of embeddings."""
        return self.decoder.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def __repr__(self) -> str:
        shape = f"{self.num_embeddings:,} ids of {self.embedding_dim}"
        return f"ServedTable({shape}, {self.decoder.num_rows:,} rows in {self.decoder}, {self.nbytes:,} bytes)"

    def row_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that rows are made of, by name."""
        return {name: part for name, part in self.stored.items() if isinstance(part, np.ndarray)}

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        of_ids = {name: getattr(self, name) for name in OF_IDS}
        return self.row_arrays() | {name: array for name, array in of_ids.items() if array is not None}

    def facts(self) -> dict[str, Any]:
        """What no array says, as a file has it: always bits and dim, and an encoding only where it has a name."""
        facts = {"padding_idx": self.padding_idx, "own_share": self.own_share, "bits": None, "dim": None}
        facts |= {name: part for name, part in self.stored.items() if not isinstance(part, np.ndarray)}
        return facts if self.encoding is None else {**facts, "encoding": self.encoding}

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
        out: np.ndarray = embeddings(self, _Lookup(self, index))
        return out


class _Lookup(NamedTuple):
    """A `baco_gpu.serving.decoders.Lookup`, by NumPy."""

    table: ServedTable
    at: np.ndarray

    def rows(self, name: str) -> np.ndarray:
        out: np.ndarray = self.array(name)[self.at]
        return out

    def numbers(self) -> np.ndarray:
        return self.at[..., None].astype(np.int64)

    def array(self, name: str, place: int | None = None) -> np.ndarray:
        array: np.ndarray = getattr(self.table, name)
        return array if place is None else array[place]

    def constant(self, value: Any, dtype: Any) -> np.ndarray:
        return np.array(value, dtype)

    def cast(self, values: np.ndarray, dtype: Any) -> np.ndarray:
        return values.astype(dtype, copy=False)

    def take(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        out: np.ndarray = values[places]
        return out

    def columns(self, values: np.ndarray, first: int, last: int) -> np.ndarray:
        return values[..., first:last]

    def mean(self, values: np.ndarray) -> np.ndarray:
        out: np.ndarray = values.mean(axis=-2)
        return out

    def zeroed(self, values: np.ndarray, number: int) -> np.ndarray:
        return np.where(self.numbers() == number, values.dtype.type(0), values)

    def through(self, index: str) -> _Lookup:
        return _Lookup(self.table, self.array(index)[self.at])

    def unpacked(self, packed: np.ndarray, scales: np.ndarray, bits: int, dim: int) -> np.ndarray:
        return (unpack(packed, bits, dim) - np.float32(midpoint(bits))) * scale_values(scales, bits)

    def joined(self, codes: np.ndarray, centroids: np.ndarray, form: ProductFormat) -> np.ndarray:
        turned = (codes[..., None] & (1 << np.arange(form.signs, dtype=codes.dtype))) != 0
        pieces = centroids[codes >> form.signs]
        signed = pieces[..., : form.signs]
        np.negative(signed, out=signed, where=turned)
        return pieces.reshape(*codes.shape[:-1], form.subspaces * form.width)[..., form.places]


def save_codebooks(tables: Mapping[str, ServedTable], path: str | os.PathLike[str]) -> Path:
    """Write tables to one safetensors file, whole or not at all; returns the path.

    The tensors are NAME.codebook, NAME.codes and so on, as in `ServedTable`; the metadata has format, format_version,
    tables, a JSON object of the names and what of the table is no array (`ServedTable.facts`), and sha256, the checksum
    of all. What rows of several tables are made of alike is there once, and `same` in the metadata names it for the
    others.

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
    rows = {f"{name}.{part}" for name, table in tables.items() for part in table.row_arrays()}
    same = _equals({name: array for name, array in tensors.items() if name in rows})
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
    """All tables of a file that `export_codebook`, or `baco compress-model`, wrote, by name.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, another program's, of a newer format, or damaged.
    """
    tensors, metadata = load_tensors(
        path,
        FORMAT,
        FORMAT_VERSION,
        what="codebooks exported by baco_gpu",
        written_by="export_codebook",
        beside="beside",
    )
    try:
        unknown = metadata.keys() - _METADATA
        if unknown:
            raise ValueError(f"it has a {min(unknown)!r}")
        # Files written before there was a checksum lack it.
        digest, of_model = metadata.get("sha256"), "model" in metadata
        if of_model or digest is not None:
            whole = file_checksum(path, str(digest)) if of_model else _checksum(tensors, metadata)
            if digest != whole:
                raise ValueError("its contents do not match their checksum")
        facts_of = json.loads(metadata["tables"])
        for name, twin in json.loads(metadata.get("same", "{}")).items():
            tensors[name] = tensors[twin]
        for name, tensor in tensors.items():
            table, _, part = name.rpartition(".")
            if table not in facts_of:
                raise ValueError(f"{name!r} is of no table")
            facts_of[table][part] = tensor
        return {name: ServedTable(**facts) for name, facts in facts_of.items()}
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
