"""The table that is not compressed: a row of floats for every id."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.tables.bag import TableBag
from baco_gpu.tables.embedding_table import EmbeddingTable, Size, State, StoredPart, not_served
from baco_gpu.tables.id_growth import Moves, RowMoves, move_rows


class FullTable(nn.Embedding, EmbeddingTable, known_by={"weight": 2}):
    """`torch.nn.Embedding`, with what every table answers."""

    _sums_rows = True

    @classmethod
    def of(cls, embedding: nn.Embedding) -> Self:
        """The table of the same weight, to be asked."""
        table = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, device="meta")
        del table.weight  # which need be no parameter, where it is parametrized
        table.weight = embedding.weight
        return table

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> nn.Module:
        count, dim = state["weight"].shape
        return nn.Embedding(count, dim, dtype=state["weight"].dtype, **options)

    def stored(self) -> list[StoredPart]:
        return [StoredPart(self.weight, self.weight.numel(), self.weight.nbytes, self.num_embeddings)]

    @property
    def sums_rows(self) -> bool:
        return super().sums_rows and self.max_norm is None and not self.scale_grad_by_freq

    @property
    def float_rows(self) -> Tensor:
        return self.weight

    def move_rows(self, sources: np.ndarray) -> Moves:
        count = self.num_embeddings
        move_rows(self, ("weight",), sources)
        weight: Any = self.weight
        return {weight: RowMoves(count, sources)}

    def set_rows(self, rows: Tensor, values: Tensor) -> None:
        self.weight.index_copy_(0, rows, values.to(self.weight))

    @property
    def row_parameter(self) -> nn.Parameter | None:
        weight: Any = self.weight
        return weight

    @torch.no_grad()
    def initialize(self, std: float, generator: torch.Generator | None = None) -> None:
        """As of `EmbeddingTable`; the padding row stays zero."""
        super().initialize(std, generator)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

    def _get_name(self) -> str:
        return nn.Embedding.__name__  # by which checkpoints know a model


def as_table(module: nn.Module) -> EmbeddingTable:
    """The module as a table: itself, or that of its weight for an `nn.Embedding`; InputError for any other."""
    if isinstance(module, EmbeddingTable):
        return module
    if isinstance(module, nn.Embedding):
        return FullTable.of(module)
    if isinstance(module, TableBag):
        return module.table
    raise not_served(module)


def size_of(*tables: nn.Module) -> Size:
    """What tables store together: what several of them hold counts once."""
    return Size.of(part for table in tables for part in as_table(table).stored())


def embeddings_in(model: nn.Module) -> dict[str, nn.Module]:
    """The embeddings of PyTorch in a model, for ids and for bags of ids, by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)}


def tables_in(model: nn.Module) -> list[EmbeddingTable]:
    """All tables of a model, and those that tables are made of, in the order of its modules."""
    return [as_table(module) for module in model.modules() if isinstance(module, EmbeddingTable | nn.Embedding)]
