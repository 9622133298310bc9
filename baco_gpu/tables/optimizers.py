"""Several optimizers of one model, as one."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from baco_gpu.checks import listed, shown
from baco_gpu.errors import InputError


class CombinedOptimizer(torch.optim.Optimizer):
    """Optimizers of different parameters that step together: one `torch.optim.Optimizer`.

    Learning-rate schedulers, `state_dict` and `load_state_dict` see the groups and the state of all of them.

    Parameters
    ----------
    optimizers : sequence of torch.optim.Optimizer, one at least

    Attributes
    ----------
    optimizers : list of torch.optim.Optimizer
    state : dict of dict
        The state of every parameter, which the optimizers read and write here.
    param_groups : list of dict
        The groups of all of them: the same dictionaries.

    Raises
    ------
    InputError
        When something else is given, or a group is to be added: it belongs to one of the optimizers, before they are
        combined.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = listed(optimizers)
        strangers = [type(each).__name__ for each in self.optimizers if not isinstance(each, torch.optim.Optimizer)]
        if strangers or not self.optimizers:
            got = strangers[0] if strangers else "none"
            raise InputError(f"optimizers must be of torch.optim.Optimizer, one at least, got {got}")
        self._combined = False
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        self._combined = True
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if self._combined:
            raise InputError("a group of parameters must be added to one of the optimizers before they are combined")
        self.param_groups.append(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of each, after one evaluation of `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the `state_dict` of optimizers combined alike; InputError where groups are not as many."""
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            raise InputError(f"state_dict must be that of an optimizer, got {shown(state_dict)}")
        groups = list(state_dict["param_groups"])
        if len(groups) != len(self.param_groups):
            raise InputError(f"state_dict must have {len(self.param_groups)} groups of parameters, got {len(groups)}")
        for optimizer in self.optimizers:
            own, groups = groups[: len(optimizer.param_groups)], groups[len(optimizer.param_groups) :]
            numbers = {number for group in own for number in group["params"]}
            state = {number: value for number, value in state_dict["state"].items() if number in numbers}
            optimizer.load_state_dict({"state": state, "param_groups": own})
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "optimizers": self.optimizers, "_combined": True}

    def _share(self) -> None:
        """One state for all, in which each finds its own."""
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        for optimizer in self.optimizers:
            self.state.update(optimizer.state)
            optimizer.state = self.state


def check_unscheduled(optimizer: torch.optim.Optimizer) -> None:
    """Raise InputError where a scheduler of PyTorch's sets the rates of the optimizer, or of one that it combines.

    No optimizer knows all of its schedulers, so they are looked for among what Python keeps.
    """
    held = [optimizer, *getattr(optimizer, "optimizers", [])]
    if not _schedulers_of(held):
        return
    gc.collect()  # of those that nobody has any more, too
    found = _schedulers_of(held)
    if found:
        raise InputError(
            "optimizer must have no scheduler where tables bring an optimizer along, whose rate that would not set, "
            f"got {found[0]}: delete it, and make one of the report's optimizer"
        )


def _schedulers_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[str]:
    kept = [each for each in gc.get_objects() if issubclass(type(each), LRScheduler)]
    return sorted(
        type(each).__name__ for each in kept if any(getattr(each, "optimizer", None) is one for one in optimizers)
    )
