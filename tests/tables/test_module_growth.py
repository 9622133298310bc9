"""resize_module: several tables at once, of a model in the middle of a training, or none of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import CodebookEmbedding, ProductCodebookEmbedding, compress_module, resize_module
from baco_gpu.errors import InputError
from baco_gpu.tables import FullTable, TableBag
from baco_gpu.tables.id_growth import Codes


def filled(table: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape))
    return table


def test_tables_of_pytorch_grow_and_shrink_with_their_optimizer():
    model = nn.ModuleDict({"user": nn.Embedding(3, 2), "item": nn.EmbeddingBag(4, 2, mode="sum", padding_idx=1)})
    filled(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loss = model["user"](torch.tensor([0, 2])).sum() + model["item"](torch.tensor([[0, 2]])).sum()
    loss.backward()
    optimizer.step()
    before = copy.deepcopy(model)
    weights = [model["user"].weight, model["item"].weight]
    moments = optimizer.state[weights[0]]["exp_avg"].clone()
    places = {"user": [2, -1, 0], "item": [0, 4, 2, -1]}
    resize_module(model, {"user": [7, 5, 7], "item": [1, 1, 1, 9, 0]}, optimizer, places)
    assert [model["user"].weight, model["item"].weight] == weights
    assert (model["user"].num_embeddings, model["item"].num_embeddings, model["item"].padding_idx) == (3, 5, 4)
    now, then = model["user"].weight.detach(), before["user"].weight.detach()
    assert torch.equal(now[[2, 0]], then[[0, 2]])
    torch.testing.assert_close(now[1], then[[0, 2]].mean(dim=0), msg="no old id has label 5: the mean of all")
    torch.testing.assert_close(model["item"].weight.detach()[1], before["item"].weight.detach()[[0, 2]].mean(dim=0))
    assert torch.equal(optimizer.state[weights[0]]["exp_avg"], torch.stack([moments[2], 0 * moments[0], moments[0]]))
    model["user"](torch.tensor([1])).sum().backward()
    optimizer.step()


def test_one_wrong_table_leaves_all_as_they_were():
    def job():
        return filled(nn.ModuleDict({"user": CodebookEmbedding([0, 0, 1], 2), "item": nn.Embedding(2, 2)}))

    model = job()
    for tables, places, message in (
        ({"user": [0, 0, 1, 1], "item": [0, 1, 2]}, None, "'item': places must be given where 2 ids become 3"),
        (
            {"item": [0, 1, 2], "user": [0, 0, 5]},
            {"item": [0, 1]},
            "'user': assignments must be labels of",
        ),
        ({"item": [0, 1], "city": [0]}, None, r"tables must name tables of the model \('user', 'item'\), got 'city'"),
        ({"item": [0, 1]}, {"user": [0, 1, 2]}, "places must be of tables that are resized, got 'user'"),
        ({"item": [[0], [1, 2]]}, None, "'item': assignments must be one array"),
        ({"item": [0, 1]}, {"item": [0, 0]}, "places must be distinct, got 0 more than once"),
    ):
        with pytest.raises(InputError, match=message):
            resize_module(model, tables, None, places)
        for one, other in zip(model.state_dict().values(), job().state_dict().values(), strict=True):
            assert torch.equal(one, other)
    tied = nn.ModuleDict({"item": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    tied["head"].weight = tied["item"].weight
    with pytest.raises(InputError, match=r"'item' must have rows of its own to grow, got some that head\.weight is"):
        resize_module(tied, {"item": [0, 1, 2, 3]}, places={"item": [0, 1, 2]})
    padded = nn.ModuleDict({"item": nn.Embedding(3, 2, padding_idx=1)})
    with pytest.raises(InputError, match="places must keep the padding index 1, got -1 for it"):
        resize_module(padded, {"item": [0, 0]}, places={"item": [0, -1, 1]})
    twice = nn.ModuleDict({"item": padded["item"], "other": padded["item"]})
    with pytest.raises(InputError, match="tables must name a module once, got 'item' and 'other'"):
        resize_module(twice, {"item": [0, 0, 0], "other": [0, 0, 0]})


def test_a_row_begins_anew_where_no_table_keeps_it():
    users, items = CodebookEmbedding([0, 1, 2], 1, labels=range(4)), CodebookEmbedding([3, 2], 1, labels=range(4))
    items.codebook = users.codebook
    model = filled(nn.ModuleDict({"user": users, "item": items}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    users(torch.tensor([0, 1, 2])).sum().backward()
    optimizer.step()
    places = {"user": [0, -1, 1]}
    resize_module(model, {"user": [2, 1]}, optimizer, places)
    assert users.codebook.flatten().tolist() == [0, 2, 2, 3], "row 1 is that of its one id, row 2 is still an item's"
    assert optimizer.state[users.codebook]["momentum_buffer"].flatten().tolist() == [1, 0, 1, 0]
    assert users.codebook is items.codebook


@pytest.mark.parametrize("own", [False, True])
def test_ids_of_several_kinds_come_and_go(own):
    labels = [[0], range(3), range(2)] if own else [[0], [0, 1, 1], [0, 0]]
    model = nn.ModuleDict({"table": filled(nn.Embedding(6, 2, padding_idx=0))})
    compress_module(model, {"table": [list(part) for part in labels]})
    table, before = model["table"], model["table"].weight.detach().clone()
    assert table.owns_rows == own
    resize_module(model, {"table": [[0], [1, 0], [0, 0, 0]]}, places={"table": [None, [1, -1, 0], [0, 2]]})
    after = table.weight.detach()
    assert torch.equal(after[[0, 2, 1, 3, 5]], before[[0, 1, 3, 4, 5]])
    torch.testing.assert_close(after[4], before[[4, 5]].mean(dim=0) if own else before[4])
    assert [kind.ids for kind in table.kinds] == [1, 2, 3]
    resize_module(model, {"table": [[0], [1, 0], [0, 0]]}, places={"table": [None, None, [0, 1, -1]]})
    assert torch.equal(table.weight.detach(), after[:5])


def test_codes_without_floats_grow_by_the_nearest_ones():
    rows = torch.tensor([[1.0, 1], [1, 1], [-2, 3], [0, 5]])
    table = ProductCodebookEmbedding.from_pretrained(rows, range(4), subspaces=1, centroids=3)
    table.finalize()
    before = table.weight.detach().clone()
    model = nn.ModuleDict({"user": TableBag(table)})
    resize_module(model, {"user": [0, 0, 1, 2, 0]}, places={"user": range(4)})
    assert table.codes.shape == (5, 1)
    assert torch.equal(table.weight.detach(), torch.cat((before, before[:1])))
    assert model["user"].num_embeddings == 5


def test_what_is_given_beside_labels_counts_where_rows_are_shared():
    model = nn.ModuleDict({"user": CodebookEmbedding([0, 1, 2], 2, [1, -1, -1]), "item": FullTable(2, 2)})
    resize_module(model, {"user": Codes([0, 1, 2, 2], [2, 1, 0, 1]), "item": Codes([0, 1], [1, 0])})
    assert model["user"].secondary.tolist() == [2, 1, 0, 1]
    assert np.array_equal(model["item"].weight.shape, (2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {"user": [0] * 3}), "model must be a torch.nn.Module, got dict"),
        ((None, [("user", [0] * 3)]), "tables must be a mapping of names to assignments"),
        ((None, {"user": [0] * 3}, None, [0, 1, 2]), "places must be a mapping of names to integers"),
        ((None, {"user": [0] * 3}, {"user": [2, 1, 0]}), "optimizer must be a torch.optim.Optimizer, got dict"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments, message):
    model, *others = arguments
    with pytest.raises(InputError, match=message):
        resize_module(nn.ModuleDict({"user": nn.Embedding(3, 2)}) if model is None else model, *others)
