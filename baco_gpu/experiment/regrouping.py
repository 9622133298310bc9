"""Methods that learn their groups: new codes and codebooks between epochs, in place."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baco_gpu.baselines.method import Regroup
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.training.callbacks import Callback
from baco_gpu.training.run import TrainingRun
from baco_gpu.training.settings import EpochRecord

# Further and further apart: groups must settle for long trainings, and short ones must see some.
EPOCHS = (1, 2, 4, 8, 16, 32)


class Regrouping(Callback):
    """Gives both tables new codes and rows after some epochs, of the same number, and Adam's moments a new start.

    A run's last epoch is left as it was trained, and so is a side of a single row. What is drawn depends on the seed,
    the epoch and the side alone.

    Parameters
    ----------
    regroup : function, see `baco_gpu.baselines.method.Regroup`
    """

    def __init__(self, regroup: Regroup) -> None:
        self.regroup = regroup

    def on_epoch(self, run: TrainingRun, record: EpochRecord) -> None:
        if record.epoch not in EPOCHS or run.finished:
            return
        for side, table in enumerate((run.model.user_embedding, run.model.item_embedding)):
            if isinstance(table, CodebookEmbedding) and table.num_rows > 1:
                generator = np.random.default_rng((run.settings.seed, record.epoch, side))
                self._renew(table, generator)
                for state in run.optimizer.state[table.codebook].values():
                    state.zero_()

    @torch.no_grad()
    def _renew(self, table: CodebookEmbedding, generator: np.random.Generator) -> None:
        assert isinstance(table.secondary, Tensor)
        made = self.regroup(table.weight.cpu().numpy(), table.num_rows, generator)
        table.codebook.copy_(torch.as_tensor(made.codebook))
        table.codes.copy_(torch.as_tensor(made.codes))
        table.secondary.copy_(torch.as_tensor(made.secondary))
