"""What would wait for a GPU, found out on a CPU."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class WaitsForTheDevice(TorchDispatchMode):
    """Counts the operations that wait for a GPU: their results, or the sizes of these, are numbers of the host."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "repeat_interleave")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function.overloadpacket.__name__ in self.WAITING
        return function(*arguments, **(keywords or {}))
