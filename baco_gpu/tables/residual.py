"""A codebook whose well-known ids have something of their own: a shared row, plus a residual of low rank."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import GONE, Labels, carried, label_array, trained_table
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.derived import normal_tensors
from baco_gpu.tables.embedding_table import State, StoredPart, numpy_of
from baco_gpu.tables.id_growth import Growth, Moves, RowMoves, move_rows
from baco_gpu.tables.mixed import MixedCodebookEmbedding


class ResidualCodebookEmbedding(CodebookEmbedding, known_by={"residual": 2}):
    """A `CodebookEmbedding` in which some ids add a residual of low rank to their shared row.

    Row `i` of the expanded table is `shared_i + residual_i @ basis`, where `shared_i` is what `CodebookEmbedding` makes
    of the assignments. Members of a co-cluster can then differ, at `residual_dim` numbers an id in place of
    `embedding_dim`. As in LoRA (Hu et al., arXiv 2106.09685), residuals start at zero: training begins from the
    co-clusters.

    Parameters
    ----------
    assignments, embedding_dim, secondary, padding_idx : as of `CodebookEmbedding`
    residual_dim : int
        The rank of the residuals, from 1 to `embedding_dim`.
    residual_ids : integers of shape (number of ids with a residual,), optional
        The ids that have one, each once; all by default. The padding index has none in either case.
    options
        Further arguments of `CodebookEmbedding`. Residuals are not quantized.

    Attributes
    ----------
    residual : nn.Parameter of shape (ids with a residual + 1, residual_dim)
        The last row stays zero: it is that of every other id.
    basis : nn.Parameter of shape (residual_dim, embedding_dim)
    residual_rows : int32 buffer of shape (num_embeddings,), the row of `residual` of every id
    codebook, assignments, labels : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when `residual_dim` or an id is out of range, or an id is there twice.
    """

    residual: nn.Parameter
    basis: nn.Parameter
    residual_rows: Tensor

    @renamed_arguments(codes="assignments")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        residual_dim: int,
        residual_ids: Labels | None = None,
        padding_idx: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(assignments, embedding_dim, secondary, padding_idx=padding_idx, **options)
        rank = check_integer("residual_dim", residual_dim, minimum=1, maximum=self.embedding_dim)
        ids = _own_ids(residual_ids, self.num_embeddings, self.padding_idx)
        rows = np.full(self.num_embeddings, len(ids), np.int32)
        rows[ids] = np.arange(len(ids), dtype=np.int32)
        self.register_buffer("residual_rows", torch.as_tensor(rows, device=self.assignments.device))
        self.residual = nn.Parameter(self.codebook.new_zeros((len(ids) + 1, rank)))
        self.basis = nn.Parameter(self.codebook.new_empty((rank, self.embedding_dim)))
        self.reset_residual()

    @classmethod
    @renamed_arguments(codes="assignments")
    def from_pretrained(  # type: ignore[override]
        cls,
        table: Tensor | nn.Module,
        assignments: Labels,
        secondary: Labels | None = None,
        weights: Tensor | np.ndarray | None = None,
        *,
        residual_dim: int,
        residual_ids: Labels | None = None,
        padding_idx: int | None = None,
        sparse: bool | None = None,
        **options: Any,
    ) -> ResidualCodebookEmbedding:
        """Compress a trained table: its codebook is that of `CodebookEmbedding.from_pretrained`, and the residuals are
        the best approximation of that rank to what the codebook leaves of their rows (Eckart and Young, 1936).

        Parameters
        ----------
        table, assignments, secondary, weights, padding_idx, sparse : as of `CodebookEmbedding.from_pretrained`
        residual_dim, residual_ids, options : as of `ResidualCodebookEmbedding`

        Raises
        ------
        InputError
            As either of the two does.
        """
        sizes = {"residual_dim": residual_dim, "residual_ids": residual_ids}
        module = super().from_pretrained(
            table, assignments, secondary, weights, padding_idx=padding_idx, sparse=sparse, **sizes, **options
        )
        module.fit_own(trained_table(table))
        return module

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> Self:
        rows, last = state["residual_rows"].cpu(), len(state["residual"]) - 1
        ids = (rows < last).nonzero().squeeze(1)
        told = {"residual_dim": len(state["basis"]), "residual_ids": ids[rows[ids].argsort()].numpy()}
        return super().from_state(state, dim, **{**told, **options})

    @torch.no_grad()
    def fit_own(self, source: Tensor) -> None:
        self.residual.zero_()
        own = self._own_ids()
        left = (source[own] - self.weight[own]).double()
        # The eigenvectors of the small Gram matrix are the right singular vectors; eigenvalues ascend.
        directions = torch.linalg.eigh(left.T @ left).eigenvectors.flip(1)[:, : self.residual_dim]
        self.basis.copy_(directions.T)
        self.residual[:-1] = (left @ directions).to(source.dtype)

    @property
    def residual_dim(self) -> int:
        """The rank of the residuals."""
        return self.basis.shape[0]

    def _expanded(self) -> Tensor:
        return super()._expanded() + self._residuals(self.residual_rows)

    def stored(self) -> list[StoredPart]:
        """As of `CodebookEmbedding`; and the residuals, their basis, and the index of them: one parameter for each id
        that has a residual where not all do, as for a secondary assignment."""
        owners = len(self.residual) - 1
        return [
            *super().stored(),
            StoredPart(self.residual, owners * self.residual_dim, self.residual.nbytes),
            StoredPart(self.basis, self.basis.numel(), self.basis.nbytes),
            StoredPart(self.residual_rows, owners if owners < self.num_embeddings else 0, self.residual_rows.nbytes),
        ]

    def initialize(self, std: float, generator: torch.Generator | None = None) -> None:
        """As of `CodebookEmbedding`; residuals start at zero, beside a basis that is drawn anew."""
        super().initialize(std, generator)
        self.reset_residual(generator)

    def export_arrays(self) -> dict[str, Any]:
        parts = {"residual": self.residual, "basis": self.basis}
        # In the dtype that packed rows are looked up in.
        values = {name: numpy_of(part if self.bits is None else part.float()) for name, part in parts.items()}
        return {**super().export_arrays(), **values, "residual_rows": numpy_of(self.residual_rows)}

    @torch.no_grad()
    def reset_residual(self, generator: torch.Generator | None = None) -> None:
        """Zero the residuals, and draw the basis so that a residual of unit variance makes rows of unit variance.

        The numbers are drawn on the CPU, so that those of a `generator` are the same on every device.
        """
        self.residual.zero_()
        drawn = torch.empty(self.basis.shape, dtype=self.basis.dtype)
        self.basis.copy_(drawn.normal_(0.0, 1.0 / math.sqrt(self.residual_dim), generator=generator))

    def forward(self, input: Tensor) -> Tensor:
        """Embeddings of indices (int32 or int64, any shape): a tensor of shape (*input.shape, embedding_dim).

        Raises InputError as `CodebookEmbedding.forward` does.
        """
        shared = super().forward(input)
        return shared + self._residuals(self.residual_rows[input])

    def _check_places(self, count: int, places: Any) -> None:
        """Residuals belong to ids, and so `places` must say where the old ids are as soon as there are others.

        Numbers of sorted raw ids move when new ones come between them.
        """
        if places is None and count < self.num_embeddings:
            raise InputError(f"assignments must be of {self.num_embeddings} ids or more, got {count}")
        if places is None and count > self.num_embeddings:
            raise InputError(
                f"places must be given where {self.num_embeddings} ids become {count}, got None: residuals belong to "
                "ids, and result.users.places_in(grown.users) says where the old ones are now"
            )

    def regrow(self, growth: Growth) -> Moves:
        """As of `EmbeddingTable`; the residuals of ids that are gone go with them."""
        count, gone = len(self.residual), growth.places == GONE
        moves = super().regrow(growth)
        if not gone.any():
            return moves
        ids = self._own_ids()
        sources = np.append(self.residual_rows[ids].cpu().numpy(), count - 1)
        with normal_tensors():
            move_rows(self, ("residual",), sources)
        self.residual_rows.fill_(len(ids))
        self.residual_rows[ids] = torch.arange(len(ids), dtype=torch.int32, device=ids.device)
        return {**moves, self.residual: RowMoves(count, sources)}

    def _carry(self, places: np.ndarray) -> None:
        """Ids keep their residuals, new ones have none."""
        nobody = self.residual_rows.new_full((self.num_embeddings,), len(self.residual) - 1)
        self.register_buffer("residual_rows", carried(self.residual_rows, places, nobody))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, residual_dim={self.residual_dim}, residual_ids={len(self.residual) - 1}"

    def _own_ids(self) -> Tensor:
        """The ids that have a residual, in the order of their rows."""
        ids = torch.nonzero(self.residual_rows < len(self.residual) - 1).flatten()
        return ids[torch.argsort(self.residual_rows[ids])]

    def _residuals(self, rows: Tensor) -> Tensor:
        # The last row is a padding row: it gets no gradient, and so stays zero under any optimiser.
        own = functional.embedding(rows, self.residual, padding_idx=len(self.residual) - 1)
        return own @ self.basis

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        rows = state_dict.get(prefix + "residual_rows")
        if isinstance(rows, Tensor) and rows.numel():
            low, high = (int(bound) for bound in torch.aminmax(rows))
            if low < 0 or high >= len(self.residual):
                errors: list[str] = rest[-1]
                errors.append(f"{prefix}residual_rows must hold 0 to {len(self.residual) - 1}, got {low}..{high}")
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ResidualMixedCodebookEmbedding(ResidualCodebookEmbedding, MixedCodebookEmbedding):
    """A `MixedCodebookEmbedding` in which some ids add a residual of low rank to what they mix.

    The arguments are those of both. A trained table cannot be compressed to it, since the rows of ids that mix many
    are no means of theirs: `from_pretrained` raises InputError.
    """

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> ResidualMixedCodebookEmbedding:
        raise InputError("from_pretrained must be called of a table whose ids do not mix rows, got one that does")


def _own_ids(ids: Labels | None, count: int, padding_idx: int | None) -> np.ndarray:
    """The ids that have a residual, checked; without the padding index."""
    own = np.arange(count) if ids is None else label_array("residual_ids", ids, minimum=0)
    if own.size and own.max() >= count:
        raise InputError(f"residual_ids must be from 0 to {count - 1}, got {own.max()}")
    if len(np.unique(own)) < len(own):
        values, times = np.unique(own, return_counts=True)
        raise InputError(f"residual_ids must name every id once, got {values[times > 1][0]} more than once")
    return own if padding_idx is None else own[own != padding_idx]
