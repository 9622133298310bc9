"""The compiled loops over clusters that merge on the CPU (Numba; one thread, or chunks where they have begin and end).

Clusters bear the ids that they had when a level began; those that are left are `alive`, in ascending order. A cluster
that takes another in gets its parts: the chain c, follower[c], ... of ids whose members, as they were grouped, it has.

What is known of a cluster's merges outlives rounds and levels: its best two, and a bound of what all others gain. They
are as good as ever for neighbors that have not changed; a gain is the same from both sides, so that those that have
tell their neighbors anew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from baco_gpu.compiling import compiled

# What a row of `facts` holds of a cluster: side by side, so that all come with one fetch.
USER_VOLUME, ITEM_VOLUME, BOUND, STATE = range(4)
KNOWN, CHANGED, WAITING = 0.0, 1.0, 2.0  # WAITING: its best partner is gone, and offers may name the next


class Merges(NamedTuple):
    """The best two merges of every cluster: partners (-1 for none known) and gains."""

    partner: np.ndarray
    gain: np.ndarray
    next_partner: np.ndarray
    next_gain: np.ndarray


@compiled()
def places_of(alive, follower, places):
    """Where in `alive` every cluster is that has become part of one that is left."""
    for k in range(len(alive)):
        part = alive[k]
        while part >= 0:
            places[part] = k
            part = follower[part]


@compiled()
def begin_round(alive, changed, volumes, facts, merges, todo):
    """Lay the facts out, drop partners that have changed, and list the clusters that have; returns how many.

    Nothing is marked as changed any more.
    """
    partner, gain, next_partner, next_gain = merges
    count = 0
    for c in alive:
        facts[c, USER_VOLUME], facts[c, ITEM_VOLUME] = volumes[c, 0], volumes[c, 1]
        if changed[c]:
            facts[c, STATE] = CHANGED
            todo[count] = c
            count += 1
            continue
        facts[c, STATE] = KNOWN
        if next_partner[c] >= 0 and changed[next_partner[c]]:
            next_partner[c], next_gain[c] = -1, -np.inf
        if partner[c] >= 0 and changed[partner[c]]:
            partner[c], gain[c] = next_partner[c], next_gain[c]
            next_partner[c], next_gain[c] = -1, -np.inf
            facts[c, STATE] = WAITING
    changed[:] = False
    return count


@compiled()
def members_of(clusters, follower, members, starts, offsets, nodes, bounds, costs):
    """The members of clusters on one side, cluster after cluster, and where each begins; their edges join `costs`."""
    end = 0
    for k in range(len(clusters)):
        bounds[k] = end
        part = clusters[k]
        while part >= 0:
            for m in range(starts[part], starts[part + 1]):
                node = members[m]
                nodes[end] = node
                end += 1
                costs[k] += offsets[node + 1] - offsets[node]
            part = follower[part]
    bounds[len(clusters)] = end


@compiled()
def accept(offers, givers, gains, facts, merges):
    """Let clusters know of the merges that others offer: a better one takes the place of one that is known."""
    partner, gain, next_partner, next_gain = merges
    for k in range(len(offers)):
        d, c, value = offers[k], givers[k], gains[k]
        if value > gain[d] or (value == gain[d] and c < partner[d]):
            facts[d, BOUND] = max(facts[d, BOUND], next_gain[d])
            next_partner[d], next_gain[d] = partner[d], gain[d]
            partner[d], gain[d] = c, value
        elif value > next_gain[d] or (value == next_gain[d] and c < next_partner[d]):
            facts[d, BOUND] = max(facts[d, BOUND], next_gain[d])
            next_partner[d], next_gain[d] = c, value
        else:
            facts[d, BOUND] = max(facts[d, BOUND], value)


@compiled()
def undecided(alive, facts, merges, todo):
    """List the clusters whose best partner is gone, and whose next may be one that is not known; returns how many."""
    count = 0
    for c in alive:
        if facts[c, STATE] == WAITING and not merges.gain[c] > facts[c, BOUND]:
            todo[count] = c
            count += 1
    return count


@compiled()
def rising_pairs(alive, merges, occupied, keepers, followers):
    """Pair the clusters that name each other and gain; returns the pairs, the rows that they save of users and of
    items, and their followers.

    `keepers` gets the one of each that all of its group become; `followers` those whose best partner is in a pair.
    """
    partner, gain, _, _ = merges
    pairs, saved_users, saved_items = 0, 0, 0
    for c in alive:
        p = partner[c]
        keepers[c] = c
        if p >= 0 and partner[p] == c and gain[c] > 0:
            keepers[c] = min(c, p)
            if c < p:
                pairs += 1
                saved_users += occupied[c, 0] and occupied[p, 0]
                saved_items += occupied[c, 1] and occupied[p, 1]
    count = 0
    for c in alive:
        p = partner[c]
        if gain[c] > 0 and partner[p] != c and partner[partner[p]] == p:
            followers[count] = c
            count += 1
    return pairs, saved_users, saved_items, count


@compiled()
def join_followers(followers, merges, volumes, penalty, room, keepers, before, waits):
    """Let followers, in descending order of gain, join their pairs as long as that is sure to raise Q, `room` at most.

    See `Clusters.merge_rising`, of which this is the part that takes long. Of every pair's first cluster, `before` gets
    the volumes that join, and `waits` whether followers wait for the next round: zeros at first.
    """
    partner, gain, _, _ = merges
    for c in followers:
        half = partner[c]
        rest = partner[half]
        leader = min(half, rest)
        rest_users = np.float64(volumes[rest, 0] + before[leader, 0])
        rest_items = np.float64(volumes[rest, 1] + before[leader, 1])
        price = penalty * (np.float64(volumes[c, 0]) * rest_items + np.float64(volumes[c, 1]) * rest_users)
        before[leader, 0] += volumes[c, 0]
        before[leader, 1] += volumes[c, 1]
        if gain[c] - price <= 0:
            waits[leader] = True
        if not waits[leader] and room > 0:
            keepers[c] = leader
            room -= 1


@compiled()
def merge_into(alive, keepers, volumes, occupied, follower, last, changed, users, items):
    """Let every cluster become part of its keeper; returns how many are left at the head of `alive`, and the rows that
    this saves of users and of items.

    `users` and `items` are each the labels, the members, and where those of each cluster begin.
    """
    left, saved_users, saved_items = 0, 0, 0
    for c in alive:
        into = keepers[c]
        if into == c:
            alive[left] = c
            left += 1
            continue
        part = c
        while part >= 0:
            for labels, members, starts in (users, items):
                for m in range(starts[part], starts[part + 1]):
                    labels[members[m]] = into
            part = follower[part]
        follower[last[into]] = c
        last[into] = last[c]
        saved_users += occupied[into, 0] and occupied[c, 0]
        saved_items += occupied[into, 1] and occupied[c, 1]
        for side in range(2):
            volumes[into, side] += volumes[c, side]
            occupied[into, side] |= occupied[c, side]
        changed[into] = True
        changed[c] = True
    return left, saved_users, saved_items


@compiled(nogil=True)
def best_partners(begin, end, begins, counts, ids, sums, volumes, penalty, partner, gain):
    """The neighbor of every cluster whose merge gains most (ties to the smallest id; -1 for none), and the gain."""
    for cluster in range(begin, end):
        users, items = np.float64(volumes[cluster, 0]), np.float64(volumes[cluster, 1])
        partner[cluster], gain[cluster] = -1, -np.inf
        for place in range(begins[cluster], begins[cluster] + counts[cluster]):
            if np.float64(sums[place]) < gain[cluster]:
                continue  # volumes can only lower it: they need not be fetched
            other = ids[place]
            # Both products are symmetric in the two clusters, so both see the same gain to the last bit.
            crossing = users * np.float64(volumes[other, 1]) + items * np.float64(volumes[other, 0])
            value = np.float64(sums[place]) - penalty * crossing
            if value > gain[cluster] or (value == gain[cluster] and other < partner[cluster]):
                partner[cluster], gain[cluster] = other, value


@compiled(nogil=True)
def own_weights(begin, end, clusters, members, starts, first, last, neighbors, weights, relabel, own):
    """Let `own` have twice the weight within clusters, from the edges of their members on one side."""
    for k in range(begin, end):
        total = np.int64(0)
        for m in range(starts[k], starts[k + 1]):
            for e in range(first[members[m]], last[members[m]]):
                if relabel[np.uint64(neighbors[e])] == clusters[k]:
                    total += 1 if weights is None else weights[e]
        own[clusters[k]] = 2 * total
