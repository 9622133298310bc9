"""Arrays of any library, taken in as NumPy arrays and checked: ids, weights, and the compressed rows of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from baco_gpu.errors import BackendUnavailableError, InputError

_INSTALL = "pip install 'baco_gpu[cuda13]', or [cuda12]"
_DRIVER = "an NVIDIA driver, 580 or later for [cuda13], 525 or later for [cuda12]; see nvidia-smi"
_DLPACK_CPU = (1, 3)  # kDLCPU, kDLCUDAHost: memory that NumPy may read
_CHUNK = 1 << 22


def as_numpy(name: str, value: Any) -> np.ndarray:
    """Return `value` as a NumPy array, without a copy where its memory allows.

    Takes NumPy, torch (any device) and CuPy arrays, sequences, and whatever offers DLPack, `__array_interface__`,
    `__array__` or `__cuda_array_interface__`.

    Raises
    ------
    InputError
        If it is not an array of one shape.
    BackendUnavailableError
        If it lies on a GPU and CuPy, which would fetch it, is missing.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor of any device, with or without gradient
        value = value.detach().cpu()
    try:
        if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
            if value.__dlpack_device__()[0] in _DLPACK_CPU:
                return np.from_dlpack(value)
            return import_cupy().from_dlpack(value).get()
        if hasattr(value, "__cuda_array_interface__"):
            return import_cupy().asarray(value).get()
        return np.asarray(value)
    except (ValueError, TypeError, BufferError) as error:
        raise InputError(f"{name} must be an array, got {type(value).__name__} ({_first_line(error)})") from error


def import_cupy() -> Any:
    """Import CuPy and make sure that it has a device; raise BackendUnavailableError with cause and remedy otherwise."""
    obstacle = cuda_obstacle()
    if obstacle is not None:
        raise BackendUnavailableError(f"arrays on a GPU need CuPy and a CUDA device: {obstacle}")
    import cupy

    return cupy


def cuda_obstacle() -> str | None:
    """Why nothing can be put on a GPU here, and the remedy; None where CuPy finds a device."""
    try:
        import cupy
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return f"CuPy is not installed ({_INSTALL})"
        return f"CuPy cannot be imported ({_first_line(error)}); remedy: {_INSTALL}"
    try:
        if cupy.cuda.runtime.getDeviceCount():
            return None
        reason = "none is visible"
    except Exception as error:  # CuPy tells a missing driver from one that is too old
        reason = _first_line(error)
    return f"CuPy finds no CUDA device ({reason}); remedy: {_DRIVER}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def as_ids(name: str, value: Any) -> np.ndarray:
    """Return `value` as a one-dimensional array of non-negative integers (its own integer dtype).

    Raises
    ------
    InputError
        For another number of dimensions, another kind of dtype (floats too: ids beyond 2**24 or 2**53 would merge
        silently) or a negative id.
    """
    ids = as_numpy(name, value)
    if ids.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, got shape {ids.shape}")
    if ids.size == 0:
        return np.empty(0, dtype=np.int32)
    if ids.dtype.kind == "f":
        odd = np.flatnonzero(ids != np.floor(ids))
        hint = f"{ids[odd[0]]} at position {odd[0]}" if len(odd) else f"{ids.dtype} (convert whole numbers to int64)"
        raise InputError(f"{name} must be integer ids, got {hint}")
    if ids.dtype.kind not in "iu":
        raise InputError(f"{name} must be integer ids, got dtype {ids.dtype}")
    if ids.dtype.kind == "i" and int(ids.min()) < 0:
        first = int(np.flatnonzero(ids < 0)[0])
        raise InputError(f"{name} must be non-negative ids, got {ids[first]} at position {first}")
    return ids


def as_weights(name: str, value: Any, length: int) -> np.ndarray:
    """Return `value` as a float64 array of shape (length,), finite and non-negative; raise InputError otherwise."""
    weights = as_numpy(name, value)
    if weights.shape != (length,):
        raise InputError(f"{name} must have one value for each of the {length} edges, got shape {weights.shape}")
    if length and weights.dtype.kind not in "iufb":
        raise InputError(f"{name} must be numbers, got dtype {weights.dtype}")
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    # Two reductions instead of two boolean arrays: a NaN makes both minimum and maximum NaN.
    if length and not (weights.min() >= 0 and weights.max() < np.inf):
        first = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise InputError(f"{name} must be finite and non-negative, got {weights[first]} at position {first}")
    return weights


def as_matrix(name: str, value: Any) -> np.ndarray:
    """Return `value` as a two-dimensional array of finite non-negative numbers; raise InputError otherwise.

    The messages have the words that scikit-learn's estimator checks look for.
    """
    matrix = as_numpy(name, value)
    if matrix.ndim != 2:
        raise InputError(f"{name} must be two-dimensional, got shape {matrix.shape}")
    if matrix.dtype.kind == "c":
        raise InputError(f"{name} must hold real numbers, got dtype {matrix.dtype} (Complex data not supported)")
    if matrix.dtype.kind == "O":
        try:
            matrix = matrix.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} must hold numbers, got others as well ({error})") from error
    if matrix.size and matrix.dtype.kind not in "iufb":
        raise InputError(f"{name} must hold numbers, got dtype {matrix.dtype}")
    if matrix.size and not (matrix.min() >= 0 and matrix.max() < np.inf):
        row, column = (int(at[0]) for at in np.nonzero(~(np.isfinite(matrix) & (matrix >= 0))))
        negative = matrix[row, column] < 0 and np.isfinite(matrix[row, column])
        expected = "non-negative (Negative values in data)" if negative else "finite, without NaN or inf"
        raise InputError(f"{name} must be {expected}, got {matrix[row, column]} in row {row}, column {column}")
    return matrix


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Compressed rows: the neighbors of every node of one side.

    Attributes
    ----------
    offsets : int64 array of shape (rows + 1,)
        Row r owns the entries `offsets[r] .. offsets[r + 1] - 1` of the arrays below.
    neighbors : int32 or int64 array of shape (nnz,)
        Ids on the other side, strictly increasing within a row.
    weights : float64 array of shape (nnz,), or None
        Positive; None means 1 for every edge.
    """

    offsets: Any
    neighbors: Any
    weights: Any = None

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def degrees(self) -> Any:
        """Number of edges of every row: int64 array of shape (rows,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        weights = 0 if self.weights is None else self.weights.nbytes
        return int(self.offsets.nbytes + self.neighbors.nbytes + weights)

    def frozen(self) -> Adjacency:
        """Itself, with NumPy arrays read-only from now on."""
        for array in (self.offsets, self.neighbors, self.weights):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        return self

    def moved(self, move: Callable[[Any], Any]) -> Adjacency:
        """The same rows with every array moved to another device."""
        weights = None if self.weights is None else move(self.weights)
        return Adjacency(move(self.offsets), move(self.neighbors), weights).frozen()


def add_to_digest(digest: Any, array: np.ndarray, dtype: str) -> None:
    """Add the array's values as `dtype` to a digest of `hashlib`, a piece at a time: no copy of the whole is made."""
    for start in range(0, len(array), _CHUNK):
        digest.update(np.ascontiguousarray(array[start : start + _CHUNK], dtype=dtype).data)
