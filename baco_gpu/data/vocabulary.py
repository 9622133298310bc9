"""The raw ids of one side of the interactions: which id stands behind which contiguous index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from baco_gpu.checks import shown
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 5


class Vocabulary:
    """Sorted distinct raw ids, either int64 integers or strings; the index of an id is its rank.

    Strings are kept as one block of UTF-8 bytes and its offsets, not as Python objects: ten million ids take their
    letters and 8 bytes each, and the two arrays go into a file as they are. They are ordered by code point, which is
    also the order of their bytes.

    Parameters
    ----------
    ids : integer array of shape (n,), or an iterable of n strings
        In any order, repeated ids count once. An empty iterable makes an empty integer vocabulary.

    Raises
    ------
    InputError
        If the ids are neither all integers (within int64) nor all strings.
    """

    __slots__ = ("_arrays",)

    _arrays: dict[str, np.ndarray]

    def __init__(self, ids: Iterable[int] | Iterable[str] | np.ndarray) -> None:
        values = _as_raw(ids, "ids")
        if isinstance(values, np.ndarray):
            self._set_integers(np.unique(values))
        else:
            self._set_strings(values.unique().sort())

    @classmethod
    def from_sorted_integers(cls, integers: np.ndarray) -> Vocabulary:
        """Wrap an int64 array of shape (n,) that is strictly increasing already (not checked again)."""
        vocabulary = object.__new__(cls)
        vocabulary._set_integers(integers)
        return vocabulary

    @classmethod
    def from_sorted_strings(cls, strings: pa.LargeStringArray) -> Vocabulary:
        """Wrap an Arrow array of strings that is strictly increasing and free of nulls already (not checked again)."""
        vocabulary = object.__new__(cls)
        vocabulary._set_strings(strings)
        return vocabulary

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Vocabulary:
        """Rebuild a vocabulary from what `to_arrays` returned.

        Raises
        ------
        InputError
            If the arrays are not those of a vocabulary: other names, dtypes or shapes, ids out of order or repeated,
            offsets that do not fit, bytes that are no UTF-8.
        """
        names = set(arrays)
        if names == {"integers"}:
            integers = _checked_array("integers", arrays["integers"], np.int64)
            if len(integers) and not (integers[1:] > integers[:-1]).all():
                raise InputError("integers of a vocabulary must be strictly increasing")
            return cls.from_sorted_integers(integers)
        if names == {"utf8", "offsets"}:
            return cls.from_sorted_strings(
                _checked_strings(
                    _checked_array("utf8", arrays["utf8"], np.uint8),
                    _checked_array("offsets", arrays["offsets"], np.int64),
                )
            )
        raise InputError(
            f"a vocabulary is 'integers', or 'utf8' and 'offsets'; got {', '.join(sorted(names)) or 'none'}"
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the ids as plain arrays: {"integers": int64 (n,)}, or {"utf8": uint8, "offsets": int64 (n + 1,)}."""
        return dict(self._arrays)

    @property
    def is_integer(self) -> bool:
        """Whether the raw ids are integers; they are strings otherwise."""
        return "integers" in self._arrays

    @property
    def nbytes(self) -> int:
        """Bytes that the ids take in memory."""
        return sum(array.nbytes for array in self._arrays.values())

    def lookup(self, raw: Any) -> Any:
        """Return the index of one raw id, or the indices of many.

        Parameters
        ----------
        raw : int, str, integer array of shape (k,), or an iterable of k ids

        Returns
        -------
        int, or integer array of shape (k,)
            int32, or int64 for a vocabulary of 2**31 ids and more.

        Raises
        ------
        InputError
            If an id is unknown (the first few are named) or of the other kind (a string among integers).
        """
        if isinstance(raw, (str, int, np.integer)) and not isinstance(raw, bool):
            return int(self.lookup([raw])[0])
        values = _as_raw(raw, "raw ids")
        if len(values) == 0:
            return np.empty(0, dtype=self._index_dtype)
        if isinstance(values, np.ndarray) != self.is_integer:
            kind = "integers" if self.is_integer else "strings"
            raise InputError(f"raw ids of this vocabulary are {kind}, got {_shown(values[:1])}")
        indices, known = self._find(values)
        if not known.all():
            unknown = np.flatnonzero(~known)
            listed = _shown(values.take(unknown[:_SHOWN]))
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            raise InputError(f"unknown raw ids: {listed}{more}")
        return indices.astype(self._index_dtype, copy=False)

    def decode(self, indices: Any) -> Any:
        """Return the raw id of one index, or the raw ids of many.

        Parameters
        ----------
        indices : int, or integer array of shape (k,)

        Returns
        -------
        int or str; int64 array of shape (k,), or object array of k strings

        Raises
        ------
        InputError
            If an index is no integer or lies outside 0 .. len - 1.
        """
        positions = np.asarray(indices)
        if positions.size == 0:
            positions = positions.astype(np.int64)
        if positions.dtype.kind not in "iu":
            raise InputError(f"indices must be integers, got {positions.dtype}")
        outside = (positions < 0) | (positions >= len(self))
        if outside.any():
            raise InputError(f"indices must be from 0 to {len(self) - 1}, got {positions[outside][0]}")
        if positions.ndim == 0:
            return self.decode(positions[None]).tolist()[0]
        if self.is_integer:
            return self._arrays["integers"][positions]
        return self.strings().take(positions).to_numpy(zero_copy_only=False)

    def to_arrow(self, indices: np.ndarray) -> pa.Array:
        """The raw ids at `indices`, an integer array of shape (k,), as an Arrow array of int64 or large strings."""
        import pyarrow as pa

        if self.is_integer:
            return pa.array(self._arrays["integers"][indices])
        return self.strings().take(pa.array(indices))

    def take(self, indices: np.ndarray) -> Vocabulary:
        """The vocabulary of the ids at strictly increasing `indices`, an integer array of shape (k,)."""
        if self.is_integer:
            return Vocabulary.from_sorted_integers(self._arrays["integers"][indices])
        return Vocabulary.from_sorted_strings(self.strings().take(indices))

    def union(self, other: Vocabulary) -> Vocabulary:
        """The vocabulary of the ids of both; InputError where one holds integers and the other strings."""
        if not len(self) or not len(other):
            return self if len(self) else other
        if self.is_integer != other.is_integer:
            kinds = ["integers" if vocabulary.is_integer else "strings" for vocabulary in (self, other)]
            raise InputError(f"raw ids of this vocabulary are {kinds[0]}, got a vocabulary of {kinds[1]}")
        if self.is_integer:
            return Vocabulary.from_sorted_integers(np.union1d(self._arrays["integers"], other._arrays["integers"]))
        import pyarrow as pa

        return Vocabulary.from_sorted_strings(pa.concat_arrays([self.strings(), other.strings()]).unique().sort())

    def positions_in(self, other: Vocabulary) -> np.ndarray:
        """The index in `other`, which has all of them, of every id: an increasing int64 array of shape (len,)."""
        if not len(self):
            return np.empty(0, dtype=np.int64)
        own = self._arrays["integers"] if self.is_integer else self.strings()
        return other._find(own)[0].astype(np.int64, copy=False)

    def __len__(self) -> int:
        return len(self._arrays["integers"]) if self.is_integer else len(self._arrays["offsets"]) - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        mine, theirs = self._arrays, other._arrays
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((self.is_integer, len(self)))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {'integers' if self.is_integer else 'strings'})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary.from_arrays, (self.to_arrays(),)

    @property
    def _index_dtype(self) -> type[np.signedinteger]:
        return np.int32 if len(self) < 2**31 else np.int64

    def _find(self, values: Any) -> tuple[np.ndarray, np.ndarray]:
        """Indices of `values` (of this vocabulary's kind), and which of them are known."""
        if self.is_integer:
            integers = self._arrays["integers"]
            if len(integers) == 0:
                return np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
            indices = np.minimum(np.searchsorted(integers, values), len(integers) - 1)
            return indices, integers[indices] == values
        import pyarrow.compute as pc

        found = pc.index_in(values, self.strings())
        return found.fill_null(-1).to_numpy(), found.is_valid().to_numpy(zero_copy_only=False)

    def strings(self) -> pa.LargeStringArray:
        """The ids of a vocabulary of strings, without a copy."""
        import pyarrow as pa

        buffers = pa.py_buffer(self._arrays["offsets"]), pa.py_buffer(self._arrays["utf8"])
        return pa.LargeStringArray.from_buffers(len(self), *buffers)

    def _set_integers(self, integers: np.ndarray) -> None:
        self._arrays = {"integers": _frozen(np.array(integers, dtype=np.int64))}

    def _set_strings(self, strings: pa.LargeStringArray) -> None:
        utf8, offsets = _string_arrays(strings)
        self._arrays = {"utf8": utf8, "offsets": offsets}


