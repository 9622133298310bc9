"""A trained model in one file, with the raw ids and interactions that it takes to answer by it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import DAMAGE, InputError, damage
from baco_gpu.experiment.model_answers import recommender_of
from baco_gpu.experiment.run import Outcome
from baco_gpu.models.model import Model, build_model
from baco_gpu.serving.answers import Recommender
from baco_gpu.tables.embedding_table import numpy_of
from baco_gpu.tables.full import as_table
from baco_gpu.tables.rebuild import table_of
from baco_gpu.tensor_file import checksum, load_tensors, save_tensors

FORMAT, FORMAT_VERSION = "baco_gpu.model", 3
_OF_FILE = ("format", "format_version", "sha256")
_SIDES = ("users", "items")


def save_model(outcome: Outcome, path: str | os.PathLike[str]) -> Path:
    """Write the trained model of `outcome` to one safetensors file, whole or not at all; returns the path.

    `load_recommender` reads it. The tensors are the `state_dict` of the tables under the prefixes "users." and "items."
    (codebook and assignments, or the full weight), and under "model." what else the model has. A codebook or centroids
    of both tables are there as those of users, and the metadata names them under "items.codebook" and so on, as
    `safetensors.torch.load_model` expects. Under "ids." are raw ids where they are not indices, under "train." and
    "later." (validation and test) the interactions: items user by user, in the order of time, and how many each user
    has. The summary and what it takes to build the model are in the metadata, as JSON.
    """
    from safetensors.numpy import save_file

    model, split = outcome.model, outcome.split
    tables = model.tables
    inside = tuple(f"{name}." for name, module in model.named_modules() if module in tables.values())
    states = {side: table.state_dict() for side, table in tables.items()}
    states["model"] = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}
    arrays = {f"{part}.{name}": numpy_of(tensor) for part, state in states.items() for name, tensor in state.items()}
    later = replace(split, train=split.validation.take(slice(0))).whole
    for part, interactions in (("train", split.train), ("later", later)):
        arrays |= {f"{part}.{name}": array for name, array in _listed(interactions).items()}
    for side, vocabulary in zip(_SIDES, (split.train.user_vocabulary, split.train.item_vocabulary), strict=True):
        if vocabulary is not None:
            arrays |= {f"ids.{side}.{name}": array for name, array in vocabulary.to_arrays().items()}
    facts = {
        "name": outcome.model_name,
        "options": outcome.options,
        "num_items": split.num_items,
        "tables": {
            side: {"dim": table.embedding_dim, "settings": as_table(table).settings()} for side, table in tables.items()
        },
    }
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION)}
    metadata |= {"summary": json.dumps(outcome.summary()), "model": json.dumps(facts)}
    for name in outcome.compression.common if len(tables) > 1 else ():
        del arrays[f"items.{name}"]
        metadata[f"items.{name}"] = f"users.{name}"
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata["sha256"] = checksum(arrays, _text(metadata))
    return save_tensors(save_file, arrays, path, metadata)


def load_recommender(path: str | os.PathLike[str]) -> Recommender:
    """A recommender from a file that `baco train --out` (or `save_model`) wrote.

    Vectors are those of the model: rows of matrix factorisation are decoded when needed, LightGCN's are made once,
    SASRec's for the users asked for. Seen items are those of all parts of the data.

    Raises
    ------
    InputError
        If the file is missing, another one, of another version, or damaged.
    """
    arrays, metadata = load_tensors(path, FORMAT, FORMAT_VERSION, what="a trained model", written_by="baco train --out")
    try:
        if metadata["sha256"] != checksum(arrays, _text(metadata)):
            raise ValueError("its contents do not match their checksum")
        facts = json.loads(metadata["model"])
        train, later = (_interactions(part, arrays, facts["num_items"]) for part in ("train", "later"))
        model = _model(facts, arrays, metadata, train)
    except DAMAGE as error:
        raise InputError(f"{path}: damaged model ({damage(error)})") from error
    return recommender_of(model, SplitInteractions(train, later, later.take(slice(0))).whole)


def _model(
    facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], train: Interactions
) -> Model:
    """The model that the facts say, with its values, ready to answer."""
    arrays = dict(arrays) | {name: arrays[metadata[name]] for name in metadata if name.startswith("items.")}
    states: dict[str, dict[str, Tensor]] = {part: {} for part in (*facts["tables"], "model")}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        if part in states:
            states[part][rest] = torch.from_numpy(array)
    tables: dict[str, Any] = {
        side: table_of(states[side], table["dim"], **table["settings"]) for side, table in facts["tables"].items()
    }
    nothing = train.take(slice(0))
    model = build_model(facts["name"], tables, SplitInteractions(train, nothing, nothing), **facts["options"])
    for table in tables.values():
        as_table(table).see_stored(True)
    model.load_state_dict({**model.state_dict(), **states["model"]})
    return model.eval()


def _listed(interactions: Interactions) -> dict[str, np.ndarray]:
    """Items user by user, in the order of time where it is known, their number for each user, and weights if any."""
    order = interactions.in_order()
    weights = {} if interactions.weights is None else {"weights": interactions.weights[order]}
    counts = np.bincount(interactions.users, minlength=interactions.num_users).astype(np.int64)
    return {"items": interactions.items[order], "counts": counts, **weights}


def _interactions(part: str, arrays: Mapping[str, np.ndarray], num_items: int) -> Interactions:
    """What `_listed` made arrays of; timestamps say the order alone."""
    items, counts = arrays[f"{part}.items"], arrays[f"{part}.counts"]
    users, articles = (
        Vocabulary.from_arrays(found) if (found := _under(f"ids.{side}.", arrays)) else None for side in _SIDES
    )
    return Interactions(
        np.repeat(np.arange(len(counts), dtype=items.dtype), counts),
        items,
        len(counts),
        num_items,
        arrays.get(f"{part}.weights"),
        users,
        articles,
        np.arange(len(items)),
    )


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _text(metadata: Mapping[str, str]) -> str:
    return json.dumps({name: text for name, text in sorted(metadata.items()) if name not in _OF_FILE})
