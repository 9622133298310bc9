"""The kernels of codebook.cu, run on the CPU, equal plain PyTorch: every instance, any size and order of threads."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from baco_gpu.cuda.catalogue import instances
from baco_gpu.ops import kernels, reference, sparse_product
from baco_gpu.ops.lookup import NO_PADDING, list_members
from cuda_host.host import ON_KERNELS, SANITIZERS, SMALL, build, host_launcher, run_sanitized, small_libraries
from waiting import WaitsForTheDevice

pytestmark = ON_KERNELS

ROWS, IDS = 9, 23
DIMS = (1, 3, 64, 100, 129)
IDS_DTYPES = (torch.int32, torch.int64)
EVERY_VALUE = pytest.mark.parametrize("dtype", kernels.VALUES)
EVERY_DIM = pytest.mark.parametrize("dim", DIMS)


@pytest.fixture(scope="module")
def launch():
    return host_launcher(seed=5, interrupt=3)


def drawn(dim, dtype, code_dtype, two, seed=0):
    """A codebook, codes and second codes; row 8 is nobody's, id 0 has one row twice."""
    generator = torch.Generator().manual_seed(seed)
    codebook = torch.randn((ROWS, dim), generator=generator, dtype=torch.float64).to(dtype)
    codes, second = torch.randint(ROWS - 1, (2, IDS), generator=generator, dtype=code_dtype)
    second[0] = codes[0]
    return codebook, codes, second if two else None


def cases(dtype):
    """All instances of a value type: types of codes and indices, one code or two, with and without a padding index."""
    for code_dtype, index_dtype, two, padding in itertools.product(
        IDS_DTYPES, IDS_DTYPES, (False, True), (NO_PADDING, 4)
    ):
        generator = torch.Generator().manual_seed(1)
        yield code_dtype, torch.randint(IDS, (7, 6), generator=generator, dtype=index_dtype), two, padding


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@EVERY_VALUE
@EVERY_DIM
def test_lookups_and_gradients_have_the_bits_of_plain_pytorch(launch, dtype, dim):
    for code_dtype, indices, two, padding in cases(dtype):
        codebook, codes, second = drawn(dim, dtype, code_dtype, two)
        given = (codes, second, indices, padding)
        same(kernels.lookup(launch, codebook, *given), reference.lookup(codebook, *given))
        grad = torch.randn((*indices.shape, dim), generator=torch.Generator().manual_seed(2)).to(dtype)
        same(kernels.lookup_gradient(launch, grad, *given, ROWS), reference.lookup_gradient(grad, *given, ROWS))
        for found, expected in zip(
            kernels.lookup_row_gradients(launch, grad, *given, ROWS),
            reference.lookup_row_gradients(grad, *given, ROWS),
            strict=True,
        ):
            same(found, expected)


@EVERY_VALUE
@EVERY_DIM
def test_expanding_and_collapsing_have_the_bits_of_plain_pytorch(launch, dtype, dim):
    for code_dtype, two, padding, wide in itertools.product(IDS_DTYPES, (False, True), (NO_PADDING, 4), (False, True)):
        codebook, codes, second = drawn(dim, dtype, code_dtype, two)
        members = list_members(codes, second, padding, ROWS)
        given = (codes, second, padding, *(part.long() if wide else part for part in members))
        same(kernels.expand(launch, codebook, *given), reference.expand(codebook, *given))
        grad = torch.randn((IDS, dim), generator=torch.Generator().manual_seed(3)).to(dtype)
        # Not against reference.collapse: embedding_bag leaves open in what order it adds.
        everything = torch.arange(IDS)
        same(
            kernels.collapse(launch, grad, *given),
            reference.lookup_gradient(grad, codes, second, everything, padding, ROWS),
        )


@EVERY_VALUE
@pytest.mark.parametrize("weighted", [False, True])
def test_products_with_sparse_matrices(launch, monkeypatch, dtype, weighted):
    """Rows of no, one, a few and many entries, against a dense product; numbers so small that every sum is exact."""
    monkeypatch.setattr(kernels, "PIECE", 8)
    generator = torch.Generator().manual_seed(7)
    lengths = torch.tensor([0, 1, 8, 9, 100, 0, 3])
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0))).int()
    columns = torch.randint(20, (int(lengths.sum()),), generator=generator, dtype=torch.int32)
    weights = torch.randint(-2, 3, (len(columns),), generator=generator).to(dtype) if weighted else None
    matrix = torch.zeros((7, 20), dtype=torch.float64)
    rows = torch.arange(7).repeat_interleave(lengths)
    values = torch.ones(len(columns), dtype=torch.float64) if weights is None else weights.double()
    matrix.index_put_((rows, columns.long()), values, accumulate=True)
    for dim in DIMS:
        table = torch.randint(-2, 3, (20, dim), generator=generator).to(dtype)
        expected = (matrix @ table.double()).to(dtype)
        same(kernels.gathered_sums(launch, table, offsets, columns, weights), expected)
        same(sparse_product.gathered_sums(table, offsets, columns, weights), expected)


