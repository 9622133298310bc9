"""Clusters by bisection of spectral rows, and pairs of codebook rows: against NumPy, and what holds of any graph."""

from __future__ import annotations

import hypothesis
import numba
import numpy as np
import pytest

from baco_gpu.clustering.bisecting.pair_loops import CELL
from baco_gpu.clustering.bisecting.row_pairs import _Pairing, paired_rows
from baco_gpu.clustering.bisecting.row_tree import RowTree, SideClusters
from baco_gpu.clustering.bisecting.spectral_loops import eigenvectors, orthonormalising
from baco_gpu.clustering.bisecting.spectral_rows import DIMENSIONS, LARGEST, SpectralRows, spectral_rows
from baco_gpu.clustering.result import NO_LABEL
from baco_gpu.clustering.solve.bisection import Bisection
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from graphs import bipartite_graphs, random_graph
from tiers import examples, full

pytestmark = pytest.mark.heavy("compiles loops")


def embedded(graph):
    return spectral_rows(graph, integer_weights(graph), 0)


def bisection(graph, *second):
    return Bisection(graph, integer_weights(graph), 0, *second)


def normalised(graph):
    matrix = graph.to_scipy().toarray().astype(float)
    users, items = (np.maximum(matrix.sum(axis=axis), 1e-300) for axis in (1, 0))
    return matrix / np.sqrt(users[:, None] * items[None, :])


def brought_back(side, square):
    """Rows as they were before a power of two made whole numbers of them, given about the sum of their squares."""
    assert np.array_equal(side.rows, np.rint(side.rows))
    assert np.abs(side.rows).max() <= LARGEST
    rows = side.rows.astype(float)
    return rows * 2.0 ** np.rint(np.log2(square / (rows**2).sum()) / 2)


def random_sides(users, items, seed, dim=8):
    """Rows of whole numbers in general position and weights, of both sides."""
    generator = np.random.default_rng(seed)
    return [
        SpectralRows(
            np.rint(2**18 * generator.standard_normal((size, dim))).astype(np.float32),
            generator.integers(1, 20, size).astype(float),
        )
        for size in (users, items)
    ]


def variance(rows, weights):
    mean = weights @ rows / weights.sum()
    return float(weights @ ((rows - mean) ** 2).sum(axis=1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(50, 30), (30, 50)])
def test_rows_are_singular_vectors_times_singular_values(sizes, weighted):
    """A graph of fewer nodes than columns is spanned wholly, and so are the distances between its rows."""
    graph = random_graph(*sizes, 300, seed=1, weighted=weighted)
    expected = normalised(graph)
    users, items = embedded(graph)
    for side, product in ((users, expected @ expected.T), (items, expected.T @ expected)):
        rows = brought_back(side, np.trace(product))
        np.testing.assert_allclose(rows @ rows.T, product, atol=1e-5)
    degrees = graph.to_scipy().sum(axis=1)
    np.testing.assert_allclose(users.weights / users.weights.sum(), degrees / degrees.sum())


def test_the_leading_dimensions_of_a_large_graph_are_found():
    """Planted blocks have as many large singular values as there are blocks."""
    generator = np.random.default_rng(0)
    users, items = generator.integers(0, 600, 9000), generator.integers(0, 20, 9000)
    graph = BipartiteGraph.from_edges(users, items * 20 + users % 20, num_users=600, num_items=400)
    found, _ = embedded(graph)
    square = (np.linalg.svd(normalised(graph), compute_uv=False)[:DIMENSIONS] ** 2).sum()
    rows = brought_back(found, square)
    assert (rows**2).sum() >= 0.98 * square
    # Every block has a singular value of 1, and the roots of the degrees are a singular vector of that value.
    roots = np.sqrt(found.weights / found.weights.sum())
    np.testing.assert_allclose(np.linalg.norm(rows[:, :20].T @ roots), 1, atol=1e-4)


def test_small_factors_are_those_of_numpy():
    generator = np.random.default_rng(0)
    columns = generator.standard_normal((40, 12))
    columns[:, 5] = columns[:, 2] - 3 * columns[:, 4]
    basis = columns @ orthonormalising(columns.T @ columns)
    kept = [place for place in range(12) if place != 5]
    np.testing.assert_allclose(basis[:, kept].T @ basis[:, kept], np.eye(11), atol=1e-9)
    assert not basis[:, 5].any()
    values, vectors = eigenvectors(columns.T @ columns)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(columns.T @ columns)[::-1], atol=1e-9)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, columns.T @ columns, atol=1e-9)


