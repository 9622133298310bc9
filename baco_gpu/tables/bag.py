"""Bags of ids over shared rows: the module that stands where `torch.nn.EmbeddingBag` stood."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.checks import check_choice, check_flag
from baco_gpu.errors import InputError
from baco_gpu.ops.reference import check_indices, decomposed, kind_of
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import Labels
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable, name_of

MODES = ("sum", "mean", "max")


class CodebookEmbeddingBag(CodebookEmbedding):
    """Sums, means or maxima of the embeddings of bags of ids, called like `torch.nn.EmbeddingBag`.

    Parameters
    ----------
    assignments, embedding_dim, secondary : as of `CodebookEmbedding`
    mode : {"mean", "sum", "max"}
    include_last_offset : bool
        Whether the last offset is the number of indices, as in compressed sparse rows.
    options
        Further arguments of `CodebookEmbedding`. Ids equal to `padding_idx` are left out of their bag, and of its mean.

    Raises
    ------
    InputError
        As of `CodebookEmbedding`, and for an unknown mode.
    """

    @renamed_arguments(codes="assignments")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        **options: Any,
    ) -> None:
        check_choice("mode", mode, MODES)
        super().__init__(assignments, embedding_dim, secondary, **options)
        self.mode, self.include_last_offset = mode, check_flag("include_last_offset", include_last_offset)

    @classmethod
    def from_pretrained(cls, table: Tensor | nn.Module, *arguments: Any, **options: Any) -> Self:
        """As of `CodebookEmbedding`; `mode` and `include_last_offset`, too, are those of a bag where not given."""
        kept = bag_options(table) if isinstance(table, nn.EmbeddingBag | CodebookEmbeddingBag) else {}
        return super().from_pretrained(table, *arguments, **kept | options)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """One row a bag, of shape (bags, embedding_dim); zeros for an empty bag.

        Parameters
        ----------
        input : int32 or int64 tensor
            Indices, of shape (bags, length), or of shape (n,) with `offsets`.
        offsets : int32 or int64 tensor of shape (bags,), ascending from 0
            Where every bag begins; one more, the end, with `include_last_offset`.
        per_sample_weights : floating tensor of the shape of `input`
            Factors of the embeddings, with mode "sum" alone.

        Raises
        ------
        InputError
            When `input` is no integer tensor, has neither two dimensions nor one and offsets, or weights come with
            another mode or shape; on the CPU, when an index is out of range, or offsets do not ascend from 0.
        """
        _check_bags(input, offsets, per_sample_weights, self.mode, self.include_last_offset)
        rows = super().forward(input).reshape(-1, self.embedding_dim)
        options = (self.mode, self.include_last_offset, self.padding_idx)
        return _pooled(rows, input, offsets, per_sample_weights, *options)

    def expand(self) -> nn.EmbeddingBag:
        """An `nn.EmbeddingBag` with the expanded table as its own, independent weight."""
        return nn.EmbeddingBag.from_pretrained(
            self.weight.detach().clone(),
            freeze=False,
            mode=self.mode,
            sparse=self.sparse,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        last = ", include_last_offset=True" if self.include_last_offset else ""
        return f"{super().extra_repr()}, mode={self.mode!r}{last}"


def bag_options(bag: nn.EmbeddingBag | CodebookEmbeddingBag | TableBag) -> dict[str, Any]:
    """The arguments that make a `CodebookEmbeddingBag` behave as `bag` does."""
    return {"mode": bag.mode, "include_last_offset": bag.include_last_offset}


class TableBag(nn.Module):
    """Bags of ids over any table, called like `torch.nn.EmbeddingBag`.

    Parameters
    ----------
    table : EmbeddingTable
        Whose padding index is left out of bags.
    mode, include_last_offset : as of `CodebookEmbeddingBag`
    """

    def __init__(self, table: EmbeddingTable, *, mode: str = "mean", include_last_offset: bool = False) -> None:
        check_choice("mode", mode, MODES)
        if not isinstance(table, EmbeddingTable):
            raise InputError(f"table must be an EmbeddingTable, got {name_of(table)}")
        super().__init__()
        self.table, self.mode = table, mode
        self.include_last_offset = check_flag("include_last_offset", include_last_offset)
        self.max_norm, self.norm_type, self.scale_grad_by_freq = None, 2.0, False

    @property
    def num_embeddings(self) -> int:
        return self.table.num_embeddings

    @property
    def embedding_dim(self) -> int:
        return self.table.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        return self.table.padding_idx

    @property
    def sparse(self) -> bool:
        return bool(getattr(self.table, "sparse", False))

    @property
    def weight(self) -> Tensor:
        """As of the table."""
        return self.table.weight

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """One row a bag, of shape (bags, embedding_dim); see `CodebookEmbeddingBag.forward`."""
        _check_bags(input, offsets, per_sample_weights, self.mode, self.include_last_offset)
        rows = self.table(input).reshape(-1, self.embedding_dim)
        options = (self.mode, self.include_last_offset, self.padding_idx)
        return _pooled(rows, input, offsets, per_sample_weights, *options)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}" + (", include_last_offset=True" if self.include_last_offset else "")


def _check_bags(
    input: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None, mode: str, include_last_offset: bool
) -> None:
    check_indices(input)
    if input.ndim != (2 if offsets is None else 1):
        raise InputError(
            "indices must have two dimensions, or one and offsets, "
            f"got shape {tuple(input.shape)} and {'no offsets' if offsets is None else 'offsets'}"
        )
    if offsets is not None:
        _check_offsets(offsets, input, include_last_offset)
    if per_sample_weights is None:
        return
    if mode != "sum":
        raise InputError(f"per_sample_weights need mode 'sum', got mode {mode!r}")
    if not isinstance(per_sample_weights, Tensor) or not per_sample_weights.is_floating_point():
        raise InputError(f"per_sample_weights must be a floating tensor, got {kind_of(per_sample_weights)}")
    if per_sample_weights.shape != input.shape:
        raise InputError(
            f"per_sample_weights must have the shape of the indices, {tuple(input.shape)}, "
            f"got {tuple(per_sample_weights.shape)}"
        )


def _check_offsets(offsets: Tensor, input: Tensor, include_last_offset: bool) -> None:
    """Raise InputError where offsets do not divide the indices; what they are is asked where `check_range` asks."""
    if not isinstance(offsets, Tensor) or offsets.dtype not in (torch.int32, torch.int64):
        raise InputError(f"offsets must be an int32 or int64 tensor, got {kind_of(offsets)}")
    if offsets.ndim != 1:
        raise InputError(f"offsets must have one dimension, got shape {tuple(offsets.shape)}")
    if not offsets.is_cpu or torch.compiler.is_compiling() or torch.jit.is_tracing() or decomposed():
        return
    count = len(input)
    if not len(offsets):
        if count or include_last_offset:
            raise InputError(f"offsets must begin with 0, got none and {count} indices")
        return
    first, last = int(offsets[0]), int(offsets[-1])
    if first:
        raise InputError(f"offsets must begin with 0, got {first}")
    falls = (offsets[1:] < offsets[:-1]).nonzero()
    if len(falls):
        place = int(falls[0]) + 1
        raise InputError(f"offsets must ascend, got {int(offsets[place])} after {int(offsets[place - 1])}")
    if last > count or (include_last_offset and last < count):  # which PyTorch's means would take for further ids
        raise InputError(f"offsets must be up to the {count} indices, got {last}")


def _pooled(
    rows: Tensor,
    input: Tensor,
    offsets: Tensor | None,
    per_sample_weights: Tensor | None,
    mode: str,
    include_last_offset: bool,
    padding_idx: int | None,
) -> Tensor:
    """Rows of (number of indices, dim), of which padding's are zero, added up by bags."""
    dtype = torch.int64 if offsets is None else offsets.dtype
    # Every row stands for one place, so a gradient is written once and nothing is added up in passing.
    places = torch.arange(rows.shape[0], dtype=dtype, device=rows.device).reshape(input.shape)

    def reduced(rows: Tensor, mode: str) -> Tensor:
        return functional.embedding_bag(
            places,
            rows,
            offsets,
            mode=mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=include_last_offset,
        )

    if padding_idx is None or mode == "sum":  # padding has an embedding of zeros
        return reduced(rows, mode)
    # The operator's own padding_idx would fix the number of indices when a module is exported.
    real = input.reshape(-1, 1) != padding_idx
    count = reduced(real.float(), "sum")
    if mode == "mean":
        return reduced(rows, "sum") / count.clamp(min=1).to(rows.dtype)
    return reduced(rows.masked_fill(~real, -torch.inf), "max").masked_fill(count == 0, 0)