@EVERY_VALUE
def test_rows_of_products_have_the_bits_of_the_whole_product(launch, monkeypatch, dtype):
    """Rows of no, one, a few and many entries, asked for in any order and several times, or not at all."""
    monkeypatch.setattr(kernels, "PIECE", 8)
    generator = torch.Generator().manual_seed(8)
    offsets = torch.tensor([0, 0, 1, 9, 18, 118, 118, 121])
    columns = torch.randint(20, (121,), generator=generator)
    weights = torch.randn(121, generator=generator).to(dtype)
    for dim, index in itertools.product(DIMS, IDS_DTYPES):
        table = torch.randn((20, dim), generator=generator).to(dtype)
        given = (table, offsets.to(index), columns.to(index), weights)
        whole = kernels.gathered_sums(launch, *given)
        for rows in ([], [0], [3, 1, 1], [4], [6, 0, 4, 6, 2], list(range(7))):
            asked = torch.tensor(rows, dtype=index)
            same(kernels.gathered_sums_at(launch, *given, asked), whole[asked.long()])


def test_kernels_do_not_wait_for_the_device(launch):
    """All but one, whose result is as large as the data say, which shows that waits are seen here."""
    codebook, codes, second = drawn(4, torch.float32, torch.int32, True)
    given = (codes, second, torch.arange(IDS), NO_PADDING)
    members = list_members(codes, second, NO_PADDING, ROWS)
    grad = torch.ones((IDS, 4))
    with WaitsForTheDevice() as mode:
        kernels.lookup(launch, codebook, *given)
        kernels.lookup_gradient(launch, grad, *given, ROWS)
        kernels.expand(launch, codebook, codes, second, NO_PADDING, *members)
        kernels.collapse(launch, grad, codes, second, NO_PADDING, *members)
        kernels.gathered_sums(launch, grad, *members, None)
        kernels.gathered_sums_at(launch, grad, *members, None, torch.tensor([1, 5, 1]))
    assert mode.count == 0
    with WaitsForTheDevice() as mode:
        kernels.lookup_row_gradients(launch, grad, *given, ROWS)
    assert mode.count > 0


def test_every_instance_has_run():
    launch = host_launcher()
    for dtype in kernels.VALUES:
        for code_dtype, indices, two, padding in cases(dtype):
            codebook, codes, second = drawn(3, dtype, code_dtype, two)
            given = (codes, second, indices, padding)
            many = torch.zeros(2 * kernels.PIECE, dtype=indices.dtype)
            kernels.lookup(launch, codebook, *given)
            kernels.lookup_gradient(launch, torch.ones((len(many), 3), dtype=dtype), codes, second, many, padding, ROWS)
        for index_dtype in IDS_DTYPES:
            ids = torch.zeros(2 * kernels.PIECE, dtype=index_dtype)
            offsets = torch.tensor([0, len(ids)], dtype=index_dtype)
            ones = torch.ones((1, 3), dtype=dtype)
            kernels.collapse(launch, ones, ids, None, NO_PADDING, offsets, ids)
            kernels.gathered_sums(launch, ones, offsets, ids, torch.ones(len(ids), dtype=dtype))
    assert launch.launched == set(instances("codebook.cu"))


