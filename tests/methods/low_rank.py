"""A new way to store rows, in one file: its table, what reads it where it is served, and the method that builds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.budget import SIDES, AnyBudget, SideBudgets
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.ops.reference import check_indices, check_range
from baco_gpu.serving.decoders import Decoder, Lookup, check_array
from baco_gpu.tables.assignments import padding_index
from baco_gpu.tables.embedding_table import Device, EmbeddingTable, State, StoredPart, numpy_of


class LowRankEmbedding(EmbeddingTable, known_by={"left": 2, "right": 2}):
    """Rows `left @ right`: a few numbers an id, and a matrix that is that of all."""

    encoding = "low rank"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rank: int,
        device: Device = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_index(padding_idx, num_embeddings)
        self.left = nn.Parameter(torch.empty((num_embeddings, rank), device=device))
        self.right = nn.Parameter(torch.empty((rank, embedding_dim), device=device))
        self.initialize(1.0)

    @classmethod
    def from_state(cls, state: State, dim: int, *, sparse: bool = False, **options: Any) -> Self:
        return cls(len(state["left"]), dim, rank=len(state["right"]), **options)

    @property
    def weight(self) -> Tensor:
        return self(torch.arange(self.num_embeddings, device=self.left.device))

    def forward(self, input: Tensor) -> Tensor:
        check_indices(input)
        check_range("indices", input.reshape(-1), self.num_embeddings)
        rows = nn.functional.embedding(input, self.left) @ self.right
        return rows if self.padding_idx is None else rows.masked_fill((input == self.padding_idx).unsqueeze(-1), 0)

    def stored(self) -> list[StoredPart]:
        left, right = (StoredPart(part, part.numel(), part.nbytes) for part in (self.left, self.right))
        return [left._replace(rows=self.num_embeddings), right]

    @torch.no_grad()
    def initialize(self, std: float, generator: torch.Generator | None = None) -> None:
        for part, own in ((self.left, 1.0), (self.right, std / math.sqrt(len(self.right)))):
            part.copy_(torch.empty(part.shape).normal_(0.0, own, generator=generator))

    def read_rows(self) -> Tensor:
        return (self.left @ self.right).detach()

    @torch.no_grad()
    def write_rows(self, values: Tensor) -> None:
        """What is nearest to them (Eckart and Young, Psychometrika 1, 1936)."""
        left, lengths, right = torch.linalg.svd(values, full_matrices=False)
        rank = min(len(self.right), len(lengths))
        for part in (self.left, self.right):
            part.zero_()
        self.left[:, :rank], self.right[:rank] = (left * lengths)[:, :rank], right[:rank]

    def export_arrays(self) -> dict[str, Any]:
        return {"left": numpy_of(self.left), "right": numpy_of(self.right), "padding_idx": self.padding_idx}


@dataclass(frozen=True)
class LowRankRows(Decoder, name=LowRankEmbedding.encoding):
    @classmethod
    def of(cls, *, left: np.ndarray, right: np.ndarray) -> Self:
        for name, array in (("left", left), ("right", right)):
            check_array(name, array, np.float32)
        if left.shape[1] != len(right):
            raise InputError(f"right must have {left.shape[1]} rows, as left has columns, got {len(right)}")
        return cls(right.dtype, right.shape[1], len(left))

    def read(self, lookup: Lookup) -> Any:
        return lookup.rows("left") @ lookup.array("right")


@dataclass(frozen=True, kw_only=True)
class LowRank(Method):
    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        given, whole = self.given(budget), spec.size_for(graph)
        parts = self.parts(spec, given) if isinstance(given, SideBudgets) else dict.fromkeys(SIDES, given)
        tables: dict[str, EmbeddingTable] = {}
        for side, part in parts.items():
            rows, dim = whole.of_side(side).full_rows, whole.embedding_dim
            rank = math.floor((part.ratio or 0) * rows * dim / (rows + dim))
            if rank < 1:
                raise UnreachableBudgetError(f"budget must be a share that buys {rows + dim} numbers, got {part}")
            tables[side] = LowRankEmbedding(rows, dim, rank=rank)
        return Built(tables, clustered=False)


METHOD = LowRank(
    name="low-rank",
    family="factorization",
    shared="nobody; rows are few numbers by a matrix that all have",
    stored="two matrices",
    source="Eckart and Young, Psychometrika 1, 1936",
    by_side=True,
)
