#!/bin/sh
# torch 2.13.0: on a CPU, a generator takes the low 32 bits of its seed and drops the others. Seeds that agree in these draw the
# same numbers; `initial_seed` tells all 64.
#
# Guess before the run: seeds are 64-bit integers, and different ones are different streams, as in NumPy.
# Seen: 7 and 7 + 2**32 are one stream, of rand, randperm and a drawn embedding table; NumPy's two differ.
# So: a seed that packs two numbers, `(run << 32) | rank`, gives all runs the same negatives. Hash 64 bits down to 32 first.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import torch


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(1000, generator=generator), torch.randperm(1000, generator=generator).float()
    torch.manual_seed(seed)
    return torch.cat([*numbers, torch.nn.Embedding(10, 8).weight.detach().flatten()]), generator.initial_seed()


print("torch", torch.__version__, "numpy", np.__version__)
(first, one), (second, other), (third, _) = drawn(7), drawn(7 + 2**32), drawn(8)
same, differs = torch.equal(first, second), not torch.equal(first, third)
numpy_differs = np.random.default_rng(7).random() != np.random.default_rng(7 + 2**32).random()
print(f"initial_seed {one} and {other}: the same numbers: {same}; of seed 8 others: {differs}; NumPy's differ: {numpy_differs}")
sys.exit(0 if same and differs and numpy_differs and other == 7 + 2**32 else 1)
PYTHON
