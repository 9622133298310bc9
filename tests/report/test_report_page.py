"""`baco report`: a result as one page, which needs nothing beside it."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from baco_gpu.clustering.inspect.statistics import describe
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots.svg import svg
from baco_gpu.report import report_page
from graphs import random_graph

pytestmark = pytest.mark.heavy("runs commands")

VOID = {"meta", "br", "link", "img"}


class Tags(HTMLParser):
    """Collects attributes, and what is open in the end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def graph():
    clicks, _, _ = planted_coclusters(300, 200, 3000, 10, noise=0.1, seed=3)
    return BipartiteGraph.from_edges(
        clicks.users,
        clicks.items,
        num_users=300,
        num_items=200,
        duplicates="drop",
        user_vocabulary=Vocabulary([f"<script>{k:03}" for k in range(300)]),
        item_vocabulary=Vocabulary(range(1000, 1200)),
    )


@pytest.fixture(scope="module")
def result(graph):
    return BalancedCoclustering(budget=0.25, random_state=0).fit(graph).result_


def test_the_page_is_whole_and_needs_no_other_file(result, graph):
    page = report_page(result, graph, title="clicks & co")
    tags = Tags(page)
    assert not tags.open
    assert tags.seen.count("svg") == 3
    assert not {"script", "link", "iframe"} & set(tags.seen)
    links = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(link.startswith(("#", "data:image/png")) for link in links)
    assert "<h1>clicks &amp; co</h1>" in page


def test_the_page_has_the_figures_of_the_result(result, graph):
    page = report_page(result, graph)
    for figure in (result.codebook_rows, result.parameters_compressed, result.bytes_compressed, result.num_edges):
        assert f"{figure:,}" in page
    assert result.labels_sha256 in page
    assert "of the interactions are inside co-clusters" in page
    without = report_page(result)
    assert "of the interactions are inside co-clusters" not in without
    assert Tags(without).seen.count("svg") == 2


def test_the_largest_clusters_name_members_with_most_interactions_first(result):
    sizes = result.users.sizes(result.num_clusters) + result.items.sizes(result.num_clusters)
    members = result.cluster(int(sizes.argmax()))
    page = report_page(result, largest=1, members=2)
    best = ", ".join(members.users["id"][:2]).replace("<", "&lt;").replace(">", "&gt;")
    assert f'<td class="text">{best}, &hellip;</td>' in page
    assert f'<td class="text">{", ".join(map(str, members.items["id"][:2]))}, &hellip;</td>' in page
    assert page.count("&hellip;") == 2
    assert "Largest co-clusters" not in report_page(result, largest=0)


def test_the_order_of_members_is_claimed_only_where_degrees_are_known(result):
    sides = {side: dataclasses.replace(getattr(result, side), degrees=None) for side in ("users", "items")}
    assert "most interactions" in report_page(result)
    assert "most interactions" not in report_page(dataclasses.replace(result, **sides))


def test_the_same_result_gives_the_same_page(result, graph, tmp_path):
    loaded = CoclusteringResult.load(result.save(tmp_path / "codes.safetensors"))
    assert report_page(loaded, graph) == report_page(loaded, graph) == report_page(result, graph)


def test_no_id_is_twice_on_the_page_for_two_things(result, graph):
    page = report_page(result, graph)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_only_the_graph_that_was_clustered_is_drawn(result):
    with pytest.raises(InputError, match=r"graph must be the one that was clustered \(checksum \w{12}\.\.\.\), got"):
        report_page(result, random_graph(300, 200, 100, seed=1))
    with pytest.raises(InputError, match="graph must have the 300 users and 200 items of the result"):
        report_page(result, random_graph(3, 2, 4, seed=1))
    with pytest.raises(InputError, match="largest must be an integer at least 0, got -1"):
        report_page(result, largest=-1)


def test_a_graph_without_edges_has_a_page():
    empty = random_graph(3, 2, 0, seed=0)
    page = report_page(BalancedCoclustering(budget=2).fit(empty).result_, empty)
    assert not Tags(page).open


def test_a_picture_takes_the_colour_of_the_page():
    element = svg(lambda axes: axes.plot(np.arange(5)), "five points")
    root = ElementTree.fromstring(element)
    assert root.get("aria-label") == "five points"
    assert "currentColor" in element
    assert "#010203" not in element
    assert element == svg(lambda axes: axes.plot(np.arange(5)), "five points")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A table of clicks, and the codes of its training part."""
    folder = tmp_path_factory.mktemp("report")
    clicks, _, _ = planted_coclusters(300, 200, 3000, 10, noise=0.1, seed=3)
    lines = [f"{user},{item}\n" for user, item in zip(clicks.users, clicks.items, strict=True)]
    (folder / "clicks.csv").write_text("user,item\n" + "".join(lines))
    return folder / "clicks.csv", folder / "codes.safetensors"


def test_the_command_writes_a_page(baco, files, tmp_path):
    data, codes = files
    assert baco("compress", data, "--out", codes, "--split", "random", "-q")[0] == 0
    out = tmp_path / "report.html"
    code, stdout, stderr = baco("report", codes, "--data", data, "--split", "random", "-o", out, "--json")
    assert (code, stderr, json.loads(stdout)) == (0, "", {"written": str(out)})
    page = out.read_text(encoding="utf-8")
    assert "<h1>codes.safetensors</h1>" in page
    assert Tags(page).seen.count("svg") == 3
    assert baco("report", codes, "-o", out)[:2] == (0, f"written: {out}\n")
    assert Tags(out.read_text(encoding="utf-8")).seen.count("svg") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CODES", "-o", "report.pdf"), "expected a name that ends in .html, got '.pdf'"),
        (("CODES", "-o", "nowhere/report.html"), "does not exist"),
        (("DATA", "-o", "report.html"), "clicks.csv"),
        (("CODES", "-o", "report.html", "--data", "DATA"), "graph must be the one that was clustered"),
    ],
)
def test_mistakes_are_told_and_write_nothing(baco, files, tmp_path, monkeypatch, arguments, message):
    data, codes = files
    assert baco("compress", data, "--out", codes, "--split", "random", "-q")[0] == 0
    monkeypatch.chdir(tmp_path)
    named = {"CODES": codes, "DATA": data}
    code, stdout, stderr = baco("report", *(named.get(argument, argument) for argument in arguments), "-q")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("baco: error: ")
    assert message in stderr
    assert not list(tmp_path.iterdir())


def test_items_are_called_by_their_names(graph):
    result = BalancedCoclustering(budget=0.1, random_state=0).fit(graph).result_
    raw = result.items.raw_ids(np.flatnonzero(result.items.labels == result.items.labels[0])).tolist()
    names = {item: f"<Film> of {item}" for item in raw}
    page = report_page(result, names=names, largest=result.num_clusters, members=1000)
    for item in raw:
        assert f"&lt;Film&gt; of {item}" in page
    described = describe(result, largest=result.num_clusters, members=1000, names=names)
    assert {*names.values()} in [set(row["some_items"]) for row in described["largest"]]
