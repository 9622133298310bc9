#!/bin/sh
# torch 2.13.0: when torchrun starts its processes again (`--max-restarts`), they meet in the store of the start before,
# under the same names, and find there what those had written that are dead.
#
# Guess before the run: the store is new, or its names are those of this start; PyTorch's own comment where it makes the
# store says that there is a new one for every retry.
# Seen: the second start reads the word that the first one left.
# So: whoever meets under fixed names reads, now and then, an address of the start before: gloo's default group did so in
# both restarts of a training that were tried, and ended with "Connection refused", or waited. A group wants a part of the store
# that is new; the number in TORCHELASTIC_RESTART_COUNT does not name one, since each host counts for itself.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
cat > "$folder/worker.py" <<'PYTHON'
import os
import sys
from datetime import timedelta

import torch
from torch.distributed.rendezvous import rendezvous

start = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=30)))
if rank == 0:
    left = store.check(["a word"])
    word = store.get("a word").decode() if left else "nothing"
    print(f"torch {torch.__version__}, start {start} of {size} processes: of the start before it finds {word}", flush=True)
    if start:
        sys.exit(0 if word == "a word of start 0" else 1)
    store.set("a word", f"a word of start {start}")
    sys.exit(3)
PYTHON
"$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=1 "$folder/worker.py" \
    2> "$folder/log" || exit 1
