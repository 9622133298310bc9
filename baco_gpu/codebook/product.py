"""A codebook whose rows are product codes: a small number for each piece, and centroids that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer
from baco_gpu.codebook.embedding import CodebookEmbedding
from baco_gpu.codebook.labels import Labels
from baco_gpu.codebook.lookup import NO_PADDING, codebook_expand, codebook_lookup, list_members
from baco_gpu.codebook.plain import check_range
from baco_gpu.codebook.subspaces import MOST_CENTROIDS, fit_centroids, nearest_centroids, numbers_dtype, subspaces_of
from baco_gpu.errors import InputError


class ProductCodebookEmbedding(CodebookEmbedding):
    """A `CodebookEmbedding` whose rows are stored as the numbers of centroids, one for each piece of a row.

    Rows are floats at first. `encode` finds centroids and gives every row its nearest ones; from then on lookups see
    these, and training moves both the centroids and, as if there were no rounding, the floats behind the numbers
    (Bengio et al., arXiv 1308.3432, section 2.3). `reassign` lets the numbers follow the floats, and `drop_floats` ends
    that: what is left is small, and trains its centroids alone. See `baco_gpu.codebook.subspaces`. On a GPU, an index
    out of range ends in PyTorch's assertion.

    Parameters
    ----------
    codes, embedding_dim, secondary : as of `CodebookEmbedding`
    width : int
        Dimensions of a piece; the last one is narrower where it does not divide `embedding_dim`.
    centroids : int
        At most 32,768.
    options
        Further arguments of `CodebookEmbedding` other than `sparse` and `bits`.

    Attributes
    ----------
    centroids : nn.Parameter of shape (centroids, width)
        Zero until rows are encoded.
    numbers : uint8 buffer of shape (num_rows, subspaces), int16 for more than 256 centroids
        The centroid of every piece.
    codebook : nn.Parameter of shape (num_rows, embedding_dim), or (0, embedding_dim) once floats are dropped
    codes, secondary, labels, rounding : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when a size is out of range or an argument is none of this class.
    """

    numbers: Tensor

    _settings = (*CodebookEmbedding._settings, "width")

    def __init__(
        self,
        codes: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        width: int,
        centroids: int = 256,
        **options: Any,
    ) -> None:
        for name in ("sparse", "bits"):
            if options.get(name):
                raise InputError(f"{name} must not be given for rows that are product codes, got {options[name]!r}")
        width = check_integer("width", width, minimum=1)
        centroids = check_integer("centroids", centroids, minimum=1, maximum=MOST_CENTROIDS)
        super().__init__(codes, embedding_dim, secondary, **options)
        if width > self.embedding_dim:
            raise InputError(f"width must be at most the embedding_dim of {self.embedding_dim}, got {width}")
        self.width, self.rounding = width, False
        self.centroids = nn.Parameter(self.codebook.detach().new_zeros(centroids, width))
        shape = (len(self.codebook), subspaces_of(self.embedding_dim, width))
        numbers = torch.zeros(shape, dtype=numbers_dtype(centroids), device=self.codebook.device)
        self.register_buffer("numbers", numbers)

    @classmethod
    def from_pretrained(cls, *arguments: Any, seed: int = 0, **options: Any) -> Self:
        """Compress a trained table: `CodebookEmbedding.from_pretrained`, and its rows encoded with that seed."""
        module = super().from_pretrained(*arguments, **options)
        module.encode(seed)
        return module

    @torch.no_grad()
    def encode(self, seed: int = 0) -> None:
        """Find centroids for the rows as they are, and store these by them; the same for the same seed.

        See `encode_together`, also for modules that share their centroids. Raises InputError when the floats have been
        dropped, or are not finite.
        """
        encode_together([self], seed)

    @torch.no_grad()
    def reassign(self) -> None:
        """Give every row the centroids that are nearest to its floats by now.

        Raises InputError when the floats have been dropped.
        """
        self._check_floats()
        self.numbers.copy_(nearest_centroids(self.codebook, self.centroids))

    @torch.no_grad()
    def to_floats(self) -> None:
        """See rows as floats again, and forget what stands for them. Raises InputError when these have been dropped."""
        self._check_floats()
        self.centroids.zero_()
        self.rounding = False

    def drop_floats(self) -> None:
        """Keep the numbers and the centroids alone, for good: `codebook` is a new parameter, of no rows.

        Raises InputError when rows are not encoded.
        """
        if not self.encoded:
            raise InputError("rows must be encoded before their floats are dropped: call `encode` first")
        self.codebook = nn.Parameter(self.codebook.detach()[:0].clone(), self.codebook.requires_grad)
        self.rounding = True

    @property
    def num_rows(self) -> int:
        """Rows of the codebook."""
        return self.numbers.shape[0]

    @property
    def has_floats(self) -> bool:
        """Whether there are floats behind the numbers."""
        return len(self.codebook) == self.num_rows

    @property
    def encoded(self) -> bool:
        """Whether there are centroids; waits for the device."""
        return bool(self.centroids.any())

    @property
    def rounds(self) -> bool:
        return True

    @property
    def codebook_parameters(self) -> int:
        """Entries of the centroids, and one for each further number of a row, as for secondary codes."""
        return self.centroids.numel() + self.num_rows * (self.numbers.shape[1] - 1)

    @property
    def codebook_bytes(self) -> int:
        return self.centroids.nbytes + self.numbers.nbytes

    def with_new_ids(self, codes: Labels, secondary: Labels | None = None) -> Self:
        other = super().with_new_ids(codes, secondary)
        other.centroids, other.rounding = self.centroids, self.rounding
        other.register_buffer("numbers", self.numbers)
        return other

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, width={self.width}, centroids={len(self.centroids)}"

    def _lookup(self, indices: Tensor) -> Tensor:
        # Of a large codebook, the rows of a batch alone are put together; see `CodebookEmbedding._lookup`.
        alone = self.secondary is None and self.padding_idx is None and not torch.compiler.is_compiling()
        if not (self._seen_stored and alone and indices.numel() < self.num_rows):
            return super()._lookup(indices)
        flat = indices.reshape(-1)
        check_range("indices", flat, self.num_embeddings)
        stored = self._stored(self.codes[flat])
        if self.has_floats:
            floats = codebook_lookup(self.codebook, self.codes, None, flat, NO_PADDING)
            stored = _Unrounded.apply(floats, stored)
        return stored.view(*indices.shape, self.embedding_dim)

    def _rows(self) -> Tensor:
        if not self._seen_stored:
            return self.codebook
        stored = self._stored(None)
        if self.has_floats:
            stored = _Unrounded.apply(self.codebook, stored)
        return stored

    @property
    def _seen_stored(self) -> bool:
        return self.rounding or not self.has_floats

    def _check_floats(self) -> None:
        if not self.has_floats:
            raise InputError("rows have no floats any more: they have been dropped")

    def _stored(self, rows: Tensor | None) -> Tensor:
        """Rows of these numbers, or all, put together of their centroids."""
        numbers = self.numbers if rows is None else self.numbers.index_select(0, rows)
        table, owners = self.centroids, numbers.int().view(-1)
        if rows is None and not torch.compiler.is_compiling():
            members = self._derived(
                "pieces", [self.numbers], lambda: list_members(owners, None, NO_PADDING, len(table))
            )
            pieces = codebook_expand(table, owners, None, NO_PADDING, *members)
        else:
            every = torch.arange(len(table), dtype=torch.int32, device=table.device)
            pieces = codebook_lookup(table, every, None, owners, NO_PADDING)
        return pieces.view(len(numbers), numbers.shape[1] * self.width)[:, : self.embedding_dim]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        numbers, error_msgs = state_dict.get(f"{prefix}numbers"), arguments[-1]
        if isinstance(numbers, Tensor) and numbers.numel():
            least, most = (int(number) for number in numbers.aminmax())
            got = f"up to {most}" if most >= len(self.centroids) else f"down to {least}" if least < 0 else None
            if got is not None:
                last = len(self.centroids) - 1
                error_msgs.append(f"{prefix}numbers must be centroids from 0 to {last}, got {got}")
        floats = state_dict.get(f"{prefix}codebook")
        if isinstance(floats, Tensor) and len(floats) in (0, self.num_rows) and len(floats) != len(self.codebook):
            self.codebook = nn.Parameter(self.codebook.detach().new_empty(floats.shape), self.codebook.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.rounding = self.encoded


@torch.no_grad()
def encode_together(modules: Sequence[ProductCodebookEmbedding], seed: int = 0) -> None:
    """Encode modules of one `centroids`, which are found for the rows of all of them; see `encode`.

    Tables share them when one is given those of another: `items.centroids = users.centroids`.

    Raises
    ------
    InputError
        When they have not the same centroids, floats have been dropped, or one is not finite.
    """
    centroids = modules[0].centroids
    for module in modules:
        module._check_floats()
        if module.centroids is not centroids:
            raise InputError("modules must have the same centroids to be encoded together, got several")
    rows = torch.cat([module.codebook for module in modules])
    if not rows.isfinite().all():
        raise InputError("rows must be finite to be encoded, got NaN or infinity")
    centroids.copy_(fit_centroids(rows, modules[0].width, len(centroids), seed))
    for module in modules:
        module.reassign()
        module.rounding = True


class _Unrounded(torch.autograd.Function):
    """Forward what is stored; backward as if that were the floats, and to what it is made of."""

    @staticmethod
    def forward(ctx: Any, floats: Tensor, stored: Tensor) -> Tensor:
        return stored.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad
