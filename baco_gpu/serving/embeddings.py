"""What a table gives for ids: said once, as decoders are, for NumPy, PyTorch and graphs of ONNX alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from baco_gpu.serving.decoders import Decoder, Lookup


class Served(Protocol):
    """What is stored of a table, by the names that `baco_gpu.serving.ServedTable` documents."""

    decoder: Decoder
    codes: Any
    secondary: Any
    residual: Any
    padding_idx: int | None
    own_share: float | None


def embeddings(table: Served, ids: Lookup) -> Any:
    """The embeddings of the ids that are looked up: (..., dim)."""
    read, dtype = table.decoder.read, table.decoder.dtype
    out = read(ids if table.codes is None else ids.through("codes"))
    if table.secondary is not None:
        # Half precision is added up in single precision, and rounded once.
        wide = np.result_type(dtype, np.float32)
        own, others = (ids.cast(rows, wide) for rows in (out, read(ids.through("secondary"))))
        if table.own_share is None:
            mixed = (own + others) * ids.constant(0.5, wide)
        else:
            share, rest = (ids.constant(part, wide) for part in (table.own_share, 1 - table.own_share))
            mixed = own * share + ids.mean(others) * rest
        out = ids.cast(mixed, dtype)
    if table.padding_idx is not None:
        out = ids.zeroed(out, table.padding_idx)
    if table.residual is not None:
        out = out + ids.through("residual_rows").rows("residual") @ ids.array("basis")
    return out