def parts_by_numpy(rows, weights, members):
    """The two parts of a cluster and what parting them gains: the definition, a step a line."""
    x, w = rows[members].astype(float), weights[members]
    if len(members) < 2:
        return 0.0, None
    x = x - w @ x / w.sum()
    direction = np.eye(x.shape[1])[(w @ x**2).argmax()]
    for _ in range(4):
        direction = (w * (x @ direction)) @ x
        direction /= np.linalg.norm(direction)
    along = x @ direction

    def gain(second):
        if second.all() or not second.any():
            return 0.0
        return variance(x, w) - variance(x[second], w[second]) - variance(x[~second], w[~second])

    line = [
        variance(along[:, None], w)
        - sum(variance(along[part][:, None], w[part]) for part in (along > border, along <= border))
        for border in np.sort(along)[:-1]
    ]
    second = along > np.sort(along)[int(np.argmax(line))]
    for _ in range(2):
        one, two = (w[part] @ x[part] / w[part].sum() for part in (~second, second))
        moved = ((x - two) ** 2).sum(axis=1) < ((x - one) ** 2).sum(axis=1)
        if not gain(moved) > gain(second) * (1 + 1e-12):
            break
        second = moved
    return gain(second), second


def clusters_by_numpy(sides, count):
    rows = np.concatenate([side.rows for side in sides])
    weights = np.concatenate([side.weights / variance(*side) for side in sides])
    users = len(sides[0].rows)
    leaves = {0: np.arange(users), 1: np.arange(users, len(rows))}
    gains, parts, fresh, known = {}, {}, list(leaves), 2
    while len(leaves) < count:
        for leaf in fresh:
            gains[leaf], parts[leaf] = parts_by_numpy(rows, weights, leaves[leaf])
        best = max(gains[leaf] for leaf in leaves)
        ranked = sorted(leaves, key=lambda leaf: (-gains[leaf], leaf))
        fresh = []
        for leaf in [leaf for leaf in ranked if gains[leaf] >= 0.8 * best][: count - len(leaves)]:
            members = leaves.pop(leaf)
            leaves[known], leaves[known + 1] = members[~parts[leaf]], members[parts[leaf]]
            fresh += [known, known + 1]
            known += 2
    return {frozenset(members.tolist()) for members in leaves.values()}


@pytest.mark.parametrize("seed", range(full(20, 4)))
@pytest.mark.parametrize("clusters", [2, 3, 17, 40])
def test_the_tree_is_that_of_numpy(seed, clusters):
    sides = random_sides(37, 25, seed)
    users, items = RowTree(sides, clusters).cut(clusters)
    labels = [users.labels, items.labels + users.labels.max() + 1]
    together = np.concatenate(labels)
    found = {frozenset(np.flatnonzero(together == label).tolist()) for label in range(together.max() + 1)}
    assert found == clusters_by_numpy(sides, clusters)


def test_the_clusters_of_fewer_rows_are_those_before_the_last_divisions():
    sides = random_sides(60, 40, seed=0)
    large = RowTree(sides, 50)
    for one, other in zip(large.cut(20), RowTree(sides, 20).cut(20), strict=True):
        assert np.array_equal(one.labels, other.labels)


def test_a_side_of_more_variance_gets_more_clusters():
    """What counts is the share of a side's variance: a side of few places needs few clusters."""
    generator = np.random.default_rng(0)
    users = generator.standard_normal((3, 8))[generator.integers(0, 3, 100)]
    sides = [
        SpectralRows(np.rint(2**18 * rows).astype(np.float32), np.ones(len(rows)))
        for rows in (users, generator.standard_normal((100, 8)))
    ]
    trees = RowTree(sides, 30).cut(30)
    assert [tree.labels.max() + 1 for tree in trees] == [3, 27]


