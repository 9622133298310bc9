"""The lookup of a table as an ONNX graph, for runtimes that serve those (extra `onnx`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.atomic import replacing
from baco_gpu.checks import check_file_name
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.precision import ProductFormat, midpoint, places, scale_values
from baco_gpu.serving.embeddings import embeddings
from baco_gpu.serving.table import ServedTable

OPSET = 17
INPUT, OUTPUT = "ids", "embeddings"
# Protocol buffers hold 2**31 - 1 bytes; the graph itself, without the arrays, takes a few thousand.
_MOST_BYTES = 2**31 - 2**20
_BYTES = np.arange(256, dtype=np.uint8)


def save_onnx(table: ServedTable, path: str | os.PathLike[str]) -> Path:
    """Write a model that maps int64 `ids` of shape (n,) to `embeddings` of shape (n, embedding_dim).

    Ids must be in range: ONNX counts negative ones from the end, and leaves what it does with others to the runtime.

    Raises
    ------
    InputError
        If `path` is a folder, lies in a folder that does not exist, or has a suffix that says another format; if the
        arrays of the table take 2 GiB, which is more than a file of ONNX holds.
    MissingExtraError
        If the package onnx is not installed.
    """
    target = check_file_name("path", path, ".onnx")
    if table.nbytes > _MOST_BYTES:
        raise InputError(
            f"a table must take at most {_MOST_BYTES:,} bytes in a graph of ONNX, got {table.nbytes:,}; "
            "export it as safetensors, or with a smaller budget"
        )
    model = _model(table)
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return target


def _model(table: ServedTable) -> Any:
    try:
        import onnx
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as error:
        raise MissingExtraError("a graph of ONNX needs onnx: pip install 'baco_gpu[onnx]'") from error

    graph = _Graph(helper, dict(table.arrays()))
    out = embeddings(table, _Lookup(graph, table, INPUT)).name
    graph.nodes.append(helper.make_node("Identity", [out], [OUTPUT]))
    floats = helper.np_dtype_to_tensor_dtype(table.dtype)
    whole = helper.make_graph(
        graph.nodes,
        "codebook_lookup",
        [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info(OUTPUT, floats, ["n", table.embedding_dim])],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in graph.constants.items()],
    )
    # The oldest format that has the operators, so that older runtimes read it too.
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    assert isinstance(model, onnx.ModelProto)
    return model


class _Graph:
    """The nodes of a graph, each named as its output, and its constants."""

    def __init__(self, helper: Any, constants: dict[str, np.ndarray]) -> None:
        self.helper, self.constants = helper, constants
        self.nodes: list[Any] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        self.constants[name] = np.array(value, dtype=dtype)
        return name


class _Value(NamedTuple):
    """What a node gives, for decoders to compute with."""

    graph: _Graph
    name: str

    def _with(self, kind: str, other: _Value) -> _Value:
        return _Value(self.graph, self.graph.node(kind, self.name, other.name))

    def __add__(self, other: _Value) -> _Value:  # type: ignore[override]
        return self._with("Add", other)

    def __sub__(self, other: _Value) -> _Value:
        return self._with("Sub", other)

    def __mul__(self, other: _Value) -> _Value:  # type: ignore[override]
        return self._with("Mul", other)

    def __truediv__(self, other: _Value) -> _Value:
        return self._with("Div", other)

    def __matmul__(self, other: _Value) -> _Value:
        return self._with("MatMul", other)


class _Lookup(NamedTuple):
    """A `baco_gpu.serving.decoders.Lookup` of what the node `at` gives, by nodes."""

    graph: _Graph
    table: ServedTable
    at: str

    def rows(self, name: str) -> _Value:
        return self._value("Gather", name, self.at)

    def numbers(self) -> _Value:
        return self._value(
            "Unsqueeze", self._cast(self.at, np.int64), self._constant("last_axis_of_rows", [-1], np.int64)
        )

    def array(self, name: str, place: int | None = None) -> _Value:
        if place is None:
            return _Value(self.graph, name)
        return self._value("Gather", name, self._constant(f"place_{place}", place, np.int64))

    def constant(self, value: Any, dtype: Any) -> _Value:
        return _Value(self.graph, self._constant(f"constant_{len(self.graph.constants)}", value, dtype))

    def cast(self, values: _Value, dtype: Any) -> _Value:
        return _Value(self.graph, self._cast(values.name, dtype))

    def take(self, values: _Value, places: _Value) -> _Value:
        return self._value("Gather", values.name, self._cast(places.name, np.int64))

    def columns(self, values: _Value, first: int, last: int) -> _Value:
        columns = self._constant(f"columns_{first}_{last}", np.arange(first, last), np.int64)
        return self._value("Gather", values.name, columns, axis=-1)

    def mean(self, values: _Value) -> _Value:
        return self._value("ReduceMean", values.name, axes=[-2], keepdims=0)

    def zeroed(self, values: _Value, number: int) -> _Value:
        there = self.graph.node("Equal", self.numbers().name, self._constant("zeroed", number, np.int64))
        return self._value("Where", there, self._constant("zero", 0, self.table.dtype), values.name)

    def through(self, index: str) -> _Lookup:
        return _Lookup(self.graph, self.table, self.graph.node("Gather", index, self.at))

    def unpacked(self, packed: _Value, scales: _Value, bits: int, dim: int) -> _Value:
        """By division: there is no operator before a later opset that masks bits."""
        node, constant = self.graph.node, self._constant
        low, high, place = places(dim, bits)
        values = self._cast(packed.name, np.int32)
        low_bits = node("Gather", values, constant("low", low, np.int64), axis=-1)
        high_bits = node("Gather", values, constant("high", high, np.int64), axis=-1)
        pairs = node("Add", low_bits, node("Mul", high_bits, constant("byte", 256, np.int32)))
        shifted = node("Div", pairs, constant("divisor", 1 << place, np.int32))
        levels = self._cast(node("Mod", shifted, constant("modulus", 1 << bits, np.int32)), np.float32)
        levels = node("Sub", levels, constant("midpoint", midpoint(bits), np.float32))
        of_bytes = constant("scale_values", scale_values(_BYTES, bits), np.float32)
        return self._value("Mul", levels, node("Gather", of_bytes, self._cast(scales.name, np.int32)))

    def joined(self, codes: _Value, centroids: _Value, form: ProductFormat) -> _Value:
        node, constant = self.graph.node, self._constant
        numbers = self._cast(codes.name, np.int64)
        low = constant("codewords_of_one", 1 << form.signs, np.int64)
        pieces = node("Gather", centroids.name, node("Div", numbers, low))  # (..., pieces, width)
        if form.signs:
            bits = node("Unsqueeze", node("Mod", numbers, low), constant("last_axis_of_numbers", [-1], np.int64))
            # Beyond the signs, zeros: the remainder is less than what it is divided by.
            powers = constant("powers", 1 << np.minimum(np.arange(form.width), form.signs), np.int64)
            turned = node("Mod", node("Div", bits, powers), constant("two", 2, np.int64))
            pieces = node("Mul", pieces, node("Gather", constant("signs", [1, -1], self.table.dtype), turned))
        ends = constant("from", [0], np.int64), constant("to", [-1], np.int64)
        width = constant("joined", [form.subspaces * form.width], np.int64)
        shape = node("Concat", node("Slice", node("Shape", numbers), *ends), width, axis=0)
        columns = constant("places", form.places, np.int64)
        return self._value("Gather", node("Reshape", pieces, shape), columns, axis=-1)

    def _cast(self, name: str, dtype: Any) -> str:
        return self.graph.node("Cast", name, to=self.graph.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _constant(self, name: str, value: Any, dtype: Any) -> str:
        return self.graph.constant(name, value, dtype)

    def _value(self, kind: str, *inputs: str, **attributes: Any) -> _Value:
        return _Value(self.graph, self.graph.node(kind, *inputs, **attributes))
