"""Codebooks of rows of few bits: what the rounding leaves, how it trains, what it costs, and that more rows fit."""

import numpy as np
import pytest
import torch

from baco_gpu import precision
from baco_gpu.budget import TableSize
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.experiment import compress, run
from baco_gpu.ops.quantization import pack, quantized_rows, rounded_rows, scale_values
from baco_gpu.precision import bits_of
from baco_gpu.tables import CodebookEmbedding, ResidualCodebookEmbedding
from baco_gpu.tables.facts import without_facts
from baco_gpu.tables.weighted import WeightedCodebookEmbedding
from baco_gpu.training import TrainingSettings
from planted_training import planted_split

pytestmark = pytest.mark.heavy("trains models")

BITS = (16, 8, 5, 4, 3, 2)
CODES, SECONDARY = [0, 2, 1, 2, 0], [1, -1, 0, 0, -1]


def filled(kind=CodebookEmbedding, bits=8, secondary=SECONDARY, **options):
    module = kind(CODES, 6, secondary, bits=bits, **options)
    with torch.no_grad():
        module.codebook.normal_(generator=torch.Generator().manual_seed(1))
    return module


def normal_rows(count, dim, dtype=torch.float32):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [16, 8, 6, 5])
def test_the_outermost_level_reaches_the_greatest_value_of_a_row(bits, dtype):
    values = normal_rows(50, 8, dtype)
    integers, scales = quantized_rows(values, bits)
    assert integers.dtype == (torch.uint8 if bits <= 8 else torch.int32)
    assert scales.dtype == torch.uint8
    steps = scale_values(scales, bits).to(dtype)
    levels = integers.to(dtype) - (2**bits - 1) / 2
    greatest = values.abs().amax(dim=1, keepdim=True)
    reached = steps * (2**bits - 1) / 2
    assert (reached * (1 + 1e-6) >= greatest).all()
    assert (scale_values(scales - 1, bits).to(dtype) * (2**bits - 1) / 2 < greatest).all()  # a smaller scale would not
    assert ((levels * steps - values).abs() <= steps * 0.5001).all()
    assert torch.equal(rounded_rows(values, bits), levels * steps)


def test_scales_are_floats_of_five_and_three_bits():
    every = np.arange(256, dtype=np.uint8)
    values = precision.scale_values(every, 8)
    assert values.dtype == np.float32
    assert values[:2].tolist() == [0.0, 2**-16 * 9 / 8]
    assert values[-1] == 2**15 * 15 / 8
    assert values[128 : 128 + 9].tolist() == [1, 9 / 8, 10 / 8, 11 / 8, 12 / 8, 13 / 8, 14 / 8, 15 / 8, 2]
    for bits, finer in ((8, 1), (2, 1), (16, 256)):
        assert np.array_equal(precision.scale_values(every, bits) * finer, values)
        assert np.array_equal(scale_values(torch.as_tensor(every), bits).numpy() * finer, values)
    # The row of one level above a scale has that scale, and the next smaller row too; others the nearest.
    rows = torch.as_tensor(values)[:, None].repeat(1, 4)
    assert torch.equal(quantized_rows(rows * 127.5, 8)[1][:, 0], torch.as_tensor(every))


def test_scales_out_of_range_are_the_outermost():
    scales = quantized_rows(torch.tensor([[1e-30], [1e30], [0.0]]), 8)[1]
    assert scales.tolist() == [[1], [255], [0]]


@pytest.mark.parametrize(("bits", "error"), [(4, 0.01154), (3, 0.03744), (2, 0.1188)])
def test_few_levels_lie_as_well_as_they_can_for_normal_values(bits, error):
    values = normal_rows(400, 512, torch.float64)
    integers, scales = quantized_rows(values, bits)
    scales = scale_values(scales, bits).double()
    assert integers.unique().tolist() == list(range(2**bits))
    levels = integers.double() - (2**bits - 1) / 2
    assert torch.equal(rounded_rows(values, bits), levels * scales)
    nearest = (values / scales - torch.arange(2**bits).sub((2**bits - 1) / 2)[:, None, None]).abs().argmin(dim=0)
    assert torch.equal(nearest.to(torch.uint8), integers)
    # The mean squared error in table II of Max, IRE Transactions on Information Theory 6, 1960.
    assert float((levels * scales - values).square().mean()) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("bits", BITS)
