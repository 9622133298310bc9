"""A training run over ranks on disk, each of which writes its rows; any number of ranks resumes from it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from baco_gpu.atomic import make_folder, replacing
from baco_gpu.checks import check_flag, check_integer, check_path
from baco_gpu.errors import DAMAGE, InputError, one_line
from baco_gpu.tables.sharded import sharded_in
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.checkpoint import (
    check_epochs,
    check_identity,
    check_progress,
    identity_of,
    progress_of,
    take_progress,
)
from baco_gpu.training.settings import EpochRecord
from baco_gpu.training.training_run import TrainingRun

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_INDEX = "run.json"


class ShardedCheckpoint(Callback):
    """Writes the run into a folder by torch.distributed.checkpoint, and resumes from there; otherwise as `Checkpoint`.

    Every rank writes the rows of sharded tables that it has, with their state of the optimiser; the rest, which all
    have in common, one rank writes. `run.json`, replaced in the end, says which of the folders beside it is the last
    whole one. The same number of ranks resumes to the same result, bit for bit, another one but for the order in which
    floats are added up.

    The format is PyTorch's own, whose index is a pickle: reading one may run what is in it, so read none of strangers.

    Parameters
    ----------
    folder : path
        On all ranks the same, of a file system that they share.
    every : int
    resume : bool
    process_group : torch.distributed.ProcessGroup, optional
        That of the ranks that train; without one it is this process alone.

    Raises
    ------
    InputError
        As `Checkpoint`.
    OSError
        If it cannot be written; the last whole one is left.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int = 1,
        *,
        resume: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_flag("resume", resume)
        self.folder = check_path("folder", folder)
        self.every = check_integer("every", every, minimum=1)
        self.resume = resume
        self._group = process_group
        self._identity: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether there is a whole checkpoint to resume from."""
        return (self.folder / _INDEX).exists()

    def on_start(self, run: TrainingRun) -> None:
        self._identity = identity_of(run)
        stored = self._begun(run) if run.ranks is None else run.ranks.together(lambda: self._begun(run))
        if run.ranks is not None:
            run.ranks.agree(checkpoint_to_go_on_from="none" if stored is None else stored["last"])
        if stored is not None:
            self._load(run, stored)

    def _begun(self, run: TrainingRun) -> dict[str, Any] | None:
        """What the index says of the run to resume from, if there is to be one."""
        if self.resume:
            stored = self._stored()
            check_identity(self.folder, stored["identity"], self._identity)
            check_epochs(run, stored["progress"], self.folder)
            return stored
        if self.exists:
            raise InputError(f"{self.folder}: there is a checkpoint already; resume from it, or remove it")
        make_folder(self.folder)
        return None

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        if record.epoch % self.every == 0 or run.finished:
            self._save(run, f"epoch-{record.epoch}")

    def _save(self, run: TrainingRun, name: str) -> None:
        from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, save

        tensors = _tensors_of(run)
        writer = FileSystemWriter(self.folder / name, overwrite=True)
        # Otherwise tensors that all ranks have come from different ones.
        planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
        first = run.ranks is None or run.ranks.rank == 0
        try:
            with _failing_as(OSError, f"{self.folder}: the checkpoint cannot be written"):
                save(
                    self._as_whole(run, tensors),
                    storage_writer=writer,
                    planner=planner,
                    process_group=self._group,
                    no_dist=self._group is None,
                )
        except OSError:
            if first:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            raise
        if first:
            stored = {
                "identity": self._identity,
                "progress": progress_of(run),
                "last": name,
                "tensors": {key: str(tensor.dtype) for key, tensor in tensors.items()},
            }
            with replacing(self.folder / _INDEX) as file:
                file.write_text(json.dumps(stored), "utf-8")
            for other in self.folder.glob("epoch-*"):
                if other.name != name:
                    shutil.rmtree(other)

    @torch.no_grad()
    def _load(self, run: TrainingRun, stored: dict[str, Any]) -> None:
        from torch.distributed.checkpoint import FileSystemReader, load

        tensors = _empty_like_stored(run, stored["tensors"], self.folder)
        with _failing_as(InputError, f"{self.folder}: the checkpoint cannot be read"):
            load(
                self._as_whole(run, tensors),
                storage_reader=FileSystemReader(self.folder / stored["last"]),
                process_group=self._group,
                no_dist=self._group is None,
            )
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        run.model.load_state_dict(parts["model"])
        run.best = parts.get("best")
        for name, parameter in run.model.named_parameters():
            if f"optimizer:{name}" in parts:
                run.optimizer.state[parameter] = parts[f"optimizer:{name}"]
        take_progress(run, stored["progress"])

    def _stored(self) -> dict[str, Any]:
        file = self.folder / _INDEX
        if not file.is_file():
            raise InputError(f"{self.folder}: no such checkpoint; expected a folder with {_INDEX} to resume from")
        try:
            stored = json.loads(file.read_text("utf-8"))
            check_progress(stored["progress"])
            if not isinstance(stored["last"], str) or not isinstance(stored["tensors"], dict):
                raise TypeError("last must be a name, and tensors a mapping")
        except DAMAGE as error:
            raise InputError(f"{file}: damaged checkpoint ({type(error).__name__}: {error})") from error
        return stored

    def _as_whole(self, run: TrainingRun, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """The tensors as torch.distributed.checkpoint takes them: rows that this rank has as a part of all rows."""
        if self._group is None:
            return dict(tensors)
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = DeviceMesh.from_group(self._group, next(run.model.parameters()).device.type)
        whole: dict[str, Any] = dict(tensors)
        for name, table in sharded_in(run.model).items():
            shape = torch.Size((table.num_embeddings, table.embedding_dim))
            for key, tensor in tensors.items():
                if _parameter_of(key) == name and tensor.shape == table.shard.shape:
                    whole[key] = DTensor.from_local(
                        tensor, mesh, [Shard(0)], run_check=False, shape=shape, stride=(shape[1], 1)
                    )
        return whole


def _tensors_of(run: TrainingRun) -> dict[str, Tensor]:
    """All tensors of a run: those of the model by `model/name`, the best by `best/name`, those of the optimiser by
    `optimizer:parameter/name`.
    """
    tensors = {f"model/{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in (run.best or {}).items()}
    for name, parameter in run.model.named_parameters():
        for key, tensor in run.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer:{name}/{key}"] = tensor
    return {key: tensor.detach() for key, tensor in tensors.items()}


def _empty_like_stored(run: TrainingRun, stored: dict[str, str], folder: Path) -> dict[str, Tensor]:
    """Tensors to load into, as a run has them; InputError where a run has none such."""
    state = run.model.state_dict()
    tensors = {}
    for key, dtype in stored.items():
        like = state.get(_parameter_of(key))
        if like is None or (not key.startswith("optimizer:") and str(like.dtype) != dtype):
            raise InputError(f"{folder}: damaged checkpoint (its {key} is no tensor of the run)")
        is_number = key.startswith("optimizer:") and key.endswith("/step")
        tensors[key] = torch.zeros((), dtype=torch.float32) if is_number else torch.zeros_like(like)
    return tensors


def _parameter_of(key: str) -> str:
    """The name in the model of what a tensor is, or is the optimiser's state, of."""
    part, _, name = key.partition("/")
    return part.partition(":")[2] or name


@contextmanager
def _failing_as(kind: type[Exception], what: str) -> Iterator[None]:
    """For what torch.distributed.checkpoint raises, an error of this kind: a line with the rank and the cause."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process has no group, and says so
            yield
    except CheckpointException as error:  # no Exception; all ranks have it, with the tracebacks of all
        # Where the disk is full, some say so, and others what became of their file.
        rank, cause = min(
            ((rank, cause) for rank, (cause, _) in error.failures.items()),
            key=lambda failure: (not isinstance(failure[1], OSError), failure[0]),
        )
        raise kind(f"{what} (rank {rank}: {one_line(cause)})") from error
    except DAMAGE as error:
        raise kind(f"{what} ({one_line(error)})") from error
