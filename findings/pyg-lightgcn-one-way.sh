#!/bin/sh
# torch_geometric 2.8.1: LightGCN over edges from users to items, as a bipartite graph has them, propagates nothing at
# all, to neither side, and says nothing.
#
# Guess, from the formula of its documentation: items gather from their users, and users, whom no edge leads to, keep
# what they have.
# Seen: every embedding is its own row times alpha[0] (1 / 4 with three layers), bit for bit, for users and for items.
# Degrees are counted of where edges arrive; those of users are 0, and so is every edge's weight. It trains, as matrix
# factorisation at a quarter of the scale, or at a sixteenth for scores.
# So: give both ways of every edge, `torch.cat([edges, edges.flip(0)], dim=1)`.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torch_geometric
from torch_geometric.nn import LightGCN

print("torch", torch.__version__, "torch_geometric", torch_geometric.__version__)
torch.manual_seed(0)
users, items = 50, 30
edges = torch.stack([torch.randint(users, (400,)), users + torch.randint(items, (400,))])
model = LightGCN(users + items, embedding_dim=8, num_layers=3)
alone = {}
for name, given in {"users to items": edges, "both ways": torch.cat([edges, edges.flip(0)], dim=1)}.items():
    rows = model.get_embedding(given)
    own = (rows == model.embedding.weight * model.alpha[0]).all(dim=1)
    alone[name] = int(own.sum())
    print(f"{name}: {alone[name]} of {users + items} embeddings are alpha[0] times their own row")
sys.exit(0 if alone == {"users to items": users + items, "both ways": 0} else 1)
PYTHON
