"""A training run on disk between two epochs, from which the rest of it gives the same result, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from baco_gpu.atomic import check_writable
from baco_gpu.checks import check_file_name, check_flag, check_integer, check_number
from baco_gpu.errors import DAMAGE, InputError
from baco_gpu.tables.facts import without_facts
from baco_gpu.tables.former_states import current_names, former_names, former_repr
from baco_gpu.tables.sharded import sharded_in
from baco_gpu.tensor_file import SUFFIX, save_tensors
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.settings import EpochRecord
from baco_gpu.training.training_run import TrainingRun

FORMAT = "baco_gpu.checkpoint"
FORMAT_VERSION = "3"
_FORMER_VERSION = "2"  # by the names that tables and their tensors had then


class Checkpoint(Callback):
    """Writes the run to `path` every few epochs and at its last one, and resumes from there if asked to.

    Give it last: what the callbacks before it change in an epoch is then in the file. The order and the negatives of
    an epoch are functions of the seed and its number, so weights, the optimiser's state and the history are all of it.
    Of several ranks, which have all of it in common, the first one writes, and any number of them resumes.

    Parameters
    ----------
    path : path
        One safetensors file, replaced as a whole; killed while writing, a run leaves the one before.
    every : int
        Epochs from one write to the next.
    resume : bool
        Whether to go on from `path`. Settings, data and model must be those of the run that wrote it; only `epochs`
        may have grown.

    Raises
    ------
    InputError
        When `every` is not positive, or, as the run starts: the file is missing, damaged or another run's; without
        `resume`, when there is a file already.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1, *, resume: bool = False) -> None:
        check_flag("resume", resume)
        self.path = check_file_name("path", path, SUFFIX)
        self.every = check_integer("every", every, minimum=1)
        self.resume = resume
        self._identity: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.path.exists()

    def on_start(self, run: TrainingRun) -> None:
        if sharded_in(run.model):
            raise InputError("sharded tables need a ShardedCheckpoint, got a Checkpoint, whose file is of one rank")
        self._identity = identity_of(run)
        if self.resume:
            _load(run, self.path)
        elif _writes(run) and self.exists:
            raise InputError(f"{self.path}: there is a checkpoint already; resume from it, or remove it")
        if _writes(run):
            check_writable(self.path)

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        if _writes(run) and (record.epoch % self.every == 0 or run.finished):
            _save(run, self.path, self._identity)


def _writes(run: TrainingRun) -> bool:
    """Of several ranks, which have the same run, the first one writes it."""
    return run.ranks is None or run.ranks.rank == 0


def identity_of(run: TrainingRun, version: str = FORMAT_VERSION) -> dict[str, Any]:
    """What a checkpoint of this version and a run that resumes from it must have in common, as JSON holds it."""
    state, described = without_facts(run.model.state_dict()), repr(run.model)
    if version == _FORMER_VERSION:
        state, described = former_names(state), former_repr(described)
    sharded = {name: [table.num_embeddings, table.embedding_dim] for name, table in sharded_in(run.model).items()}
    shapes = {name: [str(tensor.dtype), sharded.get(name, list(tensor.shape))] for name, tensor in state.items()}
    indices = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    identity = {
        "settings": asdict(run.settings),
        "data": run.data_checksum,
        "model": [described, shapes, checksum_of(indices, "")],
    }
    return json.loads(json.dumps(identity))


def _save(run: TrainingRun, path: Path, identity: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    parts = {"model": run.model.state_dict(), "best": run.best or {}}
    for index, parameter in enumerate(run.model.parameters()):
        parts[f"optimizer.{index}"] = run.optimizer.state.get(parameter, {})
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()  # no two may share memory
        for part, entries in parts.items()
        for name, tensor in entries.items()
    }
    text = json.dumps({"identity": identity, "progress": progress_of(run)})
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "run": text, "sha256": checksum_of(tensors, text)}
    save_tensors(save_file, tensors, path, metadata)


@torch.no_grad()
def _load(run: TrainingRun, path: Path) -> None:
    tensors, stored, version = _read(path)
    check_identity(path, stored["identity"], identity_of(run, version))
    check_epochs(run, stored["progress"], path)
    run.model.load_state_dict(_part(tensors, "model"))
    device = next(run.model.parameters()).device
    run.best = {name: tensor.to(device) for name, tensor in _part(tensors, "best").items()} or None
    for index, parameter in enumerate(run.model.parameters()):
        state = _part(tensors, f"optimizer.{index}")
        if state:
            run.optimizer.state[parameter] = {name: tensor.to(device) for name, tensor in state.items()}
    take_progress(run, stored["progress"])


def progress_of(run: TrainingRun) -> dict[str, Any]:
    """What a run has come to beside its tensors, as JSON holds it."""
    progress = {name: getattr(run, name) for name in ("best_epoch", "stale", "stage", "evaluation_seconds")}
    progress["best_score"] = run.best_score if run.best_epoch else None
    progress["history"] = [asdict(record) for record in run.history]
    return progress


def check_epochs(run: TrainingRun, progress: dict[str, Any], path: Path) -> None:
    """Raise InputError where a run wants fewer epochs than there were."""
    trained = len(progress["history"])
    if trained > run.settings.epochs:
        raise InputError(f"{path}: epochs must be at least the {trained} trained, got {run.settings.epochs}")


def take_progress(run: TrainingRun, progress: dict[str, Any]) -> None:
    """Let a run have come to what `progress_of` says."""
    run.history = [EpochRecord(**record) for record in progress["history"]]
    run.best_epoch, run.stale, run.stage = (progress[name] for name in ("best_epoch", "stale", "stage"))
    run.set_learning_rate()
    run.evaluation_seconds = progress["evaluation_seconds"]
    if progress["best_score"] is not None:
        run.best_score = progress["best_score"]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors by their names of now, the rest, and the version that they were written as."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a checkpoint to resume from")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, *DAMAGE) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error})") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: expected a checkpoint of baco_gpu, got another safetensors file")
    version = metadata.get("format_version")
    if version not in (_FORMER_VERSION, FORMAT_VERSION):
        raise InputError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
    text = metadata.get("run", "")
    if checksum_of(tensors, text) != metadata.get("sha256"):
        raise InputError(f"{path}: damaged checkpoint (its contents do not match their checksum)")
    try:
        stored = json.loads(text)
        check_progress(stored["progress"])
    except DAMAGE as error:
        raise InputError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from error
    return current_names(tensors), stored, version


def check_progress(progress: dict[str, Any]) -> None:
    """Raise InputError, KeyError or TypeError for what no run has come to."""
    for name in ("best_epoch", "stale", "stage"):
        check_integer(name, progress[name], minimum=0)
    check_number("evaluation_seconds", progress["evaluation_seconds"], minimum=0)
    if progress["best_score"] is not None:
        check_number("best_score", progress["best_score"])
    for number, record in enumerate(progress["history"], start=1):
        check_integer("epoch", EpochRecord(**record).epoch, minimum=number, maximum=number)
        check_number("loss", record["loss"])
        check_number("seconds", record["seconds"], minimum=0)


def check_identity(path: Path, stored: dict[str, Any], own: dict[str, Any]) -> None:
    for name, value in own["settings"].items():
        then = stored["settings"].get(name)
        if name != "epochs" and then != value:
            raise InputError(f"{path}: the checkpoint is of another run: {name} was {then!r}, got {value!r}")
    for part in ("data", "model"):
        if stored[part] != own[part]:
            raise InputError(f"{path}: the checkpoint is of another run: its {part} differs from what is trained now")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def checksum_of(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
