"""Safetensors files, whole or not there, with their errors as the operating system's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError

from baco_gpu.atomic import replacing
from baco_gpu.checks import check_path
from baco_gpu.errors import DAMAGE, InputError

# What a file is that another one was expected for, by its format.
KINDS = {
    "baco_gpu.coclustering": "a co-clustering (of `baco compress --out`)",
    "baco_gpu.codebook": "tables to serve (of `baco train --export`; baco_gpu.serving.load_codebooks reads them)",
    "baco_gpu.model": "a trained model (of `baco train --out`)",
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
        If `path` is a folder, or lies in a folder that does not exist.
    OSError
        If the file cannot be written.
    """
    target = check_path("path", path)
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


def checksum(tensors: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of a text and of the names, dtypes, shapes and contents of C-contiguous arrays, as a hexadecimal."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def load_tensors(
    path: str | os.PathLike[str], form: str, version: int, *, what: str, written_by: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The NumPy arrays and the metadata of a safetensors file of this format and version.

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
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (no mapping)
    except InputError:
        raise
    except (SafetensorError, *DAMAGE) as error:
        raise InputError(f"{source}: not a readable safetensors file ({error})") from error
