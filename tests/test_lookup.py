"""The codebook's operators: values, gradients, registration, and the same bits every time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.codebook.lookup import (
    NO_PADDING,
    codebook_collapse,
    codebook_expand,
    codebook_lookup,
    codebook_lookup_gradient,
    list_members,
    sparse_codebook_lookup,
)
from baco_gpu.codebook.segments import add_by_row_, gathered_sums
from baco_gpu.errors import InputError

ROWS, DIM, IDS = 5, 3, 11


def example(secondary, dtype=torch.float64, device="cpu"):
    """Codebook, codes and secondary codes; row 4 has no primary member, id 2 has one row twice."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn((ROWS, DIM), generator=generator, dtype=torch.float64).to(dtype).to(device)
    codes = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 1], dtype=torch.int32, device=device)
    second = torch.tensor([1, 4, 2, 0, 4, 4, 3, 3, 1, 2, 0], dtype=torch.int32, device=device)
    return codebook.requires_grad_(), codes, second if secondary else None


def expected_rows(codebook, codes, secondary, indices, padding_idx):
    """One index at a time."""
    rows = []
    for index in indices.reshape(-1).tolist():
        if index == padding_idx:
            rows.append(torch.zeros(DIM, dtype=codebook.dtype))
        elif secondary is None:
            rows.append(codebook[int(codes[index])])
        else:
            rows.append((codebook[int(codes[index])] + codebook[int(secondary[index])]) / 2)
    return torch.stack(rows).reshape(*indices.shape, DIM)


@pytest.fixture(params=[False, True], ids=["one code", "two codes"])
def two(request):
    return request.param


@pytest.fixture(params=[NO_PADDING, 3], ids=["no padding", "padding"])
def padding(request):
    return request.param


@pytest.fixture
def indices():
    return torch.tensor([[0, 3, 10, 3], [7, 7, 2, 1]])


@pytest.mark.parametrize("lookup", [codebook_lookup, sparse_codebook_lookup])
def test_lookup_equals_the_loop(lookup, two, padding, indices):
    codebook, codes, secondary = example(two)
    found = lookup(codebook, codes, secondary, indices, padding)
    torch.testing.assert_close(found, expected_rows(codebook, codes, secondary, indices, padding), rtol=0, atol=0)


def test_gradients_equal_those_of_the_loop(two, padding, indices):
    codebook, codes, secondary = example(two)
    upstream = torch.randn((*indices.shape, DIM), dtype=torch.float64)
    wanted = torch.autograd.grad(expected_rows(codebook, codes, secondary, indices, padding), codebook, upstream)[0]
    dense = torch.autograd.grad(codebook_lookup(codebook, codes, secondary, indices, padding), codebook, upstream)[0]
    sparse = torch.autograd.grad(
        sparse_codebook_lookup(codebook, codes, secondary, indices, padding), codebook, upstream
    )[0]
    torch.testing.assert_close(dense, wanted)
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), wanted)


def test_expansion_is_the_lookup_of_all_indices(two, padding):
    codebook, codes, secondary = example(two)
    everything = torch.arange(IDS)
    members = list_members(codes, secondary, padding, ROWS)
    table = codebook_expand(codebook, codes, secondary, padding, *members)
    looked_up = codebook_lookup(codebook, codes, secondary, everything, padding)
    torch.testing.assert_close(table, looked_up, rtol=0, atol=0)
    upstream = torch.randn((IDS, DIM), dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(table, codebook, upstream)[0], torch.autograd.grad(looked_up, codebook, upstream)[0]
    )


def test_gradcheck_of_first_and_second_order(two, padding, indices):
    codebook, codes, secondary = example(two)
    members = list_members(codes, secondary, padding, ROWS)

    def look_up(table):
        return codebook_lookup(table, codes, secondary, indices, padding)

    def expand(table):
        return codebook_expand(table, codes, secondary, padding, *members)

    for function in (look_up, expand):
        assert torch.autograd.gradcheck(function, codebook)
        assert torch.autograd.gradgradcheck(function, codebook)


