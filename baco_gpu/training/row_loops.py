"""The compiled loops of `RowStep` on a CPU (Numba): the rows that a batch reads, and the step of these.

Of Adam's moments there are `roots`, those of the second ones, and `quotients`, those of first ones and roots: a row
without a gradient moves by a multiple of its quotients, and all of its steps at once are one product and no root.

A row is moved by one thread, which adds up its terms in the order of the batch: any number of threads gives the same
bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled
from baco_gpu.prefetch import prefetch

_AHEAD = 6  # rows that are fetched while others are worked on
_LINE = 16  # float32 values


@njit(inline="always")
def _fetch(flat, row, dim):
    for first in range(0, dim, _LINE):
        prefetch(flat, row * dim + first)


@njit(inline="always")
def _missed(then, now, tails, fades):
    """What a multiple of its quotients a row has moved in the steps after `then`, up to `now`."""
    return np.float32(tails[then] - fades[now - then] * tails[now])


@compiled(nogil=True, error_model="numpy")
def begin(part, parts, firsts, seconds, eps):
    """Turn Adam's moments, float32 arrays of shape (rows, dim), into quotients and roots."""
    count, dim = firsts.shape
    for row in range(count * part // parts, count * (part + 1) // parts):
        for j in range(dim):
            root = np.sqrt(seconds[row, j])
            firsts[row, j] /= root + eps
            seconds[row, j] = root


@compiled(nogil=True, error_model="numpy")
def settle(part, parts, values, quotients, roots, moved, now, tails, fades, decays, square_decays, epsilons):
    """Let all rows be what Adam has made of them by step `now`, and turn quotients and roots into its moments.

    Parameters
    ----------
    as of `move`
    """
    count, dim = values.shape
    for row in range(count * part // parts, count * (part + 1) // parts):
        then = moved[row]
        missed, eps = _missed(then, now, tails, fades), epsilons[then]
        kept, kept_square = decays[now - then], square_decays[now - then]
        for j in range(dim):
            values[row, j] -= missed * quotients[row, j]
            quotients[row, j] *= kept * (roots[row, j] + eps)
            roots[row, j] *= kept_square * roots[row, j]


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def gather(part, parts, ids, numbers, shares, values, quotients, moved, now, tails, fades, vectors, rows, weights):
    """The embeddings of ids, of rows as Adam has made them by step `now`.

    Parameters
    ----------
    part, parts : int
        This thread's number, and the number of threads.
    ids : int64 array of shape (n,)
    numbers, shares : int32 and float32 arrays of shape (num_embeddings, rows an id)
        The rows of every id, and its shares of them.
    values, quotients, moved, now, tails, fades : as of `move`
    vectors : float32 array of shape (n, dim), filled
    rows, weights : int32 and float32 arrays of shape (n, rows an id)
        Filled with those of the ids.
    """
    count, dim = vectors.shape
    flat, flat_quotients = values.ravel(), quotients.ravel()
    for at in range(count * part // parts, count * (part + 1) // parts):
        if at + _AHEAD < count:
            for which in range(numbers.shape[1]):
                row = numbers[ids[at + _AHEAD], which]
                _fetch(flat, row, dim)
                _fetch(flat_quotients, row, dim)
        for which in range(numbers.shape[1]):
            row, weight = numbers[ids[at], which], shares[ids[at], which]
            rows[at, which], weights[at, which] = row, weight
            missed = weight * _missed(moved[row], now, tails, fades)
            if which == 0:
                for j in range(dim):
                    vectors[at, j] = weight * values[row, j] - missed * quotients[row, j]
            else:
                for j in range(dim):
                    vectors[at, j] += weight * values[row, j] - missed * quotients[row, j]


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def move(
    part,
    parts,
    rows,
    places,
    weights,
    terms,
    heads,
    follows,
    values,
    quotients,
    roots,
    moved,
    now,
    tails,
    fades,
    decays,
    square_decays,
    epsilons,
    gains,
    rate,
):
    """Make step `now` of the rows that have a gradient.

    Parameters
    ----------
    part, parts : as of `gather`
    rows, places, weights : int32, int32 and float32 arrays of shape (n,)
        The gradient by a row is the sum of `weights[i] * terms[places[i]]` over all i that have it in `rows`.
    terms : float32 array of shape (any, dim)
    heads : int32 array of shape (all rows,), of -1, also after the step
    follows : int32 array of shape (n,), to work in
    values, quotients, roots : float32 arrays of shape (all rows, dim)
        The table, and Adam's moments as they were after the step in `moved`; changed.
    moved : int32 array of shape (all rows,)
        The step of every row's last gradient; changed.
    now : int
    tails : float64 array
        For every step, the multiple of its quotients that a row moves by in all steps after it, without a gradient.
    fades : float64 array
        What is left of a quotient after so many steps.
    decays, square_decays : float32 arrays
        What is left of either moment after so many steps.
    epsilons : float32 array
        What a root has beside it, for every step.
    gains : pair of float32
        What a gradient, and its square, count.
    rate : float32
        The multiple of its quotients that a row moves by in this step.
    """
    dim = values.shape[1]
    flat, flat_quotients, flat_roots = values.ravel(), quotients.ravel(), roots.ravel()
    for at in range(len(rows) - 1, -1, -1):  # list the places of every row, ascending
        row = rows[at]
        if np.uint32(row) % np.uint32(parts) == part:
            follows[at] = heads[row]
            heads[row] = at
    gradient = np.empty(dim, np.float32)
    gain, gain_square = gains
    eps = epsilons[now]
    for at in range(len(rows)):
        if at + _AHEAD < len(rows):
            ahead = rows[at + _AHEAD]
            if np.uint32(ahead) % np.uint32(parts) == part:
                _fetch(flat, ahead, dim)
                _fetch(flat_quotients, ahead, dim)
                _fetch(flat_roots, ahead, dim)
        row = rows[at]
        if np.uint32(row) % np.uint32(parts) != part or heads[row] < 0:
            continue
        term, weight = terms[places[at]], weights[at]
        for j in range(dim):
            gradient[j] = weight * term[j]
        place = follows[at]
        while place >= 0:
            term, weight = terms[places[place]], weights[place]
            for j in range(dim):
                gradient[j] += weight * term[j]
            place = follows[place]
        heads[row] = -1
        then = moved[row]
        moved[row] = now
        missed = _missed(then, now - 1, tails, fades)
        kept, kept_square, eps_then = decays[now - then], square_decays[now - then], epsilons[then]
        value, quotient, root = values[row], quotients[row], roots[row]
        for j in range(dim):
            old, g = quotient[j], gradient[j]
            square = kept_square * (root[j] * root[j]) + gain_square * (g * g)
            first = kept * (old * (root[j] + eps_then)) + gain * g
            after = np.sqrt(square)
            new = first / (after + eps)
            value[j] = value[j] - missed * old - rate * new
            quotient[j] = new
            root[j] = after
