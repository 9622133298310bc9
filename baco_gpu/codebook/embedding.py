"""An embedding table whose rows are shared: the module that stands where `torch.nn.Embedding` stood."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.codebook.labels import (
    Labels,
    label_array,
    mean_weights,
    moved_ids,
    padding_index,
    rows_of_labels,
    secondary_rows,
)
from baco_gpu.codebook.lookup import (
    NO_PADDING,
    Members,
    codebook_expand,
    codebook_lookup,
    list_members,
    sparse_codebook_lookup,
)
from baco_gpu.codebook.plain import check_indices
from baco_gpu.codebook.quantize import rounded_rows
from baco_gpu.errors import InputError
from baco_gpu.precision import BITS, row_bytes

Device = torch.device | str | int | None
_Made = TypeVar("_Made")


class CodebookEmbedding(nn.Module):
    """A table of `num_embeddings` rows, each of which is a row of a smaller codebook, or the mean of two.

    Row `i` of the expanded table is `codebook[code_i]`, or `(codebook[code_i] + codebook[secondary_i]) / 2` where
    secondary codes are given. Called like `torch.nn.Embedding`: indices of any shape in, (*shape, embedding_dim) out.
    Source of the scheme: BACO, arXiv 2604.18351.

    Parameters
    ----------
    codes : integers of shape (num_embeddings,)
        The label of every id, in any non-negative label space: the rows of the codebook are the distinct labels, in
        ascending order.
    embedding_dim : int
    secondary : integers of shape (num_embeddings,), optional
        A second label of every id, or -1 for none: the row is then that of its code alone. A label must be one that
        `codes` holds.
    padding_idx : int, optional
        The index whose embedding is zero and gets no gradient; counted from the end where negative.
    labels : integers, optional
        The labels that have a row, where these are more than `codes` holds: those of a codebook that several modules
        share, say. Sharing is PyTorch's own: `items.codebook = users.codebook`.
    sparse : bool
        Whether the gradient of the codebook is a sparse tensor of the rows touched (for `torch.optim.SparseAdam`).
    bits : int, 16 or from 8 to 2, optional
        Lookups then see the rows as `export_codebook` stores them: integers of so many bits, and a scale a row. The
        codebook stays a float parameter, which is trained through the rounding; see `baco_gpu.codebook.quantize`.
    dtype, device : as of `torch.nn.Embedding`

    Attributes
    ----------
    codebook : nn.Parameter of shape (num_rows, embedding_dim)
        Drawn from N(0, 1), as in `torch.nn.Embedding`.
    codes, secondary : int32 buffers of shape (num_embeddings,)
        Row numbers of the codebook; `secondary` is None where none was given, and the code where it was -1.
    labels : int64 buffer of shape (num_rows,)
        The label that each row stands for, ascending. No lookup reads it; `with_new_ids` does.
    rounding : bool
        Whether lookups see rows of few bits as they are stored; training on floats turns it off.

    Raises
    ------
    InputError
        When codes are not non-negative integers, lengths differ, a secondary label is owned by no id, or a size is
        not positive.
    """

    codebook: nn.Parameter
    codes: Tensor
    secondary: Tensor | None
    labels: Tensor

    rounding = True

    _many = False  # whether an id may have several secondary codes

    # What a module is besides its codebook and its codes.
    _settings: tuple[str, ...] = ("embedding_dim", "padding_idx", "sparse", "bits")

    def __init__(
        self,
        codes: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        padding_idx: int | None = None,
        labels: Labels | None = None,
        sparse: bool = False,
        bits: int | None = None,
        dtype: torch.dtype | None = None,
        device: Device = None,
    ) -> None:
        super().__init__()
        self.embedding_dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        own = label_array("codes", codes, minimum=0)
        if labels is None:
            distinct, rows = np.unique(own, return_inverse=True)
        else:
            distinct = np.unique(label_array("labels", labels, minimum=0))
            rows = rows_of_labels("codes", own, distinct)
        second = None if secondary is None else secondary_rows(secondary, distinct, rows, columns=self._many)
        self.num_embeddings = len(own)
        self.padding_idx = padding_index(padding_idx, self.num_embeddings)
        self.sparse = bool(sparse)
        self.bits = bits
        if bits is not None:
            check_choice("bits", bits, tuple(BITS.values()))
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"dtype must be a floating-point dtype, got {dtype}")
        self.codebook = nn.Parameter(self._new_codebook(len(distinct), dtype, device))
        self._register_codes(distinct, rows, second, device)
        self.reset_parameters()

    def _register_codes(
        self,
        labels: np.ndarray,
        rows: np.ndarray,
        secondary: np.ndarray | None,
        device: Device,
    ) -> None:
        # int32 is what the size is counted at, and index operations take it as it is; a codebook of 2^31 rows is
        # beyond any memory.
        self.register_buffer("codes", torch.as_tensor(rows, dtype=torch.int32, device=device))
        self.register_buffer(
            "secondary", None if secondary is None else torch.as_tensor(secondary, dtype=torch.int32, device=device)
        )
        self.register_buffer("labels", torch.as_tensor(labels, dtype=torch.int64, device=device))
        self._kept: dict[str, tuple[Any, list[Tensor], list[int]]] = {}

    @classmethod
    def from_pretrained(
        cls,
        table: Tensor | nn.Embedding | nn.EmbeddingBag,
        codes: Labels,
        secondary: Labels | None = None,
        weights: Tensor | np.ndarray | Sequence[float] | None = None,
        *,
        padding_idx: int | None = None,
        sparse: bool = False,
        **options: Any,
    ) -> Self:
        """Compress a trained table: a row of the codebook is the weighted mean of the rows that share it.

        Parameters
        ----------
        table : floating tensor of shape (num_embeddings, embedding_dim), `nn.Embedding` or `nn.EmbeddingBag`
            The codebook takes its dtype and device.
        codes, secondary, padding_idx, sparse : as of `CodebookEmbedding`
            Secondary codes do not enter the means.
        weights : non-negative numbers of shape (num_embeddings,), optional
            The weight of every id in the mean of its row, its degree for instance; 1 by default. Where the weights
            of a row sum to zero, its mean is the plain one.
        options
            Further arguments of the class, such as the mode of a bag.

        Raises
        ------
        InputError
            When shapes disagree, the table is no floating matrix, or weights are negative or not finite.
        """
        source = (table.weight if isinstance(table, nn.Embedding | nn.EmbeddingBag) else table).detach()
        if source.ndim != 2 or not source.is_floating_point():
            raise InputError(f"table must be a floating matrix, got {source.dtype} of shape {tuple(source.shape)}")
        module = cls(
            codes,
            source.shape[1],
            secondary,
            padding_idx=padding_idx,
            sparse=sparse,
            dtype=source.dtype,
            device=source.device,
            **options,
        )
        if module.num_embeddings != len(source):
            raise InputError(f"codes must have one entry a row of the table ({len(source)}), got {len(codes)}")
        share = mean_weights(weights, module.codes, module.num_rows)
        total = source.new_zeros((module.num_rows, source.shape[1]), dtype=torch.float64)
        total.index_add_(0, module.codes, source.double() * share.unsqueeze(1))
        with torch.no_grad():
            module.codebook.copy_(total)
        return module

    @property
    def num_rows(self) -> int:
        """Rows of the codebook."""
        return self.codebook.shape[0]

    @property
    def weight(self) -> Tensor:
        """The expanded table of shape (num_embeddings, embedding_dim), through which gradients reach the codebook."""
        if self.sparse or torch.compiler.is_compiling():
            return self._lookup(torch.arange(self.num_embeddings, device=self.codes.device))
        return codebook_expand(self._rows(), self.codes, self.secondary, self._padding, *self._listed_members())

    @property
    def rounds(self) -> bool:
        """Whether what is stored of rows is not what is trained."""
        return self.bits is not None

    @property
    def encoded(self) -> bool:
        """Whether it is known how rows are stored: always, but of product codes."""
        return True

    @property
    def own_rows(self) -> bool:
        """Whether id i has row i, so that nobody need store its code."""
        return torch.equal(self.codes, torch.arange(self.num_embeddings, dtype=torch.int32, device=self.codes.device))

    @property
    def codebook_parameters(self) -> int:
        """Entries of the codebook."""
        return self.codebook.numel()

    @property
    def codebook_bytes(self) -> int:
        """Bytes of the codebook as it is stored."""
        return self.num_rows * row_bytes(self.embedding_dim, self.bits, self.codebook.element_size())

    @property
    def parameter_count(self) -> int:
        """Parameters as the BACO paper counts them: the codebook's entries, and one for each real secondary code."""
        extra = 0
        if self.secondary is not None:
            extra = sum(int((column != self.codes).sum()) for column in self.secondary.reshape(len(self.codes), -1).T)
        return self.codebook_parameters + extra

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored: the codebook, and 4 for each code and each secondary code; codes of `own_rows` are
        not."""
        arrays = (None if self.own_rows else self.codes, self.secondary)
        return self.codebook_bytes + sum(array.nbytes for array in arrays if array is not None)

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
        lookup = sparse_codebook_lookup if self.sparse else codebook_lookup
        # Of a large codebook, the rows of a batch alone are rounded; compiled lookups serve batches of any size.
        alone = self.secondary is None and not torch.compiler.is_compiling()
        if self.bits is not None and self.rounding and alone and indices.numel() < self.num_rows:
            rows = lookup(self.codebook, self.codes, None, indices.reshape(-1), self._padding)
            return rounded_rows(rows, self.bits).view(*indices.shape, self.embedding_dim)
        return lookup(self._rows(), self.codes, self.secondary, indices, self._padding)

    def _rows(self) -> Tensor:
        """The codebook as lookups see it."""
        return rounded_rows(self.codebook, self.bits) if self.bits is not None and self.rounding else self.codebook

    @property
    def _padding(self) -> int:
        return NO_PADDING if self.padding_idx is None else self.padding_idx

    def _listed_members(self) -> Members:
        """The members of every row."""
        sources = [tensor for tensor in (self.codes, self.secondary) if tensor is not None]
        return self._derived(
            "members", sources, lambda: list_members(self.codes, self.secondary, self._padding, self.num_rows)
        )

    def _derived(self, name: str, sources: list[Tensor], make: Callable[[], _Made]) -> _Made:
        """What is made of these tensors, made anew when they are others or were written to."""
        versions = [tensor._version for tensor in sources]
        if name in self._kept:
            made, known, then = self._kept[name]
            if len(known) == len(sources) and all(map(operator.is_, known, sources)) and then == versions:
                return made
        made = make()
        self._kept[name] = (made, sources, versions)
        return made

    def expand(self) -> nn.Module:
        """An `nn.Embedding` with the expanded table as its own, independent weight."""
        table = self.weight.detach().clone()
        return nn.Embedding.from_pretrained(table, freeze=False, padding_idx=self.padding_idx, sparse=self.sparse)

    def resize(self, codes: Labels, secondary: Labels | None = None, *, places: Labels | None = None) -> None:
        """Give every id its label anew, in place: old ids may have moved, and there may be more of them.

        The codebook stays the parameter that it is, and its optimiser keeps its state. `secondary` of None means none.

        Parameters
        ----------
        codes, secondary : integers of shape (number of ids, old and new,), in the label space of `labels`
        places : integers of shape (num_embeddings,), optional
            The number that every old id has now, such as `result.users.places_in(grown.users)`: what belongs to an id,
            as `padding_idx` does, goes with it. Old ids keep their numbers where it is not given.

        Raises
        ------
        InputError
            When a label is not one of the codebook, places are not distinct numbers of ids, or there are too few ids
            for `padding_idx`.
        """
        labels = self.labels.cpu().numpy()
        rows = rows_of_labels("codes", label_array("codes", codes, minimum=0), labels)
        second = None if secondary is None else secondary_rows(secondary, labels, rows, columns=self._many)
        now = None if places is None else moved_ids(places, self.num_embeddings, len(rows))
        if self.padding_idx is not None:
            self.padding_idx = padding_index(self.padding_idx if now is None else int(now[self.padding_idx]), len(rows))
        self.num_embeddings = len(rows)
        self._register_codes(labels, rows, second, self.codebook.device)

    def with_new_ids(self, codes: Labels, secondary: Labels | None = None) -> Self:
        """A module with further ids appended, whose labels the codebook already holds; nothing is retrained.

        The new ids are `num_embeddings`, `num_embeddings + 1`, ... The codebook parameter is shared with this module:
        what is trained in one is seen by both.

        Parameters
        ----------
        codes, secondary : integers of shape (number of new ids,), in the label space of `labels`
            A `secondary` of -1 means none.

        Raises
        ------
        InputError
            When a label is not one of the codebook.
        """
        labels = self.labels.cpu().numpy()
        rows = rows_of_labels("codes", label_array("codes", codes, minimum=0), labels)
        second = rows if secondary is None else secondary_rows(secondary, labels, rows, columns=self._many)
        old = self.codes.cpu().numpy()
        merged = None
        if self.secondary is not None or secondary is not None:
            merged = np.concatenate([old if self.secondary is None else self.secondary.cpu().numpy(), second])
        other = type(self).__new__(type(self))
        nn.Module.__init__(other)
        for name in self._settings:
            setattr(other, name, getattr(self, name))
        other.num_embeddings = self.num_embeddings + len(rows)
        other.codebook = self.codebook
        other._register_codes(labels, np.concatenate([old, rows]), merged, self.codebook.device)
        return other.train(self.training)

    def extra_repr(self) -> str:
        parts = [f"{self.num_embeddings}, {self.embedding_dim}, num_rows={self.num_rows}"]
        if self.secondary is not None:
            parts.append("secondary=True")
        if self.padding_idx is not None:
            parts.append(f"padding_idx={self.padding_idx}")
        if self.sparse:
            parts.append("sparse=True")
        if self.bits is not None:
            parts.append(f"bits={self.bits}")
        return ", ".join(parts)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # Codes from a file index the codebook unchecked ever after, so they are checked once, here.
        for name in ("codes", "secondary"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.numel():
                low, high = (int(bound) for bound in torch.aminmax(stored))
                if low < 0 or high >= self.num_rows:
                    error_msgs.append(f"{prefix}{name} must hold rows from 0 to {self.num_rows - 1}, got {low}..{high}")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
