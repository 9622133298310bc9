"""Full ranking against plain loops and scikit-learn."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from threadpoolctl import threadpool_info

from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.evaluation import evaluate_ranking, ranking, top_items
from baco_gpu.ops import tiled_ranking
from waiting import WaitsForTheDevice

USERS, ITEMS = 40, 30


def interactions(pairs, num_users=USERS, num_items=ITEMS):
    array = np.array(list(pairs), np.int32).reshape(-1, 2)
    return Interactions(np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1]), num_users, num_items)


def random_case(seed, *, levels=None):
    """Representations (with few distinct values where `levels` is given), and disjoint parts."""
    rng = np.random.default_rng(seed)
    shape = (USERS, 6), (ITEMS, 6)
    users, items = (rng.normal(size=s) if levels is None else rng.integers(0, levels, s).astype(float) for s in shape)
    cells = rng.permutation(USERS * ITEMS)[: USERS * 12]
    parts = [[divmod(int(cell), ITEMS) for cell in block] for block in np.split(cells, [200, 260])]
    return torch.from_numpy(users), torch.from_numpy(items), parts


def by_loops(users, items, excluded, held_out, ks):
    """The definitions, one user at a time."""
    sums = {f"{name}@{k}": 0.0 for name in ("recall", "recall_capped", "ndcg") for k in ks}
    judged = 0
    for user in range(len(users)):
        wanted = {i for u, i in held_out if u == user}
        if not wanted:
            continue
        judged += 1
        hidden = {i for u, i in excluded if u == user}
        scores = (users[user] @ items.T).tolist()
        ranking = sorted((i for i in range(len(items)) if i not in hidden), key=lambda i: (-scores[i], i))
        for k in ks:
            found = [rank for rank, item in enumerate(ranking[:k], start=1) if item in wanted]
            gain = sum(1 / math.log2(1 + rank) for rank in found)
            ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(k, len(wanted)) + 1))
            sums[f"recall@{k}"] += len(found) / len(wanted)
            sums[f"recall_capped@{k}"] += len(found) / min(k, len(wanted))
            sums[f"ndcg@{k}"] += gain / ideal
    return {name: total / judged for name, total in sums.items()}


@pytest.fixture(params=[False, True], ids=["as on a CPU", "as on a GPU"])
def as_on_a_gpu(request, monkeypatch):
    """Both ways of finding equal scores, on the CPU."""
    monkeypatch.setattr(ranking, "_asynchronous", lambda tensor: request.param)
    return request.param


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("levels", [None, 2], ids=["distinct scores", "many equal scores"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_the_loops(levels, batch_size, seed):
    users, items, (train, validation, test) = random_case(seed, levels=levels)
    ks = (1, 3, 10, 29, 30, 50)
    found = evaluate_ranking(users, items, interactions(train), interactions(test), ks, batch_size=batch_size)
    assert found == pytest.approx(by_loops(users, items, train, test, ks), abs=1e-12)
    both = [interactions(train), interactions(validation)]
    found = evaluate_ranking(users, items, both, interactions(test), ks, batch_size=batch_size)
    assert found == pytest.approx(by_loops(users, items, train + validation, test, ks), abs=1e-12)


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_users_may_be_looked_up_batch_by_batch(batch_size):
    users, items, (train, _, test) = random_case(4)
    seen, held_out = interactions(train), interactions(test)
    asked = []

    def rows_of(ids):
        asked.append(ids.tolist())
        return users[ids]

    found = evaluate_ranking(rows_of, items, seen, held_out, batch_size=batch_size)
    assert found == evaluate_ranking(users, items, seen, held_out, batch_size=batch_size)
    assert [user for batch in asked for user in batch] == sorted({user for user, _ in test})
    assert max(map(len, asked)) == (batch_size or len(asked[0]))
    with pytest.raises(InputError, match="user_repr must be finite"):
        evaluate_ranking(
            lambda ids: torch.where(ids[:, None] == max(asked[-1]), torch.inf, users[ids]), items, seen, held_out
        )
    with pytest.raises(InputError, match="of 40 users and 29 items, the interactions of 40 and 30"):
        evaluate_ranking(rows_of, items[:-1], seen, held_out)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_ndcg_equals_that_of_scikit_learn(k):
    users, items, (train, _, test) = random_case(11)
    relevance, scores = np.zeros((USERS, ITEMS)), (users @ items.T).numpy()
    relevance[tuple(zip(*test, strict=True))] = 1
    scores[tuple(zip(*train, strict=True))] = -1e9
    judged = relevance.any(1)
    wanted = ndcg_score(relevance[judged], scores[judged], k=k, ignore_ties=True)
    found = evaluate_ranking(users, items, interactions(train), interactions(test), (k,))
    assert found[f"ndcg@{k}"] == pytest.approx(wanted, abs=1e-12)


def test_perfect_and_hopeless_rankings():
    items = torch.eye(4)
    users = torch.tensor([[3.0, 2, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]])
    held_out = interactions([(0, 0), (0, 1), (1, 2)], 3, 4)
    nothing = interactions([], 3, 4)
    best = evaluate_ranking(users, items, nothing, held_out, (1, 2))
    assert best == pytest.approx(
        {"recall@1": 0.75, "recall@2": 1, "recall_capped@1": 1, "recall_capped@2": 1, "ndcg@1": 1, "ndcg@2": 1}
    )
    assert set(evaluate_ranking(-users, items, nothing, held_out, (1, 2)).values()) == {0.0}


def test_excluded_items_are_no_hits_even_when_nothing_else_is_left():
    users, items = torch.ones(1, 1), torch.ones(3, 1)
    seen, held_out = interactions([(0, 0), (0, 1)], 1, 3), interactions([(0, 1), (0, 2)], 1, 3)
    found = evaluate_ranking(users, items, seen, held_out, (3,))
    assert found["recall@3"] == 0.5
    assert found["ndcg@3"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_repeated_interactions_count_once():
    users, items, (train, _, test) = random_case(1)
    once = evaluate_ranking(users, items, interactions(train), interactions(test))
    assert evaluate_ranking(users, items, interactions(train * 2), interactions(test * 3)) == once


@given(
    st.integers(1, 12).flatmap(
        lambda width: st.tuples(
            st.lists(
                st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5]), min_size=width, max_size=width),
                min_size=1,
                max_size=5,
            ),
            st.integers(1, width),
        )
    )
)
def test_equal_scores_rank_by_column(case):
    rows, k = case
    wanted = [sorted(range(len(row)), key=lambda column, row=row: (-row[column], column))[:k] for row in rows]
    assert top_items(torch.tensor(rows), k).tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_asynchronous", lambda tensor: True)
        assert top_items(torch.tensor(rows), k).tolist() == wanted


def test_no_batch_waits_for_the_device(monkeypatch, as_on_a_gpu):
    monkeypatch.setattr(ranking, "_best", ranking._best_at_once)
    users, items, (train, _, test) = random_case(2, levels=2)
    counts = []
    for batch_size in (40, 3, 1):
        with WaitsForTheDevice() as mode:
            evaluate_ranking(users, items, interactions(train), interactions(test), (3,), batch_size=batch_size)
        counts.append(mode.count)
    assert counts[0] > 0
    assert (len(set(counts)) == 1) == as_on_a_gpu


def test_bad_input_is_refused():
    users, items, (train, _, test) = random_case(0)
    seen, held_out = interactions(train), interactions(test)
    with pytest.raises(InputError, match="user_repr must be finite"):
        evaluate_ranking(users * torch.nan, items, seen, held_out)
    with pytest.raises(InputError, match="item_repr must be a floating matrix"):
        evaluate_ranking(users, items.long(), seen, held_out)
    with pytest.raises(InputError, match="same width, got 6 and 5"):
        evaluate_ranking(users, items[:, :5], seen, held_out)
    with pytest.raises(InputError, match="of 39 users and 30 items, the interactions of 40 and 30"):
        evaluate_ranking(users[:-1], items, seen, held_out)
    with pytest.raises(InputError, match="no held-out interactions"):
        evaluate_ranking(users, items, seen, interactions([]))
    with pytest.raises(InputError, match="ks must be an integer at least 1, got 0"):
        evaluate_ranking(users, items, seen, held_out, (0,))
    with pytest.raises(InputError, match="ks must not be empty"):
        evaluate_ranking(users, items, seen, held_out, ())
    with pytest.raises(InputError, match="batch_size must be an integer at least 1"):
        evaluate_ranking(users, items, seen, held_out, batch_size=0)


@pytest.mark.parametrize(("tile", "room", "threads"), [((1, 1), 1, 1), ((7, 64), 2, 3), ((512, 512), 4, 2)])
def test_tiles_and_threads_change_nothing(monkeypatch, tile, room, threads):
    rng = np.random.default_rng(5)
    items, k = 900, 7
    users, table = (torch.from_numpy(rng.integers(-2, 3, (rows, 4))).float() for rows in (20, items))
    hidden = [np.flatnonzero(rng.random(items) < 0.01 * user) for user in range(20)]
    hidden[3] = np.arange(items - 2)  # of which fewer than k are left
    scores = users @ table.T
    for user, some in enumerate(hidden):
        scores[user, some] = -torch.inf
    monkeypatch.setattr(tiled_ranking, "_ROWS", tile[0])
    monkeypatch.setattr(tiled_ranking, "_ITEMS", tile[1])
    monkeypatch.setattr(tiled_ranking, "_ROOM", room)
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in hidden])])
    own = tiled_ranking.Hidden(offsets, np.concatenate(hidden))
    tiles = tiled_ranking.TiledRanking(users.numpy(), k, items, own, threads)
    for first, part in ((0, table[:600]), (600, table[600:])):
        tiles.see(first, part.numpy())
    best = torch.from_numpy(tiles.best().items)
    expected = top_items(scores, k)
    is_ranked = scores.gather(1, expected) > -torch.inf
    assert torch.equal(best >= 0, is_ranked)
    assert torch.equal(best[is_ranked], expected[is_ranked])
    assert int(is_ranked[3].sum()) == 2


def test_scores_are_the_same_bits_for_any_number_of_threads():
    """And products of NumPy have as many threads afterwards as before."""
    rng = np.random.default_rng(6)
    rows, items = (rng.standard_normal((count, 24), np.float32) for count in (1300, 1100))
    before = [library["num_threads"] for library in threadpool_info()]
    found = []
    for threads in (1, 2, 3):
        tiles = tiled_ranking.TiledRanking(rows, 10, len(items), tiled_ranking.Hidden.nothing(len(rows)), threads)
        tiles.see(0, items)
        found.append(tiles.best())
    for best in found[1:]:
        np.testing.assert_array_equal(best.items, found[0].items)
        np.testing.assert_array_equal(best.scores, found[0].scores)
    assert [library["num_threads"] for library in threadpool_info()] == before


def test_many_threads_take_rows_from_one_iterator(monkeypatch):
    """None asks while another one is being answered, which a generator does not bear."""
    monkeypatch.setattr(tiled_ranking, "_ROWS", 1)
    monkeypatch.setattr(tiled_ranking, "_ITEMS", 64)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    rows = np.random.default_rng(7).standard_normal((3000, 4), np.float32)
    try:
        tiles = tiled_ranking.TiledRanking(rows, 2, 60, tiled_ranking.Hidden.nothing(len(rows)), 8)
        tiles.see(0, rows[:60])
        best = tiles.best().items
    finally:
        sys.setswitchinterval(interval)
    alone = tiled_ranking.TiledRanking(rows, 2, 60, tiled_ranking.Hidden.nothing(len(rows)), 1)
    alone.see(0, rows[:60])
    np.testing.assert_array_equal(best, alone.best().items)
