"""An embedding table whose rows are shared: the module that stands where `torch.nn.Embedding` stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_choice, check_flag, check_integer, shown
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import NO_PADDING, codebook_expand, list_members, look_up
from baco_gpu.ops.quantization import check_storable, pack, quantized_rows, rounded_rows
from baco_gpu.ops.reference import check_indices, decomposed
from baco_gpu.precision import BITS, row_bytes
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import (
    Labels,
    embedding_options,
    foreign_rows,
    freeze_like,
    label_array,
    mean_rows,
    padding_index,
    rows_of_labels,
    secondary_rows,
    trained_table,
)
from baco_gpu.tables.derived import Derived
from baco_gpu.tables.embedding_table import Device, Size, State, StoredPart, check_device, numpy_of
from baco_gpu.tables.facts import Facts
from baco_gpu.tables.former_states import rename_table
from baco_gpu.tables.id_growth import Moves, RowMoves, move_rows
from baco_gpu.tables.ids import ResizableTable


class CodebookEmbedding(ResizableTable, known_by={"assignments": 1}):
    """A table of `num_embeddings` rows, each of which is a row of a smaller codebook, or the mean of two.

    Row `i` of the expanded table is `codebook[assignment_i]`, or `(codebook[assignment_i] + codebook[secondary_i]) / 2`
    where secondary assignments are given. Called like `torch.nn.Embedding`: indices of any shape in,
    (*shape, embedding_dim) out.
    Source of the scheme: BACO, arXiv 2604.18351.

    Parameters
    ----------
    assignments : integers of shape (num_embeddings,)
        The label of every id, in any non-negative label space: the rows of the codebook are the distinct labels, in
        ascending order.
    embedding_dim : int
    secondary : integers of shape (num_embeddings,), optional
        A second label of every id, or -1 for none: the row is then that of its assignment alone. A label must be one
        that `assignments` holds.
    padding_idx : int, optional
        The index whose embedding is zero and gets no gradient; counted from the end where negative.
    labels : integers, optional
        The labels that have a row, where these are more than `assignments` holds: those of a codebook that several
        modules share, say. Sharing is PyTorch's own: `items.codebook = users.codebook`.
    sparse : bool
        Whether the gradient of the codebook is a sparse tensor of the rows touched (for `torch.optim.SparseAdam`).
    bits : int, 16 or from 8 to 2, optional
        Lookups then see the rows as `export_codebook` stores them: integers of so many bits, and a scale a row. The
        codebook stays a float parameter, which is trained through the rounding; see `baco_gpu.ops.quantization`.
    dtype, device : as of `torch.nn.Embedding`

    Attributes
    ----------
    codebook : nn.Parameter of shape (num_rows, embedding_dim)
        Drawn from N(0, 1), as in `torch.nn.Embedding`.
    assignments, secondary : int32 buffers of shape (num_embeddings,)
        Row numbers of the codebook; `secondary` is None where none was given, and the assignment where it was -1.
    labels : int64 buffer of shape (num_rows,)
        The label that each row stands for, ascending. No lookup reads it; `with_new_ids` does.
    fake_quantization : bool
        Whether lookups see rows of few bits as they are stored; training on floats turns it off.

    Raises
    ------
    InputError
        When assignments are not non-negative integers, lengths differ, a secondary label is owned by no id, or a size
        is not positive.
    """

    codebook: nn.Parameter
    assignments: Tensor
    secondary: Tensor | None
    labels: Tensor

    fake_quantization = True

    says: ClassVar[Facts] = {"bits": int}
    _sums_rows = True

    _renamed: ClassVar[Mapping[str, str]] = {
        **ResizableTable._renamed,
        "codes": "assignments",
        "rounding": "fake_quantization",
    }

    @renamed_arguments(codes="assignments")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        padding_idx: int | None = None,
        labels: Labels | None = None,
        sparse: bool = False,
        bits: int | None = None,
        dtype: torch.dtype | None = None,
        device: Device = None,
        _codebook: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.embedding_dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        own = label_array("assignments", assignments, minimum=0)
        if labels is None:
            distinct, rows = np.unique(own, return_inverse=True)
        else:
            distinct = np.unique(label_array("labels", labels, minimum=0))
            rows = rows_of_labels("assignments", own, distinct)
        second = None if secondary is None else secondary_rows(secondary, distinct, rows, columns=self._many)
        self.num_embeddings = len(own)
        self.padding_idx = padding_index(padding_idx, self.num_embeddings)
        self.sparse = check_flag("sparse", sparse)
        self.bits = bits
        check_device(device)
        if bits is not None:
            check_choice("bits", bits, tuple(BITS.values()))
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError(f"dtype must be a floating-point dtype, got {shown(dtype)}")
        # Rows that are there already are taken as they are, as `torch.nn.Embedding` takes `_weight`.
        new = self._new_codebook(len(distinct), dtype, device) if _codebook is None else _codebook
        self.codebook = nn.Parameter(new)
        self._register_assignments(distinct, rows, second, device)
        if _codebook is None:
            self.reset_parameters()

    def _register_assignments(
        self,
        labels: np.ndarray,
        rows: np.ndarray,
        secondary: np.ndarray | None,
        device: Device,
    ) -> None:
        # int32 is what the size is counted at, and index operations take it as it is; a codebook of 2^31 rows is
        # beyond any memory.
        self.register_buffer("assignments", torch.as_tensor(rows, dtype=torch.int32, device=device))
        self.register_buffer(
            "secondary", None if secondary is None else torch.as_tensor(secondary, dtype=torch.int32, device=device)
        )
        self.register_buffer("labels", torch.as_tensor(labels, dtype=torch.int64, device=device))
        self._kept = Derived()

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> Self:
        labels, codebook, second = state["labels"].cpu().numpy(), state["codebook"], state.get("secondary")
        return cls(
            labels[state["assignments"].cpu().numpy()],
            codebook.shape[1],
            None if second is None else labels[second.cpu().numpy()],
            labels=labels,
            _codebook=torch.empty(codebook.shape, dtype=codebook.dtype, device=options.get("device")),
            **{**cls.said_in(state), **options},
        )

    @classmethod
    @renamed_arguments(codes="assignments")
    def from_pretrained(
        cls,
        table: Tensor | nn.Module,
        assignments: Labels,
        secondary: Labels | None = None,
        weights: Tensor | np.ndarray | Sequence[float] | None = None,
        *,
        padding_idx: int | None = None,
        sparse: bool | None = None,
        **options: Any,
    ) -> Self:
        """Compress a trained table: a row of the codebook is the weighted mean of the rows that share it.

        Parameters
        ----------
        table : floating tensor of shape (num_embeddings, embedding_dim), `nn.Embedding`, `nn.EmbeddingBag` or a table
            The codebook takes its dtype and device, and is frozen where its weight is.
        assignments, secondary : as of `CodebookEmbedding`
            Secondary assignments do not enter the means, nor does the padding index.
        padding_idx, sparse : as of `CodebookEmbedding`
            Those of `table`, where it is a module and they are not given.
        weights : non-negative numbers of shape (num_embeddings,), optional
            The weight of every id in the mean of its row, its degree for instance; 1 by default. Where the weights
            of a row sum to zero, its mean is the plain one.
        options
            Further arguments of the class, such as the mode of a bag.

        Raises
        ------
        InputError
            When shapes disagree, the table is no floating matrix or has `max_norm` or `scale_grad_by_freq`, weights are
            negative or not finite, or rows are to be of few bits that those cannot hold.
        """
        source = trained_table(table)
        module = cls(
            assignments,
            source.shape[1],
            secondary,
            dtype=source.dtype,
            device=source.device,
            **embedding_options(table, padding_idx, sparse),
            **options,
        )
        if module.num_embeddings != len(source):
            raise InputError(
                f"assignments must have one entry a row of the table ({len(source)}), got {len(assignments)}"
            )
        rows = mean_rows(source, module.assignments, module.num_rows, weights, module.padding_idx)
        if module.bits is not None:
            check_storable(rows, module.bits)
        module.write_rows(rows)
        freeze_like(module, table)
        return module

    @property
    def num_rows(self) -> int:
        """Rows of the codebook."""
        return self.codebook.shape[0]

    def _expanded(self) -> Tensor:
        if self.sparse or torch.compiler.is_compiling() or decomposed():
            return self._lookup(torch.arange(self.num_embeddings, device=self.assignments.device))
        sources = [tensor for tensor in (self.assignments, self.secondary) if tensor is not None]
        padding, rows = self._padding, self.num_rows
        ids = (self.assignments, self.secondary, padding)
        members = self._kept.of("members", sources, (padding, rows), lambda: list_members(*ids, rows))
        return codebook_expand(self._rows(), *ids, *members)

    @property
    def is_quantized(self) -> bool:
        return self.bits is not None

    @property
    def encoded(self) -> bool:
        """Whether it is known how rows are stored: always, but of product codes."""
        return True

    @property
    def own_rows(self) -> bool:
        """Whether id i has row i and there are no other rows, so that nobody need store it."""
        in_order = torch.arange(self.num_rows, dtype=torch.int32, device=self.assignments.device)
        return torch.equal(self.assignments, in_order)

    @property
    def codebook_bytes(self) -> int:
        """Bytes of the codebook alone, as it is stored."""
        return Size.of(self._stored_rows()).nbytes

    def stored(self) -> list[StoredPart]:
        """The codebook, assignments but for `own_rows`, and secondary ones: one parameter each where they differ."""
        parts = self._stored_rows()
        if not self.own_rows:
            parts.append(StoredPart(self.assignments, 0, self.assignments.nbytes))
        if self.secondary is not None:
            columns = self.secondary.reshape(len(self.assignments), -1).T
            real = sum(int((column != self.assignments).sum()) for column in columns)
            parts.append(StoredPart(self.secondary, real, self.secondary.nbytes))
        return parts

    def _stored_rows(self) -> list[StoredPart]:
        nbytes = self.num_rows * row_bytes(self.embedding_dim, self.bits, self.codebook.element_size())
        return [StoredPart(self.codebook, self.codebook.numel(), nbytes, self.num_rows)]

    @property
    def float_rows(self) -> Tensor:
        return self.codebook

    @property
    def row_parameter(self) -> nn.Parameter | None:
        return self.codebook if len(self.codebook) == self.num_rows else None

    def row_parts(self) -> list[tuple[Tensor, Tensor | float]]:
        if self.secondary is None:
            return [(self.assignments, 1.0)]
        half = torch.where(self.secondary == self.assignments, 1.0, 0.5).unsqueeze(1)
        return [(self.assignments, half), (self.secondary, torch.where(half == 1, 0.0, half))]

    def row_numbers(self) -> Tensor:
        return self.assignments

    def pair_shares(self) -> Tensor:
        """What the two rows of every id weigh, (num_embeddings, 2)."""
        return self.codebook.detach().new_full((self.num_embeddings, 2), 0.5)

    def set_pair_shares(self, shares: Tensor) -> None:
        """Take other weights, where ids have some of their own."""

    def see_stored(self, stored: bool) -> None:
        self.fake_quantization = stored and self.encoded

    def export_arrays(self) -> dict[str, Any]:
        return {
            **self._export_rows(),
            "codes": None if self.own_rows else numpy_of(self.assignments),
            "secondary": None if self.secondary is None else numpy_of(self.secondary),
            "padding_idx": self.padding_idx,
        }

    def _export_rows(self) -> dict[str, Any]:
        if self.bits is None:
            return {"codebook": numpy_of(self.codebook)}
        check_storable(self.codebook, self.bits)
        integers, scales = quantized_rows(self.codebook, self.bits)
        packed = numpy_of(pack(integers, self.bits))
        return {"codebook": packed, "scales": numpy_of(scales), "bits": self.bits, "dim": self.embedding_dim}

    def _new_codebook(self, rows: int, dtype: torch.dtype | None, device: Device) -> Tensor:
        return torch.empty((rows, self.embedding_dim), dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        """Draw the codebook from N(0, 1), as `torch.nn.Embedding` does."""
        nn.init.normal_(self.codebook)

    def forward(self, input: Tensor) -> Tensor:
        """Embeddings of indices (int32 or int64, any shape): a tensor of shape (*input.shape, embedding_dim).

        Raises InputError when `input` is no integer tensor or, on the CPU, holds an index out of range; a GPU would
        have to be waited for, so there the embedding of such an index is NaN (see `codebook_lookup`).
        """
        check_indices(input)
        return self._lookup(input)

    def _lookup(self, indices: Tensor) -> Tensor:
        # Of a large codebook, the rows of a batch alone are rounded; compiled lookups serve batches of any size.
        alone = self.secondary is None and not torch.compiler.is_compiling() and not decomposed()
        if self.bits is not None and self.fake_quantization and alone and indices.numel() < self.num_rows:
            rows = look_up(
                self.codebook, self.assignments, None, indices.reshape(-1), self._padding, sparse=self.sparse
            )
            return rounded_rows(rows, self.bits).view(*indices.shape, self.embedding_dim)
        return look_up(self._rows(), self.assignments, self.secondary, indices, self._padding, sparse=self.sparse)

    def _rows(self) -> Tensor:
        """The codebook as lookups see it."""
        if self.bits is None or not self.fake_quantization:
            return self.codebook
        return rounded_rows(self.codebook, self.bits)

    def _latent(self) -> Tensor:
        seen, self.fake_quantization = self.fake_quantization, False
        try:
            return self._expanded()
        finally:
            self.fake_quantization = seen

    def _try_rows(self, ids: Tensor, values: Tensor) -> None:
        rows = self.assignments[ids]
        if self.secondary is not None:
            single = (self.secondary[ids].view(len(ids), -1) == rows.unsqueeze(1)).all(dim=1)
            rows, values = rows[single], values[single]
        self.set_rows(rows.long(), values)

    @property
    def owns_rows(self) -> bool:
        return self.secondary is None and self.own_rows

    def move_rows(self, sources: np.ndarray) -> Moves:
        count = self.num_rows
        move_rows(self, ("codebook",), sources)
        return {self.codebook: RowMoves(count, sources)}

    def set_rows(self, rows: Tensor, values: Tensor) -> None:
        self.codebook.index_copy_(0, rows, values.to(self.codebook))

    @property
    def _padding(self) -> int:
        return NO_PADDING if self.padding_idx is None else self.padding_idx

    def expand(self) -> nn.Module:
        """An `nn.Embedding` with the expanded table as its own, independent weight."""
        options = {"padding_idx": self.padding_idx, "sparse": self.sparse}
        return nn.Embedding.from_pretrained(self.weight.detach().clone(), freeze=False, **options)

    def extra_repr(self) -> str:
        own = {name: getattr(self, name) for name in ("padding_idx", "sparse", "bits")}
        given = {"secondary": self.secondary is not None, **own}
        parts = [f"{name}={value}" for name, value in given.items() if value is not None and value is not False]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}, num_rows={self.num_rows}", *parts])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        rename_table(state_dict, prefix)
        rest[-1].extend(foreign_rows(state_dict, prefix, self.num_rows))
        super()._load_from_state_dict(state_dict, prefix, *rest)