def test_operators_are_registered_as_torch_asks(two, padding, indices):
    codebook, codes, secondary = example(two)
    members = list_members(codes, secondary, padding, ROWS)
    upstream = torch.randn((*indices.shape, DIM), dtype=torch.float64, requires_grad=True)
    table_upstream = torch.randn((IDS, DIM), dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(codebook_lookup, (codebook, codes, secondary, indices, padding))
    torch.library.opcheck(codebook_lookup_gradient, (upstream, codes, secondary, indices, padding, ROWS))
    torch.library.opcheck(codebook_expand, (codebook, codes, secondary, padding, *members))
    torch.library.opcheck(codebook_collapse, (table_upstream, codes, secondary, padding, *members))


def test_members_of_every_row_are_listed_without_the_padding_index():
    _, codes, secondary = example(True)
    offsets, ids = list_members(codes, secondary, 3, ROWS)
    listed = [sorted(ids[offsets[row] : offsets[row + 1]].tolist()) for row in range(ROWS)]
    both = list(enumerate(zip(codes.tolist(), secondary.tolist(), strict=True)))
    assert listed == [sorted(i for i, rows in both if i != 3 for own in rows if own == row) for row in range(ROWS)]


def test_no_index_gives_no_row_and_a_zero_gradient(two):
    codebook, codes, secondary = example(two)
    out = codebook_lookup(codebook, codes, secondary, torch.empty((2, 0), dtype=torch.int64), NO_PADDING)
    assert out.shape == (2, 0, DIM)
    out.sum().backward()
    assert not codebook.grad.any()


@pytest.mark.parametrize("wrong", [-1, IDS])
@pytest.mark.parametrize("lookup", [codebook_lookup, sparse_codebook_lookup])
def test_index_out_of_range_names_the_last_one(lookup, wrong):
    codebook, codes, secondary = example(True)
    with pytest.raises(InputError, match=f"from 0 to 10, got {wrong}"):
        lookup(codebook, codes, secondary, torch.tensor([0, wrong]), NO_PADDING)


def test_gradients_have_the_same_bits_every_time_and_on_any_number_of_threads():
    generator = torch.Generator().manual_seed(1)
    codebook = torch.randn((50, 64), generator=generator, requires_grad=True)
    codes, second = torch.randint(50, (2, 3000), generator=generator, dtype=torch.int32)
    indices = torch.randint(3000, (20_000,), generator=generator)
    upstream = torch.randn((20_000, 64), generator=generator)
    members = list_members(codes, second, NO_PADDING, 50)
    threads = torch.get_num_threads()
    gradients = []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            out = codebook_lookup(codebook, codes, second, indices, NO_PADDING)
            table = codebook_expand(codebook, codes, second, NO_PADDING, *members)
            gradients.append(
                (
                    torch.autograd.grad(out, codebook, upstream)[0],
                    torch.autograd.grad(table, codebook, upstream[:3000])[0],
                )
            )
    finally:
        torch.set_num_threads(threads)
    for lookup, expansion in gradients[1:]:
        assert torch.equal(lookup, gradients[0][0])
        assert torch.equal(expansion, gradients[0][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_summed_in_float32(dtype):
    # 4096 ones: a sum kept in half precision would stop growing at 256 or 2048.
    codebook = torch.zeros((1, DIM), dtype=dtype, requires_grad=True)
    codes = torch.zeros(4096, dtype=torch.int32)
    codebook_lookup(codebook, codes, None, torch.arange(4096), NO_PADDING).sum().backward()
    assert codebook.grad.dtype == dtype
    assert codebook.grad.tolist() == [[4096.0] * DIM]
    codebook.grad = None
    codebook_expand(codebook, codes, None, NO_PADDING, *list_members(codes, None, NO_PADDING, 1)).sum().backward()
    assert codebook.grad.tolist() == [[4096.0] * DIM]


def test_compiled_lookup_is_one_graph(two, padding, indices):
    codebook, codes, secondary = example(two)

    def double(table, where):
        return codebook_lookup(table, codes, secondary, where, padding) * 2

    compiled = torch.compile(double, fullgraph=True, backend="aot_eager")
    for where in (indices, indices[:1]):
        torch.testing.assert_close(compiled(codebook, where), double(codebook, where))
    compiled(codebook, indices).sum().backward()
    wanted = torch.autograd.grad(double(codebook, indices).sum(), codebook)[0]
    torch.testing.assert_close(codebook.grad, wanted)


@given(st.lists(st.integers(0, 6), max_size=40), st.sampled_from([torch.float32, torch.float64]))
def test_segment_sums_equal_the_loop(rows, dtype):
    terms = torch.arange(len(rows) * 2, dtype=dtype).reshape(len(rows), 2)
    total = np.zeros((7, 2))
    for row, term in zip(rows, terms.tolist(), strict=True):
        total[row] += term
    index = torch.tensor(rows, dtype=torch.int32)
    added = add_by_row_(torch.zeros((7, 2), dtype=dtype), terms, index)
    assert added.tolist() == total.tolist()
    members = list_members(index, None, NO_PADDING, 7)
    assert gathered_sums(terms, *members).tolist() == total.tolist()
    halves = torch.full((len(rows),), 0.5, dtype=dtype)
    assert gathered_sums(terms, *members, halves).tolist() == (total / 2).tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_what_the_cpu_gives(two, padding, indices):
    results = {}
    for device in ("cpu", "cuda"):
        codebook, codes, secondary = example(two, device=device)
        codebook = codebook.detach().requires_grad_()
        out = codebook_lookup(codebook, codes, secondary, indices.to(device), padding)
        members = list_members(codes, secondary, padding, ROWS)
        table = codebook_expand(codebook, codes, secondary, padding, *members)
        (out.square().sum() + table.square().sum()).backward()
        results[device] = out.cpu(), table.cpu(), codebook.grad.cpu()
        torch.library.opcheck(codebook_lookup, (codebook, codes, secondary, indices.to(device), padding))
    for on_cpu, on_gpu in zip(results["cpu"], results["cuda"], strict=True):
        torch.testing.assert_close(on_cpu, on_gpu)
