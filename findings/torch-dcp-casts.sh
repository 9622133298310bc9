#!/bin/sh
# torch 2.13.0: torch.distributed.checkpoint loads a tensor into one of any other dtype, without a word: ids wrap around,
# rows become infinite or whole numbers.
#
# Guess before the run: as with a shape that differs, an error; at most a warning where values are lost.
# Seen: of ids 1, 2**40 and 300, a tensor of 8 bits receives 1, 0 and 44; of rows .1, 70000 and -2.5, half precision
# receives .1, infinity and -2.5, and int64 0, 70000 and -2. A shape that differs is a CheckpointException, which is no
# Exception but a BaseException: `except Exception` lets it pass.
# So: whoever resumes a model whose tables or indices have become narrower since trains on other ids and rows. What the
# tensors were has to be kept beside them, and compared.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
cat > "$folder/casts.py" <<'PYTHON'
import math
import sys
import warnings

import torch
import torch.distributed.checkpoint as dcp

folder = sys.argv[1]
kept = {"ids": torch.tensor([1, 2**40, 300]), "rows": torch.tensor([0.1, 70000.0, -2.5])}
warnings.filterwarnings("ignore", message="torch.distributed is disabled")
warnings.simplefilter("error", append=True)  # any other one
dcp.save(kept, checkpoint_id=folder, no_dist=True)
print("torch", torch.__version__)


def loaded(name, dtype):
    state = {name: torch.zeros(3, dtype=dtype)}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    print(f"{name}, kept as {kept[name].dtype}, loaded into {dtype}: {state[name].tolist()}")
    return state[name].tolist()


same = loaded("ids", torch.int8) == [1, 0, 44]
same &= math.isinf(loaded("rows", torch.float16)[1])
same &= loaded("rows", torch.int64) == [0, 70000, -2]
try:
    dcp.load({"ids": torch.zeros(2, dtype=torch.int64)}, checkpoint_id=folder, no_dist=True)
    same = False
except BaseException as error:
    print(f"ids into a tensor of another shape: {type(error).__name__}, an Exception: {isinstance(error, Exception)}")
    same &= not isinstance(error, Exception)
sys.exit(0 if same else 1)
PYTHON
"$folder/venv/bin/python" "$folder/casts.py" "$folder/kept"
