"""Which columns tell of one another."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from baco_gpu.columns.event_log import OWN_EVENTS, Column, columns_of
from baco_gpu.columns.pairing import Partner, _entries, bits_told, graph_of, partners_of
from baco_gpu.data.synthetic import planted_clicks

pytestmark = pytest.mark.heavy("clusters")


@pytest.fixture(scope="module")
def columns() -> list[Column]:
    """Two columns of the same clusters, and one that has nothing to do with them."""
    log = planted_clicks(6000, (200, 100, 50), 5, tied=2, noise=0.1, seed=0)
    return [Column(name, size, log.ids[:, at].astype(np.int64), None, 6000) for at, (name, size) in enumerate(SIZES)]


SIZES = (("user", 200), ("item", 100), ("hour", 50))


def test_clusters_tell_of_one_another_on_events_that_did_not_make_them(columns: list[Column]):
    user, item, hour = columns
    assert bits_told(user, item, 0) > 1
    assert bits_told(user, hour, 0) == bits_told(item, hour, 0) == 0


def test_only_columns_that_tell_something_are_partners_and_both_ways_are_known_at_once(columns: list[Column]):
    user, item, hour = columns
    known: dict[frozenset[str], float] = {}
    (partner,) = partners_of(user, [item, hour], 0, known)
    assert partner.column is item
    assert known[frozenset(("user", "item"))] == partner.bits
    known[frozenset(("user", "item"))] = 0.0
    assert partners_of(item, [user, hour], 0, known) == []


def test_the_graph_has_one_column_after_another_and_counts_repeats():
    user = Column("user", 2, np.array([0, 0, 1]), None, 3)
    first, then = Column("a", 2, np.array([1, 1, 0]), None, 3), Column("b", 1, np.array([0, 0, 0]), None, 3)
    graph = graph_of(user, [Partner(first, 1.0), Partner(then, 0.5)])
    assert graph.to_scipy().toarray().tolist() == [[0, 2, 2], [1, 0, 1]]


def test_sequences_of_one_kind_are_what_their_ids_share():
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 4, 800)
    sequences = kinds[:, None] + 4 * generator.integers(0, 10, (800, 6))  # ids of a remainder go together
    (item,) = columns_of({"item": nn.Embedding(40, 2)}, {"item": sequences})
    (partner,) = partners_of(item, [], 0, {})
    assert partner.column.name == OWN_EVENTS
    graph = graph_of(item, [partner])
    assert (graph.num_users, graph.num_items, graph.total_weight) == (40, 800, sequences.size)


def test_several_ids_an_event_are_paired_with_what_the_event_has():
    tables = {"user": nn.Embedding(3, 2), "tags": nn.EmbeddingBag(4, 2), "more": nn.EmbeddingBag(4, 2)}
    users, tags, more = columns_of(
        tables,
        {"user": [2, 0], "tags": [[0, 1], [2, 3]], "more": (np.array([1, 2, 3]), np.array([0, 1]))},
    )
    pairs = {
        name: sorted(zip(*_entries(*both), strict=True))
        for name, both in {
            "user": (tags, users),
            "tags": (users, tags),
            "each": (tags, more),
            "same": (tags, tags),
        }.items()
    }
    assert pairs["user"] == [(0, 2), (1, 2), (2, 0), (3, 0)]
    assert pairs["tags"] == sorted((user, tag) for tag, user in pairs["user"])
    assert pairs["each"] == [(0, 1), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    assert pairs["same"] == [(0, 0), (1, 1), (2, 2), (3, 3)], "columns of the same form go place by place"
