#!/bin/sh
# torchrec 1.8.0: a subclass of EmbeddingBagCollection, with nothing in it, is not sharded: every process holds all of
# it. DistributedModelParallel says nothing, and its plan leaves it out.
#
# Guess before the run: a subclass that overrides nothing is sharded as its parent is.
# Seen, one process on a CPU: the plan has the tables of the parent's instance alone, whose weight becomes a
# ShardedTensor; that of the subclass stays a tensor, under DistributedDataParallel. Sharders are found by `type(module)`.
# So: read the plan. It is also the plain way to keep small tables whole beside sharded ones.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 tensordict==0.15.3 torchmetrics==1.0.3 tqdm pyre-extensions || exit 2
"$folder/venv/bin/pip" install --quiet --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 || exit 2
"$folder/venv/bin/python" -W ignore - "$folder" 2> "$folder/log" <<'PYTHON' || { code=$?; tail -n 20 "$folder/log"; exit "$code"; }
import sys

import torch
import torchrec
from torch import distributed, nn
from torchrec.distributed import DistributedModelParallel


class Collection(torchrec.EmbeddingBagCollection):
    pass


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        for name, kind in {"parent": torchrec.EmbeddingBagCollection, "child": Collection}.items():
            table = torchrec.EmbeddingBagConfig(name=name, embedding_dim=8, num_embeddings=1000, feature_names=[name])
            setattr(self, name, kind(tables=[table]))


distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/meeting", rank=0, world_size=1)
model = DistributedModelParallel(Model(), device=torch.device("cpu"))
print("torch", torch.__version__, "torchrec", torchrec.__version__)
planned = sorted(model.plan.plan)
held = {name.split(".")[0]: type(value).__name__ for name, value in model.state_dict().items()}
print("modules in the plan:", planned)
print("weights:", held)
distributed.destroy_process_group()
same = planned == ["parent"] and held == {"parent": "ShardedTensor", "child": "Tensor"}
sys.exit(0 if same else 1)
PYTHON