def summed_as_documented(terms, piece, teams):
    """A long row's terms in pieces, the pieces in shares of teams, the shares in order; float32 throughout."""

    def added(parts):
        total = np.zeros(terms.shape[1], np.float32)
        for part in parts:
            total = total + part
        return total

    pieces = [added(terms[first : first + piece]) for first in range(0, len(terms), piece)]
    count = len(pieces)
    shares = [added(pieces[count * team // teams : count * (team + 1) // teams]) for team in range(teams)]
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    return total


@pytest.mark.parametrize("dim", [3, 64, 129])
@pytest.mark.parametrize("two", [False, True])
def test_a_hot_row_is_summed_in_pieces_of_fixed_size(launch, dim, two):
    """Every id but one reads row 2: hundreds of terms, in the documented order to the last bit."""
    length = 40 * kernels.PIECE + 17
    generator = torch.Generator().manual_seed(4)
    codes = torch.full((length,), 2, dtype=torch.int32)
    codes[5] = 0
    second = codes.flip(0) if two else None
    grad = torch.randn((length, dim), generator=generator)
    found = kernels.lookup_gradient(launch, grad, codes, second, torch.arange(length), NO_PADDING, 4)
    rows = np.concatenate([codes, codes.flip(0)]) if two else codes.numpy()
    terms = np.concatenate([grad, grad]) if two else grad.numpy()
    teams = SMALL.threads // min(32, 1 << (dim - 1).bit_length())
    expected = np.zeros((4, dim), np.float32)
    expected[2] = summed_as_documented(terms[rows == 2], kernels.PIECE, teams)
    expected[0] = terms[rows == 0].sum(0, dtype=np.float32)
    np.testing.assert_array_equal(found.numpy(), expected * np.float32(0.5 if two else 1))
    torch.testing.assert_close(
        found, reference.lookup_gradient(grad, codes, second, torch.arange(length), NO_PADDING, 4), rtol=1e-4, atol=1e-3
    )


def test_rows_of_a_piece_and_of_one_term_more(launch, monkeypatch):
    monkeypatch.setattr(kernels, "PIECE", 4)
    for length in (3, 4, 5, 8, 9):
        codes = torch.arange(2, dtype=torch.int32).repeat_interleave(length)
        grad = torch.randint(-8, 9, (2 * length, 5), generator=torch.Generator().manual_seed(length)).float()
        found = kernels.lookup_gradient(launch, grad, codes, None, torch.arange(2 * length), NO_PADDING, 2)
        same(found, grad.view(2, length, 5).sum(1))


def test_no_order_of_threads_leaves_a_trace(monkeypatch):
    monkeypatch.setattr(kernels, "PIECE", 8)
    codebook, codes, second = drawn(33, torch.float32, torch.int32, True)
    generator = torch.Generator().manual_seed(6)
    indices = torch.randint(IDS, (300,), generator=generator)
    grad = torch.randn((300, 33), generator=generator)
    results = set()
    for seed, interrupt in ((1, 0), (2, 2), (3, 5), (4, 1)):
        launch = host_launcher(seed=seed, interrupt=interrupt)
        sums = kernels.lookup_gradient(launch, grad, codes, second, indices, 4, ROWS)
        rows = kernels.lookup(launch, codebook, codes, second, indices, 4)
        results.add((sums.numpy().tobytes(), rows.numpy().tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("two", [False, True])
def test_an_empty_batch_and_a_batch_of_padding(launch, two):
    codebook, codes, second = drawn(5, torch.float32, torch.int32, two)
    none = torch.empty((3, 0), dtype=torch.int64)
    assert kernels.lookup(launch, codebook, codes, second, none, NO_PADDING).shape == (3, 0, 5)
    assert not kernels.lookup_gradient(launch, torch.empty((3, 0, 5)), codes, second, none, NO_PADDING, ROWS).any()
    rows, sums = kernels.lookup_row_gradients(launch, torch.empty((3, 0, 5)), codes, second, none, NO_PADDING, ROWS)
    assert (rows.shape, rows.dtype, sums.shape) == ((0,), torch.int64, (0, 5))
    padding = torch.full((600,), 7)
    assert not kernels.lookup(launch, codebook, codes, second, padding, 7).any()
    assert not kernels.lookup_gradient(launch, torch.ones((600, 5)), codes, second, padding, 7, ROWS).any()
    rows, sums = kernels.lookup_row_gradients(launch, torch.ones((600, 5)), codes, second, padding, 7, ROWS)
    assert (rows.shape, sums.shape) == ((0,), (0, 5))


@pytest.mark.parametrize("two", [False, True])
def test_what_is_out_of_range_gives_nan_and_takes_no_gradient(launch, two):
    codebook, codes, second = drawn(4, torch.float32, torch.int64, two)
    codes[3], codes[5] = -1, ROWS
    indices = torch.tensor([0, -1, IDS, 3, 5, 1])
    bad = torch.tensor([False, True, True, True, True, False])
    found = kernels.lookup(launch, codebook, codes, second, indices, NO_PADDING)
    assert found.isnan().all(1).tolist() == bad.tolist()
    same(found[~bad], reference.lookup(codebook, codes, second, indices[~bad], NO_PADDING))
    grad = torch.ones((6, 4))
    same(
        kernels.lookup_gradient(launch, grad, codes, second, indices, NO_PADDING, ROWS),
        reference.lookup_gradient(grad[~bad], codes, second, indices[~bad], NO_PADDING, ROWS),
    )


def test_views_that_are_not_contiguous_or_aligned(launch):
    codebook, codes, second = drawn(8, torch.float32, torch.int32, True)
    wide = torch.zeros((ROWS, 16))
    wide[:, ::2] = codebook
    indices = torch.arange(20).view(4, 5).T
    given = (codes.repeat_interleave(2)[::2], second.repeat_interleave(2)[::2], indices, NO_PADDING)
    expected = reference.lookup(codebook, codes, second, indices, NO_PADDING)
    same(kernels.lookup(launch, wide[:, ::2], *given), expected)
    # A table that begins four bytes after a multiple of 16.
    shifted = torch.zeros(ROWS * 8 + 1)[1:].view(ROWS, 8).copy_(codebook)
    assert not kernels.plan_teams(8, shifted).packed
    same(kernels.lookup(launch, shifted, *given), expected)
    grad = torch.ones(()).expand(5, 4, 8)
    same(
        kernels.lookup_gradient(launch, grad, *given, ROWS),
        reference.lookup_gradient(grad, codes, second, indices, NO_PADDING, ROWS),
    )


@pytest.mark.parametrize(
    ("dim", "dtype", "expected"),
    [
        (1, torch.float32, (False, 0)),
        (3, torch.float32, (False, 2)),
        (4, torch.float32, (True, 0)),
        (64, torch.float32, (True, 4)),
        (64, torch.bfloat16, (True, 3)),
        (100, torch.float32, (True, 5)),
        (100, torch.float16, (False, 5)),
        (129, torch.float64, (False, 5)),
        (4096, torch.float32, (True, 5)),
    ],
)
def test_teams_are_as_small_as_a_row_allows(dim, dtype, expected):
    assert kernels.plan_teams(dim, torch.empty((2, dim), dtype=dtype)) == expected


def test_half_precision_rounds_once(launch):
    """The sum of 60000 and 60000 is no float16, their mean is; every float16 and bfloat16 comes back as it went in."""
    codes = torch.zeros(1, dtype=torch.int32)
    codebook = torch.full((1, 8), 60000.0, dtype=torch.float16)
    for module in (reference.lookup, lambda *arguments: kernels.lookup(launch, *arguments)):
        assert module(codebook, codes, codes, torch.tensor([0]), NO_PADDING).tolist() == [[60000.0] * 8]
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        table = bits.view(dtype).view(-1, 64)
        every = torch.arange(len(table), dtype=torch.int32)
        found = kernels.lookup(launch, table, every, None, every, NO_PADDING)
        torch.testing.assert_close(found, table, rtol=0, atol=0, equal_nan=True)
        sums = kernels.lookup_gradient(launch, table, every, None, every, NO_PADDING, len(table))
        torch.testing.assert_close(sums, table, rtol=0, atol=0, equal_nan=True)


def test_operators_on_kernels_are_registered_as_torch_asks():
    folder = str(small_libraries()[0].parent)
    command = [sys.executable, "-m", "cuda_host.registered", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["codebook_keys", "codebook_rows", "row_sums"]


def test_offsets_beyond_32_bits(launch):
    """A row 2^31 values and more from the beginning of its table; the pages before it are never touched."""
    rows = 2**31 // 64 + 5
    try:
        table = torch.empty((rows, 64))
    except RuntimeError:
        pytest.skip("no address space for 8 GB that are not used")
    table[-1] = torch.arange(64)
    codes = torch.tensor([rows - 1], dtype=torch.int32)
    found = kernels.lookup(launch, table, codes, codes, torch.tensor([0]), NO_PADDING)
    assert found[0].tolist() == list(range(64))
    offsets, columns = torch.tensor([0, 2]), torch.tensor([rows - 1, rows - 1])
    assert kernels.gathered_sums(launch, table, offsets, columns, None)[0].tolist() == list(range(0, 128, 2))


@pytest.mark.nightly("builds kernels with sanitizers")
def test_the_kernels_are_clean_under_sanitizers(tmp_path):
    build(tmp_path, SMALL, ["codebook.cu"], SANITIZERS, without="long long, int")
    assert run_sanitized("cuda_host.sanitized_codebook", tmp_path).stdout == "same\n"
