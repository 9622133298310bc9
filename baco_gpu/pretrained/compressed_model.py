"""A model whose tables are small: its file, and the ways back into a model, or to rows without one.

The file is one that `baco_gpu.serving.load_codebooks` reads: of every table the arrays that lookups read, once. Under
`model` its metadata say how the state of the table's module is made of the same arrays, and under `beside` which
tensors are no table's: what else the model has, under its own names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from baco_gpu.checks import check_path
from baco_gpu.errors import DAMAGE, InputError, damage
from baco_gpu.pretrained.state_sources import DTYPES, NAMES, StoredTensor, tensors_in
from baco_gpu.pretrained.table_losses import ModelReport, blocks
from baco_gpu.serving.table import FORMAT, FORMAT_VERSION, ServedTable
from baco_gpu.tables.embedding_table import EmbeddingTable, numpy_of
from baco_gpu.tables.export import served_table
from baco_gpu.tables.rebuild import pools, rebuild_module, state_under, table_of
from baco_gpu.tensor_file import KINDS, RawTensor, file_checksum, write_tensors

_OWN = ".state."  # between the name of a table and what of its state no lookup reads


@dataclass
class CompressedModel:
    """A model with small tables, without its modules.

    Attributes
    ----------
    tables : dict of str to EmbeddingTable
        By the names of their modules, on the CPU.
    keys : dict of str to str
        The names of the tensors that the tables were.
    others : dict of str to StoredTensor
        The other tensors of the model, read when needed.
    tied : dict of str to str
        Names of tensors that are the tensor of another name.
    report : ModelReport or None
        What was lost; None where it comes from a file.
    """

    tables: dict[str, EmbeddingTable]
    keys: dict[str, str]
    others: dict[str, StoredTensor]
    tied: dict[str, str] = field(default_factory=dict)
    report: ModelReport | None = None

    def __repr__(self) -> str:
        size = sum(table.nbytes for table in self.tables.values())
        return f"CompressedModel({len(self.tables)} tables of {size:,} bytes, {len(self.others)} other tensors)"

    def table(self, name: str) -> EmbeddingTable:
        """A table as a module to look up in; InputError for an unknown name."""
        if name not in self.tables:
            raise InputError(f"name must be one of {', '.join(map(repr, self.tables))}, got {name!r}")
        return self.tables[name]

    def state_dict(self, bags: Collection[str] = ()) -> dict[str, Tensor]:
        """The state of the model with its small tables, for `rebuild_module`.

        `bags` are the names of tables that bags of ids are looked up in.
        """
        state = self._others()
        for name, table in self.tables.items():
            state |= state_under(name, table, pooled=name in bags)
        return state

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What no tensor tells of the tables, as `rebuild_module` takes it."""
        return {name: table.settings() for name, table in self.tables.items()}

    def rebuild(self, model: nn.Module, *, strict: bool = True) -> None:
        """Replace the tables of `model` by these, and load the rest; see `rebuild_module`.

        Raises
        ------
        InputError
            When the model has no module of the name of a table, or another one than an embedding, or as
            `rebuild_module` does.
        RuntimeError
            As of `load_state_dict`.
        """
        bags = [name for name in self.tables if pools(model, name)]
        rebuild_module(model, self.state_dict(bags), settings=self.settings, strict=strict)

    def expanded(self) -> dict[str, Tensor]:
        """The state of the model with plain tables of floats, under their old names, for any program."""
        return {**self._others(), **{self.keys[name]: _rows(table) for name, table in self.tables.items()}}

    def save_expanded(self, path: str | os.PathLike[str]) -> Path:
        """Write what `expanded` says to a safetensors file, a part of a table at a time; returns the path.

        A tied tensor is there once, as Hugging Face's libraries have it. Raises as `save` does.
        """
        written = {key: _raw_other(tensor) for key, tensor in self.others.items()}
        for name, table in self.tables.items():
            shape = (table.num_embeddings, table.embedding_dim)
            dtype = table(torch.zeros(1, dtype=torch.int64)).dtype
            nbytes = shape[0] * shape[1] * dtype.itemsize
            written[self.keys[name]] = RawTensor(NAMES[dtype], shape, nbytes, partial(_row_bytes, table))
        return write_tensors(path, written, {"format": "pt"})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file, whole or not at all, with a checksum; returns the path.

        Tensors keep their dtypes; the same model gives the same bytes. `load_compressed` reads it, and
        `baco_gpu.serving.load_codebooks` its tables.

        Raises
        ------
        InputError
            If `path` is a folder, or lies in a folder that does not exist, or a table cannot be exported.
        OSError
            If the file cannot be written.
        """
        written: dict[str, RawTensor] = {}
        tables, model, beside = {}, {}, []
        for name, table in sorted(self.tables.items()):
            served = served_table(table)
            tables[name] = served.facts()
            parts, states = _views(served, table.state_dict())
            written |= {f"{name}.{part}": _raw(tensor) for part, tensor in parts.items()}
            own = {part: tensor for part, tensor in table.state_dict().items() if part not in states}
            written |= {f"{name}{_OWN}{part}": _raw(tensor) for part, tensor in own.items()}
            beside += [f"{name}{_OWN}{part}" for part in own]
            model[name] = {"key": self.keys[name], "dim": table.embedding_dim, "settings": table.settings()}
            model[name] |= {"state": states}
        for key, tensor in sorted(self.others.items()):
            if key in written or any(key.startswith(f"{name}{_OWN}") for name in tables):
                raise InputError(f"a tensor of the model must not be named as a table's, got {key!r}")
            written[key] = _raw_other(tensor)
            beside.append(key)
        metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "same": "{}"}
        metadata |= {"tables": json.dumps(tables), "beside": json.dumps(beside)}
        metadata["model"] = json.dumps({"tables": model, "tied": self.tied})
        return write_tensors(path, written, metadata)

    def _others(self) -> dict[str, Tensor]:
        state = {key: tensor.read() for key, tensor in self.others.items()}
        return state | {key: state[first] for key, first in self.tied.items()}


def load_compressed(path: str | os.PathLike[str]) -> CompressedModel:
    """A model with small tables from a file that `CompressedModel.save`, or `baco compress-model`, wrote.

    The tables are read, the other tensors stay on the disk until they are asked for.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, another one, of another version, or damaged.
    """
    source = check_path("path", path)
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected one written by baco compress-model")
    try:
        with safetensors.safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, *DAMAGE) as error:
        raise InputError(f"{source}: not a readable safetensors file ({error})") from error
    if metadata.get("format") != FORMAT or "model" not in metadata:
        got = KINDS.get(metadata.get("format", ""), "another safetensors file")
        raise InputError(f"{source}: expected a compressed model (of baco compress-model), got {got}")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise InputError(f"{source}: expected format version {FORMAT_VERSION}, got {metadata.get('format_version')}")
    try:
        if file_checksum(source, metadata["sha256"]) != metadata["sha256"]:
            raise ValueError("its contents do not match their checksum")
        model, beside = json.loads(metadata["model"]), json.loads(metadata["beside"])
        tensors = tensors_in(source)
        tables = {name: _table(name, facts, tensors) for name, facts in model["tables"].items()}
        others = {key: tensors[key] for key in beside if key.partition(_OWN)[0] not in tables or _OWN not in key}
    except DAMAGE as error:
        raise InputError(f"{source}: damaged model ({damage(error)})") from error
    return CompressedModel(
        tables, {name: facts["key"] for name, facts in model["tables"].items()}, others, model["tied"]
    )


def _table(name: str, facts: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> EmbeddingTable:
    state = {}
    for part, view in facts["state"].items():
        dtype = DTYPES[view["dtype"]]
        if "same" in view:
            state[part] = tensors[f"{name}.{view['same']}"].read().view(dtype)
        else:
            state[part] = (
                torch.arange(view["count"], dtype=dtype) if "count" in view else torch.empty(view["shape"], dtype=dtype)
            )
    prefix = f"{name}{_OWN}"
    state |= {key.removeprefix(prefix): part.read() for key, part in tensors.items() if key.startswith(prefix)}
    table: Any = table_of(state, facts["dim"], **facts["settings"])
    table.see_stored(True)
    return table.requires_grad_(True).eval()


def _views(served: ServedTable, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The arrays of a table, as they are in the state where they are, and how the state is made of them.

    What counts from 0, or is empty, is no array of the file.
    """
    parts = {part: torch.from_numpy(np.ascontiguousarray(array)) for part, array in served.arrays().items()}
    states: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        values, dtype = numpy_of(tensor), NAMES[tensor.dtype]
        if not tensor.numel():
            states[name] = {"shape": list(tensor.shape), "dtype": dtype}
            continue
        for part, array in served.arrays().items():
            if array.shape == values.shape and _same_bytes(array, values):
                states[name] = {"same": part, "dtype": dtype}
                if tensor.is_floating_point():
                    parts[part] = tensor
                break
        else:
            if tensor.ndim == 1 and not tensor.is_floating_point() and np.array_equal(values, np.arange(len(values))):
                states[name] = {"count": len(values), "dtype": dtype}
    return parts, states


