"""Product quantisation of rows: each is cut into pieces, and a piece is stored as the number of a centroid near it.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (IEEE TPAMI 33, 2011, section 2), but that
pieces of all places share their centroids. These are floats, and dear: at the same cost there are more of them, by as
many times as a row has pieces. Results are on the device of the arguments; on a GPU, all of the work is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baco_gpu.codebook.segments import add_by_row_
from baco_gpu.precision import number_dtype

MOST_CENTROIDS = 1 << 15  # what an int16 can number

# More find centroids that are hardly better: of trained rows of Gowalla and 4,096 centroids of four dimensions, they
# leave 2.4% as error, and eight times as many pieces and twice as many rounds 2.3%.
_PIECES_PER_CENTROID = 64
_ROUNDS = 15
# Distances that are there at a time: on a CPU they are to stay in the cache, on a GPU to be worth a launch.
_DISTANCES, _DISTANCES_ON_GPU = 1 << 18, 1 << 26
# A tree finds one of many centroids of few dimensions sooner than comparing with all of them: one of 4,096 in 0.9 in
# place of 6.4 microseconds with four dimensions, 2.0 of 6.4 with five and 6.6 of 6.0 with eight.
_NARROW, _MANY = 5, 1024


def subspaces_of(dim: int, width: int) -> int:
    """Pieces of a row, the last of which may be narrower than `width`."""
    return -(-dim // width)


def numbers_dtype(count: int) -> torch.dtype:
    """What the number of one of `count` centroids is stored in."""
    dtype: torch.dtype = getattr(torch, number_dtype(count))
    return dtype


def fit_centroids(rows: Tensor, width: int, count: int, seed: int) -> Tensor:
    """Centroids of the pieces of rows, by Lloyd's k-means from pieces drawn at random.

    Parameters
    ----------
    rows : floating tensor of shape (n, dim)
    width : int, dimensions of a piece; narrower ones are left out
    count : int, centroids; those for which there is no piece are zero
    seed : int
        Of the pieces that k-means starts from and, of more than 64 a centroid, of those that it looks at.

    Returns
    -------
    Tensor of shape (count, width), float32 at least.
    """
    whole = rows.shape[1] // width
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(rows) * whole, generator=generator)[: count * _PIECES_PER_CENTROID].to(rows.device)
    pieces = rows[:, : whole * width].reshape(-1, width)[drawn].to(_wide(rows))
    centroids = pieces.new_zeros(count, width)
    centroids[: len(pieces)] = pieces[:count]
    for _ in range(_ROUNDS):
        owners = _nearest(pieces, centroids)
        sums = add_by_row_(torch.zeros_like(centroids), pieces, owners)
        sizes = torch.bincount(owners, minlength=count).unsqueeze(1)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)  # one without members stays
    return centroids


def nearest_centroids(rows: Tensor, centroids: Tensor) -> Tensor:
    """The number of the centroid nearest to every piece of `rows` (n, dim): (n, subspaces), of `numbers_dtype`.

    Of a narrower piece, the nearest as far as it goes.
    """
    width = centroids.shape[1]
    rows, centroids = rows.to(_wide(rows)), centroids.to(_wide(rows))
    whole = rows.shape[1] // width
    parts = [_nearest(rows[:, : whole * width].reshape(-1, width), centroids).view(len(rows), whole)]
    rest = rows[:, whole * width :]
    if rest.shape[1]:
        parts.append(_nearest(rest, centroids[:, : rest.shape[1]]).unsqueeze(1))
    return torch.cat(parts, dim=1).to(numbers_dtype(len(centroids)))


def balanced_rotation(tables: list[Tensor], width: int) -> Tensor:
    """A rotation of rows after which subspaces are alike in variance, and their dimensions uncorrelated.

    Principal directions of all tables together, each of which counts alike, are dealt to the subspaces from the one of
    most variance on, always to the subspace whose product of variances is least. What is rounded away is then least
    for normally distributed rows (Ge et al., "Optimized product quantization", IEEE TPAMI 36, 2014, section 4).

    Parameters
    ----------
    tables : list of floating tensors of shape (n, dim), of one width
    width : int, dimensions of a subspace

    Returns
    -------
    Tensor of shape (dim, dim), orthogonal: `table @ rotation` is rotated.
    """
    dim = tables[0].shape[1]
    spread = torch.zeros((dim, dim), dtype=torch.float64)
    for table in tables:
        products = (table.T @ table).cpu().double()
        spread += products / products.trace().clamp(min=torch.finfo(torch.float64).tiny)
    variances, directions = torch.linalg.eigh(spread)
    rooms = [min(width, dim - start) for start in range(0, dim, width)]
    dealt: list[list[int]] = [[] for _ in rooms]
    products_of = [0.0] * len(rooms)
    least = max(float(variances[-1]), 1.0) * torch.finfo(torch.float64).eps
    for place in range(dim - 1, -1, -1):
        free = [subspace for subspace, room in enumerate(rooms) if len(dealt[subspace]) < room]
        chosen = min(free, key=lambda subspace: products_of[subspace] / rooms[subspace])
        dealt[chosen].append(place)
        products_of[chosen] += math.log(max(float(variances[place]), least) / least)
    order = [place for subspace in dealt for place in subspace]
    return directions[:, order].to(tables[0])


def _nearest(pieces: Tensor, centroids: Tensor) -> Tensor:
    """One of the nearest of `centroids` (count, width) to each of `pieces` (n, width): int64 of shape (n,)."""
    count, width = centroids.shape
    on_cpu = pieces.device.type == "cpu"
    if on_cpu and width <= _NARROW and count >= _MANY:
        from scipy.spatial import KDTree

        found = KDTree(centroids.detach().numpy()).query(pieces.detach().numpy(), workers=torch.get_num_threads())[1]
        return torch.from_numpy(found)
    lengths, directions = centroids.square().sum(1), -2 * centroids.T
    chunk = max(1, (_DISTANCES if on_cpu else _DISTANCES_ON_GPU) // count)
    parts = [torch.addmm(lengths, part, directions).min(1).indices for part in pieces.split(chunk)]
    return torch.cat(parts) if parts else pieces.new_zeros(0, dtype=torch.int64)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
