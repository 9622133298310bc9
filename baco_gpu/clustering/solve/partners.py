"""Where a co-cluster of users alone, or of items alone, sends new nodes of the side that it lacks."""

from __future__ import annotations

import numpy as np

from baco_gpu.clustering.backends.backend import USERS, Backend, Partition, Problem
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.clustering.solve.sweeps import count_rows


def one_sided_partners(backend: Backend, problem: Problem, partition: Partition, penalty: float) -> np.ndarray:
    """For every co-cluster that lacks a side, the one that it would merge with first.

    That one has the side: whoever has an edge to a co-cluster of items alone is a user, and not in it. So the partner
    of the greatest gain is the best label that a sweep would find, were all its items one.

    Parameters
    ----------
    partition : Partition
        Under the labels 0..K-1, each with at least one member.

    Returns
    -------
    integer array of shape (K,), of the dtype of the labels, on the host
        `NO_LABEL` for co-clusters of both sides, and for those without an edge.
    """
    dtype = partition.labels[USERS].dtype
    if count_rows(backend, partition) == 2 * partition.num_labels:
        return np.full(partition.num_labels, NO_LABEL, dtype)
    clusters = backend.clusters(problem, penalty)
    clusters.begin(partition)
    partner, _, _, (users, items) = clusters.proposals()
    host: np.ndarray = backend.to_host(backend.xp.where(users & items, NO_LABEL, partner))
    return host.astype(dtype)
