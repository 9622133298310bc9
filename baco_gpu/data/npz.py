"""Ready-made splits in one .npz file: `train`, `val`, `test` of shape (2, n) and the scalars num_users, num_items.

The arrays of vocabularies (`Vocabulary.to_arrays`) may stand beside them, under names such as users.integers.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import DAMAGE, InputError, brief

_PARTS = ("train", "val", "test")
_SIZES = ("num_users", "num_items")
_KNOWN = {*_PARTS, *_SIZES} | {
    f"{side}.{name}" for side in ("users", "items") for name in ("integers", "utf8", "offsets")
}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_DEFLATED = 1032  # bytes that one byte of DEFLATE can stand for
_BLOCK_BYTES = 1 << 20


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
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: expected an .npz archive, which is a ZIP file, got another file")
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            missing = [name for name in (*_PARTS, *_SIZES) if name not in members]
            if missing:
                found = ", ".join(members) or "nothing"
                raise InputError(f"{path}: expected the array {missing[0]!r} in the .npz archive, found {found}")
            size = path.stat().st_size
            return {name: _array(archive, member, size) for name, member in members.items() if name in _KNOWN}
    except InputError:
        raise
    except (*DAMAGE, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError) as error:
        raise InputError(
            f"{path}: expected an .npz archive of plain arrays, but it cannot be read ({brief(error)})"
        ) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> np.ndarray:
    """One array of an archive of `size` bytes; ValueError, before memory is taken, for one that cannot be in it."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in another way than NumPy does")
    if member.compress_size > size or member.file_size > _MOST_DEFLATED * (member.compress_size + 1):
        raise ValueError(f"{member.filename} is said to have {member.file_size} bytes, more than the file can hold")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} has version {version} of NumPy's format")
        shape, is_fortran, dtype = _HEADERS[version](stream)
        if dtype.kind not in "biufc":
            raise ValueError(f"{member.filename} holds {dtype}, and no numbers")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} is said to have shape {shape}, and has another size")
        array = np.empty(shape, dtype, order="F" if is_fortran else "C")
        content = array.reshape(-1, order="A").view(np.uint8)
        for start in range(0, len(content), _BLOCK_BYTES):
            block = stream.read(min(_BLOCK_BYTES, len(content) - start))
            content[start : start + len(block)] = np.frombuffer(block, np.uint8)
            if start + len(block) < min(start + _BLOCK_BYTES, len(content)):
                raise EOFError(f"{member.filename} ends early")
        stream.read(1)  # the checksum is looked at where the member ends
    return array


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
