"""Results: the accounting by hand, the summary, and nodes by raw id."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct

import numpy as np
import pytest

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult
from baco_gpu.clustering.result import Assignment
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from graphs import random_graph

SUMMARY = {
    "num_users": 5,
    "num_items": 4,
    "num_edges": 9,
    "clusters": 3,
    "user_clusters": 2,
    "item_clusters": 3,
    "codebook_rows": 5,
    "secondary_users": 3,
    "secondary_items": 0,
    "embedding_dim": 8,
    "parameters_full": 72,  # 9 nodes of 8
    "parameters_compressed": 43,  # 5 rows of 8, 3 indices
    "bytes_full": 144,  # 2 bytes each
    "bytes_compressed": 136,  # 5 rows of 8 of 2 bytes; 9 + 5 entries of 4 bytes
    "gamma": 1.5,
    "objective": 6.25,
    "largest_user_cluster": 3,
    "largest_item_cluster": 2,
    "seed": 7,
    "seconds": {"load": 0.25, "solve": 1.123457},
}


@pytest.fixture
def by_hand():
    return CoclusteringResult(
        users=Assignment(
            np.array([0, 0, 2, 2, 2], np.int32), np.array([2, -1, 0, 0, -1], np.int32), Vocabulary(list("vwxyz"))
        ),
        items=Assignment(np.array([0, 1, 2, 1], np.int32), None, Vocabulary([3, 30, 300, 3000])),
        gamma=1.5,
        objective=6.25,
        objective_trace=np.array([1.0, 6.25]),
        num_edges=9,
        volumes=(np.array([3.0, 0.0, 6.0]), np.array([2.0, 4.0, 3.0])),
        embedding_dim=8,
        value_bytes=2,
        seed=7,
        settings={"budget": 5},
        graph_checksum="00",
        version="0.1.0",
        seconds={"load": 0.25, "solve": 1.1234567},
    )


def test_the_summary_by_hand(by_hand):
    summary = by_hand.summary()
    digest = summary.pop("labels_sha256")
    assert summary == SUMMARY
    labels = [0, 0, 2, 2, 2, 0, 1, 2, 1, 2, -1, 0, 0, -1]
    assert digest == hashlib.sha256(struct.pack("<14q", *labels)).hexdigest()


def test_the_summary_is_json(by_hand):
    assert json.loads(json.dumps(by_hand.summary())) == by_hand.summary()
    fitted = BalancedCoclustering(budget=np.int32(30), random_state=np.int64(3)).fit(random_graph(40, 30, 200, seed=0))
    assert json.loads(json.dumps(fitted.result_.summary())) == fitted.result_.summary()
    assert fitted.result_.summary().keys() == by_hand.summary().keys()
    assert set(fitted.result_.seconds) - {"compile"} == {"load", "solve", "secondary", "partners"}


@pytest.mark.parametrize("secondary", ["none", "users", "items", "both"])
def test_the_accounting_of_a_fit(secondary):
    graph = random_graph(60, 50, 300, seed=2)
    model = BalancedCoclustering(budget=40, secondary=secondary, embedding_dim=16, value_bytes=2).fit(graph)
    result = model.result_
    rows = len(set(model.row_labels_.tolist())) + len(set(model.column_labels_.tolist()))
    secondaries = (model.secondary_row_labels_, model.secondary_column_labels_)
    indices = sum(int((labels >= 0).sum()) for labels in secondaries if labels is not None)
    entries = 110 + sum(len(labels) for labels in secondaries if labels is not None)
    assert result.codebook_rows == rows in (39, 40)
    assert result.parameters_compressed == rows * 16 + indices
    assert result.bytes_compressed == rows * 16 * 2 + 4 * entries
    assert result.table.full_parameters == 110 * 16
    assert result.num_edges == graph.num_edges
    assert result.graph_checksum == graph.checksum()
    parameters = model.get_params()
    del parameters["process_group"]  # which a result does not depend on
    assert result.settings == parameters


def test_the_digest_sees_every_label_and_no_dtype(by_hand):
    def digest(users, items, secondary):
        sides = Assignment(np.array(users, np.int64), secondary), Assignment(np.array(items, np.int64))
        return CoclusteringResult(**{**vars(by_hand), "users": sides[0], "items": sides[1]}).labels_sha256

    secondary = by_hand.users.secondary
    assert digest([0, 0, 2, 2, 2], [0, 1, 2, 1], secondary) == by_hand.labels_sha256
    others = {
        digest([0, 0, 2, 2, 0], [0, 1, 2, 1], secondary),
        digest([0, 0, 2, 2, 2], [0, 1, 2, 2], secondary),
        digest([0, 0, 2, 2, 2], [0, 1, 2, 1], secondary * 0),
        digest([0, 0, 2, 2, 2], [0, 1, 2, 1], None),
    }
    assert len({*others, by_hand.labels_sha256}) == 5


def test_sizes(by_hand):
    assert by_hand.users.sizes(3).tolist() == [2, 0, 3]
    assert by_hand.items.sizes(3).tolist() == [1, 2, 1]
    assert (len(by_hand.users), by_hand.users.rows, by_hand.users.secondary_indices) == (5, 2, 3)
    assert (len(by_hand.items), by_hand.items.rows, by_hand.items.secondary_indices) == (4, 3, 0)


class TestRawIds:
    def test_labels_by_raw_id(self, by_hand):
        assert by_hand.users.label_of(["z", "v", "z"]).tolist() == [2, 0, 2]
        assert by_hand.users.label_of("x") == 2
        assert by_hand.items.label_of([3000, 3]).tolist() == [1, 0]
        assert by_hand.items.label_of(np.int64(300)) == 2
        assert by_hand.items.label_of([]).tolist() == []

    @pytest.mark.parametrize("ids", [["v", "nobody"], [3], "nobody"])
    def test_unknown_raw_ids_are_named(self, by_hand, ids):
        with pytest.raises(InputError, match=r"nobody|got 3"):
            by_hand.users.label_of(ids)

    def test_raw_ids_by_index(self, by_hand):
        assert by_hand.users.raw_ids(np.array([4, 0])).tolist() == ["z", "v"]
        assert by_hand.items.raw_ids(np.array([1])).tolist() == [30]

    def test_without_raw_ids_the_indices_stand_for_them(self):
        side = Assignment(np.array([5, 6, 7], np.int32))
        assert side.label_of([2, 0]).tolist() == [7, 5]
        assert side.label_of(1) == 6
        assert side.label_of(np.array([1], np.uint8)).tolist() == [6]
        assert side.label_of([]).tolist() == []
        assert side.raw_ids(np.array([2])).tolist() == [2]

    @pytest.mark.parametrize("ids", [[-1], [0, 3], 3, [0.0], ["0"], [True], None, np.uint64(2**63)])
    def test_no_other_index_has_a_label(self, ids):
        with pytest.raises(InputError, match=r"^ids must be ") as caught:
            Assignment(np.array([5, 6, 7], np.int32)).label_of(ids)
        assert "\n" not in str(caught.value)

    def test_frames(self, by_hand):
        users, items = by_hand.users.to_frame(), by_hand.items.to_frame()
        assert users.to_dict("list") == {
            "id": list("vwxyz"),
            "cluster": [0, 0, 2, 2, 2],
            "secondary": [2, -1, 0, 0, -1],
        }
        assert items.to_dict("list") == {"id": [3, 30, 300, 3000], "cluster": [0, 1, 2, 1]}
        assert Assignment(np.array([5, 6], np.int32)).to_frame()["id"].tolist() == [0, 1]

    def test_a_fit_keeps_the_raw_ids(self):
        graph = BipartiteGraph.from_edges(
            [0, 1, 2], [0, 0, 1], user_vocabulary=Vocabulary(["a", "b", "c"]), item_vocabulary=Vocabulary([10, 20])
        )
        result = BalancedCoclustering(budget=4).fit(graph).result_
        assert result.users.label_of("a") == result.users.label_of("b") == result.items.label_of(10)
        assert result.users.to_frame()["id"].tolist() == ["a", "b", "c"]


def test_an_empty_side():
    side = Assignment(np.empty(0, np.int32), np.empty(0, np.int32))
    assert (side.rows, side.secondary_indices, len(side)) == (0, 0, 0)
    assert side.sizes(2).tolist() == [0, 0]
    assert side.label_of([]).tolist() == []
    assert len(side.to_frame()) == 0


def test_results_compare_as_objects_and_can_be_pickled(by_hand):
    copy = pickle.loads(pickle.dumps(by_hand))
    assert by_hand == by_hand
    assert by_hand != copy
    assert len({by_hand, copy}) == 2
    assert copy.summary() == by_hand.summary()
