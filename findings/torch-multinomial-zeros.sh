#!/bin/sh
# torch 2.13.0: `torch.multinomial` without replacement draws items of probability zero once those that have one are used up, and
# says nothing.
#
# Guess before the run: an error, as NumPy's `choice` has ("Fewer non-zero entries in p than size").
# Seen, 4 of 5 draws where two items have a probability: these two, and two of those that have none, in 100 of 100 calls.
# So: negatives drawn by weights that are zero for what a user has seen include what it has seen, for users who have seen
# nearly all. Count the non-zeros first, or drop draws whose probability is zero.
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

print("torch", torch.__version__, "numpy", np.__version__)
weights = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0])
draws = [torch.multinomial(weights, 4, replacement=False) for _ in range(100)]
impossible = sum(int((weights[drawn] == 0).sum()) == 2 for drawn in draws)
print(f"4 of {weights.tolist()}: two draws of probability zero in {impossible} of 100 calls, such as {draws[0].tolist()}")
try:
    np.random.default_rng(0).choice(5, 4, replace=False, p=weights.numpy())
    refused = False
except ValueError as error:
    refused = True
    print("NumPy:", error)
sys.exit(0 if impossible == 100 and refused else 1)
PYTHON
