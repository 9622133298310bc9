"""Interactions between users and items, as arrays of contiguous ids: what every reader returns and all else takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from baco_gpu.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Interactions:
    """Pairs of a user and an item, with optional weights and the raw ids they were read from.

    Attributes
    ----------
    users, items : integer arrays of shape (n,), int32 (int64 where an id needs it), C-contiguous
        Zero-based ids, `users[k] < num_users` and `items[k] < num_items`.
    num_users, num_items : int
        The declared sizes; users and items without any interaction count too.
    weights : float64 array of shape (n,), or None
        Finite and non-negative; None means 1 for every interaction.
    user_vocabulary, item_vocabulary : Vocabulary or None
        The raw id of every user and item; None where the ids are already contiguous integers.
    timestamps : int64 or float64 array of shape (n,), or None
        When each interaction was, in any unit; None where nobody asked.
    columns : dict of str to str, or None
        The names of the columns that were read, by their role: user, item, weight, ...; None where no table was.
    """

    users: np.ndarray
    items: np.ndarray
    num_users: int
    num_items: int
    weights: np.ndarray | None = None
    user_vocabulary: Vocabulary | None = None
    item_vocabulary: Vocabulary | None = None
    timestamps: np.ndarray | None = None
    columns: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        extras = [name for name in ("weights", "timestamps") if getattr(self, name) is not None]
        counts = f"{len(self):,} of {self.num_users:,} users and {self.num_items:,} items"
        return f"Interactions({counts}{', with ' if extras else ''}{' and '.join(extras)})"

    def in_order(self) -> np.ndarray:
        """Positions user by user, each user's in the order of time; of equal times, and without times, as they are."""
        return np.lexsort((self.users,) if self.timestamps is None else (self.timestamps, self.users))

    def take(self, index: np.ndarray | slice) -> Interactions:
        """The interactions at `index` (integer or boolean array, slice), of the same users, items and vocabularies."""
        return replace(
            self,
            users=self.users[index],
            items=self.items[index],
            weights=None if self.weights is None else self.weights[index],
            timestamps=None if self.timestamps is None else self.timestamps[index],
        )


@dataclass(frozen=True)
class SplitInteractions:
    """Three disjoint parts of one set of interactions; all share the sizes and vocabularies."""

    train: Interactions
    validation: Interactions
    test: Interactions

    @property
    def parts(self) -> tuple[Interactions, Interactions, Interactions]:
        return self.train, self.validation, self.test

    def __repr__(self) -> str:
        counts = f"{len(self.train):,} to train on, {len(self.validation):,} to validate, {len(self.test):,} to test"
        return f"SplitInteractions({counts}; {self.num_users:,} users, {self.num_items:,} items)"

    @property
    def whole(self) -> Interactions:
        """The pairs of all parts, one part after the other, without weights and timestamps."""
        users, items = (np.concatenate([getattr(part, side) for part in self.parts]) for side in ("users", "items"))
        return replace(self.train, users=users, items=items, weights=None, timestamps=None)

    @property
    def num_users(self) -> int:
        return self.train.num_users

    @property
    def num_items(self) -> int:
        return self.train.num_items
