#!/bin/sh
# safetensors 0.8.0: the same tensors saved with the same metadata of several keys are other bytes each time, even
# within one process; with one key, or without metadata, they are the same bytes.
#
# Guess before the run: the format is a sorted header and raw data, so that equal content gives equal bytes.
# Seen: ten saves with six keys of metadata give ten files, which differ in the order of the keys alone.
# So: a checksum of a file says nothing of whether two tables are equal, caches by content miss, and a build with such a
# file in it is not reproducible; hash the tensors, or write the header with sorted keys.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import hashlib
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

tensors = {"codes": np.arange(8, dtype=np.int32), "codebook": np.ones((2, 4), np.float32)}
print("safetensors", safetensors.__version__)
seen = {}
for keys in (0, 1, 6):
    files = [save(tensors, {f"key{i}": "value" for i in range(keys)} or None) for _ in range(10)]
    seen[keys] = len({hashlib.sha256(file).digest() for file in files})
    equal = all((load(file)[name] == tensor).all() for file in files for name, tensor in tensors.items())
    print(f"{keys} keys of metadata: 10 saves, {seen[keys]} different files; tensors equal: {equal}")
sys.exit(0 if seen[0] == seen[1] == 1 and seen[6] > 1 else 1)
PYTHON
