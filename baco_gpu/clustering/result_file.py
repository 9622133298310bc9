"""The file of a result: safetensors, with the settings as JSON in its metadata. Arrays only, nothing to execute."""

from __future__ import annotations

import json
import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from baco_gpu.checks import check_integer, check_number, check_path
from baco_gpu.clustering.result import NO_LABEL, Assignment, ResultData, WeightScale
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import DAMAGE, InputError, damage
from baco_gpu.tensor_file import checksum, load_tensors, save_tensors

FORMAT = "baco_gpu.coclustering"
FORMAT_VERSION = 1

_SCALARS = (
    "gamma",
    "objective",
    "num_edges",
    "embedding_dim",
    "value_bytes",
    "seed",
    "settings",
    "graph_checksum",
    "version",
    "seconds",
    "scale",
)


def save_result(result: ResultData, path: str | os.PathLike[str]) -> Path:
    """Write `result` under `path`, which is replaced only once the new file is complete; returns the path.

    Tensors: {users,items}.labels, {users,items}.secondary, {users,items}.degrees, {users,items}.unseen,
    {users,items}.volumes, {users,items}.vocabulary.*, objective_trace, and partners; secondary, degrees, unseen,
    vocabulary and partners only where there are any.
    Metadata: format, format_version, result (the scalars as one JSON object), and sha256 (the checksum of the tensors
    and the scalars).

    Raises
    ------
    InputError
        If `path` is a folder, or lies in a folder that does not exist.
    OSError
        If the file cannot be written.
    """
    tensors: dict[str, np.ndarray] = {"objective_trace": result.objective_trace}
    for name, side, volumes in zip(("users", "items"), (result.users, result.items), result.volumes, strict=True):
        tensors[f"{name}.labels"] = side.labels
        tensors[f"{name}.volumes"] = volumes
        if side.secondary is not None:
            tensors[f"{name}.secondary"] = side.secondary
        if side.degrees is not None:
            tensors[f"{name}.degrees"] = side.degrees
        if side.unseen is not None:
            tensors[f"{name}.unseen"] = side.unseen
        if side.vocabulary is not None:
            for part, array in side.vocabulary.to_arrays().items():
                tensors[f"{name}.vocabulary.{part}"] = array
    if result.partners is not None:
        tensors["partners"] = result.partners
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    scalars = json.dumps({name: getattr(result, name) for name in _SCALARS}, default=_plain)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "result": scalars,
        "sha256": checksum(tensors, scalars),
    }
    return save_tensors(save_file, tensors, path, metadata)


def load_result(path: str | os.PathLike[str]) -> ResultData:
    """Read a result from `path`.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, another program's, of a newer format, or damaged.
    """
    source = check_path("path", path)
    tensors, metadata = load_tensors(
        source,
        FORMAT,
        FORMAT_VERSION,
        what="a co-clustering saved by baco_gpu",
        written_by="`baco compress` or CoclusteringResult.save",
    )
    try:
        if checksum(tensors, metadata["result"]) != metadata["sha256"]:
            raise ValueError("its contents do not match their checksum")
        return _assemble(tensors, json.loads(metadata["result"]))
    except DAMAGE as error:
        raise InputError(f"{source}: damaged co-clustering ({damage(error)})") from error


