"""Product quantization of rows: each is cut into pieces, and a piece is stored as a code, the number of one near it.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (IEEE TPAMI 33, 2011, section 2), but for
two things. Pieces of all places share their centroids: these are floats, and dear, and at the same cost there are more
of them by as many times as a row has pieces. And a code says the signs of values too, as far as it has bits for that,
so that a centroid stands for many; see `ProductFormat`. Results are on the device of the arguments; on a GPU, all of
the work is.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from baco_gpu.ops.lookup import NO_PADDING, codebook_expand, list_members, look_up
from baco_gpu.ops.quantization import right_shift
from baco_gpu.ops.segments import add_by_row_
from baco_gpu.precision import LEAST_LENGTH, LENGTH_PARTS, ProductFormat, piece_widths

# More find centroids that are hardly better: of trained rows of Gowalla and 4,096 centroids of four dimensions, they
# leave 2.4% as error, and eight times as many pieces and twice as many rounds 2.3%.
_PIECES_PER_CENTROID = 64
_ROUNDS = 15
# Of more pieces, those that k-means looks at are drawn one by one: hardly one of them is drawn twice.
_MOST_PERMUTED = 1 << 24
# Distances that are there at a time: on a CPU they are to stay in the cache, on a GPU to be worth a launch.
_DISTANCES, _DISTANCES_ON_GPU = 1 << 18, 1 << 26
# A tree finds one of many centroids of few dimensions sooner than comparing with all of them: one of 4,096 in 0.9 in
# place of 6.4 microseconds with four dimensions, 2.0 of 6.4 with five and 6.6 of 6.0 with eight.
_NARROW, _MANY = 5, 1024


class RowsByNumber(Protocol):
    """Rows that are read by number, as those of a tensor are."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: Tensor, /) -> Tensor: ...

    @property
    def device(self) -> torch.device: ...


def fit_centroids(rows: RowsByNumber, form: ProductFormat, seed: int) -> Tensor:
    """Centroids of the pieces of rows, by Lloyd's k-means from pieces drawn at random.

    Parameters
    ----------
    rows : floating tensor of shape (n, form.dim), or what is indexed as one is
        Those alone are read whose pieces are looked at.
    form : ProductFormat
    seed : int
        Of the pieces that k-means starts from and, of more than 64 a centroid, of those that it looks at.

    Returns
    -------
    Tensor of shape (form.centroids, form.width), float32 at least. The values that have signs are not negative. Those
    centroids for which there is no piece are zero.
    """
    generator = torch.Generator().manual_seed(seed)
    count, looked_at = len(rows) * form.subspaces, form.centroids * _PIECES_PER_CENTROID
    if count > _MOST_PERMUTED:
        drawn = torch.randint(count, (looked_at,), generator=generator)
    else:
        drawn = torch.randperm(count, generator=generator)[:looked_at]
    drawn = drawn.to(rows.device)
    owners, places = drawn // form.subspaces, drawn % form.subspaces
    whole = rows[owners]
    wide, narrow = _cut(whole.to(_wide(whole)), form)
    padded = torch.cat([wide, nn.functional.pad(narrow, (0, form.width - narrow.shape[2]))], dim=1)
    pieces = _turned(padded[torch.arange(len(drawn), device=drawn.device), places], form)
    centroids = pieces.new_zeros(form.centroids, form.width)
    centroids[: len(pieces)] = pieces[: form.centroids]
    is_wide = places < form.wide
    parts = [part for part in (pieces[is_wide], pieces[~is_wide, :-1]) if len(part)]
    for _ in range(_ROUNDS):
        sums, sizes = torch.zeros_like(centroids), torch.zeros_like(centroids)
        for part in parts:
            width = part.shape[1]
            owners = _nearest(part, centroids[:, :width])
            sums[:, :width] += add_by_row_(part.new_zeros(len(centroids), width), part, owners)
            sizes[:, :width] += torch.bincount(owners, minlength=len(centroids)).unsqueeze(1)
        centroids = torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)  # one without members stays
    return centroids


