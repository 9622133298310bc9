"""Names of before work for one release, and say what to write."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import baco_gpu
from baco_gpu import CodebookEmbedding, ProductCodebookEmbedding, QuantizedEmbedding
from baco_gpu.renaming import renamed_arguments
from baco_gpu.tables import CodebookEmbeddingBag, MixedCodebookEmbedding, ResidualCodebookEmbedding
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

CODES, SECONDARY = [0, 1, 0, 2], [1, -1, 2, 0]


@pytest.mark.parametrize("module", ["baco_gpu", "baco_gpu.tables", "baco_gpu.tables.quantized"])
def test_classes(module):
    with pytest.warns(FutureWarning, match="LowPrecisionEmbedding is called QuantizedEmbedding now") as caught:
        former = importlib.import_module(module).LowPrecisionEmbedding
    assert former is QuantizedEmbedding
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(AttributeError, match="no attribute 'HighPrecisionEmbedding'"):
        _ = importlib.import_module(module).HighPrecisionEmbedding


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (CodebookEmbedding, {}),
        (CodebookEmbeddingBag, {}),
        (MixedCodebookEmbedding, {}),
        (WeightedCodebookEmbedding, {}),
        (ResidualCodebookEmbedding, {"residual_dim": 2}),
        (ProductCodebookEmbedding, {"subspaces": 2}),
        (CodebookEmbedding.from_pretrained, {}),
        (ResidualCodebookEmbedding.from_pretrained, {"residual_dim": 2}),
    ],
)
def test_arguments(make, options):
    of_table = {"table": torch.eye(4)} if hasattr(make, "__self__") else {"embedding_dim": 4}
    with pytest.warns(FutureWarning, match="argument 'codes' is called 'assignments' now: write that") as caught:
        table = make(codes=CODES, secondary=SECONDARY, **of_table, **options)
    assert caught[0].filename == __file__
    assert table.assignments.tolist() == CODES


def test_arguments_of_methods_and_of_product_codes():
    table = CodebookEmbedding(CODES, 4)
    with pytest.warns(FutureWarning, match="argument 'codes'"):
        grown = table.with_new_ids(codes=[2])
    with pytest.warns(FutureWarning, match="argument 'codes'"):
        table.resize(codes=[*CODES, 2])
    assert grown.assignments.tolist() == table.assignments.tolist() == [*CODES, 2]
    with pytest.warns(FutureWarning, match="argument 'number_bits' is called 'code_bits' now"):
        assert ProductCodebookEmbedding(CODES, 4, subspaces=2, number_bits=16).form.code_bits == 16
    with pytest.raises(TypeError, match="got 'codes' beside 'assignments'"):
        CodebookEmbedding(codes=CODES, assignments=CODES, embedding_dim=4)


@pytest.mark.parametrize(
    ("former", "current"), [("codes", "assignments"), ("rounding", "fake_quantization"), ("rounds", "is_quantized")]
)
def test_attributes(former, current):
    table = CodebookEmbedding(CODES, 4)
    with pytest.warns(FutureWarning, match=f"CodebookEmbedding.{former} is called {current} now") as caught:
        assert getattr(table, former) is getattr(table, current)
    assert caught[0].filename == __file__


def test_attributes_that_are_set():
    table = CodebookEmbedding(CODES, 4, bits=2)
    with pytest.warns(FutureWarning, match="is called fake_quantization now"):
        table.rounding = False
    assert table.fake_quantization is False
    assert "rounding" not in vars(table)
    with pytest.warns(FutureWarning, match="is called assignments now"):
        table.codes = torch.zeros(4, dtype=torch.int32)
    assert not table.assignments.any()
    assert "codes" not in table.state_dict()
    with pytest.raises(AttributeError, match="no attribute 'code'"):
        _ = table.code


def test_attributes_of_product_codes():
    table = ProductCodebookEmbedding(np.arange(4), 4, subspaces=2, centroids=3, row_bits=8)
    table.encode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert table.codes.shape == (4, 2)  # what CodebookEmbedding called so are the assignments
    for former, current in {"numbers": "codes", "behind": "latent_weight", "has_floats": "has_latent_weight"}.items():
        with pytest.warns(FutureWarning, match=f"is called {current} now"):
            assert getattr(table, former) is getattr(table, current)
    with pytest.warns(FutureWarning, match="is called latent_rows now"):
        rows = table.floats()
    with pytest.warns(FutureWarning, match="is called set_latent_rows now"):
        table.set_floats(torch.arange(4), rows)
    with pytest.warns(FutureWarning, match="is called drop_latent_weight now"):
        table.drop_floats()
    assert table.latent_weight is None


def test_nothing_is_said_where_names_of_now_are_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = nn.Sequential(CodebookEmbedding(assignments=CODES, embedding_dim=4), nn.Linear(4, 1))
        model(torch.tensor([0, 3])).sum().backward()
        _ = model[0].assignments, model[0].is_quantized, dir(baco_gpu)

    @renamed_arguments(old="new")
    def function(place, *, new=3):
        return place, new

    assert function(1) == (1, 3)
    with pytest.warns(FutureWarning, match="argument 'old' is called 'new' now"):
        assert function(1, old=2) == (1, 2)