def _plain(value: object) -> int | float:
    """A parameter given as a NumPy scalar or a fraction, as JSON can hold it."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"cannot save a {type(value).__name__}")


def _assemble(tensors: dict[str, np.ndarray], scalars: dict[str, Any]) -> ResultData:
    if not isinstance(scalars, dict):
        raise TypeError(f"its figures are a {type(scalars).__name__}")
    sides, volumes = [], []
    for name in ("users", "items"):
        prefix = f"{name}.vocabulary."
        parts = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
        side = Assignment(
            tensors[f"{name}.labels"],
            tensors.get(f"{name}.secondary"),
            Vocabulary.from_arrays(parts) if parts else None,
            tensors.get(f"{name}.degrees"),
            tensors.get(f"{name}.unseen"),
        )
        _check_side(name, side, len(tensors[f"{name}.volumes"]))
        sides.append(side)
        volumes.append(tensors[f"{name}.volumes"])
    if volumes[0].shape != volumes[1].shape:
        raise ValueError(f"volumes of shapes {volumes[0].shape} and {volumes[1].shape}")
    _check_figures("objective_trace", tensors["objective_trace"])
    for name, figures in zip(("users", "items"), volumes, strict=True):
        _check_figures(f"{name}.volumes", figures, lowest=0)
    _check_scalars(scalars)
    # Files written before there were these lack them; `assign` then says so.
    scale, partners = scalars.get("scale"), tensors.get("partners")
    if partners is not None:
        _check_labels("partners", partners, len(volumes[0]), NO_LABEL, len(volumes[0]))
    return ResultData(
        users=sides[0],
        items=sides[1],
        objective_trace=tensors["objective_trace"],
        volumes=(volumes[0], volumes[1]),
        scale=None if scale is None else WeightScale(*scale),
        partners=partners,
        **{name: scalars[name] for name in _SCALARS if name != "scale"},
    )


def _check_scalars(scalars: dict[str, Any]) -> None:
    """InputError, TypeError or KeyError for figures that no result has."""
    check_number("gamma", scalars["gamma"], minimum=0)
    check_number("objective", scalars["objective"])
    for name, minimum in (("num_edges", 0), ("embedding_dim", 1), ("value_bytes", 1), ("seed", 0)):
        check_integer(name, scalars[name], minimum=minimum)
    for name, kind in (("settings", dict), ("graph_checksum", str), ("version", str), ("seconds", dict)):
        if not isinstance(scalars[name], kind):
            raise TypeError(f"{name} is a {type(scalars[name]).__name__}")
    for phase, seconds in scalars["seconds"].items():
        check_number(f"seconds of {phase}", seconds, minimum=0)
    if scalars.get("scale") is not None:
        scheme, *units = WeightScale(*scalars["scale"])
        if not isinstance(scheme, str):
            raise TypeError(f"the scheme of its weights is a {type(scheme).__name__}")
        for unit in units:
            check_number("scale", unit, minimum=0)


def _check_figures(name: str, figures: np.ndarray, lowest: float = -np.inf) -> None:
    if figures.dtype.kind != "f" or figures.ndim != 1:
        raise ValueError(f"{name} has dtype {figures.dtype} and shape {figures.shape}")
    if len(figures) and not (np.isfinite(figures).all() and figures.min() >= lowest):
        raise ValueError(f"{name} holds what is no finite number of at least {lowest:g}")


def _check_labels(name: str, labels: np.ndarray, count: int, lowest: int, num_clusters: int) -> None:
    if labels.dtype.kind != "i" or labels.shape != (count,):
        raise ValueError(f"{name} has dtype {labels.dtype} and shape {labels.shape}")
    if count and not lowest <= labels.min() <= labels.max() < num_clusters:
        raise ValueError(f"{name} holds labels outside {lowest}..{num_clusters - 1}")


def _check_side(name: str, side: Assignment, num_clusters: int) -> None:
    for what, labels, lowest in (("labels", side.labels, 0), ("secondary", side.secondary, NO_LABEL)):
        if labels is not None:
            _check_labels(f"{name}.{what}", labels, len(side), lowest, num_clusters)
    for what, counts in (("degrees", side.degrees), ("unseen", side.unseen)):
        if counts is not None and (counts.dtype.kind not in "iu" or counts.shape != (len(side),)):
            raise ValueError(f"{name}.{what} has dtype {counts.dtype} and shape {counts.shape}")
        if counts is not None and len(counts) and counts.min() < 0:
            raise ValueError(f"{name}.{what} holds {counts.min()}")
    if side.vocabulary is not None and len(side.vocabulary) != len(side):
        raise ValueError(f"{name}.vocabulary has {len(side.vocabulary)} ids for {len(side)} labels")
