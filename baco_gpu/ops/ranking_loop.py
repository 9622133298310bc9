"""The compiled loops of a ranking on a CPU (Numba): the best of tiles of scores, in one pass over each.

A row has a list of candidates, ascending by item. What is better than the best `k` of them were when they were last
chosen is added, and when the list is full, they are chosen again: a few times a row, however many items there are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

_MANY, _FEW = 64, 8  # scores that are compared at once


@njit(inline="always")
def _any_better(scores, bound, count):
    """Whether any of the first `count` scores is better than the bound; written so that they are compared at once."""
    better = np.int32(0)
    for lane in range(count):
        better |= np.int32(scores[lane] > bound)
    return better != 0


@njit
def _choose(scores, items, count, k):
    """Keep the best k of `count` candidates, more than k, and of equal ones the first; the lowest score among them."""
    least = np.partition(scores[:count], count - k)[count - k]
    free = k
    for at in range(count):
        free -= scores[at] > least
    kept = 0
    for at in range(count):
        equal = scores[at] == least
        if scores[at] > least or (equal and free > 0):
            free -= equal
            scores[kept], items[kept] = scores[at], items[at]
            kept += 1
    return least


@compiled(nogil=True, error_model="numpy")
def add_tile(tile, width, first, offsets, hidden, cursors, k, counts, bounds, scores, items):
    """Add to every row's candidates; tiles come in ascending order of items.

    Parameters
    ----------
    tile : floating array of shape (at least rows, at least width)
        Scores of the `width` items from `first` on; changed where they are hidden.
    offsets, hidden : int64 arrays of shape (rows + 1,) and (any,)
        `hidden[offsets[r]:offsets[r + 1]]` are the ascending items that row r is not shown.
    cursors : int64 array of shape (rows,)
        Up to where they have been seen; changed.
    k : int
    counts, bounds : int64 and floating arrays of shape (rows,)
        How many candidates there are, and what a further one has to be better than: at first 0 and minus infinity.
    scores, items : floating and int64 arrays of shape (rows, more than k)
        The candidates; changed.
    """
    for place in range(len(counts)):
        row, cursor = tile[place], cursors[place]
        while cursor < offsets[place + 1] and hidden[cursor] < first + width:
            row[hidden[cursor] - first] = -np.inf
            cursor += 1
        cursors[place] = cursor
        count, bound, whole = counts[place], bounds[place], width // _MANY * _MANY
        for begin in range(0, width, _MANY):
            if begin < whole and not _any_better(row[begin : begin + _MANY], bound, _MANY):
                continue
            for few in range(begin, min(begin + _MANY, width), _FEW):
                if begin < whole and not _any_better(row[few : few + _FEW], bound, _FEW):
                    continue
                for item in range(few, min(few + _FEW, width)):
                    if row[item] > bound:
                        scores[place, count], items[place, count] = row[item], first + item
                        count += 1
                        if count == scores.shape[1]:
                            bound = _choose(scores[place], items[place], count, k)
                            count = k
        counts[place], bounds[place] = count, bound


@compiled(nogil=True, error_model="numpy")
def sort_best(k, counts, scores, items, best, best_scores):
    """Fill `best`, int64 of shape (rows, k), with the best items, best first, and then with -1; and their scores."""
    for place in range(len(best)):
        if counts[place] > k:
            _choose(scores[place], items[place], counts[place], k)
            counts[place] = k
        order = np.argsort(-scores[place, : counts[place]], kind="mergesort")  # stable: equal ones stay as they are
        best[place], best_scores[place] = -1, -np.inf
        for rank in range(min(k, counts[place])):
            best[place, rank], best_scores[place, rank] = items[place, order[rank]], scores[place, order[rank]]
