"""Several optimisers of one model, as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Together:
    """Optimisers of different parameters that step together; what a training run needs of a `torch.optim.Optimizer`.

    Attributes
    ----------
    state : dict of dict
        The state of every parameter, which the optimisers read and write here.
    param_groups : list of dict
        The groups of all of them.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        for optimizer in self.optimizers:
            self.state.update(optimizer.state)
            optimizer.state = self.state
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


Optimizer = torch.optim.Optimizer | Together
