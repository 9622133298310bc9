"""An exported table as a PyTorch module: looked up on its device in the bytes that it was exported in."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.ops.product_quantization import join_pieces, read, signs_of
from baco_gpu.ops.quantization import unpack, values_of
from baco_gpu.ops.reference import check_indices, check_range
from baco_gpu.precision import ProductFormat
from baco_gpu.serving.decoders import OF_IDS
from baco_gpu.serving.embeddings import embeddings
from baco_gpu.serving.table import ServedTable
from baco_gpu.tables.embedding_table import Device, EmbeddingTable
from baco_gpu.tables.export import served_table


class ServedEmbedding(nn.Module):
    """Inference from what a table stores: rows of few bits stay packed, and are unpacked by the batch.

    Called like `torch.nn.Embedding`: indices of any shape in, (*shape, embedding_dim) out. It has no parameters, and
    its buffers, named as the arrays of `ServedTable`, follow `to(device)` and `state_dict`.

    Parameters
    ----------
    table : ServedTable
        As `baco_gpu.serving.load_codebook` reads it.
    device : as of `torch.nn.Embedding`
    """

    codes: Tensor | None
    secondary: Tensor | None
    residual: Tensor | None
    basis: Tensor | None
    residual_rows: Tensor | None

    def __init__(self, table: ServedTable, *, device: Device = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.own_share, self.decoder = table.padding_idx, table.own_share, table.decoder
        arrays = table.arrays()
        self._unsigned = {name for name, array in arrays.items() if array.dtype == np.uint16}
        for name, array in arrays.items():  # few operators take unsigned ones: see `product_quantization.store`
            array = array.view(np.int16) if name in self._unsigned else array
            self.register_buffer(name, torch.tensor(array, device=device))
        for name in set(OF_IDS) - arrays.keys():
            setattr(self, name, None)  # `torch.export` does not take a buffer that is None

    @classmethod
    def of(cls, module: EmbeddingTable) -> Self:
        """What `module` stores, on its device; InputError as of `export_codebook`."""
        return cls(served_table(module), device=next(module.parameters()).device)

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return sum(buffer.nbytes for buffer in self.state_dict().values())

    def forward(self, input: Tensor) -> Tensor:
        """Embeddings of indices (int32 or int64, any shape): a tensor of shape (*input.shape, embedding_dim).

        Raises InputError when `input` is no integer tensor or, on the CPU, holds an index out of range.
        """
        check_indices(input)
        flat = input.reshape(-1)
        if not torch.compiler.is_compiling():  # a graph of unknown indices cannot ask
            check_range("indices", flat, self.num_embeddings)
        out: Tensor = embeddings(self, _Lookup(self, flat))
        return out.view(*input.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        rows = self.decoder.num_rows
        return f"{self.num_embeddings}, {self.embedding_dim}, num_rows={rows}, stored in {self.decoder}"


class _Lookup(NamedTuple):
    """A `baco_gpu.serving.decoders.Lookup`, by PyTorch."""

    table: ServedEmbedding
    at: Tensor

    def rows(self, name: str) -> Tensor:
        return self._read(name, self.table.get_buffer(name)[self.at])

    def numbers(self) -> Tensor:
        return self.at.long().unsqueeze(-1)

    def array(self, name: str, place: int | None = None) -> Tensor:
        tensor = self.table.get_buffer(name)
        return self._read(name, tensor if place is None else tensor[place])

    def _read(self, name: str, stored: Tensor) -> Tensor:
        return read(stored) if name in self.table._unsigned else stored

    def constant(self, value: Any, dtype: Any) -> Any:
        if np.ndim(value) == 0:
            return value  # which has the dtype of whatever it is computed with, and is copied to no device
        return torch.tensor(np.array(value, dtype), device=self.at.device)

    def cast(self, values: Tensor, dtype: Any) -> Tensor:
        return values.to(torch.from_numpy(np.empty(0, dtype)).dtype)

    def take(self, values: Tensor, places: Tensor) -> Tensor:
        return values[places.long()]

    def columns(self, values: Tensor, first: int, last: int) -> Tensor:
        return values[..., first:last]

    def mean(self, values: Tensor) -> Tensor:
        return values.mean(dim=-2)

    def zeroed(self, values: Tensor, number: int) -> Tensor:
        return values.masked_fill(self.numbers() == number, 0)

    def through(self, index: str) -> _Lookup:
        return _Lookup(self.table, self.table.get_buffer(index)[self.at])

    def unpacked(self, packed: Tensor, scales: Tensor, bits: int, dim: int) -> Tensor:
        return values_of(unpack(packed, bits, dim), scales, bits)

    def joined(self, codes: Tensor, centroids: Tensor, form: ProductFormat) -> Tensor:
        codes = read(codes)
        return join_pieces(centroids[codes >> form.signs] * signs_of(codes, form).to(centroids), form)
