"""Answers by raw id are those of all scores, whatever is decoded at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baco_gpu import ProductCodebookEmbedding, Recommender
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.ops import tiled_ranking
from baco_gpu.serving import answers
from baco_gpu.tables.export import served_table

USERS, ITEMS, DIM = 9, 23, 6


def interactions(strings: bool = False) -> Interactions:
    generator = np.random.default_rng(1)
    pairs = np.unique(generator.integers(0, USERS * ITEMS, 60))
    ids = Vocabulary([f"item {number:02d}" for number in range(ITEMS)] if strings else np.arange(ITEMS) * 10 + 5)
    # A user has seen all there is, another one nothing.
    pairs = np.unique(np.concatenate([pairs[pairs // ITEMS != 3], 2 * ITEMS + np.arange(ITEMS)]))
    users, items = (part.astype(np.int32) for part in np.divmod(pairs, ITEMS))
    return Interactions(users, items, USERS, ITEMS, None, Vocabulary(np.arange(USERS) + 100), ids)


def vectors(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of few values, so that scores are exact and many are equal."""
    generator = np.random.default_rng(seed)
    return tuple(generator.integers(-1, 2, (count, DIM)).astype(np.float32) for count in (USERS, ITEMS))


def by_hand(scores, shown, k):
    """The places of the best k scores of those that are shown: best first, and of equal ones the first."""
    order = sorted(np.flatnonzero(shown), key=lambda place: (-scores[place], place))
    return order[:k]


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_best_items_are_those_of_all_scores(monkeypatch, strings, exclude_seen, k, block):
    monkeypatch.setattr(answers, "_BLOCK", block)
    monkeypatch.setattr(tiled_ranking, "_ITEMS", 3 * block)
    monkeypatch.setattr(tiled_ranking, "_AT_ONCE", 1 + block % 4)
    seen, (users, items) = interactions(strings), vectors()
    asked = np.array([103, 100, 108, 102, 103])
    frame = Recommender(users, items, seen).recommend(asked, k, exclude_seen=exclude_seen)
    shown = np.ones((USERS, ITEMS), bool)
    if exclude_seen:
        shown[seen.users, seen.items] = False
    scores, expected = users @ items.T, []
    for user in asked:
        for rank, place in enumerate(by_hand(scores[user - 100], shown[user - 100], k), 1):
            expected.append((user, rank, seen.item_vocabulary.decode(int(place)), scores[user - 100, place]))
    assert list(frame.columns) == ["user", "rank", "item", "score"]
    assert list(frame.itertuples(index=False, name=None)) == expected


def test_similar_items_are_those_of_the_largest_cosine(monkeypatch):
    monkeypatch.setattr(answers, "_BLOCK", 4)
    users, items = vectors(3)
    items = items * np.arange(1, ITEMS + 1, dtype=np.float32)[:, None]  # lengths say nothing
    items[5] = 0
    frame = Recommender(users, items, interactions()).similar_items([15, 225], 6)
    directions = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-9)
    for place, own in ((1, frame[:6]), (22, frame[6:])):
        cosines = directions @ directions[place]
        others = np.delete(np.arange(ITEMS), place)
        assert set(own["item"]) == {place * 10 + 5}
        assert np.allclose(own["score"], np.sort(cosines[others])[::-1][:6], atol=1e-6)
        assert np.allclose(cosines[(own["similar"] - 5) // 10], own["score"], atol=1e-6)


def test_answers_from_codes_are_those_from_the_floats_that_they_stand_for():
    torch.manual_seed(0)
    tables = [
        ProductCodebookEmbedding.from_pretrained(torch.randn(count, DIM), np.arange(count), subspaces=3, centroids=4)
        for count in (USERS, ITEMS)
    ]
    for table in tables:
        table.see_stored(True)
    served = [served_table(table) for table in tables]
    floats = [table(torch.arange(len(table.assignments))).detach().numpy() for table in tables]
    asked = np.arange(USERS) + 100
    codes, expected = (Recommender(*pair, interactions()).recommend(asked, 5) for pair in (served, floats))
    assert codes.equals(expected)
    assert served[1].codebook.dtype == np.uint8


def test_one_id_will_do_and_without_interactions_ids_are_indices():
    users, items = vectors()
    recommender = Recommender(users, items)
    frame = recommender.recommend(3, 2, exclude_seen=False)
    assert frame["user"].tolist() == [3, 3]
    assert frame["item"].tolist() == by_hand(users[3] @ items.T, np.ones(ITEMS), 2)
    assert recommender.recommend([], 2, exclude_seen=False).empty
    assert repr(recommender) == "Recommender(9 users, 23 items, no interactions)"
    with pytest.raises(InputError, match="exclude_seen must be False where there are no interactions"):
        recommender.recommend(3)


def test_progress_tells_of_many_users(monkeypatch):
    monkeypatch.setattr(tiled_ranking, "_AT_ONCE", 2)
    told = []
    users, items = vectors()
    Recommender(users, items, interactions()).recommend(
        np.arange(100, 105), 2, progress=lambda *arguments: told.append(arguments)
    )
    assert told == [("recommending", done, 5, "") for done in (0, 2, 4, 5)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda known: known.recommend([100, 7, 8]), "users: unknown raw ids: 7, 8"),
        (lambda known: known.recommend("ann"), "users: raw ids of this vocabulary are integers, got 'ann'"),
        (lambda known: known.similar_items([15, 16]), "items: unknown raw ids: 16"),
        (lambda known: known.recommend(100, 0), "k must be an integer at least 1, got 0"),
        (lambda known: Recommender(np.ones((USERS, 2), np.float32), known.items), "vectors of one width, got 2 and 6"),
        (lambda known: Recommender(known.items, known.users, interactions()), "must be of 23 users and 9 items, as"),
        (lambda known: Recommender(np.full((USERS, DIM), np.nan), known.items), "codebook must hold finite numbers"),
        (lambda known: Recommender(known.users, known.items).recommend(99, exclude_seen=False), "unknown raw ids: 99"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(Recommender(*vectors(), interactions()))
