#!/bin/sh
# torch 2.13.0, gloo: `dist.reduce(tensor, dst=0)` overwrites the tensors of all other ranks, too, with partial sums that are
# others from place to place.
#
# Guess before the run: the sum is at rank 0, and everyone else's tensor is as it was.
# Seen, three ranks with 1, 10 and 100 at each of four places: rank 0 has 111; rank 1 has 110, 110, 111, 111, and rank 2
# 100, 100, 101, 101.
# So: what is still needed has to be copied before it is reduced; a counter that is reduced twice counts twice.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
cat > "$folder/reduce.py" <<'PYTHON'
import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def work(rank, meeting, out):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=3)
    tensor = torch.full((4,), 10**rank)
    dist.reduce(tensor, dst=0)
    out.put((rank, tensor.tolist()))
    dist.barrier()
    out.close()
    out.join_thread()
    os._exit(0)


if __name__ == "__main__":
    print("torch", torch.__version__, flush=True)
    context = mp.get_context("spawn")
    out = context.Queue()
    processes = [context.Process(target=work, args=(rank, f"{sys.argv[1]}/meeting", out)) for rank in range(3)]
    for process in processes:
        process.start()
    found = dict(out.get() for _ in processes)
    for process in processes:
        process.join()
    for rank in range(3):
        print(f"rank {rank} had {[10**rank] * 4} and has {found[rank]}")
    changed = all(found[rank] != [10**rank] * 4 and len(set(found[rank])) > 1 for rank in (1, 2))
    sys.exit(0 if found[0] == [111] * 4 and changed else 1)
PYTHON
"$folder/venv/bin/python" "$folder/reduce.py" "$folder" 2> "$folder/log" || { code=$?; tail -n 20 "$folder/log"; exit "$code"; }
