"""Answers by raw id: the best items for users, and items that are alike. Needs NumPy, and no PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from baco_gpu.checks import check_flag, check_instance, check_integer, shown
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.runs import within_runs
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.ops.tiled_ranking import NOBODY, Best, Hidden, TiledRanking, rows_at_once
from baco_gpu.progress import Progress, silent
from baco_gpu.serving.table import ServedTable

if TYPE_CHECKING:
    import pandas

_BLOCK = 1 << 14  # items whose rows are floats at once


class Vectors(Protocol):
    """Vectors by index; a `ServedTable` is one, which decodes the rows that it is asked for."""

    @property
    def num_embeddings(self) -> int: ...

    @property
    def embedding_dim(self) -> int: ...

    def lookup(self, ids: Any) -> np.ndarray:
        """Vectors of int64 indices of shape (n,): a floating array of shape (n, embedding_dim)."""


class Recommender:
    """Recommends items by the inner product of the vectors of users and items.

    Codes stay codes: rows are decoded for a block of items and some users at a time.

    Parameters
    ----------
    users, items : ServedTable, floating array of shape (n, dim), or Rows
        The vectors of all users and of all items, of one width: of a model that multiplies rows these are its tables
        (`load_codebooks`). `baco_gpu.load_recommender` makes them of any model that `baco train --out` wrote.
    interactions : Interactions, optional
        Of the same users and items, for raw ids and for what users have seen. Without them ids are indices, and
        `exclude_seen` must be False.

    Raises
    ------
    InputError
        If the three do not fit together, or vectors are not finite floats.
    """

    def __init__(
        self, users: Vectors | np.ndarray, items: Vectors | np.ndarray, interactions: Interactions | None = None
    ) -> None:
        self.users, self.items = _vectors("users", users), _vectors("items", items)
        if interactions is not None:
            check_instance("interactions", interactions, Interactions)
        self.interactions = interactions
        widths = self.users.embedding_dim, self.items.embedding_dim
        if widths[0] != widths[1]:
            raise InputError(f"users and items must have vectors of one width, got {widths[0]} and {widths[1]}")
        sizes = self.users.num_embeddings, self.items.num_embeddings
        if interactions is not None and (interactions.num_users, interactions.num_items) != sizes:
            raise InputError(
                f"interactions must be of {sizes[0]} users and {sizes[1]} items, as the vectors are, "
                f"got {interactions.num_users} and {interactions.num_items}"
            )

    @property
    def user_vocabulary(self) -> Vocabulary | None:
        """The raw ids of users; None where they are indices."""
        return None if self.interactions is None else self.interactions.user_vocabulary

    @property
    def item_vocabulary(self) -> Vocabulary | None:
        """The raw ids of items; None where they are indices."""
        return None if self.interactions is None else self.interactions.item_vocabulary

    @property
    def user_ids(self) -> np.ndarray:
        """The raw ids of all users."""
        return _raw(np.arange(self.users.num_embeddings), self.user_vocabulary)

    def check_users(self, users: Any) -> None:
        """Raise InputError, which names them, for unknown users."""
        _index_of("users", users, self.user_vocabulary, self.users.num_embeddings)

    def recommend(
        self, users: Any, k: int = 20, *, exclude_seen: bool = True, progress: Progress = silent
    ) -> pandas.DataFrame:
        """The best items of each of these users.

        Parameters
        ----------
        users : raw id, or a sequence of them
        k : int
            Items for each user; fewer if fewer may be shown.
        exclude_seen : bool
            Leave out what the user has interacted with.
        progress : function
            Called as progress("recommending", users done, users, "").

        Returns
        -------
        pandas.DataFrame
            A line an answer, with the columns user, rank (from 1), item and score, best first. Of equal scores that of
            the item first in the order of raw ids comes first.

        Raises
        ------
        InputError
            For unknown users, which are named, and where seen items are to be left out and nobody knows them.
        """
        k = check_integer("k", k, minimum=1)
        check_flag("exclude_seen", exclude_seen)
        index = _index_of("users", users, self.user_vocabulary, self.users.num_embeddings)
        if exclude_seen and self.interactions is None:
            raise InputError("exclude_seen must be False where there are no interactions to know seen items by")
        hidden = self._seen if exclude_seen else Hidden.nothing(self.users.num_embeddings)
        best = self._best(index, k, progress, "recommending", self.users, hidden)
        return self._frame("user", self.user_vocabulary, index, best)

    def similar_items(self, items: Any, k: int = 20) -> pandas.DataFrame:
        """The items whose vectors point most nearly the same way, by cosine: a line each, as of `recommend`.

        The columns are item, rank, similar and score, the cosine. No item is similar to itself.

        Raises
        ------
        InputError
            For unknown items, which are named.
        """
        k = check_integer("k", k, minimum=1)
        index = _index_of("items", items, self.item_vocabulary, self.items.num_embeddings)
        count = self.items.num_embeddings
        directions = _Directions(self.items)
        itself = Hidden(np.arange(count + 1), np.arange(count))
        best = self._best(index, k, silent, "", directions, itself, directions)
        return self._frame("item", self.item_vocabulary, index, best, "similar")

    def __repr__(self) -> str:
        seen = "no interactions" if self.interactions is None else f"{len(self.interactions):,} interactions"
        counts = f"{self.users.num_embeddings:,} users, {self.items.num_embeddings:,} items"
        return f"Recommender({counts}, {seen})"

    @cached_property
    def _seen(self) -> Hidden:
        assert self.interactions is not None
        seen, count = self.interactions, self.items.num_embeddings
        users, items = np.divmod(np.unique(seen.users.astype(np.int64) * count + seen.items), max(count, 1))
        return Hidden(np.searchsorted(users, np.arange(self.users.num_embeddings + 1)), items)

    def _best(
        self,
        index: np.ndarray,
        k: int,
        progress: Progress,
        phase: str,
        asking: Vectors,
        hidden: Hidden,
        asked: Vectors | None = None,
    ) -> Best:
        """The best k of `asked`, items if not said, for each row of `asking` at `index`."""
        k = min(k, self.items.num_embeddings)
        some, parts = rows_at_once(k), []
        for start in range(0, len(index), some):
            progress(phase, start, len(index), "")
            part = index[start : start + some]
            parts.append(_best_of(asking.lookup(part), asked or self.items, k, _of(hidden, part)))
        progress(phase, len(index), len(index), "")
        return Best(*map(np.concatenate, zip(*parts, strict=True))) if parts else Best.nothing(0, k)

    def _frame(
        self, asker: str, vocabulary: Vocabulary | None, index: np.ndarray, best: Best, answer: str = "item"
    ) -> pandas.DataFrame:
        import pandas

        rows, ranks = np.nonzero(best.items != NOBODY)
        items = best.items[rows, ranks]
        columns = {
            asker: _raw(index[rows], vocabulary),
            "rank": ranks + 1,
            answer: _raw(items, self.item_vocabulary),
            "score": best.scores[rows, ranks],
        }
        return pandas.DataFrame(columns)


class _Directions(NamedTuple):
    """The rows of a table, each of length one; zeros stay zeros."""

    table: Vectors

    @property
    def num_embeddings(self) -> int:
        return self.table.num_embeddings

    @property
    def embedding_dim(self) -> int:
        return self.table.embedding_dim

    def lookup(self, ids: Any) -> np.ndarray:
        rows = self.table.lookup(ids).astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        out: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
        return out


def _vectors(name: str, given: Vectors | np.ndarray) -> Vectors:
    if isinstance(given, np.ndarray):
        return ServedTable(given)
    if not all(hasattr(given, part) for part in ("num_embeddings", "embedding_dim", "lookup")):
        raise InputError(f"{name} must be a ServedTable, an array or vectors by index, got {shown(given)}")
    return given


def _of(hidden: Hidden, rows: np.ndarray) -> Hidden:
    """What is hidden from some rows, one after the other; a row may come again."""
    counts = hidden.offsets[rows + 1] - hidden.offsets[rows]
    items = hidden.items[np.repeat(hidden.offsets[rows], counts) + within_runs(counts)]
    return Hidden(np.concatenate([[0], np.cumsum(counts)]), items)


def _best_of(vectors: np.ndarray, items: Vectors, k: int, hidden: Hidden) -> Best:
    """The best k items of each vector, but for those that are hidden from it."""
    vectors = vectors.astype(np.result_type(vectors.dtype, np.float32))
    ranking = TiledRanking(vectors, k, items.num_embeddings, hidden)
    for first in range(0, items.num_embeddings, _BLOCK):
        block = np.arange(first, min(first + _BLOCK, items.num_embeddings))
        ranking.see(first, items.lookup(block).astype(vectors.dtype))
    return ranking.best()


def _index_of(name: str, raw: Any, vocabulary: Vocabulary | None, count: int) -> np.ndarray:
    """The int64 indices of raw ids, one or many; InputError, with `name`, for unknown ones."""
    is_list = isinstance(raw, Iterable) and not isinstance(raw, str | bytes) and getattr(raw, "shape", None) != ()
    ids = raw if is_list else [raw]
    if vocabulary is None:
        vocabulary = Vocabulary.from_sorted_integers(np.arange(count))
    try:
        return np.asarray(vocabulary.lookup(ids), dtype=np.int64)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _raw(index: np.ndarray, vocabulary: Vocabulary | None) -> np.ndarray:
    return index if vocabulary is None else np.asarray(vocabulary.decode(index))
