"""Safetensors files, whole or not there, with their errors as the operating system's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from baco_gpu.atomic import replacing


def save_tensors(
    save_file: Callable[..., None], tensors: dict[str, Any], path: str | os.PathLike[str], metadata: dict[str, str]
) -> Path:
    """Write a safetensors file with the `save_file` of one of its modules, whole or not at all; returns the path.

    Raises
    ------
    InputError
        If `path` is a folder, or lies in a folder that does not exist.
    OSError
        If the file cannot be written.
    """
    target = Path(path)
    with replacing(target) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{target}: cannot be written ({error})") from error
    return target