def _same_bytes(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.itemsize != other.dtype.itemsize or (one.dtype.kind == "f") != (other.dtype.kind == "f"):
        return False
    return bool(np.array_equal(one, np.ascontiguousarray(other).view(one.dtype)))


@torch.no_grad()
def _rows(table: EmbeddingTable) -> Tensor:
    rows = table(torch.zeros(1, dtype=torch.int64)).new_empty((table.num_embeddings, table.embedding_dim))
    for ids in blocks(len(rows)):
        rows[ids[0] : ids[-1] + 1] = table(ids)
    return rows


@torch.no_grad()
def _row_bytes(table: EmbeddingTable) -> Iterator[np.ndarray]:
    for ids in blocks(table.num_embeddings):
        yield _bytes(table(ids))


def _raw(tensor: Tensor) -> RawTensor:
    return RawTensor(NAMES[tensor.dtype], tuple(tensor.shape), tensor.nbytes, lambda: [_bytes(tensor)])


def _raw_other(tensor: StoredTensor) -> RawTensor:
    return RawTensor(NAMES[tensor.dtype], tensor.shape, tensor.nbytes, lambda: [_bytes(tensor.read())])


def _bytes(tensor: Tensor) -> np.ndarray:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    array: np.ndarray = flat.view(torch.uint8).numpy()
    return array