def nearest_by_numpy(targets, present, codebook, first, width):
    """Codebook rows by the definition of `nearest_rows`, in float64: of levels of means the nearest are opened."""
    levels = [codebook]
    for _ in range(len(first) - 2):
        starts = np.arange(0, len(levels[0]), CELL)
        levels = [np.add.reduceat(levels[0], starts) / np.diff(starts, append=len(levels[0]))[:, None], *levels]
    out = []
    for target, row in zip(targets, present, strict=True):
        opened = np.arange(-(-len(levels[0]) // CELL))
        for level in levels:
            places = (opened[:, None] * CELL + np.arange(CELL)).ravel()
            places = places[places < len(level)]
            distances = ((level[places] - target) ** 2).sum(axis=1)
            if level is not codebook:
                opened = places[np.argsort(distances, kind="stable")[:width]]
        best = places[distances.argmin()]
        nearer = distances.min() < ((codebook[row] - target) ** 2).sum()
        out.append(best if nearer else row)
    return np.array(out)


@pytest.mark.parametrize("rows", [1, 63, 64, 300, 700, full(20000, 17000)])
@pytest.mark.parametrize("dim", [8, 7])
def test_the_nearest_row_of_the_cells_that_are_opened_is_found(rows, dim):
    """Small whole numbers and clusters of one node each: all sums are exact, and so are means of whole cells."""
    generator = np.random.default_rng(rows)
    codebook = generator.integers(-60, 60, (rows, dim)).astype(np.float32)
    pairing = _Pairing(SideClusters(codebook, np.ones(rows), np.arange(rows)))
    assert (len(pairing.first) > 2) == (rows > 4 * CELL)
    nodes = generator.integers(0, rows, 50)
    pairing.rows = pairing.rows[nodes] + generator.integers(-9, 9, (50, dim)).astype(np.float32)
    pairing.weights, pairing.order = np.ones(50), generator.permutation(50)
    present, other = generator.integers(0, rows, (2, 50))
    other[::2] = -1
    targets = np.where(other[:, None] < 0, pairing.rows, 2 * pairing.rows - codebook[other]).astype(float)
    for width in (4, 12):
        expected = nearest_by_numpy(targets, present, codebook.astype(float), pairing.first, width)
        found = pairing.nearest(present, other, width)
        distances = [((codebook[chosen] - targets) ** 2).sum(axis=1) for chosen in (found, expected)]
        # Of equal cells float32 may open another one than float64 does.
        assert np.mean(distances[0] != distances[1]) <= (0.02 if rows > 4 * CELL else 0)
        assert (distances[0] <= ((codebook[present] - targets) ** 2).sum(axis=1)).all()


def given(tree, assignment):
    """What is left of the variance, with the codebook that is best for the pairs, by NumPy's least squares."""
    second = np.where(assignment.secondary == NO_LABEL, assignment.labels, assignment.secondary)
    mixing = np.zeros((len(tree.rows), assignment.labels.max() + 1))
    np.add.at(mixing, (np.arange(len(tree.rows)), assignment.labels), 0.5)
    np.add.at(mixing, (np.arange(len(tree.rows)), second), 0.5)
    roots = np.sqrt(tree.weights)[:, None]
    codebook = np.linalg.lstsq(roots * mixing, roots * tree.rows, rcond=None)[0]
    return float(((roots * (tree.rows - mixing @ codebook)) ** 2).sum()), codebook, second


def test_pairs_leave_less_variance_than_clusters_and_are_near_the_best_pairs():
    (tree, _) = RowTree(random_sides(200, 1, seed=0), 31).cut(31)
    pairs = paired_rows(tree)
    left, codebook, second = given(tree, pairs)
    clusters = sum(variance(tree.rows[tree.labels == c], tree.weights[tree.labels == c]) for c in range(30))
    assert left < 0.75 * clusters
    # Of all second rows, for the first as it is.
    means = (codebook[pairs.labels][:, None] + codebook[None]) / 2
    distances = ((tree.rows[:, None] - means) ** 2).sum(axis=2)
    best, chosen = distances.min(axis=1), distances[np.arange(200), second]
    assert tree.weights @ chosen < 1.2 * (tree.weights @ best)


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_do_not_depend_on_threads_or_the_order_of_edges(weighted):
    graph = random_graph(700, 400, 5000, seed=3, weighted=weighted)
    edges = graph.to_scipy().tocoo()
    order = np.random.default_rng(0).permutation(graph.num_edges)
    shuffled = BipartiteGraph.from_edges(
        *(part[order] for part in (edges.row, edges.col, edges.data)), num_users=700, num_items=400
    )
    allowed = numba.get_num_threads()
    first = bisection(graph).solve(200)
    try:
        numba.set_num_threads(1)
        alone = bisection(graph).solve(200)
        few = []
        for number in range(2, min(allowed, 4) + 1):
            numba.set_num_threads(number)
            few.append(bisection(graph).solve(200))
    finally:
        numba.set_num_threads(allowed)
    for other in (alone, *few, bisection(shuffled).solve(200)):
        for one, two in zip(first, other, strict=True):
            assert np.array_equal(one.labels, two.labels)
            assert np.array_equal(one.secondary, two.secondary)


@hypothesis.given(bipartite_graphs(), hypothesis.strategies.data())
@examples(40)
def test_any_graph_gets_rows_that_are_used(graph, data):
    sizes = (graph.num_users, graph.num_items)
    fewest = sum(size > 0 for size in sizes)
    rows = data.draw(hypothesis.strategies.integers(max(fewest, 1), max(sum(sizes), 1)))
    sides = bisection(graph).solve(rows)
    assert [len(side) for side in sides] == list(sizes)
    assert fewest <= sum(side.rows for side in sides) <= max(rows, fewest)
    for side, degrees in zip(sides, (graph.user_degrees, graph.item_degrees), strict=True):
        assert np.array_equal(np.unique(side.labels), np.arange(side.rows))
        second = side.secondary != NO_LABEL
        assert np.isin(side.secondary[second], side.labels).all()
        assert (side.secondary[second] != side.labels[second]).all()
        idle = np.asarray(degrees) == 0
        assert len(np.unique(side.labels[idle])) <= 1
        assert not second[idle].any()


def test_a_number_of_rows_is_met_exactly():
    graph = random_graph(300, 200, 3000, seed=0)
    solve = bisection(graph).solve
    for rows in (2, 3, 100, 333):
        assert sum(side.rows for side in solve(rows)) == rows


def test_identical_nodes_are_never_parted():
    graph = BipartiteGraph.from_edges(
        np.arange(30).repeat(2), np.stack([np.arange(30) // 3, np.arange(30) // 3 + 1], 1).ravel()
    )
    users, _ = RowTree(embedded(graph), 30).cut(30)
    assert users.labels.max() + 1 == 10
    assert (users.labels.reshape(10, 3) == users.labels[::3, None]).all()


def test_budgets_out_of_reach_are_refused():
    graph = random_graph(30, 20, 100, seed=0)
    with pytest.raises(InputError, match="budget of 1 codebook rows is below what this graph can reach: 2 to 50 rows"):
        BalancedCoclustering(solver="bisecting", budget=1).fit(graph)


@pytest.mark.parametrize("secondary", [None, "users", "none"])
def test_the_estimator_gives_the_same_clusters_under_labels_of_both_sides(secondary):
    graph = random_graph(300, 200, 3000, seed=0)
    result = BalancedCoclustering(solver="bisecting", budget=120, secondary=secondary).fit(graph).result_
    asked = {None: (True, True), "users": (True, False), "none": (False, False)}[secondary]
    for found, expected, wanted in zip(
        (result.users, result.items), bisection(graph, asked).solve(120), asked, strict=True
    ):
        kinds = np.unique(np.stack([found.labels, expected.labels]), axis=1)
        assert kinds.shape[1] == found.rows == expected.rows
        assert (found.secondary is not None) == wanted
        if wanted:
            names = np.append(kinds[0][np.argsort(kinds[1])], NO_LABEL)
            assert np.array_equal(found.secondary, names[expected.secondary])
    assert result.users.rows + result.items.rows == 120
    labels = np.union1d(result.users.labels, result.items.labels)
    assert np.array_equal(labels, np.arange(result.num_clusters))
    assert (result.partners != NO_LABEL).sum() == 2 * result.num_clusters - 120


def test_clusters_have_one_label_where_most_edges_of_one_lead_to_the_other():
    """Blocks of users and of items that have edges with each other alone."""
    users, items = (part.ravel() for part in np.meshgrid(np.arange(200), np.arange(100)))
    together = users % 10 == items // 10
    solver = BalancedCoclustering(solver="bisecting", budget={"users": 10, "items": 10}, secondary="none")
    result = solver.fit((users[together], items[together])).result_
    assert result.num_clusters == 10
    assert np.array_equal(result.users.labels[:10], result.items.labels[::10])
    assert np.array_equal(result.items.labels, result.items.labels[::10].repeat(10))


def test_results_are_saved_and_take_new_ids_and_are_not_updated(tmp_path):
    graph = random_graph(300, 200, 3000, seed=0)
    made = BalancedCoclustering(solver="bisecting", random_state=3).fit(graph).result_
    result = CoclusteringResult.load(made.save(tmp_path / "result.safetensors"))
    assert result.labels_sha256 == made.labels_sha256
    grown = result.assign((np.array([300, 300]), np.array([3, 4])))
    assert np.array_equal(grown.users.labels[:300], made.users.labels)
    assert grown.users.labels[300] in made.users.labels
    with pytest.raises(InputError, match="result must be of solver='multilevel' or 'paper' to be updated"):
        result.update(graph)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "sqrt"}, "weights must be 'degree' for solver='bisecting', got 'sqrt'"),
        ({"codebooks": "shared"}, "codebooks must be 'separate' for solver='bisecting', got 'shared'"),
        ({"process_group": "a group"}, "process_group must be None for solver='bisecting', got 'a group'"),
        ({"budget": None}, "budget must be given for solver='bisecting', got None"),
        (
            {"backend": "cuda"},
            "backend must be 'auto' or 'cpu' for solver='bisecting', which has no kernels, got 'cuda'",
        ),
    ],
)
def test_what_the_solver_has_no_answer_to_is_refused(given, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        BalancedCoclustering(solver="bisecting", **given).fit(random_graph(30, 20, 100, seed=0))


def test_sides_have_the_rows_of_their_own_budgets():
    graph = random_graph(300, 200, 3000, seed=0)
    for budget in ({"users": 40, "items": 70}, {"users": 40, "items": None}):
        result = BalancedCoclustering(solver="bisecting", budget=budget).fit(graph).result_
        assert (result.users.rows, result.items.rows) == (40, budget["items"] or 1)