def _as_raw(ids: Any, name: str) -> Any:
    """Return `ids` as an int64 array or as an Arrow array of strings; an empty iterable is an empty int64 array."""
    try:
        array = np.asarray(ids) if hasattr(ids, "__array__") else np.asarray(_listed(ids), dtype=object)
    except ValueError as error:  # lists of other lengths within one another
        raise InputError(f"{name} must be a flat list of integers or strings, got {shown(ids)}") from error
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind in "OUT":
        if all(isinstance(value, str) for value in array):
            import pyarrow as pa

            try:
                return pa.array(array.tolist(), type=pa.large_string())
            except (pa.ArrowException, UnicodeEncodeError) as error:
                raise InputError(f"{name} must be strings that UTF-8 can hold") from error
        if all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in array):
            try:
                return array.astype(np.int64)
            except OverflowError as error:
                raise InputError(f"{name} must fit in 64-bit integers") from error
        odd = next((v for v in array if not isinstance(v, (int, np.integer, str)) or isinstance(v, bool)), None)
        got = "a mixture of both" if odd is None and None not in array else repr(odd)
        raise InputError(f"{name} must be all integers or all strings, got {got}")
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers or strings, got {array.dtype}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} must fit in 64-bit signed integers, got {array.max()}")
    return array.astype(np.int64, copy=False)


