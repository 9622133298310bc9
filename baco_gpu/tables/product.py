"""A codebook whose rows are product codes: a small number for each piece, and centroids that are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import NO_PADDING, codebook_expand, list_members, look_up
from baco_gpu.ops.product_quantization import (
    codewords,
    join_pieces,
    length_values,
    lengths_of,
    nearest_numbers,
    read,
    signs_of,
    store,
)
from baco_gpu.ops.quantization import as_if_unrounded
from baco_gpu.ops.reference import check_range, decomposed
from baco_gpu.precision import LEAST_LENGTH, LENGTH_PARTS, NUMBER_BITS, ProductFormat
from baco_gpu.tables.assignments import Labels
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import Device, Stored, numpy_of
from baco_gpu.tables.encoding import encode_together, rotate_together
from baco_gpu.tables.quantized import LowPrecisionEmbedding

_BLOCK = 1 << 16  # rows that are floats at a time where all are turned or encoded


class ProductCodebookEmbedding(CodebookEmbedding):
    """A `CodebookEmbedding` whose rows are stored as the numbers of centroids, one for each piece of a row.

    Rows are floats at first. `encode` finds centroids and gives every row its nearest ones; from then on lookups see
    these, and training moves both the centroids and, as if there were no rounding, the floats behind the numbers
    (Bengio et al., arXiv 1308.3432, section 2.3). `reassign` lets the numbers follow the floats, and `drop_floats` ends
    that: what is left is small, and trains its centroids alone. On a GPU, an index out of range ends in PyTorch's
    assertion.

    A number has the signs of values as well, as far as it has bits for them; see `baco_gpu.ops.product_quantization`.
    And rounding makes some rows longer and others shorter, which turns the order of their inner products with another
    row: `lengths` mends that, where rows are ranked so.

    With `row_bits`, what stands in for floats is a `LowPrecisionEmbedding`: for tables that are to be small while they
    are trained, too. All that is said of floats here is true of it; `RowwiseRMSprop` trains it beside the centroids.

    Parameters
    ----------
    codes, embedding_dim, secondary : as of `CodebookEmbedding`
    subspaces : int
        Pieces of a row, of embedding_dim / subspaces dimensions; where that is no integer, of one more or one less.
    centroids : int
        What there is a number for, 2 to the power of `number_bits` at most.
    number_bits : {8, 16}
        Of a number. With 16, 4,096 centroids and pieces of 4 dimensions, all of these have their signs, too.
    lengths : bool
        Whether rows have a byte each that makes them as long as the floats that they stand for.
    row_bits : int, 16 or from 8 to 2, optional
        Of a value of the rows, until and behind the numbers, where these are not to be floats.
    options
        Further arguments of `CodebookEmbedding` other than `sparse` and `bits`.

    Attributes
    ----------
    centroids : nn.Parameter of shape (centroids, ceil(embedding_dim / subspaces))
        Zero until rows are encoded.
    numbers : uint8 buffer of shape (num_rows, subspaces), or int16 that holds 16 bits without a sign
        The centroid and the signs of every piece.
    scales : uint8 buffer of shape (num_rows, 1), or None
        What rows are multiplied by; see `baco_gpu.precision.length_values`.
    form : ProductFormat
    codebook : nn.Parameter of shape (num_rows, embedding_dim), or of no rows where there are no floats (any more)
    behind : LowPrecisionEmbedding of num_rows rows, or None
        What there is in their place with `row_bits`, until it is dropped.
    codes, secondary, labels, rounding : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when a size is out of range or an argument is none of this class.
    """

    numbers: Tensor
    scales: Tensor | None
    behind: LowPrecisionEmbedding | None

    def __init__(
        self,
        codes: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        subspaces: int,
        centroids: int = 256,
        number_bits: int = 8,
        lengths: bool = False,
        row_bits: int | None = None,
        **options: Any,
    ) -> None:
        for name in ("sparse", "bits"):
            if options.get(name):
                raise InputError(f"{name} must not be given for rows that are product codes, got {options[name]!r}")
        if number_bits not in NUMBER_BITS:
            raise InputError(f"number_bits must be 8 or 16, got {number_bits!r}")
        dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        subspaces = check_integer("subspaces", subspaces, minimum=1, maximum=dim)
        centroids = check_integer("centroids", centroids, minimum=1, maximum=1 << number_bits)
        self.row_bits = row_bits  # which the codebook is made by
        super().__init__(codes, dim, secondary, **options)
        self.form, self.rounding = ProductFormat(dim, subspaces, centroids, number_bits), False
        self.centroids = nn.Parameter(self.codebook.detach().new_zeros(centroids, self.form.width))
        numbers = torch.zeros((len(self.labels), subspaces), dtype=torch.int32, device=self.codebook.device)
        self.register_buffer("numbers", store(numbers, self.form))
        one = LENGTH_PARTS - LEAST_LENGTH
        self.register_buffer("scales", numbers.new_full((len(numbers), 1), one, dtype=torch.uint8) if lengths else None)
        self.behind = None if row_bits is None else self._rows_of_few_bits()

    @classmethod
    def from_pretrained(cls, *arguments: Any, seed: int = 0, **options: Any) -> Self:
        """Compress a trained table: `CodebookEmbedding.from_pretrained`, and its rows encoded with that seed.

        Its floats stay behind the numbers: with `row_bits` it raises InputError.
        """
        if options.get("row_bits") is not None:
            raise InputError(f"row_bits must not be given with a table of floats, got {options['row_bits']!r}")
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
        """Give every row the numbers of what is nearest to its floats by now.

        Raises InputError when the floats have been dropped.
        """
        self.check_floats()
        for rows in self.blocks():
            self._reassign(rows)

    def _reassign(self, rows: Tensor) -> None:
        floats = self.floats(rows)
        if not floats.isfinite().all():
            raise InputError("rows must be finite to be encoded, got NaN or infinity")
        self.numbers[rows] = nearest_numbers(floats, self.centroids, self.form)
        if self.scales is not None:
            self.scales[rows] = lengths_of(floats, self._directions(rows))

    def _set_rows(self, rows: Tensor, values: Tensor) -> None:
        distinct = rows.unique()
        if len(distinct) < len(rows):
            firsts = (rows.unsqueeze(0) == distinct.unsqueeze(1)).int().argmax(dim=1)
            rows, values = distinct, values[firsts]
        self.set_floats(rows, values)
        if self.rounding:
            self._reassign(rows)

    def _close(self, now: Tensor, wanted: Tensor) -> Tensor:
        if self.behind is None:
            return super()._close(now, wanted)
        return (now - wanted).abs() <= 4 * wanted.abs().amax(dim=1, keepdim=True) / 2**self.behind.bits

    def blocks(self) -> Iterator[Tensor]:
        """The numbers of all rows, in parts: whoever goes through these has floats of a part of the table at a time."""
        return iter(torch.arange(self.num_rows, device=self.numbers.device).split(_BLOCK))

    def floats(self, rows: Tensor | None = None) -> Tensor:
        """The rows that numbers stand for, or those of these numbers, (rows, embedding_dim); they have no gradient."""
        self.check_floats()
        if self.behind is not None:
            return self.behind.read(rows)
        return self.codebook.detach() if rows is None else self.codebook.detach().index_select(0, rows)

    @torch.no_grad()
    def set_floats(self, rows: Tensor, values: Tensor) -> None:
        """Take these values, of shape (len(rows), embedding_dim), for the rows that numbers stand for."""
        self.check_floats()
        if self.behind is None:
            self.codebook.index_copy_(0, rows, values.to(self.codebook))
        else:
            self.behind.write(rows, values.float())

    @torch.no_grad()
    def to_floats(self) -> None:
        """See rows as floats again, and forget what stands for them. Raises InputError when these have been dropped."""
        self.check_floats()
        self.centroids.zero_()
        self.rounding = False

    def drop_floats(self) -> None:
        """Keep the numbers and the centroids alone, for good: `codebook` is a new parameter, of no rows.

        Raises InputError when rows are not encoded.
        """
        if not self.encoded:
            raise InputError("rows must be encoded before their floats are dropped: call `encode` first")
        self.codebook = nn.Parameter(self.codebook.detach()[:0].clone(), self.codebook.requires_grad)
        self.behind, self.rounding = None, True

    @property
    def num_rows(self) -> int:
        """Rows of the codebook."""
        return self.numbers.shape[0]

    @property
    def has_floats(self) -> bool:
        """Whether there are floats behind the numbers."""
        return self.behind is not None or len(self.codebook) == self.num_rows

    @property
    def encoded(self) -> bool:
        """Whether there are centroids; waits for the device."""
        return bool(self.centroids.any())

    @property
    def rounds(self) -> bool:
        return True

    def _stored_rows(self) -> list[Stored]:
        """Numbers and lengths, every 4 bytes of which count one, as for a secondary code, and centroids."""
        nbytes = self.numbers.nbytes + (0 if self.scales is None else self.scales.nbytes)
        rows = Stored(self.numbers, math.ceil(nbytes / self.codes.element_size()), nbytes, self.num_rows)
        return [rows, Stored(self.centroids, self.centroids.numel(), self.centroids.nbytes)]

    def read_rows(self) -> Tensor:
        return self.floats()

    def write_rows(self, values: Tensor) -> None:
        if self.behind is None:
            super().write_rows(values)
        else:
            self.behind.write_rows(values)

    @property
    def keeps_rows(self) -> bool:
        return not self.has_floats

    def take_rows(self, values: Tensor) -> None:
        if self.encoded and torch.equal(values.to(self.floats()), self.floats()):
            return
        self.write_rows(values)
        if self.encoded:
            self.reassign()

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        if std is not None and not self.has_floats:
            raise InputError(
                "embedding_std must be None for tables of product codes whose floats have been dropped, which cannot "
                f"be drawn anew, got {std:g}"
            )

    def begin_training(self) -> None:
        if self.has_floats:
            self.to_floats()

    def begin_epoch(self, *, stored: bool) -> None:
        """As of `EmbeddingTable`; where rows are seen as they are stored, their numbers follow the floats first."""
        super().begin_epoch(stored=stored)
        if stored and self.has_floats:
            self.reassign()

    @classmethod
    def encode_all(cls, tables: Sequence[Self], seed: int) -> None:
        """Encode the tables that are floats as yet.

        Two of one form are rotated first, both alike, so that subspaces are balanced: no inner product of rows changes,
        nor of what LightGCN propagates, and so nothing need be rotated back, or stored.
        """
        left = [table for table in tables if not table.encoded]
        if len(left) == 2 and left[0].form[:2] == left[1].form[:2]:
            rotate_together(left)
        for centroids in dict.fromkeys(table.centroids for table in left):
            encode_together([table for table in left if table.centroids is centroids], seed)

    def finalize(self) -> None:
        """Drop the floats, where rows are encoded."""
        if self.encoded:
            self.drop_floats()

    def _export_rows(self) -> dict[str, Any]:
        if not self.encoded:
            raise InputError("rows that are product codes must be encoded to be served: call `encode` first")
        scales = {} if self.scales is None else {"scales": numpy_of(self.scales)}
        numbers = numpy_of(self.numbers).view(self.form.dtype)
        return {"codebook": numbers, "centroids": numpy_of(self.centroids), "dim": self.embedding_dim, **scales}

    def extra_repr(self) -> str:
        form = self.form
        sizes = f"subspaces={form.subspaces}, centroids={form.centroids}, number_bits={form.number_bits}"
        sizes += ", lengths=True" if self.scales is not None else ""
        return f"{super().extra_repr()}, {sizes}" + (f", row_bits={self.row_bits}" if self.row_bits is not None else "")

    def _lookup(self, indices: Tensor) -> Tensor:
        # Of a large codebook, the rows of a batch alone are put together; see `CodebookEmbedding._lookup`.
        whole = torch.compiler.is_compiling() or decomposed()
        alone = self.secondary is None and self.padding_idx is None and not whole
        made = self._seen_stored or self.behind is not None
        if not (made and alone and indices.numel() < self.num_rows):
            return super()._lookup(indices)
        flat = indices.reshape(-1)
        check_range("indices", flat, self.num_embeddings)
        return self._made_of(self.codes[flat]).view(*indices.shape, self.embedding_dim)

    def _rows(self) -> Tensor:
        return self._made_of(None)

    def _made_of(self, rows: Tensor | None) -> Tensor:
        """These rows, or all, as lookups see them."""
        floats = None
        if self.behind is not None:
            floats = self.behind.weight if rows is None else self.behind(rows)
        elif self.has_floats:
            floats = self.codebook if rows is None else _rows_of(self.codebook, rows)
        if floats is not None and not self._seen_stored:
            return floats
        stored = self._stored(rows)
        if floats is not None:
            stored = as_if_unrounded(floats, stored)
        return stored

    def _new_codebook(self, rows: int, dtype: torch.dtype | None, device: Device) -> Tensor:
        return super()._new_codebook(rows if self.row_bits is None else 0, dtype, device)

    def _rows_of_few_bits(self) -> LowPrecisionEmbedding:
        assert self.row_bits is not None
        device = self.numbers.device
        return LowPrecisionEmbedding(self.num_rows, self.embedding_dim, bits=self.row_bits, device=device)

    @property
    def _seen_stored(self) -> bool:
        return self.rounding or not self.has_floats

    def check_floats(self) -> None:
        if not self.has_floats:
            raise InputError("rows have no floats any more: they have been dropped")

    def _stored(self, rows: Tensor | None) -> Tensor:
        """Rows of these numbers, or all, put together of their centroids and as long as they are to be."""
        directions = self._directions(rows)
        if self.scales is None:
            return directions
        scales = self.scales if rows is None else self.scales.index_select(0, rows)
        return directions * length_values(scales).to(directions)

    def _directions(self, rows: Tensor | None) -> Tensor:
        """These rows, as long as rounding makes them."""
        form = self.form
        numbers = read(self.numbers if rows is None else self.numbers.index_select(0, rows))
        flat = numbers.view(-1)
        plain = torch.compiler.is_compiling() or decomposed()
        if rows is None and len(flat) >= form.codewords and not plain:
            table = codewords(self.centroids, form)
            members = self._kept.of("pieces", [self.numbers], lambda: list_members(flat, None, NO_PADDING, len(table)))
            pieces = codebook_expand(table, flat, None, NO_PADDING, *members)
        else:
            every = torch.arange(form.centroids, dtype=torch.int32, device=flat.device)
            pieces = look_up(self.centroids, every, None, flat >> form.signs, NO_PADDING)
            pieces = pieces * signs_of(flat, form).to(pieces)
        return join_pieces(pieces.view(*numbers.shape, form.width), form)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        numbers, error_msgs = state_dict.get(f"{prefix}numbers"), arguments[-1]
        if isinstance(numbers, Tensor) and numbers.dtype != self.numbers.dtype:
            error_msgs.append(f"{prefix}numbers must be {self.numbers.dtype}, got {numbers.dtype}")
        elif isinstance(numbers, Tensor) and numbers.numel():
            last, most = self.form.codewords - 1, int(read(numbers).max())
            if most > last:
                error_msgs.append(f"{prefix}numbers must be from 0 to {last}, got up to {most}")
        floats = state_dict.get(f"{prefix}codebook")
        if isinstance(floats, Tensor) and len(floats) in (0, self.num_rows) and len(floats) != len(self.codebook):
            self.codebook = nn.Parameter(self.codebook.detach().new_empty(floats.shape), self.codebook.requires_grad)
        kept = f"{prefix}behind.integers" in state_dict
        if self.row_bits is not None and kept != (self.behind is not None):  # dropped in one of the two
            self.behind = self._rows_of_few_bits() if kept else None
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.rounding = self.encoded


def _rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`, whose gradient is always the same."""
    return look_up(table, rows, None, torch.arange(len(rows), device=rows.device), NO_PADDING)
