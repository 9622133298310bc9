"""compress_module: tables of other people's models become codebooks, in the middle of a training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import (
    BalancedCoclustering,
    CodebookEmbedding,
    CodebookEmbeddingBag,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
    compress_module,
)
from baco_gpu.errors import InputError
from baco_gpu.ops.quantization import rounded_rows
from baco_gpu.tables.id_growth import Codes, joined
from dlrm import DLRM, clicks, logistic_loss
from graphs import random_graph

pytestmark = pytest.mark.heavy("trains models")

USERS = np.array([0, 1, 1, 0, 2, 2])
ITEMS = Codes(np.array([5, 5, 9, 9]), np.array([-1, 9, 5, -1]))


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(6, 4, padding_idx=5)
        self.item = nn.ModuleDict({"embedding": nn.EmbeddingBag(4, 4, mode="sum")})
        self.score = nn.Linear(4, 1)

    def forward(self, users, items):
        return self.score(self.user_embedding(users) * self.item["embedding"](items)).squeeze(-1)


def trained(optimizer=torch.optim.Adam, steps=3, **options):
    torch.manual_seed(0)
    model = Towers()
    chosen = optimizer(model.parameters(), lr=0.1, **options)
    for _ in range(steps):
        chosen.zero_grad()
        model(torch.tensor([0, 1, 2, 4]), torch.tensor([[0, 1], [2, 3], [1, 1], [3, 0]])).square().sum().backward()
        chosen.step()
    return model, chosen


TABLES = {"user_embedding": USERS, "item.embedding": ITEMS}


def test_tables_are_replaced_by_means_and_the_report_counts_them():
    model, _ = trained()
    before = model.user_embedding.weight.detach().clone()
    report = compress_module(model, TABLES, weights={"user_embedding": [3, 1, 1, 1, 0, 0]})
    assert type(model.user_embedding) is CodebookEmbedding
    assert type(model.item["embedding"]) is CodebookEmbeddingBag
    assert (model.user_embedding.padding_idx, model.item["embedding"].mode) == (5, "sum")
    torch.testing.assert_close(model.user_embedding.codebook[0].detach(), before[0] * 0.75 + before[3] * 0.25)
    torch.testing.assert_close(model.user_embedding.codebook[1].detach(), before[[1, 2]].mean(0))
    users, items = report.tables
    assert (users.rows_before, users.rows_after, users.parameters_before, users.parameters_after) == (6, 3, 24, 12)
    assert (items.rows_after, items.parameters_after) == (2, 2 * 4 + 2)
    assert report.total("rows_before") == 10
    text = str(report)
    assert "user_embedding" in text and "10 -> 5" in text  # noqa: PT018
    loss = model(torch.tensor([0, 5]), torch.tensor([[0, 1], [2, 3]])).sum()
    loss.backward()
    assert model.user_embedding.codebook.grad is not None


def test_tables_train_on_in_few_bits():
    model, optimizer = trained()
    plain = copy.deepcopy(model)
    compress_module(plain, TABLES)
    report = compress_module(model, TABLES, optimizer, bits=4)
    for name in TABLES:
        table, floats = model.get_submodule(name), plain.get_submodule(name)
        assert torch.equal(table.codebook, floats.codebook)
        assert torch.equal(table._rows(), rounded_rows(floats.codebook, 4))
    assert report.total("bytes_after") == (3 + 2) * (2 + 1) + 4 * (6 + 4 + 4)
    before = model.user_embedding.codebook.detach().clone()
    model(torch.tensor([0, 1]), torch.tensor([[0, 1], [2, 3]])).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.user_embedding.codebook, before)
    with pytest.raises(InputError, match="bits must be one of"):
        compress_module(trained()[0], TABLES, bits=9)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adagrad, {}),
        (torch.optim.RMSprop, {"centered": True}),
    ],
)
def test_the_optimizer_goes_on_with_what_it_had(optimizer, options):
    model, chosen = trained(optimizer, **options)
    old = {key: value for key, value in chosen.state[model.user_embedding.weight].items() if torch.is_tensor(value)}
    weight, count = model.user_embedding.weight, len(chosen.param_groups[0]["params"])
    report = compress_module(model, TABLES, chosen)
    params = chosen.param_groups[0]["params"]
    assert len(params) == count
    assert any(each is model.user_embedding.codebook for each in params)
    assert weight not in chosen.state
    state = chosen.state[model.user_embedding.codebook]
    for key, value in old.items():
        if value.ndim:
            expected = torch.stack([value[[0, 3]].sum(0), value[[1, 2]].sum(0), value[4]])
            torch.testing.assert_close(state[key], expected)
        else:
            assert torch.equal(state[key], value)
    assert report.total("optimizer_bytes_after") < report.total("optimizer_bytes_before")
    assert report.bytes_saved > 0
    before = model.user_embedding.codebook.detach().clone()
    model(torch.tensor([0, 1]), torch.tensor([[0, 1], [2, 3]])).sum().backward()
    chosen.step()
    assert not torch.equal(before, model.user_embedding.codebook)


def test_first_moments_are_those_of_a_codebook_from_the_start():
    """Momentum is linear in gradients: folding it is the same as having trained the codebook with these gradients."""
    table, codes = nn.Embedding(6, 3), USERS
    momentum = torch.optim.SGD(table.parameters(), lr=0.0, momentum=0.9)
    ours = CodebookEmbedding.from_pretrained(table, codes)
    reference = torch.optim.SGD(ours.parameters(), lr=0.0, momentum=0.9)
    for seed in range(3):
        indices = torch.randint(6, (8,), generator=torch.Generator().manual_seed(seed))
        factor = torch.randn(8, 3, generator=torch.Generator().manual_seed(9 + seed))
        for module, optimizer in ((table, momentum), (ours, reference)):
            optimizer.zero_grad()
            (module(indices) * factor).sum().backward()
            optimizer.step()
    holder = nn.ModuleDict({"table": table})
    compress_module(holder, {"table": codes}, momentum)
    moved = momentum.state[holder["table"].codebook]["momentum_buffer"]
    torch.testing.assert_close(moved, reference.state[ours.codebook]["momentum_buffer"])


def test_a_module_with_two_names_is_replaced_under_both():
    model = nn.ModuleDict({"a": nn.Embedding(6, 4)})
    model["b"] = model["a"]
    (table,) = compress_module(model, {"b": USERS}).tables
    assert model["a"] is model["b"]
    assert table.aliases == ("a",)
    assert "b = a" in str(compress_module(nn.ModuleDict({"b": (e := nn.Embedding(6, 4)), "a": e}), {"b": USERS}))


def test_kinds_of_ids_in_one_table_share_no_row():
    model = nn.ModuleDict({"table": nn.Embedding(1 + 6 + 4, 4)})
    compress_module(model, {"table": [[0], USERS, ITEMS]})
    codes = model["table"].assignments.tolist()
    assert len({codes[0], *codes[1:7], *codes[7:]}) == 1 + 3 + 2
    assert not set(codes[1:7]) & set(codes[7:])
    assert model["table"].secondary.tolist()[:7] == codes[:7]


def test_a_result_goes_in_as_it_is():
    graph = random_graph(60, 40, 500, seed=1)
    result = BalancedCoclustering(budget=30).fit(graph).result_
    model = nn.ModuleDict({"user": nn.Embedding(60, 8), "item": nn.Embedding(40, 8)})
    report = compress_module(model, {"user": result.users, "item": result.items})
    assert report.total("rows_after") == result.codebook_rows
    assert model["user"].secondary is not None


MISTAKES = {
    "unknown name": (lambda m: {"user_embeding": USERS}, "got 'user_embeding'; the tables of this model are 'user_emb"),
    "no table": (lambda m: {"score": USERS}, "got 'score', a Linear"),
    "too few codes": (lambda m: {"user_embedding": [0, 1]}, r"one entry a row of the table \(6\), got 2"),
    "negative codes": (lambda m: {"user_embedding": [-1] * 6}, "must be at least 0, got -1"),
    "foreign secondary": (lambda m: {"item.embedding": Codes([0, 0, 1, 1], [7, -1, -1, -1])}, "'item.embedding': sec"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_and_change_nothing(mistake):
    tables, message = MISTAKES[mistake]
    model, optimizer = trained()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message):
        compress_module(model, {"item.embedding": ITEMS, **tables(model)}, optimizer)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_a_codebook_cannot_keep_is_refused():
    for options in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}):
        with pytest.raises(InputError, match=f"must have no {next(iter(options))}"):
            compress_module(nn.ModuleDict({"t": nn.Embedding(6, 4, **options)}), {"t": USERS})
    model, _ = trained()
    with pytest.raises(InputError, match="weights must be of tables that are compressed, got 'score'"):
        compress_module(model, TABLES, weights={"score": [1]})
    model.user_embedding.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="must have no hooks"):
        compress_module(model, TABLES)
    tied = nn.ModuleDict({"t": nn.Embedding(6, 4), "out": nn.Linear(4, 6, bias=False)})
    tied["out"].weight = tied["t"].weight
    with pytest.raises(InputError, match=r"also 'out\.weight': untie the two"):
        compress_module(tied, {"t": USERS})
    twins = nn.ModuleDict({"a": (table := nn.Embedding(6, 4)), "b": table})
    with pytest.raises(InputError, match="tables must name a module once"):
        compress_module(twins, {"a": USERS, "b": USERS})
    with pytest.raises(InputError, match=r"model must be a torch\.nn\.Module, got dict"):
        compress_module({}, {})
    with pytest.raises(InputError, match=r"optimizer must be a torch\.optim\.Optimizer, got str"):
        compress_module(trained()[0], TABLES, "adam")
    sparse = nn.ModuleDict({"t": nn.Embedding(6, 4, sparse=True)})
    with pytest.raises(InputError, match="has sparse gradients, and Adam takes none"):
        compress_module(sparse, {"t": USERS}, torch.optim.Adam(sparse.parameters()))


def test_what_would_go_on_with_the_old_table_is_refused():
    def adds(change):
        model, _ = trained()
        change(model, model.user_embedding)
        return model

    def patched(table):
        table.forward = lambda ids: ids

    for change, message in {
        "tensor hook": (
            lambda model, table: table.weight.register_hook(lambda gradient: gradient),
            "must have no hooks",
        ),
        "accumulated": (
            lambda model, table: table.weight.register_post_accumulate_grad_hook(lambda weight: None),
            "must have no hooks",
        ),
        "state": (lambda model, table: table.register_state_dict_post_hook(lambda *_: None), "must have no hooks"),
        "forward": (lambda model, table: patched(table), "as PyTorch makes it, got 'forward' beside"),
        "buffer": (lambda model, table: table.register_buffer("seen", torch.ones(1)), "got 'seen' beside"),
        "list": (lambda model, table: setattr(model, "all", [table]), "'all' is an attribute that holds it, too"),
        "mapping": (
            lambda model, table: setattr(model, "all", {"a": table.weight}),
            "'all' is an attribute that holds",
        ),
    }.values():
        model = adds(change)
        with pytest.raises(InputError, match=message):
            compress_module(model, TABLES)
        assert type(model.user_embedding) is nn.Embedding


def test_a_click_model_with_its_own_loop_goes_on_learning():
    """A DLRM: several tables, users and items among other features, trained by a loop that knows nothing of us."""
    data, graph = clicks(seed=0)
    torch.manual_seed(0)
    model = DLRM(graph.num_users, graph.num_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def epochs(count):
        for _ in range(count):
            for part in data.split(512):
                optimizer.zero_grad()
                logistic_loss(model, part).backward()
                optimizer.step()
        with torch.no_grad():
            return float(logistic_loss(model, data))

    first = epochs(5)
    result = BalancedCoclustering(budget=0.3, embedding_dim=8).fit(graph).result_
    report = compress_module(model, {"tables.user": result.users, "tables.item": result.items}, optimizer)
    assert report.total("parameters_after") < 0.35 * report.total("parameters_before")
    assert epochs(10) < first < 0.69
    restored = copy.deepcopy(model)
    restored.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert float(logistic_loss(restored, data)) == float(logistic_loss(model, data))


@pytest.mark.nightly("needs torch_geometric")
def test_a_peers_lightgcn_trains_on():
    from torch_geometric.nn.models import LightGCN

    graph = random_graph(60, 40, 600, seed=3)
    users = torch.as_tensor(np.repeat(np.arange(60), graph.user_degrees))
    items = torch.as_tensor(graph.csr.neighbors.astype(np.int64)) + 60
    edges = torch.stack((torch.cat((users, items)), torch.cat((items, users))))
    torch.manual_seed(0)
    model = LightGCN(100, embedding_dim=16, num_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

    def step():
        optimizer.zero_grad()
        negatives = torch.randint(60, 100, (len(users),), generator=torch.Generator().manual_seed(0))
        ranks = model(edges, torch.stack((torch.cat((users, users)), torch.cat((items, negatives)))))
        positive, negative = ranks.chunk(2)
        loss = model.recommendation_loss(positive, negative, node_id=edges[0].unique())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    before = [step() for _ in range(5)]
    result = BalancedCoclustering(budget=30).fit(graph).result_
    compress_module(model, {"embedding": [result.users, result.items]}, optimizer)
    assert isinstance(model.embedding, CodebookEmbedding)
    after = [step() for _ in range(20)]
    assert after[-1] < after[0]
    assert after[-1] < before[0]


@pytest.mark.parametrize("bag", [False, True])
def test_a_table_goes_on_to_be_what_it_was(bag):
    options = {"mode": "sum", "include_last_offset": True} if bag else {}
    source = (nn.EmbeddingBag if bag else nn.Embedding)(3, 1, padding_idx=0, sparse=True, **options)
    source.weight.data[:] = torch.tensor([[0.0], [3.0], [3.0]])
    source.weight.requires_grad_(False)
    kind = CodebookEmbeddingBag if bag else CodebookEmbedding
    model = nn.ModuleDict({"item": source})
    compress_module(model, {"item": [0, 0, 1]})
    for table in (kind.from_pretrained(source, [0, 0, 1]), model["item"]):
        assert (table.padding_idx, table.sparse, table.codebook.requires_grad) == (0, True, False)
        assert table.codebook.tolist() == [[3.0], [3.0]], "the zeros of padding are in no mean"
        assert [getattr(table, name) for name in options] == list(options.values())
    weighted = kind.from_pretrained(source, [0, 0, 1], weights=[5, 0, 0])
    assert weighted.codebook.tolist() == [[3.0], [3.0]]
    assert kind.from_pretrained(source, [0, 1, 1], sparse=False, padding_idx=2).codebook.tolist() == [[0.0], [3.0]]
    assert QuantizedEmbedding.from_pretrained(source).padding_idx == 0
    residual = ResidualCodebookEmbedding.from_pretrained(source, [0, 0, 1], residual_dim=1)
    assert (residual.padding_idx, residual.sparse) == (0, True)
    assert torch.equal(residual.weight, torch.tensor([[0.0], [3.0], [3.0]]))
    with pytest.raises(InputError, match="sparse must not be given for rows that are product codes"):
        ProductCodebookEmbedding.from_pretrained(source, [0, 1, 2], subspaces=1)
    with pytest.raises(InputError, match="table must have no max_norm"):
        kind.from_pretrained(nn.Embedding(3, 1, max_norm=1.0), [0, 0, 1])
    again = kind.from_pretrained(CodebookEmbedding([0, 0, 1], 2, padding_idx=1), [0, 1, 1])
    assert again.padding_idx == 1


@pytest.mark.parametrize("residual", [False, True])
def test_a_table_of_several_kinds_grows_by_the_list_that_it_was_given(residual):
    model = nn.ModuleDict({"table": nn.Embedding(1 + 6 + 4, 4, padding_idx=0)})
    if residual:
        codes, kinds = joined("of both", [[0], USERS, ITEMS])
        table = ResidualCodebookEmbedding.from_pretrained(
            model["table"], codes.labels, codes.secondary, residual_dim=4, residual_ids=[2, 8]
        )
        table.kinds = kinds
    else:
        compress_module(model, {"table": [[0], USERS, ITEMS]})
        table = model["table"]
    before = table.weight.detach().clone()
    more = Codes(np.array([9, *ITEMS.labels]), np.array([-1, *ITEMS.secondary]))
    places = [None, [0, 1, 2, 3, 4, 6], [1, 2, 3, 4]]
    table.resize([[0], [*USERS[:5], 1, USERS[5], 2], more], places=places)
    now = [0, 1, 2, 3, 4, 5, 7, 10, 11, 12, 13]
    assert (table.num_embeddings, table.padding_idx) == (14, 0)
    assert torch.equal(table.weight.detach()[now], before)
    table.resize([[0], [*USERS[:5], 1, USERS[5], 2, 2], more], places=[None] * 3)  # and once more, in their places
    assert torch.equal(table.weight.detach()[[0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 14]], before)
    for wrong, message in (
        ([[0], USERS], "must be a list of 3 kinds of ids, got 2"),
        ([[0], [3] * 9, more], "must be below 3 in part 1, got 3"),
    ):
        with pytest.raises(InputError, match=message):
            table.resize(wrong, places=[None] * len(wrong))
    with pytest.raises(InputError, match="places must be a list of 3 kinds of ids, got 2"):
        table.resize([[0], [0] * 9, more], places=[None, None])
    with pytest.raises(InputError, match="was not made of a list of kinds"):
        CodebookEmbedding([0, 1], 2).resize([[0], [0, 1]])
    side = CodebookEmbedding([0, 1], 2)
    side.resize(Codes([0, 1, 1], [1, -1, 0]))
    assert side.secondary.tolist() == [1, 1, 0]