def test_a_row_of_one_size_is_stored_as_it_is(bits):
    values = torch.tensor([[0.25, -0.25, 0.25, 0.25]])
    torch.testing.assert_close(rounded_rows(values, bits), values, rtol=0.02 if bits > 4 else 0.51, atol=0)


@pytest.mark.parametrize("bits", BITS)
def test_rows_without_a_scale_are_zero(bits):
    values = torch.tensor([[0.0, 0.0], [1e-45, -1e-45], [3.0, -3.0]])
    rounded = rounded_rows(values, bits)
    assert not rounded[0].any()
    assert (rounded[1].abs() < 2**-15).all()
    assert torch.equal(rounded[2], -rounded[2].flip(0))
    torch.testing.assert_close(rounded[2], values[2], rtol=0.51, atol=0)


@pytest.mark.parametrize("bits", BITS)
def test_half_precision_is_rounded_in_single(bits):
    values = normal_rows(20, 8, torch.float16)
    assert torch.equal(quantized_rows(values, bits)[0], quantized_rows(values.float(), bits)[0])
    assert torch.equal(rounded_rows(values, bits), rounded_rows(values.float(), bits).half())


@pytest.mark.parametrize("bits", BITS)
def test_a_row_is_rounded_by_itself(bits):
    values = normal_rows(300, 64)
    whole = rounded_rows(values, bits)
    some = torch.tensor([7, 299, 7, 0])
    assert torch.equal(rounded_rows(values[some], bits), whole[some])
    assert torch.equal(rounded_rows(values[7:8], bits), whole[7:8])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_a_batch_smaller_than_the_codebook_gives_the_same(bits, sparse):
    module = filled(bits=bits, secondary=None, padding_idx=1, sparse=sparse)
    plain = CodebookEmbedding(CODES, 6, padding_idx=1, sparse=sparse)
    few = torch.tensor([[3], [1]])
    assert torch.equal(module(few), module(torch.tensor([3, 1, 2, 0]))[:2, None])
    assert torch.equal(module(few), module.weight[few])
    assert module(torch.empty((0, 2), dtype=torch.int64)).shape == (0, 2, 6)
    for one in (module, plain):
        (one(few) * torch.arange(12.0).reshape(2, 1, 6)).sum().backward()
    assert module.codebook.grad.is_sparse == sparse
    assert torch.equal(module.codebook.grad.to_dense(), plain.codebook.grad.to_dense())


@pytest.mark.parametrize("bits", BITS)
def test_gradients_pass_as_if_nothing_were_rounded(bits):
    module, plain = filled(bits=bits), CodebookEmbedding(CODES, 6, SECONDARY)
    factors = torch.arange(30.0).reshape(5, 6)
    for table in (lambda one: one.weight, lambda one: one(torch.arange(5))):
        for one in (module, plain):
            one.zero_grad()
            (table(one) * factors).sum().backward()
        assert torch.equal(module.codebook.grad, plain.codebook.grad)


@pytest.mark.parametrize("sparse", [False, True])
def test_values_beyond_the_levels_get_no_gradient(sparse):
    for bits, beyond in ((2, True), (4, True), (5, False), (8, False)):
        module = CodebookEmbedding([0, 1, 2], 20, bits=bits, sparse=sparse)
        with torch.no_grad():
            module.codebook[:] = torch.tensor([[0.01] * 19 + [1.0], [0.5] * 10 + [-0.5] * 10, [0.0] * 20])
        module(torch.tensor([0, 0, 1])).sum().backward()
        wanted = torch.tensor([2.0, 1.0, 0.0]).repeat_interleave(20).reshape(3, 20)
        wanted[0, -1] = 0.0 if beyond else 2.0
        assert module.codebook.grad.is_sparse == sparse
        assert torch.equal(module.codebook.grad.to_dense(), wanted)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [(CodebookEmbedding, {}), (ResidualCodebookEmbedding, {"residual_dim": 2}), (WeightedCodebookEmbedding, {})],
)
def test_every_lookup_sees_rounded_rows(kind, options, bits):
    module = filled(kind, bits, **options)
    plain = kind(CODES, 6, SECONDARY, **options)
    state = module.state_dict()
    rounded = rounded_rows(state["codebook"], bits)
    plain.load_state_dict({**without_facts(state), "codebook": rounded})
    assert torch.equal(module.weight, plain.weight)
    assert torch.equal(module(torch.arange(5)), plain(torch.arange(5)))
    assert torch.equal(module.expand().weight, plain.weight)
    assert not torch.equal(module.codebook, plain.codebook)
    assert f"bits={bits}" in repr(module)
    assert module.with_new_ids([1]).bits == bits


