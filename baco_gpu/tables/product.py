"""A codebook whose rows are product codes: a small number for each piece, and centroids that are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_choice, check_flag, check_integer
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import rows_at
from baco_gpu.ops.product_quantization import (
    RowsByNumber,
    fit_centroids,
    length_values,
    lengths_of,
    members_of,
    nearest_codes,
    rows_of,
    store,
)
from baco_gpu.ops.quantization import as_if_unrounded
from baco_gpu.ops.reference import check_range, decomposed
from baco_gpu.precision import CODE_BITS, LEAST_LENGTH, LENGTH_PARTS, ProductFormat
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables.assignments import Labels
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import Device, State, StoredPart, numpy_of, state_of
from baco_gpu.tables.encoding import encode_all, encode_together, wrong_codes
from baco_gpu.tables.former_states import rename_table
from baco_gpu.tables.id_growth import Moves, move_rows
from baco_gpu.tables.quantized import QuantizedEmbedding, bits_of_rows

_BLOCK = 1 << 16  # rows that are floats at a time where all are turned or encoded


class ProductCodebookEmbedding(CodebookEmbedding, known_by={"codes": 2, "centroids": 2}):
    """A `CodebookEmbedding` whose rows are stored as product codes: for each piece of a row, the number of a centroid.

    Rows are floats at first. `encode` finds centroids and gives every row its nearest ones; from then on lookups see
    these, and training moves both the centroids and, as if there were no rounding, the latent weight: the floats that
    codes stand for (Bengio et al., arXiv 1308.3432, section 2.3). `reassign` lets the codes follow it, and
    `drop_latent_weight` ends that: what is left is small, and trains its centroids alone. On a GPU, an index out of
    range ends in PyTorch's assertion.

    A code also holds signs of values, as far as it has bits; see `baco_gpu.ops.product_quantization`. Rounding makes
    some rows longer and others shorter, which changes rankings by inner product: `lengths` corrects that.

    With `row_bits`, a `QuantizedEmbedding` takes the place of the floats, for tables that are small while they train.
    `RowwiseRMSprop` trains it beside the centroids.

    Parameters
    ----------
    assignments, embedding_dim, secondary : as of `CodebookEmbedding`
    subspaces : int
        Pieces of a row, of embedding_dim / subspaces dimensions, rounded up or down.
    centroids : int
        Number of centroids, at most 2 to the power of `code_bits`.
    code_bits : {8, 16}
        Bits of a code. With 16, 4,096 centroids and pieces of 4 dimensions, all values have their signs.
    lengths : bool
        Whether each row has a byte that restores its length.
    row_bits : int, 16 or from 8 to 2, optional
        Bits of a value of the latent weight, if this is not floats.
    options
        Further arguments of `CodebookEmbedding` other than `sparse` and `bits`.

    Attributes
    ----------
    centroids : nn.Parameter of shape (centroids, ceil(embedding_dim / subspaces))
        Zero until rows are encoded.
    codes : uint8 buffer of shape (num_rows, subspaces), or int16 that holds 16 bits without a sign
        The centroid and the signs of every piece.
    scales : uint8 buffer of shape (num_rows, 1), or None
        What rows are multiplied by; see `baco_gpu.ops.product_quantization.length_values`.
    form : ProductFormat
    codebook : nn.Parameter of shape (num_rows, embedding_dim), or of no rows where there are no floats (any more)
    latent_weight : QuantizedEmbedding of num_rows rows, or None
        What there is in its place with `row_bits`, until it is dropped.
    assignments, secondary, labels, fake_quantization : as of `CodebookEmbedding`

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when a size is out of range or an argument is none of this class.
    """

    codes: Tensor
    scales: Tensor | None
    latent_weight: QuantizedEmbedding | None

    _renamed: ClassVar[Mapping[str, str]] = {
        "rounds": "is_quantized",
        "rounding": "fake_quantization",
        "numbers": "codes",
        "behind": "latent_weight",
        "floats": "latent_rows",
        "set_floats": "set_latent_rows",
        "to_floats": "forget_codes",
        "has_floats": "has_latent_weight",
        "drop_floats": "drop_latent_weight",
    }

    @renamed_arguments(codes="assignments", number_bits="code_bits")
    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        subspaces: int,
        centroids: int = 256,
        code_bits: int = 8,
        lengths: bool = False,
        row_bits: int | None = None,
        **options: Any,
    ) -> None:
        for name in ("sparse", "bits"):
            if options.get(name):
                raise InputError(f"{name} must not be given for rows that are product codes, got {options[name]!r}")
        check_choice("code_bits", code_bits, CODE_BITS)
        dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        subspaces = check_integer("subspaces", subspaces, minimum=1, maximum=dim)
        has_lengths = check_flag("lengths", lengths)
        centroids = check_integer("centroids", centroids, minimum=1, maximum=1 << code_bits)
        self.row_bits = row_bits  # which the codebook is made by
        super().__init__(assignments, dim, secondary, **options)
        self.form, self.fake_quantization = ProductFormat(dim, subspaces, centroids, code_bits), False
        self.centroids = nn.Parameter(self.codebook.detach().new_zeros(centroids, self.form.width))
        none = store(torch.empty((0, subspaces), dtype=torch.int32, device=self.codebook.device), self.form)
        codes = none.new_zeros((len(self.labels), subspaces))
        self.register_buffer("codes", codes)
        one = LENGTH_PARTS - LEAST_LENGTH
        self.register_buffer("scales", codes.new_full((len(codes), 1), one, dtype=torch.uint8) if has_lengths else None)
        self.latent_weight = None if row_bits is None else self._rows_of_few_bits()

    @classmethod
    def from_state(cls, state: State, dim: int, *, sparse: bool = False, **options: Any) -> Self:
        codes, rows = state["codes"], state_of("latent_weight", state)
        told = {"subspaces": codes.shape[1], "centroids": len(state["centroids"]), "lengths": "scales" in state}
        told["code_bits"] = 8 * codes.element_size()
        if rows:
            told["row_bits"] = options.pop("row_bits", None) or bits_of_rows(rows, state["codebook"].shape[1])
        return super().from_state(state, dim, **{**told, **options})

    @classmethod
    def from_pretrained(cls, *arguments: Any, seed: int = 0, **options: Any) -> Self:
        """Compress a trained table: `CodebookEmbedding.from_pretrained`, and its rows encoded with that seed.

        Its floats stay the latent weight: with `row_bits` it raises InputError.
        """
        if options.get("row_bits") is not None:
            raise InputError(f"row_bits must not be given with a table of floats, got {options['row_bits']!r}")
        module = super().from_pretrained(*arguments, **options)
        module.encode(seed)
        return module

    @torch.no_grad()
    def encode(self, seed: int = 0) -> None:
        """Find centroids for the rows as they are, and store these by them; the same for the same seed.

        Raises InputError as `encode_together` does, which is for modules that share their centroids, too.
        """
        encode_together([self], seed)

    @torch.no_grad()
    def reassign(self) -> None:
        """Give every row the codes of what is nearest to its floats by now.

        Raises InputError when the floats have been dropped.
        """
        self.check_latent_weight()
        for rows in self.blocks():
            self._assign(rows, self.latent_rows(rows))

    def _assign(self, rows: Tensor, floats: Tensor) -> None:
        if not floats.isfinite().all():
            raise InputError("rows must be finite to be encoded, got NaN or infinity")
        self.codes[rows] = self.nearest(floats)
        if self.scales is not None:
            self.scales[rows] = lengths_of(floats, self.directions(rows))

    def fit(self, rows: RowsByNumber, seed: int) -> Tensor:
        """Centroids for these rows, of the shape of `centroids`; the same for the same seed."""
        return fit_centroids(rows, self.form, seed)

    def nearest(self, rows: Tensor) -> Tensor:
        """The codes of these rows (n, dim), as `codes` has them."""
        return nearest_codes(rows, self.centroids, self.form)

    def set_rows(self, rows: Tensor, values: Tensor) -> None:
        distinct = rows.unique()
        if len(distinct) < len(rows):
            firsts = (rows.unsqueeze(0) == distinct.unsqueeze(1)).int().argmax(dim=1)
            rows, values = distinct, values[firsts]
        if self.has_latent_weight:
            self.set_latent_rows(rows, values)
        if self._seen_stored:
            self._assign(rows, self.latent_rows(rows) if self.has_latent_weight else values.to(self.centroids))

    def move_rows(self, sources: np.ndarray) -> Moves:
        moves = super().move_rows(sources) if len(self.codebook) else {}
        move_rows(self, ("codes",) if self.scales is None else ("codes", "scales"), sources)
        return moves if self.latent_weight is None else self.latent_weight.move_rows(sources)

    def _close(self, now: Tensor, wanted: Tensor) -> Tensor:
        if self.latent_weight is None:
            return super()._close(now, wanted)
        return (now - wanted).abs() <= 4 * wanted.abs().amax(dim=1, keepdim=True) / 2**self.latent_weight.bits

    def blocks(self) -> Iterator[Tensor]:
        """The places of all rows, in parts: whoever goes through these has floats of a part of the table at a time."""
        return iter(torch.arange(self.num_rows, device=self.codes.device).split(_BLOCK))

    def latent_rows(self, rows: Tensor | None = None) -> Tensor:
        """The rows that codes stand for, or some of them, (rows, embedding_dim); they have no gradient."""
        self.check_latent_weight()
        if self.latent_weight is not None:
            return self.latent_weight.read_rows(rows)
        return self.codebook.detach() if rows is None else self.codebook.detach().index_select(0, rows)

    @torch.no_grad()
    def set_latent_rows(self, rows: Tensor, values: Tensor) -> None:
        """Take these values, of shape (len(rows), embedding_dim), for the rows that codes stand for."""
        self.check_latent_weight()
        if self.latent_weight is None:
            self.codebook.index_copy_(0, rows, values.to(self.codebook))
        else:
            self.latent_weight.write(rows, values.float())

    @torch.no_grad()
    def forget_codes(self) -> None:
        """See rows as floats again, and forget what stands for them. Raises InputError when these have been dropped."""
        self.check_latent_weight()
        self.centroids.zero_()
        self.fake_quantization = False

    def drop_latent_weight(self) -> None:
        """Keep codes and centroids alone, for good: `codebook` is a new parameter, of no rows. InputError without."""
        if not self.encoded:
            raise InputError("rows must be encoded before their floats are dropped: call `encode` first")
        self.codebook = nn.Parameter(self.codebook.detach()[:0].clone(), self.codebook.requires_grad)
        self.latent_weight, self.fake_quantization = None, True

    @property
    def num_rows(self) -> int:
        """Rows of the codebook."""
        return self.codes.shape[0]

    @property
    def has_latent_weight(self) -> bool:
        """Whether rows are still there as they are trained."""
        return self.latent_weight is not None or len(self.codebook) == self.num_rows

    @property
    def encoded(self) -> bool:
        """Whether there are centroids; waits for the device. Of rows of zeros, these are zero, too."""
        return self._seen_stored or bool(self.centroids.any())

    @property
    def is_quantized(self) -> bool:
        return True

    def _stored_rows(self) -> list[StoredPart]:
        """Codes and lengths, every 4 bytes of which count one, as for a secondary assignment, and centroids."""
        nbytes = self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)
        rows = StoredPart(self.codes, math.ceil(nbytes / self.assignments.element_size()), nbytes, self.num_rows)
        return [rows, StoredPart(self.centroids, self.centroids.numel(), self.centroids.nbytes)]

    @torch.no_grad()
    def read_rows(self, rows: Tensor | None = None) -> Tensor:
        return self.latent_rows(rows) if self.has_latent_weight else self._stored(rows)

    def write_rows(self, values: Tensor) -> None:
        holder: Any = super() if self.latent_weight is None else self.latent_weight
        holder.write_rows(values)

    @property
    def keeps_rows(self) -> bool:
        return not self.has_latent_weight

    def take_rows(self, values: Tensor) -> None:
        if self.encoded and torch.equal(values.to(self.latent_rows()), self.latent_rows()):
            return
        self.write_rows(values)
        if self.encoded:
            self.reassign()

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        if std is not None and not self.has_latent_weight:
            raise InputError(
                "embedding_std must be None for tables of product codes whose floats have been dropped, which cannot "
                f"be drawn anew, got {std:g}"
            )

    def begin_training(self) -> None:
        if self.has_latent_weight:
            self.forget_codes()

    def begin_epoch(self, *, stored: bool) -> None:
        """As of `EmbeddingTable`; where rows are seen as they are stored, their codes follow the floats first."""
        super().begin_epoch(stored=stored)
        if stored and self.has_latent_weight:
            self.reassign()

    @classmethod
    def encode_all(cls, tables: Sequence[Self], seed: int) -> None:
        encode_all(tables, seed)

    def finalize(self) -> None:
        """Drop the floats, where rows are encoded."""
        if self.encoded:
            self.drop_latent_weight()

    def _export_rows(self) -> dict[str, Any]:
        if not self.encoded:
            raise InputError("rows that are product codes must be encoded to be served: call `encode` first")
        scales = {} if self.scales is None else {"scales": numpy_of(self.scales)}
        codes = numpy_of(self.codes).view(self.form.dtype)
        return {"codebook": codes, "centroids": numpy_of(self.centroids), "dim": self.embedding_dim, **scales}

    def extra_repr(self) -> str:
        sizes = f"subspaces={self.form.subspaces}, centroids={self.form.centroids}, code_bits={self.form.code_bits}"
        sizes += ", lengths=True" if self.scales is not None else ""
        return f"{super().extra_repr()}, {sizes}" + (f", row_bits={self.row_bits}" if self.row_bits is not None else "")

    def _lookup(self, indices: Tensor) -> Tensor:
        # Of a large codebook, the rows of a batch alone are put together; see `CodebookEmbedding._lookup`.
        whole = torch.compiler.is_compiling() or decomposed()
        alone = self.secondary is None and self.padding_idx is None and not whole
        made = self._seen_stored or self.latent_weight is not None
        if not (made and alone and indices.numel() < self.num_rows):
            return super()._lookup(indices)
        flat = indices.reshape(-1)
        check_range("indices", flat, self.num_embeddings)
        return self._made_of(self.assignments[flat]).view(*indices.shape, self.embedding_dim)

    def _rows(self) -> Tensor:
        return self._made_of(None)

    def _made_of(self, rows: Tensor | None) -> Tensor:
        """These rows, or all, as lookups see them."""
        floats = None
        if self.latent_weight is not None:
            floats = self.latent_weight.weight if rows is None else self.latent_weight(rows)
        elif self.has_latent_weight:
            floats = self.codebook if rows is None else rows_at(self.codebook, rows)
        if floats is not None and not self._seen_stored:
            return floats
        stored = self._stored(rows)
        return stored if floats is None else as_if_unrounded(floats, stored)

    def _new_codebook(self, rows: int, dtype: torch.dtype | None, device: Device) -> Tensor:
        return super()._new_codebook(rows if self.row_bits is None else 0, dtype, device)

    def _rows_of_few_bits(self) -> QuantizedEmbedding:
        assert self.row_bits is not None
        device = self.codes.device
        return QuantizedEmbedding(self.num_rows, self.embedding_dim, bits=self.row_bits, device=device)

    @property
    def _seen_stored(self) -> bool:
        return self.fake_quantization or not self.has_latent_weight

    def check_latent_weight(self) -> None:
        if not self.has_latent_weight:
            raise InputError("rows have no floats any more: they have been dropped")

    def _stored(self, rows: Tensor | None) -> Tensor:
        """These rows, or all, put together of their centroids and as long as they are to be."""
        directions = self.directions(rows)
        if self.scales is None:
            return directions
        scales = self.scales if rows is None else self.scales.index_select(0, rows)
        return directions * length_values(scales).to(directions)

    def directions(self, rows: Tensor | None) -> Tensor:
        """These rows, as long as rounding makes them."""
        codes, members = self.codes if rows is None else self.codes.index_select(0, rows), None
        many = rows is None and codes.numel() >= self.form.codewords
        if many and not (torch.compiler.is_compiling() or decomposed()):
            members = self._kept.of("pieces", [self.codes], self.form, lambda: members_of(codes, self.form))
        return rows_of(codes, self.centroids, self.form, members)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        rename_table(state_dict, prefix)
        arguments[-1].extend(wrong_codes(f"{prefix}codes", state_dict.get(f"{prefix}codes"), self.codes, self.form))
        floats = state_dict.get(f"{prefix}codebook")
        if isinstance(floats, Tensor) and len(floats) in (0, self.num_rows) and len(floats) != len(self.codebook):
            self.codebook = nn.Parameter(self.codebook.detach().new_empty(floats.shape), self.codebook.requires_grad)
        kept = f"{prefix}latent_weight.integers" in state_dict
        if self.row_bits is not None and kept != (self.latent_weight is not None):  # dropped in one of the two
            self.latent_weight = self._rows_of_few_bits() if kept else None
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.fake_quantization = False
        self.fake_quantization = self.encoded
