"""The slow, obvious solver: plain loops over Python lists, written from the definitions, the arbiter of the fast ones.

It shares no code with `baco_gpu.clustering`. Scores are the same float64 products and differences, so that equality
with the compiled solvers is asked for without any tolerance.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(word):
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)


def stream(seed, number, purpose):
    word = mix((seed + GOLDEN) & WORD)
    word = mix(word ^ (number * GOLDEN & WORD))
    return mix(word ^ purpose)


def node_hash(word, node):
    return mix(word ^ (node * GOLDEN & WORD))


class ReferenceGraph:
    """Integer edge weights by (user, item), and integer node weights; side 0 is users, side 1 items."""

    def __init__(self, num_users, num_items, edges, node_weights):
        self.sizes = (num_users, num_items)
        self.edges = dict(edges)
        self.node_weights = node_weights
        self.neighbors = ([[] for _ in range(num_users)], [[] for _ in range(num_items)])
        for (user, item), weight in sorted(self.edges.items()):
            self.neighbors[0][user].append((item, weight))
            self.neighbors[1][item].append((user, weight))


def volumes(graph, labels):
    result = [defaultdict(int), defaultdict(int)]
    for side in (0, 1):
        for node, label in enumerate(labels[side]):
            result[side][label] += graph.node_weights[side][node]
    return result


def objective(graph, labels, penalty):
    """Q in the units of the integers, as an exact fraction."""
    within = sum(weight for (user, item), weight in graph.edges.items() if labels[0][user] == labels[1][item])
    users, items = volumes(graph, labels)
    return within - Fraction(penalty) * sum(users[label] * items[label] for label in users)


def singletons(graph):
    num_users, num_items = graph.sizes
    labels = [list(range(num_users)), list(range(num_users, num_users + num_items))]
    isolated = [(side, node) for side in (0, 1) for node in range(graph.sizes[side]) if not graph.neighbors[side][node]]
    if isolated:
        side, node = isolated[0]
        first = labels[side][node]
        for side, node in isolated:
            labels[side][node] = first
    return labels


def scores(graph, labels, side, node, penalty):
    """Score of every candidate label of a node: its neighbors' labels and its own."""
    towards = defaultdict(int)
    for other, weight in graph.neighbors[side][node]:
        towards[labels[1 - side][other]] += weight
    towards[labels[side][node]] += 0
    other_volumes = volumes(graph, labels)[1 - side]
    factor = penalty * float(graph.node_weights[side][node])
    return {label: float(count) - factor * float(other_volumes[label]) for label, count in towards.items()}


def best(candidates):
    """The label of the highest score; the smallest such label."""
    top = max(candidates.values())
    return min(label for label, score in candidates.items() if score == top)


def anchors(labels_of_side, word):
    members = defaultdict(list)
    for node, label in enumerate(labels_of_side):
        members[label].append(node)
    return {min(nodes, key=lambda node: (node_hash(word, node), node)) for nodes in members.values()}


def sweep(graph, labels, penalty, seed, number, num_blocks=4, hold_rows=False):
    kept = [anchors(labels[side], stream(seed, number, 2 + side)) if hold_rows else set() for side in (0, 1)]
    for block in range(num_blocks):
        for side in (0, 1):
            word = stream(seed, number, side)
            nodes = [node for node in range(graph.sizes[side]) if node_hash(word, node) % num_blocks == block]
            moves = {node: best(scores(graph, labels, side, node, penalty)) for node in nodes if node not in kept[side]}
            for node, label in moves.items():
                labels[side][node] = label


def second_best(graph, labels, side, penalty):
    owned = set(labels[side])
    result = []
    for node, own in enumerate(labels[side]):
        towards = {labels[1 - side][other] for other, _ in graph.neighbors[side][node]}
        candidates = {
            label: score
            for label, score in scores(graph, labels, side, node, penalty).items()
            if label != own and label in owned and label in towards
        }
        result.append(best(candidates) if candidates else -1)
    return result


def rows(labels, shared=False):
    return len({*labels[0], *labels[1]}) if shared else len(set(labels[0])) + len(set(labels[1]))


def compacted(labels):
    order = {label: position for position, label in enumerate(sorted({*labels[0], *labels[1]}))}
    return [[order[label] for label in side] for side in labels]


def merge_gains(graph, labels, penalty):
    """For every pair of clusters with an edge between them: the gain of merging them."""
    between = defaultdict(int)
    for (user, item), weight in graph.edges.items():
        a, b = labels[0][user], labels[1][item]
        if a != b:
            between[min(a, b), max(a, b)] += weight
    users, items = volumes(graph, labels)
    gains = {}
    for (a, b), weight in between.items():
        crossing = float(users[a]) * float(items[b]) + float(items[a]) * float(users[b])
        gains[a, b] = float(weight) - penalty * crossing
    return gains


