"""Arguments of another kind than expected: every public call on tables names them, and nothing is changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import (
    CodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
    RowwiseRMSprop,
    compress_module,
    export_codebook,
    rebuild_module,
)
from baco_gpu.errors import InputError
from baco_gpu.tables import CombinedOptimizer, MixedCodebookEmbedding, TableBag, begin_epoch, export_onnx, finalize
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

CODES = [0, 0, 1, 1, 1]
ODD = {
    "text": "abc",
    "fraction": 2.5,
    "texts": ["a", None],
    "uneven": [[0], [1, 2]],
    "mapping": {"a": 1},
    "object": object(),
    "kind": nn.Linear,
    "no dimension": np.array(2.5),
    "NaN": np.array([0, 1, 2, 3, np.nan]),
    "iterator": iter([0] * 5),
    "bytes": b"01234",
}


def model() -> nn.Module:
    return nn.ModuleDict({"item": nn.Embedding(5, 4), "bag": nn.EmbeddingBag(5, 4)})


def compressed(**options):
    return compress_module(model(), {"item": CODES}, **options)


CALLS = {
    "compress_module(model)": lambda odd: compress_module(odd, {"item": CODES}),
    "compress_module(tables)": lambda odd: compress_module(model(), odd),
    "compress_module(assignments)": lambda odd: compress_module(model(), {"item": odd}),
    "compress_module(kinds)": lambda odd: compress_module(model(), {"item": [odd, CODES]}),
    "compress_module(optimizer)": lambda odd: compressed(optimizer=odd),
    "compress_module(weights)": lambda odd: compressed(weights=odd),
    "compress_module(weights of a table)": lambda odd: compressed(weights={"item": odd}),
    "compress_module(weights of a table that is given)": lambda odd: compress_module(
        model(), {"item": CodebookEmbedding(CODES, 4)}, weights={"item": odd}
    ),
    "compress_module(bits)": lambda odd: compressed(bits=odd),
    "compress_module(rows)": lambda odd: compressed(rows=odd),
    "compress_module(seed)": lambda odd: compressed(seed=odd),
    "rebuild_module(model)": lambda odd: rebuild_module(odd, model().state_dict()),
    "rebuild_module(state_dict)": lambda odd: rebuild_module(model(), [odd]),
    "rebuild_module(a tensor)": lambda odd: rebuild_module(model(), {"item.weight": odd}),
    "rebuild_module(settings)": lambda odd: rebuild_module(model(), model().state_dict(), settings=odd),
    "rebuild_module(settings of a table)": lambda odd: rebuild_module(
        model(), model().state_dict(), settings={"item": [odd]}
    ),
    "begin_epoch": begin_epoch,
    "finalize": finalize,
    "export_codebook": lambda odd: export_codebook([odd], "table.safetensors"),
    "export_codebook(path)": lambda odd: export_codebook(CodebookEmbedding(CODES, 4), [odd]),
    "export_onnx": lambda odd: export_onnx(odd, "table.onnx"),
    "CodebookEmbedding(assignments)": lambda odd: CodebookEmbedding(odd, 4),
    "CodebookEmbedding(embedding_dim)": lambda odd: CodebookEmbedding(CODES, odd),
    "CodebookEmbedding(secondary)": lambda odd: CodebookEmbedding(CODES, 4, odd),
    "CodebookEmbedding(labels)": lambda odd: CodebookEmbedding(CODES, 4, labels=odd),
    "CodebookEmbedding(padding_idx)": lambda odd: CodebookEmbedding(CODES, 4, padding_idx=odd),
    "CodebookEmbedding(sparse)": lambda odd: CodebookEmbedding(CODES, 4, sparse=odd),
    "CodebookEmbedding(dtype)": lambda odd: CodebookEmbedding(CODES, 4, dtype=odd),
    "CodebookEmbedding(device)": lambda odd: CodebookEmbedding(CODES, 4, device=odd),
    "from_pretrained": lambda odd: CodebookEmbedding.from_pretrained(odd, CODES),
    "from_pretrained(weights)": lambda odd: CodebookEmbedding.from_pretrained(torch.ones(5, 4), CODES, weights=odd),
    "resize": lambda odd: CodebookEmbedding(CODES, 4).resize(odd),
    "resize(places)": lambda odd: CodebookEmbedding(CODES, 4).resize([*CODES, 0], places=odd),
    "with_new_ids": lambda odd: CodebookEmbedding(CODES, 4).with_new_ids(odd),
    "MixedCodebookEmbedding(own_share)": lambda odd: MixedCodebookEmbedding(CODES, 4, [[0]] * 5, own_share=[odd]),
    "WeightedCodebookEmbedding(shares)": lambda odd: WeightedCodebookEmbedding(CODES, 4, CODES, shares=odd),
    "ResidualCodebookEmbedding(residual_dim)": lambda odd: ResidualCodebookEmbedding(CODES, 4, residual_dim=odd),
    "ResidualCodebookEmbedding(residual_ids)": lambda odd: ResidualCodebookEmbedding(
        CODES, 4, residual_dim=1, residual_ids=odd
    ),
    "ProductCodebookEmbedding(lengths)": lambda odd: ProductCodebookEmbedding(CODES, 4, subspaces=2, lengths=odd),
    "ProductCodebookEmbedding(code_bits)": lambda odd: ProductCodebookEmbedding(CODES, 4, subspaces=2, code_bits=odd),
    "ProductCodebookEmbedding(row_bits)": lambda odd: ProductCodebookEmbedding(CODES, 4, subspaces=2, row_bits=odd),
    "QuantizedEmbedding": lambda odd: QuantizedEmbedding(odd, 4),
    "QuantizedEmbedding(device)": lambda odd: QuantizedEmbedding(5, 4, device=odd),
    "QuantizedEmbedding.from_pretrained": QuantizedEmbedding.from_pretrained,
    "TableBag": TableBag,
    "TableBag(mode)": lambda odd: TableBag(CodebookEmbedding(CODES, 4), mode=odd),
    "CombinedOptimizer": CombinedOptimizer,
    "CombinedOptimizer.load_state_dict": lambda odd: CombinedOptimizer(
        [RowwiseRMSprop(QuantizedEmbedding(5, 4))]
    ).load_state_dict(odd),
    "RowwiseRMSprop": RowwiseRMSprop,
    "RowwiseRMSprop(lr)": lambda odd: RowwiseRMSprop(QuantizedEmbedding(5, 4), lr=[odd]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("odd", ODD)
def test_an_argument_of_another_kind_is_named_in_a_line(call, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        CALLS[call](ODD[odd])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress_module(model(), {"item": None}), "assignments of 'item' must be an array .*, got None"),
        (lambda: compress_module(model(), {}), "tables must name one table at least, got none"),
        (lambda: compress_module(model(), None), "tables must be a mapping of names of tables .*, got None"),
        (lambda: compressed(weights={"item": [1, -1, 1, 1, 1]}), "weights of 'item' must be finite and non-negative"),
        (lambda: compressed(weights={"item": [1, 1]}), r"weights of 'item' must have shape \(5,\), got \(2,\)"),
        (lambda: CodebookEmbedding(CODES, 4, sparse="no"), "sparse must be True or False, got 'no'"),
        (lambda: CodebookEmbedding(CODES, 4, device="gpu"), "device must be one that is here, got 'gpu'"),
        (lambda: export_codebook(CodebookEmbedding(CODES, 4), None), "path must be a path, got None"),
        (lambda: export_codebook(None, "x"), "a table must be one that can be served, .* got NoneType"),
        (lambda: rebuild_module(model(), {"item.weight": None}), r"must have a tensor for 'item\.weight', got None"),
    ],
)
def test_messages_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(InputError, match=message):
        call()