@pytest.mark.parametrize(("bits", "width"), [(16, 12), (8, 6), (5, 4), (4, 3), (3, 3), (2, 2)])
def test_bytes_count_the_integers_and_the_scales(bits, width):
    module = filled(bits=bits)
    assert module.codebook_bytes == 3 * (width + 1)
    assert module.nbytes == 3 * (width + 1) + 4 * (5 + 5)
    assert module.parameter_count == module.codebook.numel() + 3
    assert TableSize(5, 0, 6, codebook_dtype=f"int{bits}").compressed_bytes(3, 5) == module.nbytes
    assert CodebookEmbedding([4, 5, 9], 6, bits=bits).nbytes == 3 * (width + 1)  # each has its own row
    assert CodebookEmbedding([4, 9, 5], 6, bits=bits).nbytes == 3 * (width + 1) + 4 * 3  # but not that of its place


def test_the_first_integers_are_in_the_lowest_bits():
    assert pack(torch.tensor([[1, 2, 3]], dtype=torch.uint8), 4).tolist() == [[0x21, 0x03]]
    assert pack(torch.tensor([[1, 2, 3, 0, 3]], dtype=torch.uint8), 2).tolist() == [[0b00_11_10_01, 0b11]]
    assert pack(torch.tensor([[1, 2, 7]], dtype=torch.uint8), 3).tolist() == [[0b11_010_001, 0b1]]
    assert pack(torch.tensor([[1, 255]], dtype=torch.uint8), 8).tolist() == [[1, 255]]
    assert pack(torch.tensor([[1, 0xFF02]], dtype=torch.int32), 16).tolist() == [[1, 0, 0x02, 0xFF]]


@pytest.mark.parametrize("method", ["baco-multilevel", "residual", "legcf"])
def test_more_rows_fit_the_same_bytes(method):
    if method == "legcf":
        pytest.importorskip("pymetis")
    split = planted_split()
    plain, small = (
        compress(
            split,
            method,
            BalancedCoclustering(
                budget=0.25, budget_measure="bytes", embedding_dim=32, random_state=0, codebook_dtype=dtype
            ),
        )
        for dtype in ("float", "int8")
    )
    assert small.rows > 1.5 * plain.rows
    full = 4 * plain.full_parameters
    assert plain.bytes <= 0.25 * full
    assert small.bytes <= 0.25 * full
    if small.result is not None and method == "baco-multilevel":
        assert small.result.bytes_compressed == small.bytes


@pytest.mark.parametrize("dtype", ["int8", "int4", "int2"])
def test_training_finds_the_groups_through_the_rounding(dtype):
    split = planted_split()
    clustering = BalancedCoclustering(budget=0.5, embedding_dim=8, random_state=0, codebook_dtype=dtype)
    settings = TrainingSettings(epochs=20, batch_size=32, learning_rate=2e-2, k=5, ks=(5,))
    outcome = run(split, compress(split, "baco-multilevel", clustering), "mf", settings)
    assert outcome.training.test["recall@5"] > 0.6
    table = outcome.model.user_embedding.codebook.detach()
    assert not np.allclose(table, rounded_rows(table, bits_of(dtype)), rtol=0, atol=1e-6)


def test_other_ways_to_store_a_codebook_are_refused():
    with pytest.raises(InputError, match=r"codebook_dtype must be one of 'float', 'int16', .*, 'int2', got 'int9'"):
        BalancedCoclustering(codebook_dtype="int9").check_parameters()
    with pytest.raises(InputError, match=r"bits must be one of 16, 8, .* 2, got 1"):
        CodebookEmbedding(CODES, 6, bits=1)
