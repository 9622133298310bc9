"""The codebook's operators over the kernels of codebook.cu, for a launcher and tensors that it can read.

A gradient needs the places of a batch in the order of the rows that they read: one stable sort of 32-bit keys, twice as
many where ids have two codes. Its order is the only one that anything is added up in, so that equal calls give equal
bits. A row of at most `PIECE` terms is added up one after another, as on the CPU; a longer one in pieces of `PIECE`
terms, and the pieces in up to as many shares as a thread block has teams. `codebook_collapse` has its lists beforehand
and sorts nothing.

Nothing here waits for the device, and all memory is PyTorch's, so that a training step can be captured into a CUDA
graph; `lookup_row_gradients` alone is an exception, since the size of its result is a matter of the data.

Why scores of pairs have no kernel of their own: a fused lookup and inner product would save the rows of a batch being
written and read again. In units of a row, a triple of matrix factorisation reads and writes about 30 as it is (its
lookups 6, products and sums 7, the penalty 9, their gradients 8), and would about 10. At 64 float32 values and a batch
of 8192 that is 63 MB against 21 MB, or 21 against 7 microseconds at 3 TB/s; in the same step Adam moves 7 times the
codebook, 45 MB at 25,000 rows and 7 GB at 4 million. So a third of a step is to be had at best, where the codebook is
so small that launches (which a CUDA graph spares) take longer than bytes, and nothing for LightGCN, whose scores are of
propagated rows. That does not pay for a second pair of kernels and gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from baco_gpu.cuda.launch import Launcher
from baco_gpu.cuda.plan import WARP, shared_grid
from baco_gpu.ops.segments import marked

PIECE = 256

VALUES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
}
_IDS = {torch.int32: "int", torch.int64: "long long"}
_PACK_BYTES = 16


class Teams(NamedTuple):
    """How threads share the work on rows: 16 bytes at a time or not, 2^lane_bits threads a row."""

    packed: bool
    lane_bits: int


def plan_teams(dim: int, *tables: Tensor) -> Teams:
    """As few threads as take a row of `dim` values in one step, at most a warp.

    16 bytes at a time where the rows of all tables begin at multiples of 16 bytes.
    """
    size = tables[0].element_size()
    packed = dim * size % _PACK_BYTES == 0 and all(table.data_ptr() % _PACK_BYTES == 0 for table in tables)
    steps = dim * size // _PACK_BYTES if packed else dim
    return Teams(packed, min(max(steps - 1, 0).bit_length(), WARP.bit_length() - 1))


def lookup(
    launch: Launcher,
    codebook: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    indices: Tensor | None,
    padding_idx: int,
) -> Tensor:
    """See `codebook_lookup`; `indices` of None stands for all ids in order."""
    shape = (len(codes),) if indices is None else tuple(indices.shape)
    dim = codebook.shape[1]
    out = codebook.new_empty((*shape, dim))
    if not out.numel():
        return out
    table = codebook.contiguous()
    arguments, template = _lookup_arguments(codes, secondary, indices, padding_idx, len(codebook))
    teams = plan_teams(dim, table, out)
    grid = shared_grid(out.numel() // dim, launch.limits.threads >> teams.lane_bits, launch.processors)
    launch("codebook_rows", (VALUES[table.dtype], *template), grid, [*arguments, table, dim, *teams, out])
    return out


def expand(
    launch: Launcher,
    codebook: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    padding_idx: int,
    offsets: Tensor,
    ids: Tensor,
) -> Tensor:
    """See `codebook_expand`."""
    return lookup(launch, codebook, codes, secondary, None, padding_idx)


def lookup_gradient(
    launch: Launcher,
    grad: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    indices: Tensor,
    padding_idx: int,
    rows: int,
) -> Tensor:
    """See `codebook_lookup_gradient`."""
    if not grad.numel():
        return grad.new_zeros((rows, grad.shape[-1]))
    keys, order = _sorted_places(launch, codes, secondary, indices, padding_idx, rows)
    # What reads no row has the key -1 and stands before the first offset.
    offsets = torch.searchsorted(keys, torch.arange(rows + 1, dtype=keys.dtype, device=keys.device))
    return _row_sums(launch, _matrix(grad), order, offsets, secondary is not None)


def lookup_row_gradients(
    launch: Launcher,
    grad: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    indices: Tensor,
    padding_idx: int,
    rows: int,
) -> tuple[Tensor, Tensor]:
    """See `codebook_lookup_row_gradients`; waits for the device, which knows how many rows are touched."""
    if not grad.numel():
        return codes.new_empty(0, dtype=torch.int64), grad.new_empty((0, grad.shape[-1]))
    keys, order = _sorted_places(launch, codes, secondary, indices, padding_idx, rows)
    without_row = int((keys < 0).sum())
    touched, counts = torch.unique_consecutive(keys[without_row:], return_counts=True)
    offsets = torch.zeros(len(touched) + 1, dtype=torch.int64, device=keys.device)
    offsets[1:] = counts.cumsum(0)
    return touched.long(), _row_sums(launch, _matrix(grad), order[without_row:], offsets, secondary is not None)


def collapse(
    launch: Launcher,
    grad: Tensor,
    codes: Tensor,
    secondary: Tensor | None,
    padding_idx: int,
    offsets: Tensor,
    ids: Tensor,
) -> Tensor:
    """See `codebook_collapse`."""
    return _row_sums(launch, _matrix(grad), ids.contiguous(), offsets.contiguous(), secondary is not None)


def _matrix(grad: Tensor) -> Tensor:
    """The gradient as a contiguous matrix; that of a sum, for one, comes as a view of a single number."""
    return grad.reshape(-1, grad.shape[-1]).contiguous()


def _lookup_arguments(
    codes: Tensor, secondary: Tensor | None, indices: Tensor | None, padding_idx: int, rows: int
) -> tuple[list[Tensor | int | None], tuple[str, str, str]]:
    """What codebook_rows and codebook_keys have in common: the first arguments, and the template's."""
    flat = None if indices is None else indices.reshape(-1).contiguous()
    second = None if secondary is None else secondary.contiguous()
    count = len(codes) if flat is None else len(flat)
    template = (
        _IDS[codes.dtype],
        "int" if flat is None else _IDS[flat.dtype],
        "false" if second is None else "true",
    )
    return [codes.contiguous(), second, len(codes), rows, flat, count, padding_idx], template


