"""What a result shows of itself: pictures, members, neighbors, and its HTML."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult
from baco_gpu.clustering.inspect.coverage import coverage
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError
from baco_gpu.experiment.report_files import write_report
from baco_gpu.graph.edges import edge_chunks
from baco_gpu.plots.card import trace_svg
from baco_gpu.plots.coclusters import block_counts, quality_points
from graphs import random_graph


@pytest.fixture(scope="module")
def graph():
    clicks, _, _ = planted_coclusters(300, 200, 4000, 10, noise=0.05, seed=3)
    return BipartiteGraph.from_frame(pd.DataFrame({"user": [f"u{k}" for k in clicks.users], "item": clicks.items}))


@pytest.fixture(scope="module")
def result(graph):
    return BalancedCoclustering(budget=0.3, embedding_dim=16, random_state=1).fit(graph).result_


@pytest.fixture
def axes():
    return Figure().subplots()


def edges_of(graph):
    return np.repeat(np.arange(graph.num_users), graph.user_degrees), graph.csr.neighbors


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("weighted", [False, True])
def test_edges_come_in_pieces_and_none_is_lost(size, weighted):
    graph = random_graph(40, 30, 300, seed=2, weighted=weighted)
    pieces = list(edge_chunks(graph, size))
    assert all(len(users) <= size for users, _, _ in pieces)
    users, items = (np.concatenate([piece[k] for piece in pieces]) for k in (0, 1))
    assert np.array_equal(users, edges_of(graph)[0])
    assert np.array_equal(items, graph.csr.neighbors)
    if weighted:
        assert np.array_equal(np.concatenate([piece[2] for piece in pieces]), graph.csr.weights)
    else:
        assert {piece[2] for piece in pieces} == {None}


def test_coverage_counts_edges_whose_ends_share_a_cocluster(graph, result):
    users, items = edges_of(graph)
    mine = [{label, second} - {-1} for label, second in zip(result.users.labels, result.users.secondary, strict=True)]
    expected = np.mean([result.items.labels[i] in mine[u] for u, i in zip(users, items, strict=True)])
    found = coverage(result, graph)
    assert found.primary == pytest.approx(np.mean(result.users.labels[users] == result.items.labels[items]))
    assert found.with_secondary == pytest.approx(expected)
    assert found.primary < found.with_secondary
    both = BalancedCoclustering(budget=0.3, secondary="both").fit(graph).result_
    assert coverage(both, graph).with_secondary > coverage(both, graph).primary
    with pytest.raises(InputError, match="graph must have the 300 users and 200 items of the result, got 3 users"):
        coverage(result, BipartiteGraph.from_edges([0, 2], [0, 1]))
    empty = BalancedCoclustering(budget=2).fit(random_graph(3, 2, 0, seed=0))
    assert coverage(empty.result_, random_graph(3, 2, 0, seed=0)) == (0.0, 0.0)


def test_sizes_and_trace_are_those_of_the_result(result, axes):
    assert result.plot.sizes(axes) is axes
    for line, side in zip(axes.lines, (result.users, result.items), strict=True):
        drawn = line.get_ydata()
        assert drawn.sum() == len(side)
        assert (np.diff(drawn) <= 0).all()
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    line = result.plot.trace().lines[0]
    assert np.array_equal(line.get_ydata(), result.objective_trace)
    assert "trace()" in repr(result.plot)


def test_blocks_hold_every_edge_and_most_on_the_diagonal(graph, result, axes):
    counts, (heights, widths) = block_counts(result, graph, bins=10)
    assert counts.sum() == graph.num_edges
    assert (heights.sum(), widths.sum()) == (300, 200)
    inside = sum(counts[max(k - 1, 0) : k + 2, k].sum() for k in range(10))
    assert inside > 0.5 * graph.num_edges
    image = result.plot.blocks(graph, axes, bins=10).images[0]
    assert np.allclose(image.get_array().filled(0) * np.outer(heights, widths), counts)
    with pytest.raises(InputError, match="bins must be"):
        result.plot.blocks(graph, bins=0)


def test_blocks_are_white_to_dark_blue_within_the_borders_of_large_coclusters(graph, result, axes):
    result.plot.blocks(graph, axes, bins=10)
    image, (frames,) = axes.images[0], axes.collections
    light, dark = image.cmap(0.0)[:3], image.cmap(1.0)[:3]
    assert min(light) > 0.9
    assert dark[2] > max(dark[:2])
    assert max(dark) < 0.5
    sizes = [side.sizes(result.num_clusters) for side in (result.items, result.users)]
    large = [(items, users) for items, users in zip(*sizes, strict=True) if items >= 2 and users >= 3]  # a hundredth
    assert len(large) > 3
    corners = [path.vertices for path in frames.get_paths()]
    assert sorted(tuple(np.ptp(each, axis=0).round().astype(int)) for each in corners) == sorted(large)
    # They follow one another along the diagonal.
    assert all((later.min(0) >= former.max(0) - 1e-9).all() for former, later in itertools.pairwise(corners))


def test_the_largest_clusters_show_names_where_there_are_some(graph, result):
    raw = result.items.raw_ids(np.arange(len(result.items)))
    names = {int(number): f"film ${number}" for number in raw}
    figure = result.plot.clusters(names, count=4, members=5)
    assert len(figure.axes) == 6  # two of them empty
    sizes = np.sort(result.items.sizes(result.num_clusters))[::-1]
    for axes, size in zip(figure.axes[:4], sizes, strict=False):
        assert f": {size} items" in axes.get_title(loc="left")
        shown = [text.get_text() for text in axes.get_yticklabels()]
        label = int(axes.get_title(loc="left").split()[1].rstrip(":"))
        members = result.cluster(label).items["id"].head(5)
        assert shown == [f"film ${number}" for number in members]
        heights = [bar.get_width() for bar in axes.patches]
        assert heights == sorted(heights, reverse=True)
    figure.savefig(io.BytesIO())
    shown = result.plot.clusters(side="users", count=1, members=2).axes[0].get_yticklabels()
    assert all(text.get_text() in map(str, result.users.raw_ids(np.arange(len(result.users)))) for text in shown)
    for options, message in (
        ({"side": "films"}, "side must be one of"),
        ({"count": 0}, "count must"),
        ({"members": 0}, "members"),
    ):
        with pytest.raises(InputError, match=message):
            result.plot.clusters(**options)


def test_a_small_matrix_has_a_tile_for_each_pair_and_no_gaps():
    graph = random_graph(12, 9, 60, seed=4)
    small = BalancedCoclustering(budget=8).fit(graph).result_
    counts, _ = block_counts(small, graph)
    assert counts.shape == (12, 9)
    order = [np.argsort(degrees)[::-1] for degrees in (counts.sum(axis=1), counts.sum(axis=0))]
    assert counts[order[0]].sum(axis=1).tolist() == sorted(graph.user_degrees.tolist(), reverse=True)
    assert counts[:, order[1]].sum(axis=0).tolist() == sorted(graph.item_degrees.tolist(), reverse=True)
    assert counts.max() == 1


def test_a_graph_without_edges_has_an_empty_picture(axes):
    for sides in ((3, 2), (0, 0)):
        graph = random_graph(*sides, 0, seed=0)
        result = BalancedCoclustering(budget=None).fit(graph).result_
        axes.figure.clear()
        image = result.plot.blocks(graph, axes.figure.subplots()).images[0]
        axes.figure.canvas.draw()
        assert image.get_array().count() == 0


def test_the_published_solver_meets_other_budgets_by_its_gamma(graph):
    published = BalancedCoclustering(budget=None, gamma=0.5, solver="paper", embedding_dim=16).fit(graph).result_
    few, many = quality_points(published, graph, budgets=(0.4, 0.6))
    assert few.budget < 0.4001 < many.budget <= 0.6


def test_more_budget_keeps_more_inside(graph, result, axes):
    points = quality_points(result, graph, budgets=(0.6, 0.2))
    assert points[0].budget < 0.2001 < 0.5 < points[1].budget <= 0.6
    drawn = result.plot.quality_vs_budget(graph, axes, budgets=(0.2, 0.6))
    assert drawn.lines[1].get_ydata()[0] == pytest.approx(100 * points[0].primary)
    with pytest.raises(InputError, match="at least one budget"):
        result.plot.quality_vs_budget(graph, budgets=())


FULL = 500 * 16  # parameters of the full table of `result`


def compared(folder, models=("lightgcn",), full=FULL, measure="parameters"):
    """A comparison of two methods at two budgets beside the full table, in a folder."""
    rows = []
    for model in models:
        for method, budget, recall in (
            ("full", None, 0.30),
            *(("codebook", share, 0.2 + share) for share in (0.25, 0.5)),
            *(("random", share, 0.1) for share in (0.25, 0.5)),
        ):
            figures = {f"{name}@{k}": recall for name in ("recall", "recall_capped", "ndcg") for k in (10, 20, 50)}
            figures |= dict.fromkeys(("codebook_rows", "bytes", "seconds_clustering", "seconds_training"), 1.0)
            figures |= {"best_epoch": 1, "parameters_full": full, "parameters": int(full * (budget or 1))}
            run = {"data": "planted", "model": model, "budget": budget, "method": method}
            figures["bytes_full"] = 4 * full
            figures["bytes"] = 2 * figures["parameters"]
            run["clustering"] = {"embedding_dim": 16, "budget_measure": measure}
            machine = {"cpu": "one", "cores": "2", "date": "2026-01-01"}
            rows.append({"run": run, "status": "done", "figures": figures, "versions": {}, "machine": machine})
    failed = {**rows[-1], "status": "failed", "reason": "out of reach"}
    failed["run"] = {**failed["run"], "budget": 0.01}
    write_report([*rows, failed], folder)
    return folder


def test_recall_against_the_budget_comes_from_a_comparison(result, tmp_path, axes):
    for place in (compared(tmp_path), tmp_path / "comparison.csv", str(tmp_path)):
        axes.clear()
        assert result.plot.quality_vs_budget(ax=axes, comparison=place) is axes
        drawn = [line.get_xydata().round(3).tolist() for line in axes.lines]
        assert [[0.25, 0.1], [0.5, 0.1]] in drawn
        assert [[0.25, 0.45], [0.5, 0.7]] in drawn
        share = round(result.parameters_compressed / FULL, 3)
        assert [[share, 0], [share, 1]] in drawn, "this result is marked"
        assert {"full", "codebook", "random", "this result"} == {text.get_text() for text in axes.texts}
        assert axes.get_ylabel() == "test recall@20"
        assert axes.get_xlabel()
    axes.clear()
    assert result.plot.quality_vs_budget(ax=axes, comparison=tmp_path, metric="ndcg@10").get_ylabel() == "test ndcg@10"


def test_recall_against_a_budget_of_bytes_is_drawn_against_bytes(result, tmp_path, axes):
    result.plot.quality_vs_budget(ax=axes, comparison=compared(tmp_path, measure="bytes"))
    drawn = [line.get_xydata().round(3).tolist() for line in axes.lines]
    assert [[0.125, 0.45], [0.25, 0.7]] in drawn
    share = round(result.bytes_compressed / (4 * FULL), 3)
    assert [[share, 0], [share, 1]] in drawn, "this result is marked"
    assert axes.get_xlabel() == "share of the full table's bytes"


def test_a_comparison_of_several_models_draws_the_one_that_is_named(result, tmp_path, axes):
    compared(tmp_path, models=("lightgcn", "mf"))
    with pytest.raises(InputError, match=r"model must be named where a comparison has several \(lightgcn, mf\)"):
        result.plot.quality_vs_budget(ax=axes, comparison=tmp_path)
    with pytest.raises(InputError, match="model must be one of 'lightgcn', 'mf', got 'bpr'"):
        result.plot.quality_vs_budget(ax=axes, comparison=tmp_path, model="bpr")
    result.plot.quality_vs_budget(ax=axes, comparison=tmp_path, model="mf")
    assert len([text for text in axes.texts if text.get_text() == "codebook"]) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, r"none\.csv: expected the table of a comparison, but it cannot be read \(No such file"),
        ("users.csv", "user,item\n1,2\n", r"a table that baco compare wrote, with 'model'; it has user, item"),
        ("empty.csv", "", "with 'model'; it has nothing"),
        ("binary.csv", b"\xff\xfe\x00", "cannot be read"),
        ("words.csv", "model,method,parameters,parameters_full,recall@20,recall@20_sd\nmf,a,b,1,1,1\n", "in line 2"),
        ("failed.csv", "model,method,parameters,parameters_full,recall@20,recall@20_sd\nmf,a,,,,\n", "expected a run"),
        ("other.csv", "model,method,parameters,parameters_full,ndcg@5,ndcg@5_sd\n", "one of ndcg@5, got 'recall@20'"),
    ],
)
def test_a_comparison_that_is_none_is_refused(result, tmp_path, axes, name, text, message):
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        result.plot.quality_vs_budget(ax=axes, comparison=tmp_path / name)


def test_quality_is_of_a_graph_or_of_a_comparison_of_its_table(graph, result, tmp_path, axes):
    with pytest.raises(InputError, match="give either a graph or a comparison, got neither"):
        result.plot.quality_vs_budget()
    with pytest.raises(InputError, match="give either a graph or a comparison, got both"):
        result.plot.quality_vs_budget(graph, comparison=tmp_path)
    with pytest.raises(InputError, match=r"must be of tables of 8,000 parameters, as the full table .* got 32,000"):
        result.plot.quality_vs_budget(ax=axes, comparison=compared(tmp_path, full=4 * FULL))


def test_a_cluster_lists_its_members_by_raw_id_and_degree(graph, result, tmp_path):
    again = CoclusteringResult.load(result.save(tmp_path / "codes.safetensors"))
    for each in (result, again):
        cluster = each.cluster(3)
        members = np.flatnonzero(each.users.labels == 3)
        assert sorted(cluster.users.id) == sorted(graph.user_vocabulary.decode(members))
        degree_of = dict(zip(graph.user_vocabulary.decode(members), graph.user_degrees[members], strict=True))
        assert cluster.users.degree.tolist() == sorted(degree_of.values(), reverse=True)
        assert all(degree_of[row.id] == row.degree for row in cluster.users.itertuples())
        assert cluster.items.degree.is_monotonic_decreasing
    assert repr(cluster) == f"Cocluster(3: {len(cluster.users)} users, {len(cluster.items)} items)"
    assert cluster.users.id[0] in cluster._repr_html_()
    with pytest.raises(InputError, match="number must be"):
        result.cluster(result.num_clusters)


def test_similar_items_share_the_cocluster(result):
    item = result.items.raw_ids(np.array([5]))[0]
    near = result.similar(item, limit=4)
    members = np.flatnonzero(result.items.labels == result.items.labels[5])
    assert set(near.id) <= set(result.items.raw_ids(members)) - {item}
    assert len(near) == min(4, len(members) - 1)
    assert (near.similarity == 1.0).all()
    users = result.similar("u0", side="users", limit=1000)
    assert users.similarity.is_monotonic_decreasing
    assert set(np.round(users.similarity, 3)) <= {0.5, 0.707, 1.0}
    for wrong, message in (({"side": "pages"}, "side must be"), ({"limit": -1}, "limit must be")):
        with pytest.raises(InputError, match=message):
            result.similar(item, **wrong)
    with pytest.raises(InputError):
        result.similar("nobody", side="users")


def test_it_shows_itself(graph, result):
    text = repr(result)
    assert text.startswith("CoclusteringResult(300 users and 200 items in ")
    assert "gamma=" in text
    card = result._repr_html_()
    assert f"{result.codebook_rows:,} rows of 16" in card
    assert card.count("<svg") == 1
    points = re.search(r'points="([^"]*)"', card).group(1).split()
    assert len(points) == len(result.objective_trace)
    assert trace_svg(np.array([1.0])) == ""
    estimator = BalancedCoclustering(budget=0.3, random_state=1)
    before = estimator._repr_mimebundle_()["text/html"]
    assert "Co-clustering" not in before
    assert "Co-clustering" in estimator.fit(graph)._repr_mimebundle_()["text/html"]


def test_dollars_in_names_are_letters():
    from baco_gpu.plots.comparison import budget_figure, comparison_figure, seconds_figure
    from baco_gpu.plots.degrees import degree_figure

    name = r"$\frac{1}{$"
    costs = {"parameters": 2.0, "parameters_full": 9, "bytes": 8.0, "bytes_full": 36, "seconds_clustering": 1.0}
    row = {"model": name, "method": name, "measure": "parameters", "recall@20": 0.2, "recall@20_sd": 0.0, **costs}
    rows = [{**row, "budget": 0.2, "seeds": 1}, {**row, "budget": 0.4, "seeds": 1, "parameters": 4.0}]
    for figure in (
        budget_figure(rows, name),
        comparison_figure(rows, name),
        seconds_figure(rows, name),
        degree_figure(np.array([1, 2]), np.array([1]), name),
    ):
        figure.canvas.draw()  # as a formula it would be refused
        assert name in [text.get_text() for text in figure.findobj(match=Text)]
