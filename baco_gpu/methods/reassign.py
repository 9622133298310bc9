"""Methods that learn their groups: new assignments and codebooks between epochs, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch

from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.settings import EpochRecord
from baco_gpu.training.training_run import TrainingRun

# Further and further apart: groups must settle for long trainings, and short ones must see some.
EPOCHS = (1, 2, 4, 8, 16, 32)
# Of a run without patience: evaluations without a better one after which it has converged.
STALE = 10


class SharedRows(NamedTuple):
    """A side's codebook, and what its ids take from it, between two epochs.

    Attributes
    ----------
    codebook : floats of shape (rows, dim)
    assignments, secondary : integers of shape (ids,), rows of the codebook; the two of an id differ
    shares : floats of shape (ids, 2), the weights of the two
    """

    codebook: np.ndarray
    assignments: np.ndarray
    secondary: np.ndarray
    shares: np.ndarray

    @property
    def table(self) -> np.ndarray:
        """The expanded table, (ids, dim)."""
        return self.shares[:, :1] * self.codebook[self.assignments] + self.shares[:, 1:] * self.codebook[self.secondary]


# What both sides become, of the same shapes; a codebook that is handed on as it came keeps its optimiser's state.
Reassign = Callable[[BipartiteGraph, Sequence[SharedRows], np.random.Generator], Sequence[SharedRows]]


class ReassignCallback(Callback):
    """Gives both tables new assignments between epochs and, where the method makes new rows too, Adam a new start.

    A run's last epoch is left as it was trained. What is drawn depends on the seed and the epoch alone.

    Parameters
    ----------
    reassign : function, see `Reassign`
    when : {"early", "converged"}
        After the epochs of `EPOCHS`; or after every epoch once half of the run's patience is used up, until there is a
        better one.
    graph : BipartiteGraph, of the training part
    """

    def __init__(self, reassign: Reassign, when: str, graph: BipartiteGraph) -> None:
        self.reassign = reassign
        self.due = {"early": _is_early, "converged": _has_converged}[when]
        self.graph = graph

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        if run.finished or not self.due(run):
            return
        # Methods that reassign have made both tables.
        tables = [cast(CodebookEmbedding, table) for table in (run.model.user_embedding, run.model.item_embedding)]
        before = [_read(table) for table in tables]
        after = self.reassign(self.graph, before, np.random.default_rng((run.settings.seed, record.epoch)))
        for table, old, new in zip(tables, before, after, strict=True):
            _write(table, new)
            if new.codebook is not old.codebook:
                for state in run.optimizer.state[table.codebook].values():
                    state.zero_()


def _is_early(run: TrainingRun) -> bool:
    return run.epoch in EPOCHS


def _has_converged(run: TrainingRun) -> bool:
    patience = run.settings.patience
    return run.stale >= (STALE if patience is None else (patience + 1) // 2)


def _read(table: CodebookEmbedding) -> SharedRows:
    assert table.secondary is not None
    parts = (table.codebook, table.assignments, table.secondary, table.pair_shares())
    return SharedRows(*(part.detach().cpu().numpy() for part in parts))


@torch.no_grad()
def _write(table: CodebookEmbedding, made: SharedRows) -> None:
    assert table.secondary is not None
    table.codebook.copy_(torch.as_tensor(made.codebook))
    table.assignments.copy_(torch.as_tensor(made.assignments))
    table.secondary.copy_(torch.as_tensor(made.secondary))
    table.set_pair_shares(torch.as_tensor(made.shares))
