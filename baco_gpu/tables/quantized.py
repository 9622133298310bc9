"""An embedding table that is integers of few bits while it is trained, too: no floats are kept behind them."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from baco_gpu.checks import check_choice, check_integer
from baco_gpu.errors import InputError
from baco_gpu.ops.quantization import check_storable, pack, quantized_rows, stochastic_rows, unpack, values_of
from baco_gpu.ops.reference import check_indices, check_range, exported, in_several_processes, transformed
from baco_gpu.precision import BITS, SCALE_BYTES, packed_width
from baco_gpu.ranks import Ranks
from baco_gpu.renaming import renamed_attributes
from baco_gpu.tables.assignments import embedding_options, freeze_like, padding_index, trained_table
from baco_gpu.tables.embedding_table import Device, State, StoredPart, check_device, numpy_of
from baco_gpu.tables.facts import Facts
from baco_gpu.tables.id_growth import Moves, RowMoves, move_rows
from baco_gpu.tables.row_gradient import RowGradient
from baco_gpu.tables.rowwise import RowwiseRMSprop
from baco_gpu.tables.weight import ExpandedTable

# Backward passes whose gradients wait where nothing is there to take them, and where it is and takes none.
MOST_PASSES, MOST_STEPPED = 16, 1024
_BLOCK = 1 << 13  # rows that are floats at a time where all are drawn or rounded


class QuantizedEmbedding(ExpandedTable, known_by={"integers": 2}):
    """A table of `num_embeddings` rows, each stored as integers of few bits and a scale, in training as in serving.

    Called like `torch.nn.Embedding`: indices of any shape in, float32 of shape (*indices.shape, embedding_dim) out.
    There are no float weights. Backward passes leave the gradients of the rows that were looked up as `anchor.grad`, a
    `baco_gpu.tables.row_gradient.RowGradient`, where `zero_grad`, clipping of gradients and a GradScaler find them.
    `baco_gpu.RowwiseRMSprop` takes them from there, moves these rows, and rounds them at random, so that steps smaller
    than the integers tell apart add up all the same (ALPT, arXiv 2212.05735, section 3).

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    padding_idx : int, optional
        The index whose embedding is zero and gets no gradient; counted from the end where negative.
    bits : int, 16 or from 8 to 2
        Of a value.
    device : as of `torch.nn.Embedding`

    Attributes
    ----------
    integers : uint8 buffer of shape (num_embeddings, packed width)
        Of `bits` each, as `baco_gpu.precision` packs them.
    scales : uint8 buffer of shape (num_embeddings, 1)
        See `baco_gpu.precision.scale_values`.
    anchor : nn.Parameter of shape (0,)
        What autograd, and the state of the optimiser, know the table by; it has no values.

    Raises
    ------
    InputError
        When a size is out of range.
    """

    integers: Tensor
    scales: Tensor
    anchor: nn.Parameter

    _renamed: ClassVar[Mapping[str, str]] = {
        **ExpandedTable._renamed,
        "read": "read_rows",
        "write_all": "write_rows",
    }

    says: ClassVar[Facts] = {"bits": int, "embedding_dim": int}

    _trained_by: weakref.ref[Any] | None = None
    _passes, _looked_up = 0, False  # of backward passes whose gradients no `RowwiseRMSprop` has taken

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        bits: int = 8,
        device: Device = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = check_integer("num_embeddings", num_embeddings, minimum=0)
        self.embedding_dim = check_integer("embedding_dim", embedding_dim, minimum=1)
        self.padding_idx = padding_index(padding_idx, self.num_embeddings)
        check_choice("bits", bits, tuple(BITS.values()))
        check_device(device)
        self.bits = bits
        width = packed_width(self.embedding_dim, bits)
        self.register_buffer("integers", torch.zeros((self.num_embeddings, width), dtype=torch.uint8, device=device))
        self.register_buffer(
            "scales", torch.zeros((self.num_embeddings, SCALE_BYTES), dtype=torch.uint8, device=device)
        )
        self.anchor = nn.Parameter(torch.empty(0, device=device))
        self.reset_parameters()

    @classmethod
    def from_state(cls, state: State, dim: int, *, sparse: bool = False, **options: Any) -> Self:
        count, width = state["integers"].shape
        dim = cls.said_in(state).get("embedding_dim", dim)
        bits = options.pop("bits", None) or bits_of_rows(state, dim)
        if bits in BITS.values() and width != (own := packed_width(dim, bits)):
            raise InputError(f"integers must have {own} bytes a row of {dim} values of {bits} bits, got {width}")
        return cls(count, dim, bits=bits, **options)

    @classmethod
    def from_pretrained(cls, table: Tensor | nn.Module, *, padding_idx: int | None = None, bits: int = 8) -> Self:
        """A trained table rounded to the nearest integers, on its device, to be trained on.

        Parameters
        ----------
        table : floating tensor of shape (num_embeddings, embedding_dim), `nn.Embedding` or another table
        padding_idx, bits : as of `QuantizedEmbedding`
            The padding index is that of `table`, where it is a module and none is given.

        Raises
        ------
        InputError
            When the table is no floating matrix, not finite, or has values beyond what integers of so few bits hold.
        """
        source = trained_table(table)
        rows, dim = source.shape
        padding = embedding_options(table, padding_idx, None)["padding_idx"]
        module = cls(rows, dim, padding, bits=bits, device=source.device)
        module.write_rows(source)
        freeze_like(module, table)
        return module

    @torch.no_grad()
    def reset_parameters(self, std: float = 1.0, generator: torch.Generator | None = None) -> None:
        """Draw all rows from N(0, std^2), on the CPU where it has a generator, and round them to the nearest."""
        device = self.scales.device if generator is None else generator.device
        for start in range(0, self.num_embeddings, _BLOCK):
            shape = min(_BLOCK, self.num_embeddings - start), self.embedding_dim
            self._write_block(start, torch.empty(shape, device=device).normal_(0.0, std, generator=generator))

    initialize = reset_parameters

    def stored(self) -> list[StoredPart]:
        """The integers, of which each is a parameter, and the scales."""
        count = self.num_embeddings * self.embedding_dim
        rows = StoredPart(self.integers, count, self.integers.nbytes, self.num_embeddings)
        return [rows, StoredPart(self.scales, 0, self.scales.nbytes)]

    def move_rows(self, sources: np.ndarray) -> Moves:
        self.take_gradient()
        count, self.num_embeddings = self.num_embeddings, len(sources)
        move_rows(self, ("integers", "scales"), sources)
        return {self.anchor: RowMoves(count, sources)}

    def set_rows(self, rows: Tensor, values: Tensor) -> None:
        self.write(rows, values.float())

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        if cuda_graph:
            raise InputError(
                "cuda_graph must be False for tables of QuantizedEmbedding, whose steps wait for the device"
            )

    @classmethod
    def own_optimizer(cls, tables: Sequence[Self], lr: float, seed: int) -> torch.optim.Optimizer:
        return RowwiseRMSprop(tables, lr, seed=seed)

    def export_arrays(self) -> dict[str, Any]:
        arrays = {"codebook": numpy_of(self.integers), "scales": numpy_of(self.scales)}
        return {**arrays, "bits": self.bits, "dim": self.embedding_dim, "padding_idx": self.padding_idx}

    def _expanded(self) -> Tensor:
        return self._look_up(None)

    def _latent(self) -> Tensor:
        return self.read_rows()

    def _try_rows(self, ids: Tensor, values: Tensor) -> None:
        self.set_rows(ids, values)

    def _close(self, now: Tensor, wanted: Tensor) -> Tensor:
        return torch.ones_like(now, dtype=torch.bool)  # every id has a row, which is rounded

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        """Embeddings of indices (int32 or int64, any shape): a float32 tensor of shape (*input.shape, embedding_dim).

        Raises InputError when `input` is no integer tensor or, on the CPU, holds an index out of range; on a GPU such
        an index ends in PyTorch's assertion.
        """
        check_indices(input)
        flat = input.reshape(-1)
        check_range("indices", flat, self.num_embeddings)
        return self._look_up(flat).view(*input.shape, self.embedding_dim)

    def read_rows(self, rows: Tensor | None = None) -> Tensor:
        integers, scales = self.integers, self.scales
        if rows is not None:
            integers, scales = integers.index_select(0, rows), scales.index_select(0, rows)
        return values_of(unpack(integers, self.bits, self.embedding_dim), scales, self.bits)

    @torch.no_grad()
    def write(self, rows: Tensor, values: Tensor, chances: Tensor | None = None) -> None:
        """Store values as these rows, rounded to the nearest integers; by `chances` where these are given.

        Parameters
        ----------
        rows : int64 tensor of distinct rows
        values : float32 tensor of shape (number of rows, embedding_dim)
        chances : float32 tensor of the same shape, uniform from 0 to 1
            See `baco_gpu.ops.quantization.stochastic_rows`.
        """
        if chances is None:
            check_storable(values, self.bits)
            integers, scales = quantized_rows(values, self.bits)
        else:
            integers, scales = stochastic_rows(values, self.bits, chances)
        _words(self.integers).index_copy_(0, rows, _words(pack(integers, self.bits)))
        self.scales.index_copy_(0, rows, scales)

    def write_rows(self, values: Tensor) -> None:
        for start in range(0, self.num_embeddings, _BLOCK):
            self._write_block(start, values[start : start + _BLOCK])

    def take_gradient(self) -> tuple[Tensor, Tensor]:
        """What backward passes have left since the last call: rows, int64 and ascending, and the sum for each of them.

        Rows without any are left out; of a gradient of the whole table (`weight`), those where it is zero.
        """
        waiting = self._waiting()
        self.anchor.grad, self._passes = None, 0
        return (self._row_gradient() if waiting is None else waiting).sums()

    def add_gradients(self, ranks: Ranks) -> None:
        passes = self._passes
        rows, gradient = self.take_gradient()
        counts = ranks.table(len(rows))[:, 0].tolist()
        every, gradients = (
            torch.cat([torch.as_tensor(part, device=own.device) for part in ranks.gather(own, counts)])
            for own in (rows, gradient)
        )
        self.anchor.grad, self._passes = self._row_gradient((every, gradients)), passes

    def expand(self) -> nn.Embedding:
        """An `nn.Embedding` with the table's values as its own, independent weight."""
        return nn.Embedding.from_pretrained(self.read_rows(), freeze=False, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, bits={self.bits}"

    def _look_up(self, rows: Tensor | None) -> Tensor:
        if exported() or not (torch.is_grad_enabled() and self.anchor.requires_grad):
            return self.read_rows(rows)
        if transformed():
            raise InputError("torch.func must not differentiate a QuantizedEmbedding, whose gradients stay with it")
        if in_several_processes():
            raise InputError(
                "DistributedDataParallel must not train a QuantizedEmbedding, whose gradients it does not see and "
                "would leave different in every process"
            )
        self._looked_up = True
        out: Tensor = _Lookup.apply(self.anchor, self, rows)
        return out

    def leave_gradient(self, rows: Tensor | None, gradient: Tensor) -> None:
        """Keep the gradient of these rows, or of all, as that of the anchor, until an optimizer takes it.

        What waits takes no more memory than the table as floats takes twice. Raises InputError when nobody has taken
        those of many backward passes: `MOST_PASSES` where no `RowwiseRMSprop` is there that trains the table.
        """
        if self._looked_up:
            self._passes, self._looked_up = self._passes + 1, False
        trained = self._trained_by is not None and self._trained_by() is not None
        if self._passes > (MOST_STEPPED if trained else MOST_PASSES):
            self.anchor.grad = None
            raise InputError(
                f"gradients of {self._passes - 1} backward passes wait for a step of baco_gpu.RowwiseRMSprop, "
                + ("which is there and makes none" if trained else "and none is there")
                + f" for this {self._get_name()}, which no other optimizer trains: step the one that is made for it, "
                "`compress_module(...).optimizer` where that has made the table"
            )
        if not gradient.numel():
            return
        waiting = self._waiting()
        if waiting is None:
            self.anchor.grad = self._row_gradient((rows, gradient))
        else:
            waiting.leave(rows, gradient, 2 * self.num_embeddings)

    def trained_by(self, optimizer: torch.optim.Optimizer) -> None:
        """Know of the optimizer that takes gradients from here."""
        self._trained_by = weakref.ref(optimizer)

    def _waiting(self) -> RowGradient | None:
        """What waits, as long as nobody has forgotten it, as `zero_grad` does."""
        gradient = self.anchor.grad
        return gradient if isinstance(gradient, RowGradient) else None

    def _row_gradient(self, *parts: tuple[Tensor | None, Tensor]) -> RowGradient:
        return RowGradient(self.anchor, self.embedding_dim, self.padding_idx, list(parts))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_trained_by"}  # copies are not trained

    def _write_block(self, start: int, values: Tensor) -> None:
        """Store the rows from `start` on; the padding row is zero."""
        rows = torch.arange(start, start + len(values), device=self.scales.device)
        values = values.to(self.scales.device, torch.float32)
        if self.padding_idx is not None:
            values = values.masked_fill((rows == self.padding_idx)[:, None], 0)
        self.write(rows, values)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name in ("integers", "scales"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.dtype != torch.uint8:
                arguments[-1].append(f"{prefix}{name} must be torch.uint8, got {stored.dtype}")
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def bits_of_rows(state: State, dim: int) -> int:
    """Of how many bits the values of packed rows are; InputError where neither the state nor their width tells."""
    said, integers = QuantizedEmbedding.said_in(state).get("bits"), state["integers"]
    if said is not None:
        return int(said)
    fitting = [bits for bits in BITS.values() if packed_width(dim, bits) == integers.shape[1]]
    if len(fitting) != 1:
        raise InputError(
            f"settings must give its bits: {integers.shape[1]} bytes a row of {dim} values are of "
            f"{' or '.join(map(str, fitting)) or 'no'} bits"
        )
    return fitting[0]


def _words(rows: Tensor) -> Tensor:
    """Rows of bytes as rows of the widest integers that they are made up of, which are copied several times as fast."""
    dtypes = (torch.int64, torch.int32, torch.int16)
    return rows.view(next((dtype for dtype in dtypes if rows.shape[1] % dtype.itemsize == 0), rows.dtype))


class _Lookup(torch.autograd.Function):
    """Rows as floats; backward leaves their gradient with the table, and gives its anchor none."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, table: QuantizedEmbedding, rows: Tensor | None) -> Tensor:
        ctx.table, ctx.rows = table, rows
        return table.read_rows(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ctx.table.leave_gradient(ctx.rows, gradient)
        return None, None, None


__getattr__ = renamed_attributes(__name__, {"LowPrecisionEmbedding": "QuantizedEmbedding"})
