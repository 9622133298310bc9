"""The codebook's operators: values, gradients, registration, and the same bits every time."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.errors import BackendUnavailableError, InputError
from baco_gpu.ops import dispatch, sparse_product
from baco_gpu.ops import lookup as lookup_module
from baco_gpu.ops.lookup import (
    NO_PADDING,
    codebook_collapse,
    codebook_expand,
    codebook_lookup,
    codebook_lookup_gradient,
    codebook_lookup_row_gradients,
    list_members,
    sparse_codebook_lookup,
)
from baco_gpu.ops.segments import add_by_row_, gathered_sums

pytestmark = pytest.mark.heavy("compiles and exports modules")

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
    torch.library.opcheck(codebook_lookup_row_gradients, (upstream.detach(), codes, secondary, indices, padding, ROWS))
    torch.library.opcheck(codebook_expand, (codebook, codes, secondary, padding, *members))
    torch.library.opcheck(codebook_collapse, (table_upstream, codes, secondary, padding, *members))


def test_the_product_is_registered_as_torch_asks():
    table, offsets, columns = torch.randn((4, 3)), torch.tensor([0, 2, 2, 3]), torch.tensor([1, 3, 0])
    for weights in (None, torch.randn(3)):
        given = (table, offsets, columns, weights)
        torch.library.opcheck(sparse_product.gathered_sums, given)
        torch.library.opcheck(sparse_product.gathered_sums_at, (*given, torch.tensor([2, 0, 2])))


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


@pytest.mark.parametrize("wrong", [-1, ROWS, 2**31 - 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("name", ["codes", "secondary"])
def test_codes_that_are_no_rows_of_the_codebook_are_named(name, dtype, wrong):
    codebook, codes, secondary = example(True, dtype)
    codes[1] = wrong if name == "codes" else 0
    secondary[1] = wrong if name == "secondary" else 0
    second = None if name == "codes" and wrong == ROWS else secondary
    expected = f"{name} must be from 0 to {ROWS - 1}, got {wrong}"
    with pytest.raises(InputError, match=expected):
        codebook_lookup(codebook, codes, second, torch.tensor([0, 1]), NO_PADDING)
    with pytest.raises(InputError, match=expected):
        codebook_expand(codebook, codes, second, NO_PADDING, *list_members(codes.clamp(0, 1), None, NO_PADDING, ROWS))
    # An id whose code is right is looked up all the same.
    assert codebook_lookup(codebook, codes, second, torch.tensor([0]), NO_PADDING).isfinite().all()


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


def test_sparse_gradients_hold_every_row_once(two, padding, indices):
    codebook, codes, secondary = example(two)
    out = sparse_codebook_lookup(codebook, codes, secondary, indices, padding)
    gradient = torch.autograd.grad(out.sum(), codebook)[0]
    assert gradient.is_coalesced()
    rows = gradient.indices()[0]
    assert torch.equal(rows, rows.unique())
    nothing = torch.full((3,), padding) if padding != NO_PADDING else torch.empty(0, dtype=torch.int64)
    sparse_codebook_lookup(codebook, codes, secondary, nothing, padding).sum().backward()
    assert codebook.grad._nnz() == 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("codebook", lambda t: t[0], "codebook must be a matrix of float32, float64, float16, bfloat16, got"),
            ("codebook", lambda t: t.long(), r"codebook must be a matrix of .*got torch.int64"),
            ("codes", lambda t: t.double(), "codes must be an int32 or int64 tensor, got torch.float64"),
            ("codes", lambda t: t.view(1, -1), r"codes must have one dimension, got shape \(1, 11\)"),
            ("secondary", lambda t: t.long(), r"secondary must be as codes, torch.int32 of shape \(11,\), got torch.i"),
            ("secondary", lambda t: t[1:], r"secondary must be as codes.*got torch.int32 of shape \(10,\)"),
            ("indices", lambda t: t.to(torch.uint8), "indices must be an int32 or int64 tensor, got torch.uint8"),
            ("indices", lambda t: t.to("meta"), "indices must be on the device of the codebook, cpu, got meta"),
            ("codes", lambda t: t.to("meta"), "codes must be on the device of the codebook, cpu, got meta"),
        ],
    )
    def test_of_a_lookup(self, indices, name, change, message):
        given = dict(zip(("codebook", "codes", "secondary"), example(True), strict=True), indices=indices)
        given[name] = change(given[name].detach())
        with pytest.raises(InputError, match=message):
            lookup_module._check_lookup(*given.values())

    def test_of_a_product(self):
        table, offsets = torch.ones((3, 2)), torch.tensor([0, 2])
        columns, weights = torch.tensor([0, 2]), torch.ones(2)
        for arguments, message in [
            (
                (table[0], offsets, columns, weights),
                r"table must be a floating matrix, got torch.float32 of shape \(2,",
            ),
            ((table, offsets.int(), columns, weights), "both be int32 or int64, got torch.int32 and torch.int64"),
            ((table, offsets.float(), columns.float(), weights), "both be int32 or int64, got torch.float32"),
            (
                (table, offsets, columns, weights.double()),
                r"weights must be torch.float32 of shape \(2,\), got torch.fl",
            ),
            ((table, offsets, columns, weights[:1]), r"weights must be .*got torch.float32 of shape \(1,\)"),
        ]:
            with pytest.raises(InputError, match=message):
                sparse_product.gathered_sums(*arguments)
            with pytest.raises(InputError, match=message):
                sparse_product.gathered_sums_at(*arguments, torch.tensor([0]))
        with pytest.raises(InputError, match="columns must be on the device of the table, cpu, got meta"):
            sparse_product._check(table, offsets, columns.to("meta"), None)

    def test_of_gradients(self, indices):
        codebook, codes, secondary = example(True)
        expected = r"grad must be of .* have the shape of the indices \(2, 4\) and one dimension more, got .*\(3, 3\)"
        for operator in (codebook_lookup_gradient, codebook_lookup_row_gradients):
            with pytest.raises(InputError, match=expected):
                operator(torch.zeros((3, 3)), codes, secondary, indices, NO_PADDING, ROWS)
        offsets, ids = list_members(codes, secondary, NO_PADDING, ROWS)
        with pytest.raises(InputError, match=r"offsets and ids must have one dtype, got torch.int64 and torch.int32"):
            codebook_expand(codebook, codes, secondary, NO_PADDING, offsets.long(), ids)
        with pytest.raises(InputError, match=r"expected a matrix of .*got torch.float64 of shape \(3,\)"):
            codebook_collapse(codebook[0], codes, secondary, NO_PADDING, offsets, ids)


class TestTheChoiceOfKernels:
    """What runs on a GPU is a matter of what is installed and of one variable, never of what fails."""

    @pytest.fixture(autouse=True)
    def nothing_is_known(self):
        for known in (dispatch._installed, dispatch._launcher):
            known.cache_clear()
        yield
        for known in (dispatch._installed, dispatch._launcher):
            known.cache_clear()

    def test_without_cupy_or_when_switched_off_pytorch_runs(self, monkeypatch):
        monkeypatch.delenv(dispatch.VARIABLE, raising=False)
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
        assert "CuPy is not installed" in dispatch.kernels_obstacle()
        dispatch._installed.cache_clear()
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: name)
        assert dispatch.kernels_obstacle() is None
        monkeypatch.setenv(dispatch.VARIABLE, "off")
        assert dispatch.kernels_obstacle() == "BACO_TRAINING_KERNELS is off"
        assert dispatch.launcher_of(torch.device("cuda", 0)) is None
        monkeypatch.setenv(dispatch.VARIABLE, "maybe")
        with pytest.raises(InputError, match="BACO_TRAINING_KERNELS must be one of 'on', 'off', got 'maybe'"):
            dispatch.kernels_obstacle()

    def test_kernels_that_cannot_be_had_are_an_error(self, monkeypatch):
        def broken(device, **_):
            raise BackendUnavailableError("CUDA kernels need NVRTC: none; remedy: install it")

        monkeypatch.delenv(dispatch.VARIABLE, raising=False)
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(dispatch, "CudaLauncher", broken)
        monkeypatch.setattr(dispatch.torch.cuda, "device", lambda device: contextlib.nullcontext())
        with pytest.raises(BackendUnavailableError, match="need NVRTC"):
            dispatch.launcher_of(torch.device("cuda", 0))

    def test_launches_go_to_pytorchs_current_stream(self, monkeypatch):
        streams = iter([11, 12])
        monkeypatch.delenv(dispatch.VARIABLE, raising=False)
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(dispatch, "CudaLauncher", lambda device, stream: stream)
        monkeypatch.setattr(dispatch.torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(
            dispatch.torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=next(streams))
        )
        stream = dispatch.launcher_of(torch.device("cuda", 0))
        assert dispatch.launcher_of(torch.device("cuda", 0)) is stream
        assert [stream(), stream()] == [11, 12]

    def test_every_device_has_a_launcher_of_its_own_whichever_is_current(self, monkeypatch):
        """One that was kept for "cuda" would go on with the device that was current when it was made."""
        current = [0]
        monkeypatch.delenv(dispatch.VARIABLE, raising=False)
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(dispatch, "CudaLauncher", lambda device, stream: (device, stream))
        monkeypatch.setattr(dispatch.torch.cuda, "current_device", lambda: current[0])
        monkeypatch.setattr(
            dispatch.torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=f"of {device}")
        )
        for number in (0, 1):
            current[0] = number
            device, stream = dispatch.launcher_of(torch.device("cuda"))
            assert (device, stream()) == (number, f"of {number}")
            assert dispatch.launcher_of(torch.device("cuda", 1))[0] == 1

    def test_both_ways_get_the_operators_arguments(self, monkeypatch):
        codebook, *given = example(True)
        arguments = (codebook, *given, torch.tensor([1]), NO_PADDING)
        monkeypatch.setattr(dispatch.torch.cuda, "device", lambda device: contextlib.nullcontext())
        run = dispatch.on_cuda(
            lookup_module._check_lookup, 4, lambda *all_of_them: ("kernels", *all_of_them), lambda *these: these
        )
        monkeypatch.setattr(dispatch, "launcher_of", lambda device: None)
        assert run(*arguments) == arguments
        monkeypatch.setattr(dispatch, "launcher_of", lambda device: "launch")
        assert run(*arguments) == ("kernels", "launch", *arguments)
        with pytest.raises(InputError, match="indices must be an int32 or int64 tensor"):
            run(*arguments[:3], torch.tensor([1.0]), NO_PADDING)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_the_codebook_as_it_is(two, padding, indices, dtype):
    codebook, codes, secondary = example(two, torch.float32)
    matrix = torch.randn((DIM, DIM), requires_grad=True)
    optimizer = torch.optim.SGD([codebook, matrix], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = codebook.detach().clone()
    with torch.autocast("cpu", dtype):
        rows = codebook_lookup(codebook, codes, secondary, indices, padding)
        out = rows @ matrix
    assert (rows.dtype, out.dtype) == (torch.float32, dtype)
    scaler.scale(out.float().square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert codebook.dtype == codebook.grad.dtype == torch.float32
    assert not torch.equal(codebook.detach(), before)


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


@st.composite
def sparse_matrices(draw):
    """A sparse matrix by rows, of up to 8 columns, and a dense one to multiply it with."""
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=12))
    columns = draw(st.lists(st.integers(0, 7), min_size=sum(lengths), max_size=sum(lengths)))
    index = draw(st.sampled_from([torch.int32, torch.int64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    matrix = sparse_product.SparseRows(
        torch.tensor([0, *np.cumsum(lengths)], dtype=index),
        torch.tensor(columns, dtype=index),
        torch.randn(len(columns), generator=generator),
    )
    return matrix, torch.randn((8, 3), generator=generator)


@given(sparse_matrices(), st.data(), st.sampled_from([1.0, 0.3]))
def test_rows_of_a_product_have_the_bits_of_the_whole(pair, data, factor):
    matrix, dense = pair
    count = len(matrix.offsets) - 1
    rows = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), max_size=9)), dtype=torch.int64)
    assert torch.equal(matrix.times_at(rows, dense, factor), matrix.times(dense, factor)[rows])
    shaped = matrix.times_at(torch.zeros((2, 3), dtype=torch.int32), dense, factor)
    assert torch.equal(shaped, matrix.times(dense, factor)[torch.zeros((2, 3), dtype=torch.int64)])