def nearest_codes(rows: Tensor, centroids: Tensor, form: ProductFormat) -> Tensor:
    """The codes of what is nearest to the pieces of `rows` (n, dim): (n, subspaces), stored as `store` does."""
    rows, centroids = rows.to(_wide(rows)), centroids.to(_wide(rows))
    parts = []
    for cut in _cut(rows, form):
        pieces, among = cut.flatten(0, 1), centroids[:, : cut.shape[2]]
        owners = _nearest(_turned(pieces, form), _turned(among, form))
        turned = (pieces < 0) != (among[owners] < 0)
        signs = sum(turned[:, place].long() << place for place in range(min(form.signs, cut.shape[2])))
        parts.append(((owners << form.signs) + signs).view(cut.shape[:2]))
    return store(torch.cat(parts, dim=1), form)


def members_of(codes: Tensor, form: ProductFormat) -> tuple[Tensor, ...]:
    """The pieces of stored codes by the codeword that they have."""
    return list_members(read(codes).view(-1), None, NO_PADDING, form.codewords)


def rows_of(codes: Tensor, centroids: Tensor, form: ProductFormat, members: tuple[Tensor, ...] | None = None) -> Tensor:
    """Rows (n, dim) that stored codes (n, subspaces) stand for; the gradient of centroids is always the same.

    Those of more codes than there are codewords take less time with `members_of` them.
    """
    flat = read(codes).view(-1)
    if members is not None:
        pieces = codebook_expand(codewords(centroids, form), flat, None, NO_PADDING, *members)
        return join_pieces(pieces.view(*codes.shape, form.width), form)
    every = torch.arange(form.centroids, dtype=torch.int32, device=flat.device)
    pieces = look_up(centroids, every, None, flat >> form.signs, NO_PADDING) * signs_of(flat, form).to(centroids)
    return join_pieces(pieces.view(*codes.shape, form.width), form)


def store(codes: Tensor, form: ProductFormat) -> Tensor:
    """Numbers as uint8, or in int16 as their 16 bits: of PyTorch's unsigned integers, few operators take wider ones."""
    return codes.to(torch.uint8) if form.code_bits == 8 else codes.to(torch.uint16).view(torch.int16)


def read(stored: Tensor) -> Tensor:
    """The codes of `store`, int32."""
    return stored.int() & 0xFFFF


def lengths_of(rows: Tensor, stored: Tensor) -> Tensor:
    """What makes rows of product codes as long as the rows (n, dim) that they stand for: uint8 of shape (n, 1).

    See `length_values`. Rows of zeros stay as they are; what is out of range gets what is nearest.
    """
    wide = _wide(rows)
    ratios = rows.to(wide).norm(dim=1, keepdim=True) / stored.to(wide).norm(dim=1, keepdim=True)
    return (ratios.nan_to_num(1.0, 2.0) * LENGTH_PARTS - LEAST_LENGTH).round().clamp(0, 255).to(torch.uint8)


def length_values(lengths: Tensor) -> Tensor:
    """Float32 values of what rows of product codes are multiplied by, uint8 of any shape: from 128/256 to 383/256."""
    return (lengths.float() + LEAST_LENGTH) / LENGTH_PARTS


def codewords(centroids: Tensor, form: ProductFormat) -> Tensor:
    """The pieces of all codes, in order: (form.codewords, form.width)."""
    every = torch.arange(1 << form.signs, dtype=torch.int32, device=centroids.device)
    return (centroids.unsqueeze(1) * signs_of(every, form).to(centroids)).flatten(0, 1)


def signs_of(codes: Tensor, form: ProductFormat) -> Tensor:
    """1 or -1 for every value of the pieces of `codes`, int32 of any shape: int32 of shape (*shape, width)."""
    places = torch.arange(form.width, dtype=torch.int32, device=codes.device).clamp(max=form.code_bits)
    low = codes & ((1 << form.signs) - 1)
    return 1 - 2 * (right_shift(low.unsqueeze(-1), places) & 1)


