"""A decoder is written once: it reads arrays of any shape and dtype, and computes alike in NumPy, PyTorch and ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
import torch

from baco_gpu.errors import InputError
from baco_gpu.serving import ServedTable, load_codebook, save_codebooks
from baco_gpu.serving.decoders import Decoder, FloatRows, Lookup
from baco_gpu.serving.onnx_graph import save_onnx
from baco_gpu.tables import ServedEmbedding

IDS = np.array([0, 3, 1, 2, 2])


@dataclass(frozen=True)
class TurnedRows(Decoder):
    """Entries that numbers of any width name, from a mean on, turned by a matrix, divided, and as long as is said."""

    length: float

    @classmethod
    def of(
        cls, *, places: np.ndarray, entries: np.ndarray, mean: np.ndarray, turns: np.ndarray, divisors: np.ndarray,
        length: float = 1.0,
    ) -> Self:  # fmt: skip
        return cls(entries.dtype, entries.shape[1], len(places), length)

    def read(self, lookup: Lookup) -> Any:
        rows = lookup.take(lookup.array("entries"), lookup.rows("places")) - lookup.array("mean")
        divisors = lookup.cast(lookup.columns(lookup.rows("divisors"), 1, 2), self.dtype)
        turned = rows @ lookup.array("turns", 1) * lookup.constant(self.length, self.dtype)
        return turned / (divisors + lookup.constant(1, self.dtype))


@pytest.fixture
def parts(monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(Decoder, "named", {"turned": TurnedRows})
    generator = np.random.default_rng(0)
    entries, mean, turns = (generator.normal(size=shape) for shape in ((40000, 3), 3, (2, 3, 3)))
    divisors = generator.integers(0, 255, (4, 2)).astype(np.uint8)
    return {"entries": entries, "mean": mean, "turns": turns, "divisors": divisors, "length": 2.0, "encoding": "turned"}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("secondary", [None, np.array([1, 1, 0, 3], np.int32)])
def test_decoders_compute_alike_in_numpy_pytorch_and_onnx(parts, dtype, secondary, tmp_path):
    from onnx.reference import ReferenceEvaluator

    places = np.array([39999, 0, 5, 33000]).astype(dtype)
    path = save_codebooks({"t": ServedTable(places=places, secondary=secondary, **parts)}, tmp_path / "t.safetensors")
    table = load_codebook(path)
    assert table.facts() == {
        **{"padding_idx": None, "own_share": None, "bits": None, "dim": None},
        **{"length": 2.0, "encoding": "turned"},
    }
    turned = (parts["entries"][places] - parts["mean"]) @ parts["turns"][1] * 2 / (1.0 + parts["divisors"][:, 1:])
    wanted = (turned if secondary is None else (turned + turned[secondary]) / 2)[IDS]
    np.testing.assert_allclose(table.lookup(IDS), wanted, rtol=1e-12)
    torch.testing.assert_close(ServedEmbedding(table)(torch.from_numpy(IDS)), torch.from_numpy(wanted))
    model = ReferenceEvaluator(str(save_onnx(table, tmp_path / "t.onnx")))
    np.testing.assert_allclose(model.run(None, {"ids": IDS})[0], wanted, rtol=1e-12)


def test_what_a_decoder_says_is_checked_for_it(parts):
    places = np.arange(4)
    parts["entries"][7, 1] = np.nan
    with pytest.raises(InputError, match="entries must hold finite numbers, got nan"):
        ServedTable(places=places, **parts)
    del parts["turns"]
    with pytest.raises(
        InputError, match=r"must be given places, entries, mean, turns, divisors \(and may be given length"
    ):
        ServedTable(places=places, **parts)
    with pytest.raises(InputError, match=r"one that is known here \('turned'\), got 'twisted'"):
        ServedTable(places=places, **{**parts, "encoding": "twisted"})
    with pytest.raises(TypeError, match="must have other names for what tables store of ids: basis"):

        class Taken(FloatRows):
            @classmethod
            def of(cls, *, codebook, basis):
                return super().of(codebook=codebook)
