"""The normalised interaction matrix, and the averaged propagation over it that LightGCN consists of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from baco_gpu.data.interactions import Interactions
from baco_gpu.data.normalised import normalised
from baco_gpu.errors import InputError
from baco_gpu.ops.segments import add_by_row_, marked
from baco_gpu.ops.sparse_product import SparseRows


class Neighbors(NamedTuple):
    """The adjacency of both sides: `R` by users, and its transpose by items.

    Means over layers are taken by Horner's rule, `S = E + A S`, so that no layer is kept. The mean's factor goes into
    the weights of the last product: a pass over the tables less.
    """

    of_users: SparseRows
    of_items: SparseRows

    def averaged(self, users: Tensor, items: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
        """The mean over layers 0..num_layers."""
        if not num_layers:
            return users.clone(), items.clone()
        return self._sums(users, items, num_layers, 1.0 / (num_layers + 1))

    def averaged_of(
        self, users: Tensor, items: Tensor, num_layers: int, user_rows: Tensor, item_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`averaged`, to the bit, of tables that are zero but for these rows.

        On a CPU, and where they are few, the first layer is made of their entries alone.
        """
        few = 4 * len(user_rows) <= len(users) and 4 * len(item_rows) <= len(items)
        if not num_layers or not few or users.device.type != "cpu":  # a GPU would have to be waited for
            return self.averaged(users, items, num_layers)
        first = Neighbors(
            self.of_users.of_columns(marked(item_rows, len(items))),
            self.of_items.of_columns(marked(user_rows, len(users))),
        )
        return self._sums(users, items, num_layers, 1.0 / (num_layers + 1), first)

    def averaged_at(
        self, users: Tensor, items: Tensor, num_layers: int, user_rows: Tensor, item_rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of `averaged`, then the same rows of the tables.

        The last layer, of which nothing else is read, is a product at these rows alone.
        """
        own_users, own_items = functional.embedding(user_rows, users), functional.embedding(item_rows, items)
        if not num_layers:
            return own_users.clone(), own_items.clone(), own_users, own_items
        user_sum, item_sum = self._sums(users, items, num_layers - 1)
        factor = 1.0 / (num_layers + 1)
        return (
            self.of_users.times_at(user_rows, item_sum, factor).add_(own_users, alpha=factor),
            self.of_items.times_at(item_rows, user_sum, factor).add_(own_items, alpha=factor),
            own_users,
            own_items,
        )

    def _sums(
        self,
        users: Tensor,
        items: Tensor,
        num_layers: int,
        factor: float = 1.0,
        first: Neighbors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The sum of the layers; `factor` goes into the last product, and the tables themselves are that of none.

        `first` is what the first layer comes from, where others have nothing to add.
        """
        user_sum, item_sum = users, items
        for layer in range(1, num_layers + 1):
            scale = factor if layer == num_layers else 1.0
            source = self if first is None or layer > 1 else first
            user_sum, item_sum = (
                source.of_users.times(item_sum, scale).add_(users, alpha=scale),
                source.of_items.times(user_sum, scale).add_(items, alpha=scale),
            )
        return user_sum, item_sum


class BipartiteAdjacency(nn.Module):
    """The symmetrically normalised adjacency `[[0, R], [R^T, 0]]` of an interaction graph.

    `R_ui = w_ui / sqrt(d_u d_i)`, where `d` is the sum of the weights of a node's interactions; weights are 1 where
    the interactions carry none, and repeated pairs add up. A node without interactions has an empty row.
    Both `R` and `R^T` are kept by rows: the product with either is then a gather, forward and backward.

    Parameters
    ----------
    interactions : Interactions
        The training part alone.

    Attributes
    ----------
    num_users, num_items : int
    """

    def __init__(self, interactions: Interactions) -> None:
        super().__init__()
        self.num_users, self.num_items = interactions.num_users, interactions.num_items
        by_user = _normalised(interactions)
        by_item = by_user.T.tocsr()
        by_item.sort_indices()
        # One index type for both, as embedding_bag asks; 32 bits halve what a product reads.
        wide = max(by_user.nnz, *by_user.shape) > np.iinfo(np.int32).max
        index = torch.int64 if wide else torch.int32
        for side, matrix in (("user", by_user), ("item", by_item)):
            # Not persistent: they come from the data, and a checkpoint of a model need not carry its training set.
            self.register_buffer(f"{side}_offsets", torch.from_numpy(matrix.indptr).to(index), persistent=False)
            self.register_buffer(f"{side}_columns", torch.from_numpy(matrix.indices).to(index), persistent=False)
            self.register_buffer(f"{side}_values", torch.from_numpy(matrix.data).float(), persistent=False)

    def propagate(self, users: Tensor, items: Tensor, num_layers: int) -> tuple[Tensor, Tensor]:
        """The mean of layers 0..num_layers, `sum_k A^k E / (num_layers + 1)`, as a table of users and one of items.

        He et al., LightGCN, SIGIR 2020 (arXiv 2002.02126), equations 4, 7 and 8 with equal layer weights.

        Parameters
        ----------
        users, items : floating tensors of shape (num_users, dim) and (num_items, dim)
        num_layers : int, at least 0
        """
        averaged: tuple[Tensor, Tensor] = _AveragedPropagation.apply(users, items, self._neighbors(), num_layers)
        return averaged

    def propagate_rows(
        self, users: Tensor, items: Tensor, num_layers: int, user_rows: Tensor, item_rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of `propagate`'s tables, and the same rows of layer 0: what a training step reads.

        One node of the autograd graph: taken apart, the gradients of the four gathers would each be a table of zeros
        with a few rows filled, and be added up table by table.

        Parameters
        ----------
        users, items, num_layers : as of `propagate`
        user_rows, item_rows : int32 or int64 tensors of any shape

        Returns
        -------
        Propagated users and items, then initial users and items, of shapes (*user_rows.shape, dim) and
        (*item_rows.shape, dim). Differentiable once.
        """
        rows: tuple[Tensor, Tensor, Tensor, Tensor] = _PropagatedRows.apply(
            users, items, self._neighbors(), num_layers, user_rows, item_rows
        )
        return rows

    def _neighbors(self) -> Neighbors:
        sides = ([self.get_buffer(f"{side}_{part}") for part in SparseRows._fields] for side in ("user", "item"))
        return Neighbors(*(SparseRows(*parts) for parts in sides))

    def extra_repr(self) -> str:
        return f"{self.num_users} users, {self.num_items} items, {self.get_buffer('user_values').numel()} entries"


class _AveragedPropagation(torch.autograd.Function):
    """The polynomial of a symmetric matrix is symmetric: its backward is itself, applied to the gradients."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, neighbors: Neighbors, num_layers: int) -> tuple[Tensor, Tensor]:
        ctx.neighbors, ctx.num_layers = neighbors, num_layers
        return neighbors.averaged(users, items, num_layers)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        users, items = _AveragedPropagation.apply(grads[0], grads[1], ctx.neighbors, ctx.num_layers)
        return users, items, None, None


class _PropagatedRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        neighbors: Neighbors,
        num_layers: int,
        user_rows: Tensor,
        item_rows: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.save_for_backward(user_rows, item_rows)
        ctx.neighbors, ctx.num_layers, ctx.sizes = neighbors, num_layers, (users.shape, items.shape)
        return neighbors.averaged_at(users, items, num_layers, user_rows, item_rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows = [index.reshape(-1) for index in ctx.saved_tensors]
        terms = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        sides = range(2)
        scattered = [add_by_row_(terms[side].new_zeros(ctx.sizes[side]), terms[side], rows[side]) for side in sides]
        tables = ctx.neighbors.averaged_of(scattered[0], scattered[1], ctx.num_layers, *rows)
        users, items = (add_by_row_(tables[side], terms[2 + side], rows[side]) for side in sides)
        return users, items, None, None, None, None


def _normalised(interactions: Interactions) -> sparse.csr_matrix:
    weights = interactions.weights if interactions.weights is not None else np.ones(len(interactions))
    if len(interactions) and not (np.isfinite(weights).all() and weights.min() >= 0):
        raise InputError("weights of interactions must be finite and non-negative")
    shape = (interactions.num_users, interactions.num_items)
    matrix = sparse.csr_matrix((weights.astype(np.float64), (interactions.users, interactions.items)), shape=shape)
    matrix.sum_duplicates()
    measured: sparse.csr_matrix = normalised(matrix)
    measured.eliminate_zeros()
    measured.sort_indices()
    return measured
