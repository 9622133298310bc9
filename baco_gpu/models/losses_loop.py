"""The compiled loops of `Objective.differentiate_` on a CPU (Numba): gradients in the place of the rows they are by.

A user is one thread's alone, and what is added up is a user's alone: any number of threads gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from baco_gpu.compiling import compiled

_SUMS = {"reassoc", "contract"}  # so that sums are added up in as many lanes as the processor has
_ONE, _HALF = np.float32(1), np.float32(0.5)

# The exponential function of Cephes (Moshier): 2^k e^r, with e^r by a polynomial. Its relative error is 2e-7, and
# unlike that of the C library it is computed for many values at once.
_LOWEST = np.float32(-87)
_PER_BIT = np.float32(1.44269504)  # 1 / ln 2
_BIT_HIGH, _BIT_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # ln 2 in two parts
_P0, _P1, _P2, _P3, _P4, _P5 = (
    np.float32(value)
    for value in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
_BIAS, _PLACE = np.int32(127), np.int32(23)  # of the exponent of a float32


@njit(fastmath=_SUMS)
def _product(one, other):
    total = np.float32(0)
    for j in range(len(one)):
        total += one[j] * other[j]
    return total


@njit(fastmath=_SUMS)
def _gap(user, chosen, other):
    total = np.float32(0)
    for j in range(len(user)):
        total += user[j] * (other[j] - chosen[j])
    return total


@njit(fastmath=_SUMS)
def _total(values):
    total = np.float32(0)
    for j in range(len(values)):
        total += values[j]
    return total


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def differentiate_bpr(part, parts, users, items, decay, losses):
    """Gradients of `bpr_loss` and of the penalty, in the mean over users.

    Parameters
    ----------
    part, parts : int
        This thread's number, and the number of threads.
    users, items : float32 arrays of shape (batch, dim) and (2 * batch, dim), changed
        The second half of the items are the others.
    decay : float32
    losses : float32 array of shape (batch,), filled with a user's loss and penalty
    """
    count = len(users)
    share = _ONE / np.float32(count)
    keep = decay * share
    for at in range(count * part // parts, count * (part + 1) // parts):
        user, chosen, other = users[at], items[at], items[count + at]
        gap = _gap(user, chosen, other)
        odds = np.float32(math.exp(-abs(gap)))
        squares = _product(user, user) + _product(chosen, chosen) + _product(other, other)
        losses[at] = max(gap, np.float32(0)) + math.log1p(odds) + _HALF * decay * squares
        pull = (_ONE if gap > 0 else odds) / (_ONE + odds) * share
        for j in range(len(user)):
            u, c, o = user[j], chosen[j], other[j]
            user[j] = pull * (o - c) + keep * u
            chosen[j] = keep * c - pull * u
            other[j] = keep * o + pull * u


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def weigh_scores(part, parts, users, own, scores, bounds, shared, count, decay, losses, pushes):
    """Turn scores into what a shared item is pushed by, and find the same for a user's own.

    Parameters
    ----------
    part, parts, decay : as of `differentiate_bpr`
    users, own : float32 arrays of shape (some, dim)
        Rows of some of the users, and of the items that they chose.
    scores : float32 array of shape (some or more, shared items or more), changed
        To the share of each item in the odds, over `count`; to zeros beyond the shared items.
    bounds : float32 array of shape (some or more,)
        A user's highest score.
    shared : int
    count : int
        Users of the batch.
    losses, pushes : float32 arrays of shape (some,)
        Filled with a user's loss and penalty, and with the sum of its shares.
    """
    bits = np.empty(shared, np.int32)
    powers = bits.view(np.float32)
    for at in range(len(users) * part // parts, len(users) * (part + 1) // parts):
        scores[at, shared:] = 0
        row, positive = scores[at, :shared], _product(users[at], own[at])
        highest = max(bounds[at], positive)
        for j in range(len(row)):
            x = row[j] - highest
            x = _LOWEST if x < _LOWEST else x
            k = np.int32(x * _PER_BIT - _HALF)  # the nearest, for x is not positive
            r = x - np.float32(k) * _BIT_HIGH - np.float32(k) * _BIT_LOW
            y = (((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5) * (r * r) + r + _ONE
            bits[j] = (k + _BIAS) << _PLACE
            row[j] = y
        for j in range(len(row)):
            row[j] *= powers[j]
        against = _total(row)
        total = against + np.float32(math.exp(positive - highest))
        share = _ONE / (np.float32(count) * total)
        for j in range(len(row)):
            row[j] *= share
        pushes[at] = share * against
        squares = _product(users[at], users[at]) + _product(own[at], own[at])
        losses[at] = math.log(total) + highest - positive + _HALF * decay * squares


@compiled(nogil=True, error_model="numpy", fastmath={"contract"})
def push_apart(part, parts, users, own, pulled, pushes, keep):
    """Gradients by users and by the items that they chose.

    Parameters
    ----------
    part, parts : as of `differentiate_bpr`
    users, own : as of `weigh_scores`, changed
    pulled : float32 array of shape (some or more, dim or more)
        The shared items, as `weigh_scores` weighs them.
    pushes : as `weigh_scores` leaves them
    keep : float32
        The weight decay over the users of the batch.
    """
    for at in range(len(users) * part // parts, len(users) * (part + 1) // parts):
        push = pushes[at]
        for j in range(users.shape[1]):
            u, o = users[at, j], own[at, j]
            users[at, j] = pulled[at, j] - push * o + keep * u
            own[at, j] = keep * o - push * u
