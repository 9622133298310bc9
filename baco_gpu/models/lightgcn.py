"""LightGCN: embeddings averaged over the layers of a linear propagation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from baco_gpu.checks import check_integer
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models.adjacency import BipartiteAdjacency
from baco_gpu.models.losses import BatchRows
from baco_gpu.models.model import ITEMS, USERS, Table, option
from baco_gpu.models.pairs import PairModel


@dataclass(frozen=True)
class LightGCNOptions:
    """Options of `LightGCN`."""

    layers: int = option(2, "Propagation layers.")

    def __post_init__(self) -> None:
        check_integer("layers", self.layers, minimum=0)


class LightGCN(PairModel, name="lightgcn"):
    """Scores of embeddings propagated over the interaction graph (He et al., SIGIR 2020, arXiv 2002.02126).

    Parameters
    ----------
    user_embedding, item_embedding : EmbeddingTable or nn.Embedding
        Layer 0, of the same width.
    adjacency : BipartiteAdjacency
        Of the training interactions.
    num_layers : int
        Propagation steps; the result is the mean of layers 0..num_layers.

    Raises
    ------
    InputError
        When the tables and the adjacency disagree on the number of users or items.
    """

    Options = LightGCNOptions

    def __init__(
        self, user_embedding: Table, item_embedding: Table, adjacency: BipartiteAdjacency, num_layers: int = 2
    ) -> None:
        super().__init__(user_embedding, item_embedding)
        self.num_layers = check_integer("num_layers", num_layers, minimum=0)
        if (self.num_users, self.num_items) != (adjacency.num_users, adjacency.num_items):
            raise InputError(
                f"the adjacency has {adjacency.num_users} users and {adjacency.num_items} items, "
                f"the embeddings {self.num_users} and {self.num_items}"
            )
        self.adjacency = adjacency

    @classmethod
    def build(cls, tables: Mapping[str, Table], split: SplitInteractions, options: LightGCNOptions) -> Self:
        return cls(tables[USERS], tables[ITEMS], BipartiteAdjacency(split.train), options.layers)

    def representations(self) -> tuple[Tensor, Tensor]:
        """The propagated tables, (num_users, dim) and (num_items, dim)."""
        return self.adjacency.propagate(self.user_embedding.weight, self.item_embedding.weight, self.num_layers)

    def ranked(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """As of `Model`, with one propagation for all."""
        users, items = self.representations()
        return users.__getitem__, items

    def rows(self, users: Tensor, items: Tensor) -> BatchRows:
        """The rows of a batch of users, (batch,), and of items, of any shape.

        The last layer is propagated at these rows alone, those before it over the whole graph.
        """
        tables = self.user_embedding.weight, self.item_embedding.weight
        return BatchRows(*self.adjacency.propagate_rows(*tables, self.num_layers, users, items))

    def softmax_decay(self, density: float) -> float:
        """High where interactions are few, as rows are taken from the neighbors, too.

        Of full tables validation recall on Beauty, Gowalla and MovieLens-100K (9, 23 and 61 interactions an id) is best
        near 0.2, 0.015 and 0.002; a power of the density comes near to that.
        """
        return min(50 / density**2.5, 0.2)

    def extra_repr(self) -> str:
        return f"num_layers={self.num_layers}"
