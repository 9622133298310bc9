"""Further real sets, of unequal sides, which no default was chosen on: parts of the public files of LightGCN's authors.

    python -m benchmarks.further_sets AMAZON-BOOK/test.txt YELP2018/test.txt --out build/sets

`baco data fetch amazon-book` and `baco data fetch yelp2018` bring the two files. Written are `amz_users.npz` (the 2,000
users of most interactions), `amz_items.npz` (the 1,500 items of most) and `yelp.npz` (the 5,000 users of most), without
users and items of very few interactions, each split 8:1:1 at random from a fixed seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from baco_gpu.data.readers import load_interactions

Pairs = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("amazon", type=Path)
    parser.add_argument("yelp", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    amazon, yelp = pairs_of(arguments.amazon), pairs_of(arguments.yelp)
    write(arguments.out / "amz_users.npz", core(of_the_busiest(amazon, 0, 2000), 5, 2))
    write(arguments.out / "amz_items.npz", core(of_the_busiest(amazon, 1, 1500), 4, 1))
    write(arguments.out / "yelp.npz", core(of_the_busiest(yelp, 0, 5000), 5, 3))


def pairs_of(path: Path) -> Pairs:
    interactions = load_interactions(path)
    return interactions.users, interactions.items


def of_the_busiest(pairs: Pairs, side: int, count: int) -> Pairs:
    """The pairs of the `count` ids of a side that have most; of equal ones those of smaller numbers."""
    ids = np.argsort(-np.bincount(pairs[side]), kind="stable")[:count]
    return kept(pairs, np.isin(pairs[side], ids))


def core(pairs: Pairs, of_a_user: int, of_an_item: int) -> Pairs:
    """Without users and items of fewer pairs, until none is left."""
    while True:
        many = [np.bincount(ids)[ids] for ids in pairs]
        keep = (many[0] >= of_a_user) & (many[1] >= of_an_item)
        if keep.all():
            return pairs
        pairs = kept(pairs, keep)


def kept(pairs: Pairs, keep: np.ndarray) -> Pairs:
    return pairs[0][keep], pairs[1][keep]


def write(path: Path, pairs: Pairs) -> None:
    """Number the ids anew, split the pairs, and write them as the sets in `BACO_DATA` are written."""
    users, items = np.unique(np.stack(pairs, axis=1), axis=0).T
    users, items = (np.unique(ids, return_inverse=True)[1].astype(np.int32) for ids in (users, items))
    order, count = np.random.default_rng(0).permutation(len(users)), len(users)
    bounds = [0, int(count * 0.8), int(count * 0.9), count]
    parts = {}
    for name, begin, end in zip(("train", "val", "test"), bounds, bounds[1:], strict=False):
        places = np.sort(order[begin:end])
        parts[name] = np.stack([users[places], items[places]])
    np.savez_compressed(path, **parts, num_users=users.max() + 1, num_items=items.max() + 1)
    print(f"{path}: {users.max() + 1:,} users, {items.max() + 1:,} items, {count:,} interactions")


if __name__ == "__main__":
    main()
