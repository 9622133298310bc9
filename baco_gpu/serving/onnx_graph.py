"""The lookup of a table as an ONNX graph, for runtimes that serve those (extra `onnx`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from baco_gpu.atomic import replacing
from baco_gpu.errors import MissingExtraError
from baco_gpu.precision import ProductFormat, length_values, midpoint, places, scale_values
from baco_gpu.serving.table import ServedTable

OPSET = 17
INPUT, OUTPUT = "ids", "embeddings"


def save_onnx(table: ServedTable, path: str | os.PathLike[str]) -> Path:
    """Write a model that maps int64 `ids` of shape (n,) to `embeddings` of shape (n, embedding_dim).

    Ids must be in range: ONNX counts negative ones from the end, and leaves what it does with others to the runtime.

    Raises
    ------
    InputError
        If `path` is a folder, or lies in a folder that does not exist.
    MissingExtraError
        If the package onnx is not installed.
    """
    target = Path(path)
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

    constants = dict(table.arrays())
    nodes: list[Any] = []

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(name: str, value: Any, dtype: Any) -> str:
        constants[name] = np.array(value, dtype=dtype)
        return name

    def rows(index: str) -> str:
        values = node("Gather", "codebook", index)
        if table.form is not None:
            out = put_together(node("Cast", values, to=TensorProto.INT64), table.form)
            return out if table.scales is None else node("Mul", out, scales_of(index, length_values, value))
        if table.bits is None or table.dim is None:
            return values
        values = node("Cast", unpacked(values, table.bits, table.dim), to=TensorProto.FLOAT)
        values = node("Sub", values, constant("midpoint", midpoint(table.bits), np.float32))
        return node("Mul", values, scales_of(index, partial(scale_values, bits=table.bits), np.dtype(np.float32)))

    def scales_of(index: str, values_of: Callable[[np.ndarray], np.ndarray], dtype: np.dtype) -> str:
        scales = node("Cast", node("Gather", "scales", index), to=TensorProto.INT32)
        return node("Gather", constant("scale_values", values_of(np.arange(256, dtype=np.uint8)), dtype), scales)

    def put_together(numbers: str, form: ProductFormat) -> str:
        """Rows of the numbers of centroids and signs."""
        low = constant("codewords_of_one", 1 << form.signs, np.int64)
        pieces = node("Gather", "centroids", node("Div", numbers, low))  # (..., pieces, width)
        if form.signs:
            bits = node("Unsqueeze", node("Mod", numbers, low), constant("last_axis_of_numbers", [-1], np.int64))
            # Beyond the signs, zeros: the remainder is less than what it is divided by.
            powers = constant("powers", 1 << np.minimum(np.arange(form.width), form.signs), np.int64)
            turned = node("Mod", node("Div", bits, powers), constant("two", 2, np.int64))
            pieces = node("Mul", pieces, node("Gather", constant("signs", [1, -1], value), turned))
        joined = node("Reshape", pieces, joined_shape(numbers, form.subspaces * form.width))
        return node("Gather", joined, constant("places", form.places, np.int64), axis=-1)

    def joined_shape(numbers: str, width: int) -> str:
        leading = node("Slice", node("Shape", numbers), constant("from", [0], np.int64), constant("to", [-1], np.int64))
        return node("Concat", leading, constant("joined", [width], np.int64), axis=0)

    def unpacked(values: str, bits: int, dim: int) -> str:
        """The integers of packed bytes, by division: there is no operator before a later opset that masks bits."""
        low, high, place = places(dim, bits)
        values = node("Cast", values, to=TensorProto.INT32)
        low_bits = node("Gather", values, constant("low", low, np.int64), axis=-1)
        high_bits = node("Gather", values, constant("high", high, np.int64), axis=-1)
        pairs = node("Add", low_bits, node("Mul", high_bits, constant("byte", 256, np.int32)))
        shifted = node("Div", pairs, constant("divisor", 1 << place, np.int32))
        return node("Mod", shifted, constant("modulus", 1 << bits, np.int32))

    value = table.dtype
    wide = np.result_type(value, np.float32)
    out = rows(INPUT if table.codes is None else node("Gather", "codes", INPUT))
    if table.secondary is not None:
        second = rows(node("Gather", "secondary", INPUT))
        if table.own_share is not None:
            second = node("ReduceMean", second, axes=[1], keepdims=0)
        if wide != value:
            to = helper.np_dtype_to_tensor_dtype(wide)
            out, second = node("Cast", out, to=to), node("Cast", second, to=to)
        if table.own_share is None:
            out = node("Mul", node("Add", out, second), constant("half", 0.5, wide))
        else:
            out = node("Mul", out, constant("own_share", table.own_share, wide))
            second = node("Mul", second, constant("other_share", 1 - table.own_share, wide))
            out = node("Add", out, second)
        if wide != value:
            out = node("Cast", out, to=helper.np_dtype_to_tensor_dtype(value))
    if table.padding_idx is not None:
        is_padding = node("Equal", INPUT, constant("padding_idx", table.padding_idx, np.int64))
        column = node("Unsqueeze", is_padding, constant("last_axis", [1], np.int64))
        out = node("Where", column, constant("zero", 0, value), out)
    if table.residual is not None:
        own = node("Gather", "residual", node("Gather", "residual_rows", INPUT))
        out = node("Add", out, node("MatMul", own, "basis"))
    nodes.append(helper.make_node("Identity", [out], [OUTPUT]))
    graph = helper.make_graph(
        nodes,
        "codebook_lookup",
        [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info(OUTPUT, helper.np_dtype_to_tensor_dtype(value), ["n", table.embedding_dim])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    # The oldest format that has the operators, so that older runtimes read it too.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    assert isinstance(model, onnx.ModelProto)
    return model
