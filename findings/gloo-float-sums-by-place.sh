#!/bin/sh
# torch 2.13.0, gloo: `all_reduce` of floats adds the ranks in another order in another place of the tensor, so that from
# four ranks on the same four terms have different sums within one result.
#
# Guess before the run: the order of ranks is open, but it is one order for the whole tensor.
# Seen, each rank's tensor filled with one number (.1, .2, .3, .7): 2 and 3 ranks give one sum everywhere; 4 ranks give
# 1.3000001 and 1.2999999 within a tensor of 8 numbers or more, and one sum in tensors of 1 and 3.
# So: equal rows do not stay equal through a sum over ranks, and reducing a tensor in pieces gives other bits than in
# one. What decides anything, such as a label, has to be summed in integers.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
cat > "$folder/sums.py" <<'PYTHON'
import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TERMS = (0.1, 0.2, 0.3, 0.7)


def work(rank, size, meeting, out):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    for length in (1, 3, 8, 1000):
        tensor = torch.full((length,), TERMS[rank])
        dist.all_reduce(tensor)
        if rank == 0:
            out.put((size, length, sorted(set(tensor.tolist()))))
    dist.barrier()
    if rank == 0:
        out.close()
        out.join_thread()
    os._exit(0)


if __name__ == "__main__":
    print("torch", torch.__version__, flush=True)
    context, sums = mp.get_context("spawn"), {}
    for size in (2, 3, 4):
        out = context.Queue()
        meeting = os.path.join(sys.argv[1], f"meeting{size}")
        processes = [context.Process(target=work, args=(rank, size, meeting, out)) for rank in range(size)]
        for process in processes:
            process.start()
        for _ in range(4):
            ranks, length, found = out.get()
            sums[ranks, length] = found
            print(f"{ranks} ranks, {length} equal places: {found}", flush=True)
        for process in processes:
            process.join()
    same = all(len(found) == 1 for (ranks, _), found in sums.items() if ranks < 4)
    sys.exit(0 if same and len(sums[4, 1000]) > 1 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/sums.py" "$folder"