def _sorted_places(
    launch: Launcher, codes: Tensor, secondary: Tensor | None, indices: Tensor, padding_idx: int, rows: int
) -> tuple[Tensor, Tensor]:
    """The rows that a lookup reads, ascending, and the places that read them; second codes count on after the first."""
    arguments, template = _lookup_arguments(codes, secondary, indices, padding_idx, rows)
    count = indices.numel()
    keys = codes.new_empty(count if secondary is None else 2 * count)
    grid = shared_grid(count, launch.limits.threads, launch.processors)
    launch("codebook_keys", template, grid, [*arguments, keys])
    found = torch.sort(keys, stable=True)
    return found.values, found.indices


def gathered_sums(
    launch: Launcher,
    table: Tensor,
    offsets: Tensor,
    columns: Tensor,
    weights: Tensor | None,
    ends: Tensor | None = None,
) -> Tensor:
    """See `sparse_product.gathered_sums`; `ends` as of `_row_sums`."""
    own = None if weights is None else weights.contiguous()
    return _row_sums(launch, table.contiguous(), columns.contiguous(), offsets.contiguous(), False, own, ends)


def gathered_sums_at(
    launch: Launcher, table: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None, rows: Tensor
) -> Tensor:
    """See `sparse_product.gathered_sums_at`; the range of a row that is not asked for is empty."""
    ends = torch.where(marked(rows, len(offsets) - 1), offsets[1:], offsets[:-1])
    return gathered_sums(launch, table, offsets, columns, weights, ends).index_select(0, rows)


def _row_sums(
    launch: Launcher,
    terms: Tensor,
    order: Tensor,
    offsets: Tensor,
    two: bool,
    weights: Tensor | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """For every row, the sum of `weights[j] * terms[order[j] % len(terms)]` for j in its range; half where `two`.

    A range ends where the next one begins, or at `ends`, of the dtype of the offsets.
    """
    rows, dim, entries = len(offsets) - 1, terms.shape[1], len(order)
    ends = offsets[1:] if ends is None else ends
    totals = terms.new_empty((rows, dim))
    if not totals.numel():
        return totals
    teams = plan_teams(dim, terms, totals)
    per_block = launch.limits.threads >> teams.lane_bits
    template = (VALUES[terms.dtype], _IDS[order.dtype])
    weighted = (*template, "false" if weights is None else "true")
    most_rows = entries // (PIECE + 1)
    most_pieces = entries // PIECE + most_rows
    counters, *lists = torch.empty(2 + 2 * (most_rows + most_pieces), dtype=torch.int64, device=terms.device).split(
        [2, most_rows, most_rows, most_pieces, most_pieces]
    )
    counters.zero_()
    long_rows, pieces = [counters, *lists[:2]], lists[2:]
    source = [terms, len(terms), dim, order, weights, offsets, ends]
    factor = 0.5 if two else 1.0
    grid = shared_grid(rows, per_block, launch.processors)
    launch("row_sums", weighted, grid, [*source, rows, factor, *teams, PIECE, *long_rows, *pieces, totals])
    if most_rows:
        wide = torch.float64 if terms.dtype == torch.float64 else torch.float32
        sums = terms.new_empty((most_pieces, dim), dtype=wide)
        grid = shared_grid(most_pieces, per_block, launch.processors)
        launch("piece_sums", weighted, grid, [*source, *teams, PIECE, counters, *pieces, sums])
        lanes = min(max(dim - 1, 0).bit_length(), WARP.bit_length() - 1)
        grid = shared_grid(most_rows, 1, launch.processors)
        launch("finish_sums", template, grid, [sums, dim, offsets, ends, factor, lanes, PIECE, *long_rows, totals])
    return totals
