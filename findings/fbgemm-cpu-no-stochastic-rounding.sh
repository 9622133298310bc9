#!/bin/sh
# fbgemm-gpu-cpu 1.8.0: tables of 16-bit floats that are trained on a CPU round every step to the nearest value, whatever
# `stochastic_rounding` says, which is True by default. Small steps are lost one by one, all of them.
#
# Guess before the run: rounding is random, as on a GPU and as the argument says, so that many small steps arrive on average.
# Seen, rows of ones, 2,000 steps of 1e-4 (neighbours of 1 are 5e-4 and 1e-3 away): float32 rows are at .8, float16 rows still at
# 1, with stochastic_rounding=True and with False alike.
# So: what a test on a CPU says of training in 16 bits is no word about the GPU; and on a CPU such rows stop learning as
# soon as steps are small.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/pip" install --quiet --no-deps fbgemm-gpu-cpu==1.8.0 || exit 2
"$folder/venv/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { code=$?; tail -n 20 "$folder/log"; exit "$code"; }
import sys
from importlib.metadata import version

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType, SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    EmbeddingLocation,
    SplitTableBatchedEmbeddingBagsCodegen,
)


def trained(precision, stochastic):
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(10, 4, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_SGD,
        learning_rate=1e-4,
        weights_precision=precision,
        stochastic_rounding=stochastic,
    )
    rows = tables.split_embedding_weights()[0]
    rows.fill_(1)
    for _ in range(2000):
        tables(torch.tensor([0]), torch.tensor([0, 1])).sum().backward()
    return rows[0].tolist()


print("torch", torch.__version__, "fbgemm-gpu-cpu", version("fbgemm-gpu-cpu"))
whole = trained(SparseType.FP32, False)
halves = [trained(SparseType.FP16, stochastic) for stochastic in (True, False)]
print("after 2,000 steps of 1e-4: float32", whole, "float16, stochastic", halves[0], "not", halves[1])
sys.exit(0 if all(abs(value - 0.8) < 1e-3 for value in whole) and halves == [[1.0] * 4] * 2 else 1)
PYTHON
