"""Reading over ranks gives each the share that it has of one process's graph, to the last bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from baco_gpu import BipartiteGraph
from baco_gpu.clustering.backends.share import share_of
from baco_gpu.clustering.solve.weights import integer_edges
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.distributed.on_host import OnHost
from baco_gpu.distributed.reading import read_share
from baco_gpu.distributed.shared_ids import united
from baco_gpu.errors import InputError
from distributed.tables import clicks, in_files
from thread_ranks import on_ranks
from tiers import full


def assert_shares(source, size, **reading):
    """Every rank's share is that of one process's graph, cut at the same places."""
    graph = BipartiteGraph.from_file(source, **reading)
    edges = integer_edges(graph)
    for rank, share in enumerate(on_ranks(size, lambda ranks: read_share(ranks, source, **reading))):
        expected = share_of(graph, edges, rank, share.bounds)
        for name in ("csr", "csc"):
            mine, other = getattr(share.own, name), getattr(expected.own, name)
            np.testing.assert_array_equal(mine.offsets, other.offsets)
            np.testing.assert_array_equal(mine.neighbors, other.neighbors, strict=True)
            assert mine.weights is None
        assert (share.user_vocabulary, share.item_vocabulary) == (graph.user_vocabulary, graph.item_vocabulary)
        for mine, other in zip(
            (*share.edges[0], *share.edges[1]), (*expected.edges[0], *expected.edges[1]), strict=True
        ):
            np.testing.assert_array_equal(mine, other)
        assert share.edges.unit == expected.edges.unit
        for mine, other in zip(share.twins, expected.twins, strict=True):
            np.testing.assert_array_equal(mine, other)
        np.testing.assert_array_equal(share.user_degrees, graph.user_degrees)
        np.testing.assert_array_equal(share.item_degrees, graph.item_degrees)
        assert (share.num_edges, share.total_weight) == (graph.num_edges, graph.total_weight)
        assert share.checksum() == graph.checksum()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "reading",
    [
        {},
        {"weight_column": "weight"},
        {"where": "rating>=3", "min_rating": 4},
        {"core": 6, "weighting": "counts", "weight_column": "weight"},
        {"weighting": "recency", "half_life": 1e5},
    ],
    ids=repr,
)
def test_shares_of_parquet(tmp_path, size, reading):
    assert_shares(in_files(tmp_path / "clicks", clicks()), size, **reading)


@pytest.mark.parametrize("size", [2, 4])
def test_ids_that_are_strings(tmp_path, size):
    frame = clicks()
    frame["user"] = "ü" + frame["user"].astype(str)
    frame["item"] = frame["item"].map(lambda item: "x" * (item % 7) + str(item % 11))
    assert_shares(in_files(tmp_path / "clicks", frame), size)


def test_a_rank_without_rows_and_a_folder_that_names_a_column(tmp_path):
    folder = tmp_path / "clicks"
    for day, seed in ("2026-01-01", 1), ("2026-01-02", 2):
        in_files(folder, clicks(0), 1)
        in_files(folder / f"dt={day}", clicks(20, seed), 1, group=1000)
    (folder / "part-0.parquet").unlink()
    assert_shares(folder, 4)
    assert_shares(folder, 3, where="dt>2026-01-01")


@pytest.mark.parametrize("suffix", ["csv", "feather", "jsonl"])
def test_other_formats(tmp_path, suffix):
    path, frame = tmp_path / f"clicks.{suffix}", clicks(200)
    if suffix == "feather":
        pa.feather.write_feather(frame, path)
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert_shares(path, 3, weight_column="weight")


def test_a_part_holds_no_more_than_its_row_groups(tmp_path):
    from baco_gpu.data.readers import Request

    folder = in_files(tmp_path / "clicks", clicks(1000), 4, group=40)
    rows = Request().rows(folder)
    lengths = [[sum(len(batch.table) for batch in part.batches()) for part in rows.shares(size)] for size in (1, 3, 8)]
    for parts in lengths:
        assert sum(parts) == 1060
        assert max(parts) - min(parts) <= 2 * 40


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", [int, str])
def test_ids_of_all_ranks_are_numbered_as_one_process_numbers_them(size, kind):
    rng = np.random.default_rng(size)
    ids = [rng.integers(0, 400, full(5000, 300) * (rank != 1)) ** 2 for rank in range(size)]
    own = [Vocabulary([kind(one) for one in part]) for part in ids]
    whole = Vocabulary([kind(one) for part in ids for one in part])
    for rank, (numbers, found) in enumerate(on_ranks(size, lambda ranks: united(OnHost(ranks), own[ranks.rank]))):
        assert found == whole
        np.testing.assert_array_equal(numbers, own[rank].positions_in(whole))


def fault(source, size=3, **reading):
    with pytest.raises(InputError) as caught:
        on_ranks(size, lambda ranks: read_share(ranks, source, **reading))
    return str(caught.value)


def test_faults_of_all_parts_together_are_those_of_one_process(tmp_path):
    folder = in_files(tmp_path / "clicks", clicks(300))
    for reading in (
        {"where": "rating>9"},
        {"min_rating": 9},
        {"core": 100},
        {"weighting": "recency", "half_life": 1e-3},
        {"half_life": 3.0},
        {"user_column": "nobody"},
    ):
        with pytest.raises(InputError) as alone:
            BipartiteGraph.from_file(folder, **reading)
        assert fault(folder, **reading) == str(alone.value)


def test_timestamps_of_two_forms_in_two_parts(tmp_path):
    folder = in_files(tmp_path / "clicks", clicks(100).assign(timestamp="17"), 1)
    dated = clicks(100).assign(timestamp="2026-01-01")
    pa.parquet.write_table(pa.Table.from_pandas(dated), folder / "part-9.parquet")
    said = fault(folder, 2, weighting="recency", half_life=3.0)
    assert said.endswith("all in one form: the part of rank 0 has a number, that of rank 1 a date")