def _listed(ids: Any) -> list[Any]:
    try:
        return list(ids)
    except TypeError as error:
        raise InputError(f"raw ids must be an integer, a string or a sequence of them, got {ids!r}") from error


def _shown(values: Any) -> str:
    return (
        ", ".join(repr(value) for value in values.tolist())
        if isinstance(values, np.ndarray)
        else ", ".join(repr(value) for value in values.to_pylist())
    )


def _string_arrays(strings: Any) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets of an Arrow array of strings, without what a slice or a builder left around them."""
    offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64) if len(strings) else np.zeros(1, dtype=np.int64)
    offsets = offsets[strings.offset : strings.offset + len(strings) + 1]
    data = strings.buffers()[2] if len(strings) else None
    utf8 = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return _frozen(utf8[offsets[0] : offsets[-1]].copy()), _frozen(offsets - offsets[0])


def _checked_array(name: str, array: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{name} of a vocabulary must be a one-dimensional {dtype.__name__} array, got {got}")
    return array


def _checked_strings(utf8: np.ndarray, offsets: np.ndarray) -> pa.LargeStringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(utf8) or (offsets[1:] < offsets[:-1]).any():
        raise InputError(f"offsets of a vocabulary must rise from 0 to the {len(utf8)} bytes of utf8")
    strings = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(utf8))
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError("utf8 of a vocabulary holds bytes that are no UTF-8") from error
    if len(strings) > 1 and not pc.all(pc.greater(strings[1:], strings[:-1])).as_py():
        raise InputError("strings of a vocabulary must be strictly increasing")
    return strings


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
