"""Tables under what transforms models: `torch.func`, exporters to ONNX, DistributedDataParallel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacfwd, vmap

from baco_gpu import (
    CodebookEmbedding,
    CodebookEmbeddingBag,
    MixedCodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
)
from baco_gpu.errors import InputError
from baco_gpu.tables import export, export_onnx
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

pytestmark = pytest.mark.heavy("exports modules, and starts processes")

CODES, SECOND = [0, 1, 0, 2, 2], [1, -1, 2, 0, -1]
KINDS = {
    "codebook": lambda: CodebookEmbedding(CODES, 4),
    "two rows, padding": lambda: CodebookEmbedding(CODES, 4, SECOND, padding_idx=3),
    "sparse": lambda: CodebookEmbedding(CODES, 4, SECOND, sparse=True),
    "4 bits": lambda: CodebookEmbedding(CODES, 4, bits=4),
    "8 bits": lambda: CodebookEmbedding(CODES, 4, SECOND, bits=8),
    "mixed": lambda: MixedCodebookEmbedding(CODES, 4, np.stack((SECOND, CODES), axis=1), own_share=0.3),
    "weighted": lambda: WeightedCodebookEmbedding(CODES, 4, SECOND, shares=(0.7, 0.3)),
    "residual": lambda: ResidualCodebookEmbedding(CODES, 4, SECOND, residual_dim=2),
    "product": lambda: ProductCodebookEmbedding.from_pretrained(torch.randn(5, 4), CODES, subspaces=2, centroids=3),
}
IDS = torch.tensor([[0, 3, 3], [1, 2, 4], [4, 4, 0]])


def made(name):
    torch.manual_seed(0)
    table = KINDS[name]()
    if hasattr(table, "residual"):
        nn.init.normal_(table.residual[:-1].data)
    return table, {key: parameter.detach().clone() for key, parameter in table.named_parameters()}


def loss(table, parameters, ids):
    return functional_call(table, parameters, (ids,)).square().sum(-1).tanh().sum()


def eager_gradients(table, ids):
    table.zero_grad()
    table(ids).square().sum(-1).tanh().sum().backward()
    return {
        key: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
        for key, parameter in table.named_parameters()
    }


@pytest.mark.parametrize("name", KINDS)
def test_gradients_and_those_of_every_sample_are_those_of_backward(name):
    table, parameters = made(name)
    torch.testing.assert_close(grad(lambda own: loss(table, own, IDS))(parameters), eager_gradients(table, IDS))
    each = vmap(grad(lambda own, ids: loss(table, own, ids)), in_dims=(None, 0))(parameters, IDS)
    for place, ids in enumerate(IDS):
        wanted = eager_gradients(table, ids)
        torch.testing.assert_close({key: value[place] for key, value in each.items()}, wanted)


@pytest.mark.parametrize("name", KINDS)
def test_models_of_an_ensemble_are_looked_up_together(name):
    table, parameters = made(name)
    stacked = {key: torch.stack((value, value * 2, -value)) for key, value in parameters.items()}
    found = vmap(lambda own: functional_call(table, own, (IDS,)))(stacked)
    for place in range(3):
        own = {key: value[place] for key, value in stacked.items()}
        torch.testing.assert_close(found[place], functional_call(table, own, (IDS,)).detach())


def test_forward_mode_knows_lookups():
    table, parameters = made("two rows, padding")
    jacobian = jacfwd(lambda own: functional_call(table, {"codebook": own}, (IDS[0],)).sum(0)[0])(
        parameters["codebook"]
    )
    table(IDS[0]).sum(0)[0].backward()
    torch.testing.assert_close(jacobian, table.codebook.grad)


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.nightly("needs onnxscript and ONNX Runtime"))]
)
@pytest.mark.parametrize("name", ["codebook", "two rows, padding", "sparse", "mixed", "weighted", "residual"])
def test_a_whole_model_goes_to_onnx(name, dynamo, tmp_path):
    table, _ = made(name)
    model = nn.Sequential(table, nn.Linear(4, 1)).eval()
    path = str(tmp_path / "model.onnx")
    with torch.no_grad():
        other = torch.tensor([[4, 3, 2], [1, 0, 0]])
        if dynamo:
            import onnxruntime

            torch.onnx.export(model, (IDS,), path, dynamo=True, input_names=["ids"], verbose=False)
            other = torch.cat((other, other[:1]))  # as many as were exported
            (found,) = onnxruntime.InferenceSession(path).run(None, {"ids": other.numpy()})
        else:
            from onnx.reference import ReferenceEvaluator

            torch.onnx.export(model, (IDS,), path, dynamo=False, input_names=["ids"], dynamic_axes={"ids": {0: "n"}})
            (found,) = ReferenceEvaluator(path).run(None, {"ids": other.numpy()})
        np.testing.assert_allclose(found, model(other).numpy(), rtol=1e-5, atol=1e-6)


def test_what_is_exported_by_dynamo_holds_no_operators_of_ours(monkeypatch):
    model = nn.Sequential(made("two rows, padding")[0], nn.Linear(4, 1)).eval()
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = torch.export.export(model, (IDS,)).run_decompositions()
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert called
    assert not [name for name in called if not name.startswith("aten.")]
    torch.testing.assert_close(exported.module()(IDS), model(IDS))


def test_a_table_beyond_what_onnx_holds_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "LARGEST_ONNX", 10)
    with pytest.raises(InputError, match=r"holds 10 bytes, and the table has 68: use export_codebook"):
        export_onnx(made("codebook")[0], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("bag", [False, True])
def test_sparse_tables_train_under_distributed_data_parallel(one_process, bag):
    table = CodebookEmbeddingBag(CODES, 4, SECOND, sparse=True) if bag else made("sparse")[0]
    job = nn.parallel.DistributedDataParallel(table)
    job(IDS).sum().backward()
    found = table.codebook.grad.to_dense().clone()
    table.codebook.grad = None
    table(IDS).sum().backward()
    assert table.codebook.grad.is_sparse
    torch.testing.assert_close(found, table.codebook.grad.to_dense())


def test_tables_whose_gradients_stay_with_them_are_refused_among_several_processes(one_process, monkeypatch):
    table = QuantizedEmbedding(5, 4)
    job = nn.parallel.DistributedDataParallel(nn.Sequential(table, nn.Linear(4, 1)))
    job(IDS).sum().backward()
    assert len(table.take_gradient()[0])
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    with pytest.raises(InputError, match="DistributedDataParallel must not train a QuantizedEmbedding"):
        job(IDS)
    with torch.no_grad():
        job(IDS)
