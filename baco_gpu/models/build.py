"""Models by name, for callers that hold tables and a split and want no more to do with it."""

from __future__ import annotations

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models.adjacency import BipartiteAdjacency
from baco_gpu.models.lightgcn import LightGCN
from baco_gpu.models.matrix_factorization import MatrixFactorization
from baco_gpu.models.recommender import Recommender, Table
from baco_gpu.tables.full import FullTable

MODELS = ("lightgcn", "mf")


def build_model(
    method: str, user_table: Table, item_table: Table, split: SplitInteractions, *, num_layers: int = 2
) -> Recommender:
    """The model called `method` over two tables; what it needs of the graph comes from the training part alone.

    Parameters
    ----------
    method : "lightgcn" or "mf"
    user_table, item_table : EmbeddingTable or nn.Embedding
        With one row for each user and each item of the split.
    split : SplitInteractions
    num_layers : int
        Propagation layers; "mf" has none and ignores it.
    """
    check_choice("method", method, MODELS)
    sizes = (user_table.num_embeddings, item_table.num_embeddings)
    if sizes != (split.num_users, split.num_items):
        raise InputError(
            f"the split has {split.num_users} users and {split.num_items} items, the tables {sizes[0]} and {sizes[1]}"
        )
    if method == "mf":
        return MatrixFactorization(user_table, item_table)
    return LightGCN(user_table, item_table, BipartiteAdjacency(split.train), num_layers)


def full_table(count: int, embedding_dim: int) -> FullTable:
    """An uncompressed table of `count` rows."""
    return FullTable(check_integer("count", count, minimum=0), check_integer("embedding_dim", embedding_dim, minimum=1))
