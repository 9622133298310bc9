"""Safetensors files, whole or not there, with their errors as the operating system's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors
from safetensors import SafetensorError

from baco_gpu.atomic import replacing
from baco_gpu.checks import check_file_name, check_path
from baco_gpu.errors import DAMAGE, InputError

SUFFIX = ".safetensors"
_SHA256, _NO_DIGEST = "sha256", "0" * 64

TRAINED = "baco_gpu.model"
# What a file is that another one was expected for, by its format.
KINDS = {
    "baco_gpu.coclustering": "a co-clustering (of `baco compress --out`)",
    "baco_gpu.codebook": "tables to serve (of `baco train --export` or `baco compress-model`; "
    "baco_gpu.serving.load_codebooks reads them)",
    TRAINED: "a trained model (of `baco train --out`)",
    "baco_gpu.checkpoint": "a checkpoint (of `baco train --checkpoint`, which --resume goes on from)",
}


def save_tensors(
    save_file: Callable[..., None], tensors: dict[str, Any], path: str | os.PathLike[str], metadata: dict[str, str]
) -> Path:
    """Write a safetensors file with the `save_file` of one of its modules, whole or not at all; returns the path.

    The same tensors and metadata are the same bytes.

    Raises
    ------
    InputError
        If `path` is a folder, lies in a folder that does not exist, or has a suffix that says another format.
    OSError
        If the file cannot be written.
    """
    target = check_file_name("path", path, SUFFIX)
    with replacing(target) as temporary:
        try:
            save_file(tensors, temporary, metadata)
            _sort_metadata(temporary)
        except SafetensorError as error:
            raise OSError(f"{target}: cannot be written ({error})") from error
    return target


def _sort_metadata(file: Path) -> None:
    """The safetensors package writes metadata in another order each time (findings/safetensors-metadata-order.sh)."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        stream.seek(8)
        stream.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size))


class RawTensor(NamedTuple):
    """A tensor that is written as its bytes come.

    Attributes
    ----------
    dtype : str
        As safetensors names it: "F32", "BF16", "U8".
    shape : tuple of int
    nbytes : int
    read : function that returns the bytes in parts, each C-contiguous, as what has the buffer protocol
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Iterable[Any]]


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, RawTensor], metadata: dict[str, str]) -> Path:
    """Write a safetensors file tensor by tensor, whole or not at all, with `file_checksum` in its metadata.

    Raises
    ------
    InputError
        If `path` is a folder, lies in a folder that does not exist, or has a suffix that says another format.
    OSError
        If the file cannot be written.
    """
    target = check_file_name("path", path, SUFFIX)
    header: dict[str, Any] = {"__metadata__": dict(sorted({**metadata, _SHA256: _NO_DIGEST}.items()))}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with replacing(target) as temporary, temporary.open("r+b") as stream:
        digest = hashlib.sha256(text)
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for part in tensor.read():
                content = memoryview(part).cast("B")
                digest.update(content)
                stream.write(content)
                del part, content  # before the next one is made
        stream.seek(8)
        stream.write(text.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1))
    return target


def file_checksum(path: str | os.PathLike[str], stored: str) -> str:
    """SHA-256 of a file that `write_tensors` wrote, but for the length of its header and for the checksum in it."""
    with Path(path).open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        digest = hashlib.sha256(stream.read(size).replace(stored.encode(), _NO_DIGEST.encode(), 1))
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def checksum(tensors: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of a text and of the names, dtypes, shapes and contents of C-contiguous arrays, as a hexadecimal."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def read_header(stream: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the bytes of tensors begin in a safetensors file, and what its header says, by their names."""
    size = int.from_bytes(stream.read(8), "little")
    return 8 + size, json.loads(stream.read(size))


def _bfloat16(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Tensors of bfloat16, which NumPy lacks, as float32."""
    out = {}
    with path.open("rb") as stream:
        start, header = read_header(stream)
        for name in names:
            first, last = header[name]["data_offsets"]
            stream.seek(start + first)
            high = np.frombuffer(stream.read(last - first), "<u2").astype("<u4") << 16
            out[name] = high.view("<f4").reshape(header[name]["shape"])
    return out


def load_tensors(
    path: str | os.PathLike[str], form: str, version: int, *, what: str, written_by: str, beside: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """The NumPy arrays and the metadata of a safetensors file of this format and version.

    Those that the metadata list under `beside`, as JSON, are left out. Values of bfloat16 are float32.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, another program's, or of another version. `what` and `written_by`
        tell in the message what was expected.
    """
    source = check_path("path", path)
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected one written by {written_by}")
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != form:
                got = KINDS.get(metadata.get("format", ""), "another safetensors file")
                raise InputError(f"{source}: expected {what}, got {got}")
            if metadata.get("format_version") != str(version):
                raise InputError(f"{source}: expected format version {version}, got {metadata.get('format_version')}")
            left_out = set(json.loads(metadata.get(beside, "[]")))
            names = [name for name in file.keys() if name not in left_out]  # noqa: SIM118 (no mapping)
            wide = {name for name in names if file.get_slice(name).get_dtype() == "BF16"}
            tensors = {name: file.get_tensor(name) for name in names if name not in wide}
        return tensors | _bfloat16(source, wide), metadata
    except InputError:
        raise
    except (SafetensorError, *DAMAGE) as error:
        raise InputError(f"{source}: not a readable safetensors file ({error})") from error
