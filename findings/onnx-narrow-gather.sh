#!/bin/sh
# onnx 1.23.2, onnxruntime 1.32.0: no table of 4-bit, 2-bit or 8-bit float rows can be read by `Gather`, in any opset to
# 25, although tensors of these types are valid. (16-bit floats and 8-bit integers can.)
#
# Guess before the run: Gather moves bytes and takes all types, at least since opset 23 lists them for Reshape and
# Transpose.
# Seen: for UINT4, INT4, UINT2, FLOAT8E4M3FN and FLOAT4E2M1 the checker says "unsupported type" and the runtime refuses
# the model.
# So: an embedding table of narrow rows has to be stored as bytes that the graph takes apart after the lookup, or is
# unpacked whole at every start.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

ROWS = [0, 1, 1, 0, 1, 1, 0, 0]


def lookup(kind, opset):
    """Whether the checker and the runtime take a lookup in a table of this type."""
    table = helper.make_tensor("table", kind, [4, 2], ROWS)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("Cast", ["rows"], ["out"], to=TensorProto.FLOAT),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2])
    model = helper.make_model(
        helper.make_graph(nodes, "lookup", [ids], [out], [table]), opset_imports=[helper.make_opsetid("", opset)]
    )
    try:
        onnx.checker.check_model(model, full_check=True)
        valid = "valid"
    except Exception as error:  # its classes differ by what is wrong
        valid = str(error).splitlines()[0][:60]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        runs = session.run(None, {"ids": np.array([2])})[0].tolist() == [[1.0, 1.0]]
    except Exception as error:
        runs = False
    return valid, runs


print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
wide, narrow = ("UINT8", "INT8", "FLOAT16", "BFLOAT16"), ("UINT4", "INT4", "UINT2", "FLOAT8E4M3FN", "FLOAT4E2M1")
same = True
for name in wide + narrow:
    for opset in (23, 25):
        valid, runs = lookup(getattr(TensorProto, name), opset)
        print(f"{name}, opset {opset}: {valid}; runs: {runs}")
        same &= (valid == "valid") == runs == (name in wide)
sys.exit(0 if same else 1)
PYTHON
