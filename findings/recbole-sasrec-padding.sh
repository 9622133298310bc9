#!/bin/sh
# recbole 1.2.1: the padding row of SASRec's items, `nn.Embedding(..., padding_idx=0)`, is no row of zeros. It is drawn at
# random like any other, trained, and longer than that of any item in the end.
#
# Guess before the run: the padding row is zero and stays so, which is what padding_idx is for.
# Seen on MovieLens-100K, two epochs: drawn as the others are (`weight.data.normal_` writes over PyTorch's zeros), then
# trained by the softmax, of which padding is a class that is never right: PyTorch keeps gradients of lookups from it,
# not those that come through `weight`.
# So: do not take padding for zero in tables that others trained: in a mean of rows, a norm or a scale for rounding it
# counts most. Rankings leave the class out.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==1.26.4 scipy==1.11.4 pandas==2.2.3 scikit-learn==1.5.2 \
    colorlog==4.7.2 colorama==0.4.4 psutil pyyaml tensorboard texttable tqdm || exit 2
"$folder/venv/bin/pip" install --quiet --no-deps recbole==1.2.1 || exit 2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

settings = {"data_path": f"{recbole.__path__[0]}/dataset_example", "state": "ERROR", "epochs": 2, "show_progress": False}
settings |= {"train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
settings |= {"n_heads": 1, "learning_rate": 0.01}
config = Config("SASRec", "ml-100k", config_dict=settings)
init_seed(0, True)
train, _, _ = data_preparation(config, create_dataset(config))
model = get_model("SASRec")(config, train.dataset)
before = model.item_embedding.weight.norm(dim=1).detach().clone()
trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
trainer.fit(train, saved=False, verbose=False)
after = model.item_embedding.weight.norm(dim=1).detach()
print("recbole", recbole.__version__, "torch", torch.__version__, "padding_idx", model.item_embedding.padding_idx)
longer = float((after[1:] < after[0]).float().mean())
print(f"length of the padding row: {before[0]:.3f} before (others {before[1:].mean():.3f}), {after[0]:.3f} after training")
print(f"(others {after[1:].mean():.3f}); longer than {longer:.0%} of the items' rows")
sys.exit(0 if before[0] > 0 and longer == 1 and model.item_embedding.padding_idx == 0 else 1)
PYTHON