def join_pieces(pieces: Tensor, form: ProductFormat) -> Tensor:
    """Rows of their pieces: of shape (..., subspaces, width), (..., dim)."""
    if form.wide == form.subspaces:
        return pieces.flatten(-2)
    wide, narrow = pieces[..., : form.wide, :], pieces[..., form.wide :, :-1]
    return torch.cat([wide.flatten(-2), narrow.flatten(-2)], dim=-1)


def balanced_rotation(products: list[Tensor], subspaces: int) -> Tensor:
    """A rotation of rows after which subspaces are alike in variance, and their dimensions uncorrelated.

    Principal directions of all tables together, each of which counts alike, are dealt to the subspaces from the one of
    most variance on, always to the subspace whose product of variances is least. What is rounded away is then least
    for normally distributed rows (Ge et al., "Optimized product quantization", IEEE TPAMI 36, 2014, section 4).

    Parameters
    ----------
    products : list of floating tensors of shape (dim, dim)
        `table.T @ table` of every table.
    subspaces : int

    Returns
    -------
    Float64 tensor of shape (dim, dim) on the CPU, orthogonal: `table @ rotation` is rotated.
    """
    dim = len(products[0])
    spread = torch.zeros((dim, dim), dtype=torch.float64)
    for product in (product.cpu().double() for product in products):
        spread += product / product.trace().clamp(min=torch.finfo(torch.float64).tiny)
    variances, directions = torch.linalg.eigh(spread)
    rooms = piece_widths(dim, subspaces)
    dealt: list[list[int]] = [[] for _ in rooms]
    logs = [0.0] * len(rooms)
    least = max(float(variances[-1]), 1.0) * torch.finfo(torch.float64).eps
    for place in range(dim - 1, -1, -1):
        free = [subspace for subspace, room in enumerate(rooms) if len(dealt[subspace]) < room]
        chosen = min(free, key=lambda subspace: logs[subspace] / rooms[subspace])
        dealt[chosen].append(place)
        logs[chosen] += math.log(max(float(variances[place]), least) / least)
    order = [place for subspace in dealt for place in subspace]
    return directions[:, order]


def _cut(rows: Tensor, form: ProductFormat) -> tuple[Tensor, Tensor]:
    """Pieces of rows that are as wide as a centroid, and those that are narrower: (n, pieces, width) each."""
    end, narrow = form.wide * form.width, form.subspaces - form.wide
    return (
        rows[:, :end].reshape(len(rows), form.wide, form.width),
        rows[:, end:].reshape(len(rows), narrow, form.width - 1),
    )


def _turned(pieces: Tensor, form: ProductFormat) -> Tensor:
    """Pieces without the signs that a code says."""
    return torch.cat([pieces[:, : form.signs].abs(), pieces[:, form.signs :]], dim=1)


def _nearest(pieces: Tensor, centroids: Tensor) -> Tensor:
    """One of the nearest of `centroids` (count, width) to each of `pieces` (n, width): int64 of shape (n,)."""
    if not len(pieces):
        return pieces.new_zeros(0, dtype=torch.int64)
    count, width = centroids.shape
    on_cpu = pieces.device.type == "cpu"
    if on_cpu and width <= _NARROW and count >= _MANY:
        from scipy.spatial import KDTree

        found = KDTree(centroids.detach().numpy()).query(pieces.detach().numpy(), workers=torch.get_num_threads())[1]
        return torch.from_numpy(found)
    lengths, directions = centroids.square().sum(1), -2 * centroids.T
    chunk = max(1, (_DISTANCES if on_cpu else _DISTANCES_ON_GPU) // count)
    return torch.cat([torch.addmm(lengths, part, directions).min(1).indices for part in pieces.split(chunk)])


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