def one_sided_partners(graph, labels, penalty):
    """For every label that lacks users or items: the one whose merge with it gains most, the smallest such."""
    found = []
    gains = merge_gains(graph, labels, penalty)
    for label in range(max([*labels[0], *labels[1]], default=-1) + 1):
        near = {sum(pair) - label: gain for pair, gain in gains.items() if label in pair}
        lacking = [side for side in labels if label not in side]
        found.append(best(near) if lacking and near else -1)
    return found


def followers(pairs, partner, penalty, both_volumes):
    """Clusters whose best partner is in a merging pair, and who surely gain by joining: (gain, kept, absorbed)."""
    users, items = both_volumes
    paired = {one for _, a, b in pairs for one in (a, b)}
    joining = []
    for _, a, b in pairs:
        candidates = sorted(
            (negative_gain, c)
            for c, (negative_gain, best_partner) in partner.items()
            if best_partner in (a, b) and c not in paired and negative_gain < 0
        )
        taken = []
        for negative_gain, c in candidates:
            rest = [b if partner[c][1] == a else a, *taken]
            rest_users = float(sum(users[r] for r in rest))
            rest_items = float(sum(items[r] for r in rest))
            price = penalty * (float(users[c]) * rest_items + float(items[c]) * rest_users)
            if -negative_gain - price <= 0:
                break
            taken.append(c)
            joining.append((-negative_gain, a, c))
    return joining


def excesses(labels, target, shared):
    """Pairs of sides and the rows that they have beyond the target: of both sides together, or of each."""
    if target is None:
        return []
    if isinstance(target, int):
        return [((0, 1), rows(labels, shared) - target)]
    return [((side,), len(set(labels[side])) - wanted) for side, wanted in enumerate(target) if wanted is not None]


def merge_to(graph, labels, penalty, target, shared=False):
    """Rounds of mutual best merges down to `target` rows (None: while Q rises); a pair of targets: of the first met."""
    labels = compacted(labels)
    while all(excess > 0 for _, excess in excesses(labels, target, shared)):
        gains = merge_gains(graph, labels, penalty)
        partner = {}
        for (a, b), gain in gains.items():
            for one, other in ((a, b), (b, a)):
                if one not in partner or (-gain, other) < partner[one]:
                    partner[one] = (-gain, other)
        pairs = [(gain, a, b) for (a, b), gain in gains.items() if partner[a][1] == b and partner[b][1] == a]
        if target is None or any(gain > 0 for gain, _, _ in pairs):
            pairs = [pair for pair in pairs if pair[0] > 0]
        else:
            users, items = volumes(graph, labels)
            clusters = sorted({*labels[0], *labels[1]})
            alone = sorted((c for c in clusters if c not in partner), key=lambda c: (users[c] + items[c], c))
            for c, d in zip(alone[::2], alone[1::2], strict=False):
                a, b = min(c, d), max(c, d)
                crossing = float(users[a]) * float(items[b]) + float(items[a]) * float(users[b])
                pairs.append((-penalty * crossing, a, b))
            pairs.sort(key=lambda pair: (-pair[0], pair[1]))
            pairs = pairs[: (len(pairs) + 1) // 2]
        if not pairs:
            break
        pairs.sort(key=lambda pair: (-pair[0], pair[1]))
        merges = []
        if pairs[0][0] > 0:
            merges = followers(pairs, partner, penalty, volumes(graph, labels))

        def saved(pair, sides, labels=labels):
            return 1 if shared else sum(pair[1] in labels[side] and pair[2] in labels[side] for side in sides)

        chosen = pairs
        left = dict(excesses(labels, target, shared))
        if left:
            spare = {sides: excess - sum(saved(pair, sides) for pair in pairs) for sides, excess in left.items()}
            merges.sort(key=lambda merge: (-merge[0], merge[2]))
            merges = merges[: min(max(excess, 0) // len(sides) for sides, excess in spare.items())]
            if min(spare.values()) < 0:

                def fits(pair, left=left):
                    return all(saved(pair, sides) <= excess for sides, excess in left.items())

                chosen, rest = [], list(pairs)
                while rest and fits(rest[0]):
                    left.update({sides: excess - saved(rest[0], sides) for sides, excess in left.items()})
                    chosen.append(rest.pop(0))
                single = [pair for pair in rest if sum(saved(pair, sides) for sides in left) == 1]
                chosen += [pair for pair in single if fits(pair)][:1]
                chosen = chosen or pairs[:1]
        absorbed_by = {absorbed: kept for _, kept, absorbed in chosen + merges}
        kept = sorted({*labels[0], *labels[1]} - set(absorbed_by))
        position = {label: place for place, label in enumerate(kept)}
        labels = [[position[absorbed_by.get(label, label)] for label in side] for side in labels]
    return labels
