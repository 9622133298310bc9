"""A codebook whose rows are trellis codes: as many bits as each is worth, of which every value reads a window."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.ops.lookup import NO_PADDING, codebook_expand, list_members, look_up, rows_at
from baco_gpu.ops.product_quantization import RowsByNumber
from baco_gpu.ops.reference import decomposed
from baco_gpu.ops.trellis_coding import (
    FITTED,
    MOST_SHIFT,
    Sample,
    fit_values,
    nearest_words,
    pack_words,
    read_words,
    shifts_for,
    windows_of,
)
from baco_gpu.precision import GRADE_BLOCK, GRADES, ProductFormat
from baco_gpu.tables.assignments import GONE, Labels
from baco_gpu.tables.embedding_table import State, StoredPart, numpy_of, state_of
from baco_gpu.tables.encoding import encode_together, rotate_together
from baco_gpu.tables.id_growth import Moves
from baco_gpu.tables.product import ProductCodebookEmbedding
from baco_gpu.tables.quantized import bits_of_rows

STATES = (8, 10)  # bits of a state, the fewest and the most: with 12 rows err 6% less and encode in four times the time


class _Layout(NamedTuple):
    """Where rows are among the bytes of all, and what their bits mean."""

    starts: Tensor  # int64 (num_rows,)
    windows: tuple[Tensor, Tensor, Tensor]  # (grades, dim) each


class TrellisEmbedding(
    ProductCodebookEmbedding, known_by={"codes": 1, "shifts": 2, "spreads": 2, "means": 2, "weights": 1}
):
    """A `ProductCodebookEmbedding` with trellis codes in place of product codes (`baco_gpu.ops.trellis_coding`).

    Rows have one of a few grades, each with a number of bytes a row, so that ids that count more have more bits. A
    grade has a mean and, for every value, a spread and bits: more where its rows, and those of the table encoded with
    it, vary more. All else is as of product codes: floats that codes stand for, `reassign`, and training of
    `centroids`, the values that all grades read, and of means and spreads.

    Parameters
    ----------
    assignments, embedding_dim, secondary, row_bits, options : as of `ProductCodebookEmbedding`
    widths : sequence of int
        Bytes of a row, of every grade; 8 bits a value at most.
    grades : integers of shape (num_rows,), optional
        The grade of every row; not needed where there is one.
    state_bits : int, from 8 to 10
        Bits that number a value.

    Attributes
    ----------
    centroids : nn.Parameter of shape (2^state_bits, 1)
    codes : uint8 buffer of shape (bytes,)
        Two bytes, and then rows, grade by grade.
    grades : uint8 buffer of shape (num_rows,), or None
    means, spreads : nn.Parameter of shape (grades, embedding_dim)
    shifts : uint8 buffer of shape (grades, embedding_dim)
        Bits that values bring.
    weights : buffer of shape (embedding_dim,)
        What errors count, for encoding alone.

    Raises
    ------
    InputError
        As `CodebookEmbedding` does, and when a size or a grade is out of range.
    """

    encoding = "trellis codes"

    shifts: Tensor
    grades: Tensor | None
    weights: Tensor

    def __init__(
        self,
        assignments: Labels,
        embedding_dim: int,
        secondary: Labels | None = None,
        *,
        widths: Sequence[int],
        grades: Labels | None = None,
        state_bits: int = STATES[-1],
        row_bits: int | None = None,
        **options: Any,
    ) -> None:
        dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        check_integer("state_bits", state_bits, minimum=STATES[0], maximum=STATES[1])
        if not 1 <= len(widths) <= GRADES:
            raise InputError(f"widths must be of 1 to {GRADES} grades, got {len(widths)}")
        for width in widths:
            check_integer("widths", width, minimum=1, maximum=dim * MOST_SHIFT // 8)
        super().__init__(assignments, dim, secondary, subspaces=1, centroids=1 << state_bits, code_bits=16,
                         row_bits=row_bits, **options)  # fmt: skip
        own = None if len(widths) == 1 else _checked(grades, self.num_rows, len(widths))
        self.widths = tuple(int(width) for width in widths)
        # No lengths, nor a buffer of them: torch.export counts those that are None, and runs out of names for others.
        del self.scales
        self.scales = None
        device, floats = self.labels.device, self.centroids.detach()
        self.form = ProductFormat(dim, dim, 1 << state_bits, 16)
        self.centroids = nn.Parameter(floats.new_zeros(1 << state_bits, 1))
        self.means = nn.Parameter(floats.new_zeros(len(widths), dim))
        self.spreads = nn.Parameter(floats.new_zeros(len(widths), dim))
        self.register_buffer("weights", floats.new_ones(dim))
        even = [shifts_for(torch.ones(dim), 8 * width) for width in widths]
        self.register_buffer("shifts", torch.stack(even).to(device))
        self.register_buffer("grades", None if own is None else torch.as_tensor(own, device=device))
        sizes = np.bincount(np.zeros(self.num_rows, np.uint8) if own is None else own, minlength=len(widths))
        self.codes = torch.zeros(2 + int(sizes @ np.asarray(widths)), dtype=torch.uint8, device=device)

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> Self:
        told: dict[str, Any] = {"widths": (state["shifts"].long().sum(dim=1) // 8).tolist()}
        told["state_bits"] = len(state["centroids"]).bit_length() - 1
        if "grades" in state:
            told["grades"] = state["grades"].cpu().numpy()
        if rows := state_of("latent_weight", state):
            told["row_bits"] = options.pop("row_bits", None) or bits_of_rows(rows, dim)
        return super(ProductCodebookEmbedding, cls).from_state(state, dim, **{**told, **options})

    @classmethod
    def encode_all(cls, tables: Sequence[Self], seed: int) -> None:
        left = [table for table in tables if not table.encoded]
        if len(left) == 2 and left[0].embedding_dim == left[1].embedding_dim:
            rotate_together(left)
            for one, other in (left, left[::-1]):
                # An error counts as much as the other table's rows vary there: scores are inner products with these.
                spread = other._moments(None)[1]
                one.weights.copy_(spread / spread.mean().clamp(min=torch.finfo(torch.float64).tiny))
        for centroids in dict.fromkeys(table.centroids for table in left):
            encode_together([table for table in left if table.centroids is centroids], seed)

    def fit(self, rows: RowsByNumber, seed: int) -> Tensor:
        tables: Sequence[TrellisEmbedding] = getattr(rows, "modules", [self])
        whole = max(sum(table.num_rows for table in tables), 1)
        most, samples = FITTED << self.state_bits, []
        generator = torch.Generator().manual_seed(seed)
        for table in tables:
            for grade, of_grade in table._by_grade(torch.arange(table.num_rows, device=table.codes.device)):
                table._measure(grade)
                drawn = torch.randperm(len(of_grade), generator=generator)[: -(-most * len(of_grade) // whole)]
                some = table.latent_rows(of_grade[drawn.to(of_grade.device)]).to(self.centroids)
                about = table.spreads.detach()[grade], table.shifts[grade], table.weights
                samples.append(Sample(some - table.means.detach()[grade], *about))
        return fit_values(samples, self.state_bits, seed)

    @torch.no_grad()
    def forget_codes(self) -> None:
        super().forget_codes()
        self.spreads.zero_()

    def _measure(self, grade: int) -> None:
        """Find mean, spreads and bits of the values of a grade."""
        mean, squares = self._moments(grade)
        variances = (squares - mean.square()).clamp(min=0)
        bits = int(self.shifts[grade].long().sum())
        self.shifts[grade] = shifts_for(variances * self.weights, bits)
        self.means[grade] = mean.to(self.means)
        self.spreads[grade] = variances.sqrt().to(self.spreads).clamp(min=torch.finfo(self.spreads.dtype).tiny)

    def _moments(self, grade: int | None) -> tuple[Tensor, Tensor]:
        """Means of the values of the rows of a grade, or of all, and of their squares: float64 of shape (dim,)."""
        sums, squares = self.weights.new_zeros((2, self.embedding_dim), dtype=torch.float64)
        count = 0
        for rows in self.blocks():
            if self.grades is not None and grade is not None:
                rows = rows[self.grades[rows] == grade]
            floats = self.latent_rows(rows).double()
            sums, squares, count = sums + floats.sum(dim=0), squares + floats.square().sum(dim=0), count + len(rows)
        return sums / max(count, 1), squares / max(count, 1)

    def _assign(self, rows: Tensor, floats: Tensor) -> None:
        if not floats.isfinite().all():
            raise InputError("rows must be finite to be encoded, got NaN or infinity")
        starts = self._layout().starts[rows]
        for grade, places in self._by_grade(rows):
            shifts = self.shifts[grade]
            coded = self.centroids.detach(), self.spreads.detach()[grade], shifts, self.weights
            packed = pack_words(nearest_words(floats[places] - self.means.detach()[grade], *coded), shifts)
            self.codes[self._bytes(starts[places], grade)] = packed

    def move_rows(self, sources: np.ndarray) -> Moves:
        """As of `EmbeddingTable`; a new row is of the grade of fewest bytes."""
        moves = super(ProductCodebookEmbedding, self).move_rows(sources) if len(self.codebook) else {}
        codes, starts = self.codes, self._layout().starts
        known = torch.as_tensor(sources != GONE, device=codes.device)
        old = torch.as_tensor(sources, device=codes.device).clamp(min=0)
        if self.grades is not None:
            own = torch.where(known, self.grades[old], int(np.argmin(self.widths)))
            self.register_buffer("grades", own.to(torch.uint8))
        sizes = (
            [len(sources)] if self.grades is None else torch.bincount(own.long(), minlength=len(self.widths)).tolist()
        )
        self.register_buffer("codes", codes.new_zeros(2 + sum(map(operator.mul, sizes, self.widths))))
        now = self._layout().starts
        for grade, rows in self._by_grade(torch.arange(len(sources), device=codes.device)):
            kept = rows[known[rows]]
            self.codes[self._bytes(now[kept], grade)] = codes[self._bytes(starts[old[kept]], grade)]
        return moves if self.latent_weight is None else self.latent_weight.move_rows(sources)

    def _bytes(self, starts: Tensor, grade: int) -> Tensor:
        """Where the bytes of rows of a grade are, which two bytes stand before: (rows, bytes of a row)."""
        return starts.unsqueeze(1) + 2 + torch.arange(self.widths[grade], device=starts.device)

    def _by_grade(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Every grade, and the places of its rows among these."""
        if self.grades is None:
            yield 0, torch.arange(len(rows), device=rows.device)
            return
        own = self.grades[rows]
        for grade in range(len(self.widths)):
            yield grade, (own == grade).nonzero().view(-1)

    def _layout(self) -> _Layout:
        sources = [self.shifts] if self.grades is None else [self.shifts, self.grades]
        if "layout" in self._kept and (torch.compiler.is_compiling() or decomposed()):
            known: _Layout = self._kept["layout"][0]  # which is as it was when a state was loaded, or rows encoded
            return known
        return self._kept.of("layout", sources, self.num_rows, self._lay_out)

    def _lay_out(self) -> _Layout:
        starts, first = torch.empty(self.num_rows, dtype=torch.int64, device=self.shifts.device), 0
        for grade, rows in self._by_grade(torch.arange(self.num_rows, device=self.shifts.device)):
            starts[rows] = first + self.widths[grade] * torch.arange(len(rows), device=rows.device)
            first += self.widths[grade] * len(rows)
        return _Layout(starts, windows_of(self.shifts, self.form.centroids))

    def directions(self, rows: Tensor | None) -> Tensor:
        """These rows as they are stored, or all."""
        compiling = torch.compiler.is_compiling() or decomposed()
        if rows is None and not compiling:
            sources = [self.codes, self.shifts] if self.grades is None else [self.codes, self.shifts, self.grades]
            words, members = self._kept.of("words", sources, None, self._words_and_members)
            values = codebook_expand(self.centroids, words, None, NO_PADDING, *members)
        else:
            words = self._words(rows).view(-1)
            every = torch.arange(self.form.centroids, dtype=torch.int32, device=words.device)
            values = look_up(self.centroids, every, None, words, NO_PADDING)
        values = values.view(-1, self.embedding_dim)
        spreads = self.spreads * (self.shifts > 0)
        if self.grades is None:
            return values * spreads + self.means
        grades = (self.grades if rows is None else self.grades[rows]).int()
        return values * rows_at(spreads, grades) + rows_at(self.means, grades)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._layout()

    def _words(self, rows: Tensor | None) -> Tensor:
        starts, windows = self._layout()
        starts = starts if rows is None else starts[rows]
        if self.grades is not None:
            grades = (self.grades if rows is None else self.grades[rows]).long()
            windows = windows[0][grades], windows[1][grades], windows[2][grades]
        return read_words(self.codes, starts, windows)

    def _words_and_members(self) -> tuple[Tensor, Any]:
        words = torch.cat([self._words(rows) for rows in self.blocks()] or [self.codes.new_zeros(0)]).view(-1).int()
        return words, list_members(words, None, NO_PADDING, self.form.centroids)

    @property
    def state_bits(self) -> int:
        """Bits that number a value."""
        return self.form.centroids.bit_length() - 1

    @property
    def num_rows(self) -> int:
        if self.codes.ndim > 1:  # while it is made
            return len(self.codes)
        return (len(self.codes) - 2) // self.widths[0] if self.grades is None else len(self.grades)

    def _stored_rows(self) -> list[StoredPart]:
        """Codes and where they are, every 4 bytes of which count one, and the floats that they are read by."""
        exported = self._places()
        nbytes = self.codes.nbytes + self.shifts.nbytes + sum(array.nbytes for array in exported.values())
        floats = [
            StoredPart(tensor, tensor.numel(), tensor.nbytes) for tensor in (self.centroids, self.means, self.spreads)
        ]
        return [
            StoredPart(self.codes, math.ceil(nbytes / self.assignments.element_size()), nbytes, self.num_rows),
            *floats,
        ]

    def _places(self) -> dict[str, np.ndarray]:
        """What says where rows are, beside the widths of grades; nothing where there is one grade."""
        if self.grades is None:
            return {}
        grades, widths = numpy_of(self.grades).astype(np.int64), np.asarray(self.widths)
        blocks = -(-self.num_rows // GRADE_BLOCK)
        counts = np.zeros((blocks, len(widths)), dtype=np.int64)
        np.add.at(counts, (np.arange(self.num_rows) // GRADE_BLOCK, grades), 1)
        firsts = np.concatenate([[0], np.cumsum(counts.sum(axis=0) * widths)])[:-1]
        bases = firsts + (np.cumsum(counts, axis=0) - counts) * widths
        own = numpy_of(self._layout().starts)
        ranks = (own - bases[np.arange(self.num_rows) // GRADE_BLOCK, grades]) // widths[grades]
        places = (grades * GRADE_BLOCK + ranks).astype(np.uint8)
        return {"places": places[:, None], "bases": bases.astype(np.int32).ravel()}

    def _export_rows(self) -> dict[str, Any]:
        if not self.encoded:
            raise InputError("rows that are trellis codes must be encoded to be served: call `encode` first")
        floats = {"values": self.centroids, "means": self.means, "spreads": self.spreads * (self.shifts > 0)}
        arrays = {
            "codebook": self.codes,
            "shifts": self.shifts,
            **{name: part.view(-1) for name, part in floats.items()},
        }
        return {**{name: numpy_of(tensor) for name, tensor in arrays.items()}, **self._places()}

    def extra_repr(self) -> str:
        first = super(ProductCodebookEmbedding, self).extra_repr()
        told = f"{first}, widths={list(self.widths)}, state_bits={self.state_bits}"
        return told + (f", row_bits={self.row_bits}" if self.row_bits is not None else "")


def _checked(grades: Labels | None, rows: int, count: int) -> np.ndarray:
    own = np.asarray(grades if grades is not None else [])
    if own.shape != (rows,) or own.dtype.kind not in "iu" or (len(own) and not 0 <= own.min() <= own.max() < count):
        raise InputError(f"grades must be {rows} integers from 0 to {count - 1}, got {own.dtype} of shape {own.shape}")
    return own.astype(np.uint8)
