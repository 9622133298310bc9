"""What only a GPU can show of lookups: bits of the CPU and of the time before, streams, graphs, early errors."""

from __future__ import annotations

import copy

import pytest
import torch

from baco_gpu.errors import InputError
from baco_gpu.ops import dispatch, kernels, sparse_product
from baco_gpu.ops.lookup import NO_PADDING, codebook_expand, codebook_lookup, list_members, sparse_codebook_lookup
from baco_gpu.ops.product_quantization import nearest_codes
from baco_gpu.tables import (
    CodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ServedEmbedding,
)
from baco_gpu.training import RowwiseRMSprop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(params=["on", "off"], ids=["kernels", "PyTorch"])
def operations(request, monkeypatch):
    if request.param == "on" and not dispatch._installed("cupy"):
        pytest.skip("needs CuPy")
    monkeypatch.setenv(dispatch.VARIABLE, request.param)
    return request.param


def example(where, *, rows=50, dim=64, ids=3000, batch=4000, dtype=torch.float32):
    """Codebook, codes, second codes, indices and a gradient, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn((rows, dim), generator=generator).to(dtype)
    codes, second = torch.randint(rows, (2, ids), generator=generator, dtype=torch.int32)
    indices = torch.randint(ids, (batch,), generator=generator)
    grad = torch.randn((batch, dim), generator=generator).to(dtype)
    moved = [tensor.to(where) for tensor in (codebook, codes, second, indices, grad)]
    moved[0].requires_grad_()
    return moved


def results(where, two, padding, lookup=codebook_lookup, **sizes):
    codebook, codes, second, indices, grad = example(where, **sizes)
    out = lookup(codebook, codes, second if two else None, indices, padding)
    gradient = torch.autograd.grad(out, codebook, grad)[0]
    return out.detach().cpu(), (gradient.to_dense() if gradient.is_sparse else gradient).cpu()


@pytest.mark.parametrize("dim", [1, 3, 64, 100, 129])
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("lookup", [codebook_lookup, sparse_codebook_lookup])
@pytest.mark.parametrize("dtype", kernels.VALUES)
def test_results_are_those_of_the_cpu(operations, dtype, lookup, two, dim):
    sizes = {"dtype": dtype, "dim": dim, "rows": 500}
    found, expected = (results(where, two, 7, lookup, **sizes) for where in ("cuda", "cpu"))
    for on_gpu, on_cpu in zip(found, expected, strict=True):
        if operations == "on":  # no row has more terms than a piece
            assert torch.equal(on_gpu, on_cpu)
        else:
            torch.testing.assert_close(on_gpu, on_cpu)


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("rows", [1, 50, 100_000])
def test_gradients_of_a_million_terms_repeat_bit_for_bit(rows):
    sizes = {"rows": rows, "ids": 200_000, "batch": 1_000_000, "dim": 32}
    first, again = (results("cuda", True, NO_PADDING, **sizes) for _ in range(2))
    assert torch.equal(first[1], again[1])
    torch.testing.assert_close(first[1], results("cpu", True, NO_PADDING, **sizes)[1], rtol=1e-3, atol=1e-2)


@pytest.mark.usefixtures("operations")
def test_expanding_and_collapsing():
    tables = {}
    for where in ("cuda", "cpu"):
        codebook, codes, second, *_ = example(where)
        table = codebook_expand(codebook, codes, second, 3, *list_members(codes, second, 3, len(codebook)))
        table.square().sum().backward()
        tables[where] = table.detach().cpu(), codebook.grad.cpu()
    for on_gpu, on_cpu in zip(tables["cuda"], tables["cpu"], strict=True):
        torch.testing.assert_close(on_gpu, on_cpu)


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_rows_of_few_bits_are_those_that_are_served(bits):
    _, codes, second, indices, grad = example("cpu")
    module = CodebookEmbedding(codes, 64, second, bits=bits, padding_idx=3).to("cuda")
    served = ServedEmbedding.of(module)
    table = module.weight
    assert served.codebook.is_cuda
    assert torch.equal(served(torch.arange(len(codes), device="cuda")), table)
    assert torch.equal(module(indices.cuda()), table[indices.cuda()])
    module(indices.cuda()).backward(grad.cuda())
    assert module.codebook.grad.isfinite().all()


@pytest.mark.usefixtures("operations")
def test_product_codes_are_those_that_are_served():
    _, codes, second, indices, grad = example("cpu")
    module = ProductCodebookEmbedding(
        codes, 64, second, subspaces=13, centroids=20, code_bits=16, lengths=True, padding_idx=3
    ).to("cuda")
    module.encode()
    found = nearest_codes(module.codebook.cpu(), module.centroids.cpu(), module.form)
    assert torch.equal(module.codes.cpu(), found)
    table = module.weight
    assert torch.equal(ServedEmbedding.of(module)(torch.arange(len(codes), device="cuda")), table)
    module(indices.cuda()).backward(grad.cuda())
    twin = copy.deepcopy(module).cpu()
    twin.zero_grad()
    twin(indices).backward(grad)
    for on_gpu, on_cpu in ((module.centroids, twin.centroids), (module.codebook, twin.codebook)):
        torch.testing.assert_close(on_gpu.grad.cpu(), on_cpu.grad)


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("weighted", [False, True])
def test_products_with_hubs(weighted):
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([0, 3, 100_000, 255, 256, 257, 1])
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0))).int()
    columns = torch.randint(500, (int(offsets[-1]),), generator=generator, dtype=torch.int32)
    weights = torch.rand(len(columns), generator=generator) if weighted else None
    table = torch.randn((500, 64), generator=generator)
    given = [None if part is None else part.cuda() for part in (table, offsets, columns, weights)]
    found = sparse_product.gathered_sums(*given)
    assert torch.equal(found, sparse_product.gathered_sums(*given))
    torch.testing.assert_close(
        found.cpu(), sparse_product.gathered_sums(table, offsets, columns, weights), rtol=1e-3, atol=1e-2
    )
    rows = torch.tensor([6, 2, 4, 2, 0], device="cuda")
    assert torch.equal(sparse_product.gathered_sums_at(*given, rows), found[rows])


@pytest.mark.usefixtures("operations")
def test_work_goes_to_the_current_stream():
    """On a stream of its own, behind work that takes a while, a lookup sees what that work wrote."""
    codebook, codes, second, indices, _ = example("cuda")
    expected = codebook_lookup(codebook.detach() * 2, codes, second, indices, NO_PADDING)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        table = codebook.detach().clone()
        torch.cuda._sleep(50_000_000)
        table.mul_(2)
        found = codebook_lookup(table, codes, second, indices, NO_PADDING)
    stream.synchronize()
    assert torch.equal(found, expected)


@pytest.mark.usefixtures("operations")
def test_lookup_and_gradient_are_captured():
    codebook, codes, second, indices, grad = example("cuda")

    def work():
        out = codebook_lookup(codebook, codes, second, indices, NO_PADDING)
        return out, torch.autograd.grad(out, codebook, grad)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    indices.copy_(indices.flip(0))
    graph.replay()
    for replayed, eager in zip(captured, work(), strict=True):
        assert torch.equal(replayed, eager)


@pytest.mark.usefixtures("operations")
def test_a_compiled_module_is_one_graph():
    module = CodebookEmbedding([0, 1, 2, 0], 8, [1, 2, 0, 0], device="cuda")
    indices = torch.tensor([3, 1, 0], device="cuda")
    compiled = torch.compile(lambda where: module(where).sum(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(indices), module(indices).sum())


def test_tensors_on_two_devices_are_refused():
    codebook, codes, second, indices, _ = example("cuda")
    with pytest.raises(InputError, match="indices must be on the device of the codebook, cuda:0, got cpu"):
        codebook_lookup(codebook, codes, second, indices.cpu(), NO_PADDING)
    with pytest.raises(InputError, match="codes must be on the device of the codebook, cuda:0, got cpu"):
        codebook_lookup(codebook, codes.cpu(), second.cpu(), indices, NO_PADDING)


def test_an_index_out_of_range_is_nan(monkeypatch):
    if not dispatch._installed("cupy"):
        pytest.skip("needs CuPy")
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    codebook, codes, second, *_ = example("cuda")
    indices = torch.tensor([0, -1, 3000, 2**40], device="cuda")
    found = codebook_lookup(codebook, codes, second, indices, NO_PADDING)
    assert found.isnan().all(1).tolist() == [False, True, True, True]


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("bits", [16, 8, 7])
@pytest.mark.parametrize("dim", [3, 64, 129])
def test_steps_of_few_bits_are_those_of_the_cpu(bits, dim):
    found = []
    for where in ("cuda", "cpu"):
        table = QuantizedEmbedding(300, dim, bits=bits)
        table.reset_parameters(0.1, torch.Generator().manual_seed(1))
        table.to(where)
        optimizer = RowwiseRMSprop(table, lr=1e-2)
        for step in range(10):
            ids = torch.randint(0, 300, (200,), generator=torch.Generator().manual_seed(step)).to(where)
            (table(ids) - 0.5).square().sum().backward()
            optimizer.step()
        found.append([tensor.cpu() for tensor in (table.read_rows(), *optimizer.state[table.anchor].values())])
    (values, squares, count, step), (wanted, their_squares, their_count, their_step) = found
    assert torch.equal(count, their_count)
    assert step == their_step
    torch.testing.assert_close(squares, their_squares)
    # A sum in another order, by its last bit, may round a value the other way, and its gradient goes on from there.
    level = wanted.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 0.5) * 1.13
    assert ((values - wanted).abs() <= level * 1.001).all()
    assert (values != wanted).float().mean() < 0.01
