"""The compiled loop of `nearest_words` on a CPU (Numba): a row is one thread's alone."""

from __future__ import annotations

import numpy as np

from baco_gpu.compiling import compiled


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def find_paths(part, parts, rows, levels, shifts, weights, words):
    """As `nearest_words`, of float32 rows.

    Parameters
    ----------
    part, parts : int
        Every `parts`-th row is this call's, from row `part` on.
    rows : float32 array (n, dim)
    levels : float32 array (dim, states), what the value of a place is in each state
    shifts : int64 array (dim,), weights : float32 array (dim,)
    words : int32 array (n, dim)
        Filled.
    """
    dim, states = levels.shape
    costs = np.empty((dim + 1, states), np.float32)  # after each place that brings bits
    least = np.empty(states, np.float32)
    for row in range(part, len(rows), parts):
        step = 0
        costs[0] = np.inf
        costs[0, 0] = 0
        for place in range(dim):
            shift = shifts[place]
            if shift == 0:
                continue
            before, after, level = costs[step], costs[step + 1], levels[place]
            kept = states >> shift
            for state in range(kept):
                least[state] = before[state]
            for first in range(kept, states, kept):
                for state in range(kept):
                    least[state] = min(least[state], before[first + state])
            value, weight = rows[row, place], weights[place]
            if shift == 1:  # apart, for these are done for many states at once
                for state in range(kept):
                    one, two = value - level[2 * state], value - level[2 * state + 1]
                    after[2 * state] = least[state] + weight * (one * one)
                    after[2 * state + 1] = least[state] + weight * (two * two)
            elif shift == 2:
                for state in range(kept):
                    one, two = value - level[4 * state], value - level[4 * state + 1]
                    three, four = value - level[4 * state + 2], value - level[4 * state + 3]
                    after[4 * state] = least[state] + weight * (one * one)
                    after[4 * state + 1] = least[state] + weight * (two * two)
                    after[4 * state + 2] = least[state] + weight * (three * three)
                    after[4 * state + 3] = least[state] + weight * (four * four)
            else:
                for state in range(states):
                    off = value - level[state]
                    after[state] = least[state >> shift] + weight * (off * off)
            step += 1
        word = np.argmin(costs[step])
        for place in range(dim - 1, -1, -1):
            words[row, place] = word
            shift = shifts[place]
            if shift == 0:
                continue
            step -= 1
            kept, best = states >> shift, word >> shift
            for bits in range(1, 1 << shift):
                if costs[step, (word >> shift) + bits * kept] < costs[step, best]:
                    best = (word >> shift) + bits * kept
            word = best
