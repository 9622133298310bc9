"""The tensors of a trained model, wherever they lie: their shapes at once, their values as they are asked for."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from baco_gpu.errors import DAMAGE, InputError
from baco_gpu.tables.full import embeddings_in
from baco_gpu.tensor_file import KINDS, TRAINED, read_header

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
_STATES = ("state_dict", "model_state_dict", "model")  # where trainers keep it in a checkpoint
_CONFIG = "config.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}  # as safetensors has them
_TABLES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class StoredTensor(NamedTuple):
    """A tensor that is read as it is asked for.

    Attributes
    ----------
    shape : tuple of int
    dtype : torch.dtype
    read : function that returns the tensor, on the CPU
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> StoredTensor:
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor.detach().cpu())

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def could_be_table(self) -> bool:
        """Whether it is a matrix of floats."""
        return len(self.shape) == 2 and min(self.shape) > 0 and self.dtype in _TABLES


@dataclass
class StateSource:
    """The tensors of a model by name.

    Attributes
    ----------
    tensors : dict of str to StoredTensor
    tied : dict of str to str
        Of names whose tensor is there under an earlier name, that one; they are not among `tensors`.
    embeddings : dict of str to module, or None
        The names of tensors that are weights of embeddings, where the model says so.
    config : dict
        Of the `config.json` of a folder.
    """

    tensors: dict[str, StoredTensor]
    tied: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, nn.Module] | None = None
    config: dict[str, Any] = field(default_factory=dict)


def open_state(source: Any) -> StateSource:
    """The tensors of a module, a `state_dict`, a file or a folder.

    A file is .safetensors, or what `torch.save` wrote of a `state_dict` (.pt, .pth, .bin, .ckpt), which is read by
    `weights_only`. A folder has a config.json and model.safetensors or pytorch_model.bin, or parts of it and an index.

    Raises
    ------
    InputError
        If it is none of these, a file is missing or damaged, or there are no tensors.
    """
    if isinstance(source, nn.Module):
        return _of_module(source)
    if isinstance(source, Mapping):
        return _of_state("source", source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source must be a path, a state_dict or a module, got {type(source).__name__}")
    path = Path(source)
    if path.is_dir():
        return _of_folder(path)
    return _of_file(path)


def _of_module(module: nn.Module) -> StateSource:
    source = _of_state("source", module.state_dict(keep_vars=True))
    weights = {f"{name}.weight".lstrip("."): part for name, part in embeddings_in(module).items()}
    source.embeddings = {key: part for key, part in weights.items() if key in source.tensors}
    return source


def _of_state(where: str, state: Mapping[Any, Any]) -> StateSource:
    tensors: dict[str, StoredTensor] = {}
    tied: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(
                f"{where}: expected a state_dict, of names to tensors, got {type(tensor).__name__} under {name!r}; "
                "save model.state_dict()"
            )
        if (reason := _unreadable(tensor)) is not None:
            raise InputError(f"{where}: expected dense tensors with values, got {name!r} {reason}")
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            tied[name] = first[place]
        else:
            tensors[name] = StoredTensor.of(tensor)
    if not tensors:
        raise InputError(f"{where}: expected a state_dict with tensors, got none")
    return StateSource(tensors, tied)


def _unreadable(tensor: Tensor) -> str | None:
    """Why the values of a tensor are not to be had as they are, and what to do."""
    if hasattr(tensor, "full_tensor") or hasattr(tensor, "local_shards"):  # DTensor, ShardedTensor
        how = "full_tensor" if hasattr(tensor, "full_tensor") else "gather"
        return f"spread over processes: put it together first, by its method {how}"
    if is_lazy(tensor) or tensor.is_meta:
        return "without values: load the model first"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}: make it dense first"
    if tensor.dtype not in NAMES:
        return f"of dtype {tensor.dtype}, which safetensors files do not have"
    return None


def _of_file(path: Path) -> StateSource:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a trained model ({', '.join(SUFFIXES)}, or a folder)")
    if path.suffix == ".safetensors":
        tensors = tensors_in(path)
        with safetensors.safe_open(path, framework="pt") as file:
            form = (file.metadata() or {}).get("format")
        if form in KINDS and form != TRAINED:
            raise InputError(f"{path}: expected a trained model, got {KINDS[form]}")
        return StateSource(tensors)
    if path.suffix not in PICKLED:
        raise InputError(f"{path}: expected a file of {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}")
    return _of_state(str(path), _unpickled(path))


def tensors_in(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file; InputError where it cannot be read, or has none."""
    try:
        with safetensors.safe_open(path, framework="pt") as checked:
            names = list(checked.keys())
        file = _File(path)
        tensors = {name: file.tensor(name) for name in names}
    except (SafetensorError, *DAMAGE) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if not tensors:
        raise InputError(f"{path}: expected tensors, got none")
    return tensors


class _File:
    """A safetensors file, of which a tensor's own bytes are in memory, mapped, and only while the tensor is there.

    It stays the file that was opened, whatever takes its name.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        weakref.finalize(self, self._stream.close)
        self._first, self._header = read_header(self._stream)

    def tensor(self, name: str) -> StoredTensor:
        facts = self._header[name]
        shape, dtype, place = tuple(facts["shape"]), DTYPES[facts["dtype"]], facts["data_offsets"]
        return StoredTensor(shape, dtype, partial(self._read, shape, dtype, *place))

    def _read(self, shape: tuple[int, ...], dtype: torch.dtype, first: int, end: int) -> Tensor:
        if first == end:
            return torch.empty(shape, dtype=dtype)
        mapped = np.memmap(self._stream, np.uint8, "c", self._first + first, (end - first,))
        return torch.from_numpy(mapped).view(dtype).view(shape)


def _unpickled(path: Path) -> Mapping[Any, Any]:
    """The `state_dict` in a file, whose tensors stay on the disk until they are read where it is of PyTorch's form."""
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file from before there were such
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The first sentence: those after it say how to run what is in the file.
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise InputError(
            f"{path}: expected a state_dict that loads with weights_only=True ({reason}); save model.state_dict()"
        ) from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: expected a state_dict, of names to tensors, got {type(found).__name__}")
    inner = next((found[key] for key in _STATES if isinstance(found.get(key), Mapping)), None)
    return found if inner is None else inner


def _of_folder(folder: Path) -> StateSource:
    config = _json(folder / _CONFIG)
    for weights, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (folder / weights).is_file():
            source = _of_file(folder / weights)
            source.config = config
            return source
        if (folder / index).is_file():
            return _of_parts(folder, folder / index, config)
    raise InputError(
        f"{folder}: expected model.safetensors or pytorch_model.bin, or an index of parts, beside {_CONFIG}, got none"
    )


def _of_parts(folder: Path, index: Path, config: dict[str, Any]) -> StateSource:
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: expected a weight_map of names to files, got none")
    parts: dict[str, StateSource] = {}
    source = StateSource({}, config=config)
    for name, place in places.items():
        if not isinstance(place, str) or Path(place).name != place:
            raise InputError(f"{index}: expected the name of a file beside it for {name!r}, got {place!r}")
        if place not in parts:
            parts[place] = _of_file(folder / place)
        part = parts[place]
        if name in part.tied:
            source.tied[name] = part.tied[name]
        elif name in part.tensors:
            source.tensors[name] = part.tensors[name]
        else:
            raise InputError(f"{folder / place}: expected a tensor {name!r}, as {index.name} says, got none")
    return source


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected the folder of a trained model to have one") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected JSON, got what cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected an object of JSON, got {type(found).__name__}")
    return found
