"""The compiled loops that divide clusters in two (Numba, parts of clusters).

One thread has a cluster, and adds up its members in the order of their ids, so that no sum depends on the threads. Rows
are whole numbers of at most 2**22.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

_UNIT = 2.0**22  # whole numbers for a direction, whose products with rows are then exact
_POWER_STEPS = 4
_MEANS_STEPS = 2


@compiled(nogil=True)
def divide(part, parts, rows, weights, order, starts, ends, middles, gains):
    """Part the members order[start:end] of every cluster in two.

    They are put in the order of their parts, within a part of their ids, with the second from `middle` on; `gain` is
    the weighted variance that this takes away, 0 where a cluster is left whole.
    """
    for k in range(part, len(starts), parts):
        members = order[starts[k] : ends[k]]
        second = np.zeros(len(members), np.bool_)
        gains[k] = _two_parts(rows, weights, members, second)
        middles[k] = starts[k] + _apart(members, second)


@compiled()
def variance_around_mean(rows, weights):
    """The weighted sum of squares of rows around their weighted mean."""
    mean = np.empty(rows.shape[1])
    mass = _weighed_sum(rows, weights, np.arange(len(rows)), mean)
    mean /= max(mass, 1.0)
    total = 0.0
    for x in range(len(rows)):
        square = 0.0
        for j in range(len(mean)):
            square += (rows[x, j] - mean[j]) ** 2
        total += weights[x] * square
    return total


@njit
def _weighed_sum(rows, weights, members, total):
    mass = 0.0
    total[:] = 0
    for x in members:
        weight, row = weights[x], rows[x]
        mass += weight
        for j in range(len(total)):
            total[j] += weight * row[j]
    return mass


@njit
def _two_parts(rows, weights, members, second):
    """Mark the members of the second part; the variance that parting them takes away."""
    dim = rows.shape[1]
    mean = np.empty(dim)
    mass = _weighed_sum(rows, weights, members, mean)
    if len(members) < 2 or mass <= 0:
        return 0.0
    mean /= mass
    along = _places_along(rows, weights, members, mean, _principal(rows, weights, members, mean))
    if not _cut(weights, members, along, second):
        return 0.0
    sums, masses = np.empty((2, dim)), np.empty(2)
    gain = _gain(rows, weights, members, second, sums, masses)
    moved = second.copy()
    for _ in range(_MEANS_STEPS):
        border = 0.0
        across = np.empty(dim)
        for j in range(dim):
            one, two = sums[0, j] / masses[0], sums[1, j] / masses[1]
            across[j] = np.rint(two - one)
            border += across[j] * (two + one) / 2
        changed = False
        for k in range(len(members)):
            moved[k] = dot(rows[members[k]], across) > border
            changed |= moved[k] != second[k]
        if not changed:
            break
        better = _gain(rows, weights, members, moved, sums, masses)
        if not better > gain:
            break
        gain = better
        second[:] = moved
    return gain


@njit
def _principal(rows, weights, members, mean):
    """About the direction of the greatest variance: steps of the power method from the axis of the greatest."""
    dim = len(mean)
    spread = np.zeros(dim)
    for x in members:
        weight, row = weights[x], rows[x]
        for j in range(dim):
            apart = row[j] - mean[j]
            spread[j] += weight * apart * apart
    direction = np.zeros(dim)
    direction[np.argmax(spread)] = _UNIT
    for _ in range(_POWER_STEPS):
        turned, total, middle = np.zeros(dim), 0.0, _in_order(mean, direction)
        for x in members:
            row = rows[x]
            place = weights[x] * (dot(row, direction) - middle)
            total += place
            for j in range(dim):
                turned[j] += place * row[j]
        length = 0.0
        for j in range(dim):
            turned[j] -= total * mean[j]
            length += turned[j] * turned[j]
        if not length > 0:
            break
        direction = np.rint(turned * (_UNIT / np.sqrt(length)))
    return direction


@njit
def _places_along(rows, weights, members, mean, direction):
    places, middle = np.empty(len(members)), _in_order(mean, direction)
    for k in range(len(members)):
        places[k] = dot(rows[members[k]], direction) - middle
    return places


@njit
def _cut(weights, members, along, second):
    """Mark those beyond the cut of a line that leaves the least variance on it; whether there is a cut."""
    ranked = np.argsort(along, kind="mergesort")
    mass = total = 0.0
    for k in ranked:
        mass += weights[members[k]]
        total += weights[members[k]] * along[k]
    best, border = 0.0, np.inf
    before = sum_before = 0.0
    for r in range(len(ranked) - 1):
        k = ranked[r]
        before += weights[members[k]]
        sum_before += weights[members[k]] * along[k]
        after = mass - before
        if before > 0 and after > 0 and along[ranked[r + 1]] > along[k]:
            apart = sum_before / before - (total - sum_before) / after
            gain = before * after / mass * apart * apart
            if gain > best:
                best, border = gain, along[k]
    for k in range(len(along)):
        second[k] = along[k] > border
    return best > 0


@njit
def _gain(rows, weights, members, second, sums, masses):
    """The variance between the two parts; their weighted sums and masses are written."""
    sums[:] = 0
    masses[:] = 0
    for k in range(len(members)):
        x, part = members[k], np.int64(second[k])
        weight, row = weights[x], rows[x]
        masses[part] += weight
        total = sums[part]
        for j in range(len(total)):
            total[j] += weight * row[j]
    if not (masses[0] > 0 and masses[1] > 0):
        return 0.0
    apart = 0.0
    for j in range(sums.shape[1]):
        step = sums[0, j] / masses[0] - sums[1, j] / masses[1]
        apart += step * step
    return masses[0] * masses[1] / (masses[0] + masses[1]) * apart


@njit
def _apart(members, second):
    """Put the members of the second part behind the others, each in the order they were in; how many are before."""
    before = 0
    behind = members[second].copy()
    for k in range(len(members)):
        if not second[k]:
            members[before] = members[k]
            before += 1
    members[before:] = behind
    return before


@njit(fastmath={"reassoc", "contract"})
def dot(row, other):
    """The inner product of whole numbers: exact, since no sum reaches 2**53, in whatever order it is added up."""
    total = 0.0
    for j in range(len(row)):
        total += np.float64(row[j]) * np.float64(other[j])
    return total


@njit
def _in_order(one, other):
    total = 0.0
    for j in range(len(one)):
        total += one[j] * other[j]
    return total
