"""The loop of information-theoretic co-clustering, compiled by Numba: one node after another, in place.

With weights `n` of clusters, of partner clusters and of both, the mutual information is, but for what the labels of
one side do not change, the sum of `n log n` over pairs of clusters less that over the clusters.
"""

from __future__ import annotations

import numpy as np

from baco_gpu.compiling import compiled


@compiled()
def keep_more_information(offsets, partners, weights, num_partners, order, labels, clusters):
    """One pass over the nodes of `order`, each of which takes the cluster that keeps the most; how many moved.

    What a node shares with a cluster is looked up by partner cluster: each has a list of the clusters that it meets,
    with the weight and the number of nodes that they meet by. A node without a partner is not to be in `order`, and a
    cluster does not lose its last one.
    """
    starts = np.zeros(num_partners + 1, np.int64)
    for entry in range(offsets[-1]):
        starts[partners[entry] + 1] += 1
    starts = np.cumsum(starts)
    sizes = np.zeros(num_partners, np.int64)
    met, shared, met_by = np.empty(starts[-1], np.int64), np.empty(starts[-1]), np.empty(starts[-1], np.int64)
    masses, members = np.zeros(clusters), np.zeros(clusters, np.int64)
    for x in order:
        members[labels[x]] += 1
        for entry in range(offsets[x], offsets[x + 1]):
            masses[labels[x]] += weights[entry]
            _add(met, shared, met_by, starts, sizes, partners[entry], labels[x], weights[entry])

    gains, seen, found = np.zeros(clusters), np.zeros(clusters, np.bool_), np.empty(clusters, np.int64)
    moved = 0
    for x in order:
        own = labels[x]
        if members[own] == 1:
            continue
        count, mass = 0, 0.0
        for entry in range(offsets[x], offsets[x + 1]):
            partner, weight = partners[entry], weights[entry]
            mass += weight
            for slot in range(starts[partner], starts[partner] + sizes[partner]):
                cluster, rest = met[slot], shared[slot]
                if not seen[cluster]:
                    seen[cluster], found[count] = True, cluster
                    count += 1
                if cluster == own:
                    rest = rest - weight if met_by[slot] > 1 else 0.0
                gains[cluster] += _plogp(rest + weight) - _plogp(rest) - _plogp(weight)
        masses[own] -= mass
        best, most = own, gains[own] - _plogp(masses[own] + mass) + _plogp(masses[own])
        for place in range(count):
            cluster = found[place]
            gain = gains[cluster] - _plogp(masses[cluster] + mass) + _plogp(masses[cluster])
            # Sums of floats: what is as good may look better, and nodes would move to and fro.
            if gain > most + 1e-9 * mass:
                best, most = cluster, gain
            gains[cluster], seen[cluster] = 0.0, False
        masses[best] += mass
        if best != own:
            moved += 1
            labels[x] = best
            members[own] -= 1
            members[best] += 1
            for entry in range(offsets[x], offsets[x + 1]):
                _remove(met, shared, met_by, starts, sizes, partners[entry], own, weights[entry])
                _add(met, shared, met_by, starts, sizes, partners[entry], best, weights[entry])
    return moved


@compiled()
def _add(met, shared, met_by, starts, sizes, partner, cluster, weight):
    slot, end = starts[partner], starts[partner] + sizes[partner]
    while slot < end and met[slot] != cluster:
        slot += 1
    if slot == end:
        sizes[partner] += 1
        met[slot], shared[slot], met_by[slot] = cluster, 0.0, 0
    shared[slot] += weight
    met_by[slot] += 1


@compiled()
def _remove(met, shared, met_by, starts, sizes, partner, cluster, weight):
    """The last of the list comes to where a cluster was that is not met any more."""
    slot, last = starts[partner], starts[partner] + sizes[partner] - 1
    while met[slot] != cluster:
        slot += 1
    shared[slot] -= weight
    met_by[slot] -= 1
    if met_by[slot] == 0:
        met[slot], shared[slot], met_by[slot] = met[last], shared[last], met_by[last]
        sizes[partner] -= 1


@compiled()
def _plogp(value):
    return value * np.log(value) if value > 0.0 else 0.0
