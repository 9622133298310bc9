"""The balanced co-clustering objective, computed exactly.

    Q(labels) = sum over edges (u, i) of B_ui [label_u == label_i]  -  gamma * sum over clusters c of V_U(c) V_I(c)

(arXiv 2604.18351; Barber's bipartite modularity when weights are degrees). Both sums are sums of integers, taken
without rounding, so Q is the same on every backend and in any order of summation.
"""

from __future__ import annotations

from baco_gpu.clustering.backends.backend import Array, Backend, read

_LIMB = 31
_HALF = 32


def objective(backend: Backend, within: int, volumes: tuple[Array, Array], penalty: float, unit: float = 1.0) -> float:
    """Q in units of edge weight, from the integers of a partition.

    Parameters
    ----------
    backend : Backend
        Where the volumes are.
    within : int
        Summed integer weight of the edges inside clusters.
    volumes : pair of int64 arrays of shape (clusters,)
        Integer volumes of every cluster's users and items, each below 2**62.
    penalty : float
        gamma in the units of the integers (gamma * NodeWeights.penalty_per_gamma).
    unit : float
        The integer that stands for an edge weight of 1.
    """
    return (float(within) - penalty * float(volume_product(backend, *volumes))) / unit


def volume_product(backend: Backend, user_volumes: Array, item_volumes: Array) -> int:
    """The sum of V_U(c) * V_I(c) as an exact Python integer, in one transfer from the device.

    A product of two 62-bit volumes does not fit 64 bits. Both are cut into limbs of 31 bits, whose products do; the
    halves of those are summed apart, which cannot overflow below 2**31 clusters.
    """
    mask = (1 << _LIMB) - 1
    users = (user_volumes & mask, user_volumes >> _LIMB)
    items = (item_volumes & mask, item_volumes >> _LIMB)
    halves, shifts = [], []
    for i, user_limb in enumerate(users):
        for j, item_limb in enumerate(items):
            product = user_limb * item_limb
            halves += [(product & ((1 << _HALF) - 1)).sum(), (product >> _HALF).sum()]
            shifts += [_LIMB * (i + j), _LIMB * (i + j) + _HALF]
    return sum(half << shift for half, shift in zip(read(backend, *halves), shifts, strict=True))
