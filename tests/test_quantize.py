"""Codebooks of 8-bit rows: what the rounding leaves, how it trains, what it costs, and that more rows fit the bytes."""

import numpy as np
import pytest
import torch

from baco_gpu.clustering.budget import TableSize
from baco_gpu.clustering.estimator import BalancedCoclustering
from baco_gpu.codebook import CodebookEmbedding, ResidualCodebookEmbedding
from baco_gpu.codebook.quantize import quantized_rows, rounded_rows, stored_bytes
from baco_gpu.codebook.weighted import WeightedCodebookEmbedding
from baco_gpu.errors import InputError
from baco_gpu.experiment import compress, run
from baco_gpu.training import TrainingSettings
from test_trainer import one_thread, planted_split

__all__ = ["one_thread"]

CODES, SECONDARY = [0, 2, 1, 2, 0], [1, -1, 0, 0, -1]


def filled(kind=CodebookEmbedding, **options):
    module = kind(CODES, 6, SECONDARY, quantized=True, **options)
    with torch.no_grad():
        module.codebook.normal_(generator=torch.Generator().manual_seed(1))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_the_nearest_integers_times_their_scale(dtype):
    values = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    steps, scales = quantized_rows(values)
    assert steps.dtype == torch.int8
    assert (steps.abs().amax(dim=1) == 127).all()
    torch.testing.assert_close(scales[:, 0] * 127, values.abs().amax(dim=1))
    assert ((steps * scales - values).abs() <= scales * 0.5001).all()
    assert torch.equal(rounded_rows(values), steps.to(dtype) * scales)


def test_rows_without_a_scale_are_zero():
    values = torch.tensor([[0.0, 0.0], [1e-45, -1e-45], [3.0, -3.0]])
    assert rounded_rows(values).tolist() == [[0.0, 0.0], [0.0, 0.0], [3.0, -3.0]]


def test_rounding_again_changes_nothing():
    values = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rounded_rows(rounded_rows(values)), rounded_rows(values), rtol=1e-6, atol=0)


def test_gradients_pass_as_if_nothing_were_rounded():
    module, plain = filled(), CodebookEmbedding(CODES, 6, SECONDARY)
    factors = torch.arange(30.0).reshape(5, 6)
    for table in (lambda one: one.weight, lambda one: one(torch.arange(5))):
        for one in (module, plain):
            one.zero_grad()
            (table(one) * factors).sum().backward()
        assert torch.equal(module.codebook.grad, plain.codebook.grad)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(CodebookEmbedding, {}), (ResidualCodebookEmbedding, {"residual_dim": 2}), (WeightedCodebookEmbedding, {})],
)
def test_every_lookup_sees_rounded_rows(kind, options):
    module = filled(kind, **options)
    plain = kind(CODES, 6, SECONDARY, **options)
    state = module.state_dict()
    plain.load_state_dict({**state, "codebook": rounded_rows(state["codebook"])})
    assert torch.equal(module.weight, plain.weight)
    assert torch.equal(module(torch.arange(5)), plain(torch.arange(5)))
    assert torch.equal(module.expand().weight, plain.weight)
    assert not torch.equal(module.codebook, plain.codebook)
    assert "quantized=True" in repr(module)
    assert module.with_new_ids([1]).quantized


def test_bytes_count_the_integers_and_the_scales():
    module = filled()
    assert stored_bytes(module.codebook) == 3 * (6 + 4)
    assert module.nbytes == 3 * (6 + 4) + 4 * (5 + 5)
    assert module.parameter_count == filled().codebook.numel() + 3
    assert TableSize(5, 0, 6, codebook_dtype="int8").compressed_bytes(3, 5) == module.nbytes


@pytest.mark.parametrize("method", ["codebook", "residual", "legcf"])
def test_more_rows_fit_the_same_bytes(method):
    if method == "legcf":
        pytest.importorskip("pymetis")
    split = planted_split()
    plain, small = (
        compress(
            split,
            method,
            BalancedCoclustering(
                budget=0.5, budget_measure="bytes", embedding_dim=32, random_state=0, codebook_dtype=dtype
            ),
        )
        for dtype in ("float", "int8")
    )
    assert small.rows > 1.5 * plain.rows
    full = 4 * plain.full_parameters
    assert plain.bytes <= 0.5 * full
    assert small.bytes <= 0.5 * full
    if small.result is not None and method == "codebook":
        assert small.result.bytes_compressed == small.bytes


def test_training_finds_the_groups_through_the_rounding():
    split = planted_split()
    clustering = BalancedCoclustering(budget=0.5, embedding_dim=8, random_state=0, codebook_dtype="int8")
    settings = TrainingSettings(epochs=20, batch_size=32, learning_rate=2e-2, k=5, ks=(5,))
    outcome = run(split, compress(split, "codebook", clustering), "mf", settings)
    assert outcome.training.test["recall@5"] > 0.6
    table = outcome.model.user_embedding.codebook.detach()
    assert not np.allclose(table, rounded_rows(table), rtol=0, atol=1e-6)


def test_other_ways_to_store_a_codebook_are_refused():
    with pytest.raises(InputError, match="codebook_dtype must be one of 'float', 'int8', got 'int4'"):
        BalancedCoclustering(codebook_dtype="int4").check_parameters()
