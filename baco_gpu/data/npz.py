"""Ready-made splits in one .npz file: `train`, `val`, `test` of shape (2, n) and the scalars num_users, num_items.

The arrays of vocabularies (`Vocabulary.to_arrays`) may stand beside them, under names such as users.integers.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError

_PARTS = ("train", "val", "test")
_SIZES = ("num_users", "num_items")
_KNOWN = {*_PARTS, *_SIZES} | {
    f"{side}.{name}" for side in ("users", "items") for name in ("integers", "utf8", "offsets")
}


def read_npz(path: Path) -> SplitInteractions:
    """Read a split that `numpy.savez` or `numpy.savez_compressed` wrote.

    The ids are zero-based already; the vocabularies lead to the raw ones, where the file has any.

    Raises
    ------
    InputError
        If it is no .npz file, is damaged, lacks an array, or holds arrays of another shape or kind or with ids outside
        the declared sizes.
    """
    arrays = _load(path)
    num_users, num_items = (_scalar(path, name, arrays[name]) for name in _SIZES)
    vocabularies = (_vocabulary(path, "users", arrays, num_users), _vocabulary(path, "items", arrays, num_items))
    parts = [_part(path, name, arrays[name], num_users, num_items, vocabularies) for name in _PARTS]
    return SplitInteractions(*parts)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise InputError(f"{path}: expected an .npz archive, which is a ZIP file, got another file")
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            missing = [name for name in (*_PARTS, *_SIZES) if name not in archive]
            if missing:
                found = ", ".join(archive.files) or "nothing"
                raise InputError(f"{path}: expected the array {missing[0]!r} in the .npz archive, found {found}")
            return {name: archive[name] for name in archive.files if name in _KNOWN}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected an .npz archive of plain arrays, but it cannot be read ({error})"
        ) from error


def _scalar(path: Path, name: str, array: np.ndarray) -> int:
    if array.shape != () or array.dtype.kind not in "iu" or int(array) < 0:
        got = int(array) if array.shape == () and array.dtype.kind in "iu" else f"{array.dtype} of shape {array.shape}"
        raise InputError(f"{path}: {name} must be one non-negative integer, got {got}")
    return int(array)


def _vocabulary(path: Path, side: str, arrays: dict[str, np.ndarray], size: int) -> Vocabulary | None:
    own = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{side}.")}
    if not own:
        return None
    try:
        vocabulary = Vocabulary.from_arrays(own)
    except InputError as error:
        raise InputError(f"{path}: {side}: {error}") from error
    if len(vocabulary) != size:
        raise InputError(f"{path}: expected the raw ids of {size} {side}, got {len(vocabulary)}")
    return vocabulary


def _part(
    path: Path,
    name: str,
    array: np.ndarray,
    num_users: int,
    num_items: int,
    vocabularies: tuple[Vocabulary | None, Vocabulary | None],
) -> Interactions:
    if array.ndim != 2 or array.shape[0] != 2 or array.dtype.kind not in "iu":
        raise InputError(f"{path}: {name} must be integers of shape (2, n), got {array.dtype} of shape {array.shape}")
    columns = []
    for side, ids, size in (("user", array[0], num_users), ("item", array[1], num_items)):
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= size):
            position = int(np.flatnonzero((ids < 0) | (ids >= size))[0])
            raise InputError(
                f"{path}: {name} must hold {side} ids from 0 to {size - 1}, got {ids[position]} at position {position}"
            )
        columns.append(np.ascontiguousarray(ids, dtype=np.int32 if size < 2**31 else np.int64))
    return Interactions(
        columns[0],
        columns[1],
        num_users,
        num_items,
        user_vocabulary=vocabularies[0],
        item_vocabulary=vocabularies[1],
    )
