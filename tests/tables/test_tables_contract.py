"""Every kind of table keeps the contract of `baco_gpu.tables.embedding_table.EmbeddingTable`."""

from __future__ import annotations

import copy
import functools
import importlib
import io
import json
import pickle
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import tables
from baco_gpu.budget import Budget
from baco_gpu.errors import InputError
from baco_gpu.methods.method import Spec
from baco_gpu.serving import load_codebook
from baco_gpu.serving.decoders import Decoder
from baco_gpu.tables import (
    CodebookEmbedding,
    CodebookEmbeddingBag,
    CombinedOptimizer,
    EmbeddingTable,
    FullTable,
    MixedCodebookEmbedding,
    ProductCodebookEmbedding,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
    ResidualMixedCodebookEmbedding,
    ServedEmbedding,
    ShardedTable,
    TableBag,
    export_codebook,
    export_onnx,
    rebuild_module,
    resize_module,
)
from baco_gpu.tables.derived import Derived
from baco_gpu.tables.embedding_table import encode, own_optimizers
from baco_gpu.tables.facts import without_facts
from baco_gpu.tables.full import as_table, size_of, tables_in
from baco_gpu.tables.id_growth import Codes
from baco_gpu.tables.ids import ResizableTable
from baco_gpu.tables.rebuild import table_of
from baco_gpu.tables.trellis import TrellisEmbedding
from baco_gpu.tables.weight import ExpandedTable
from baco_gpu.tables.weighted import WeightedCodebookEmbedding
from graphs import random_graph
from pages import ROOT, blocks

COUNT, DIM, PADDING = 10, 6, 3
CODES = np.array([4, 0, 7, 0, 4, 9, 9, 7, 4, 9])
SECONDARY = np.array([7, -1, 0, 9, 9, -1, 0, 7, 7, 4])
NEAR = np.stack((SECONDARY, np.roll(CODES, 1)), axis=1)
OWN = np.arange(COUNT)

KINDS = {
    "full": lambda **options: FullTable(COUNT, DIM, **options),
    "codebook": lambda **options: CodebookEmbedding(CODES, DIM, **options),
    "codebook of own rows": lambda **options: CodebookEmbedding(OWN, DIM, **options),
    "codebook of more rows": lambda **options: CodebookEmbedding(OWN, DIM, labels=np.arange(COUNT + 3), **options),
    "codebook of two rows": lambda **options: CodebookEmbedding(CODES, DIM, SECONDARY, **options),
    "codebook of 4 bits": lambda **options: CodebookEmbedding(CODES, DIM, SECONDARY, bits=4, **options),
    "bag": lambda **options: CodebookEmbeddingBag(CODES, DIM, SECONDARY, mode="sum", **options),
    "mixed": lambda **options: MixedCodebookEmbedding(CODES, DIM, NEAR, own_share=0.25, **options),
    "weighted": lambda **options: WeightedCodebookEmbedding(CODES, DIM, SECONDARY, shares=(0.7, 0.3), **options),
    "residual": lambda **options: ResidualCodebookEmbedding(
        CODES, DIM, SECONDARY, residual_dim=2, residual_ids=[1, 8], **options
    ),
    "residual of 8 bits": lambda **options: ResidualCodebookEmbedding(CODES, DIM, residual_dim=1, bits=8, **options),
    "residual of mixed": lambda **options: ResidualMixedCodebookEmbedding(
        CODES, DIM, NEAR, residual_dim=2, residual_ids=[1, 8], **options
    ),
    "product": lambda **options: ProductCodebookEmbedding(CODES, DIM, SECONDARY, subspaces=4, centroids=3, **options),
    "product of own rows": lambda **options: ProductCodebookEmbedding(
        OWN, DIM, subspaces=2, centroids=5, code_bits=16, lengths=True, **options
    ),
    "product of 8 bits": lambda **options: ProductCodebookEmbedding(
        OWN, DIM, subspaces=2, centroids=5, row_bits=8, **options
    ),
    "trellis": lambda **options: TrellisEmbedding(CODES, DIM, SECONDARY, widths=[2], state_bits=8, **options),
    "trellis of grades": lambda **options: TrellisEmbedding(
        OWN, DIM, widths=[1, 3], grades=OWN % 2, state_bits=8, **options
    ),
    "trellis of 8 bits": lambda **options: TrellisEmbedding(OWN, DIM, widths=[3], row_bits=8, **options),
    "quantized to 16 bits": lambda **options: QuantizedEmbedding(COUNT, DIM, bits=16, **options),
    "quantized to 5 bits": lambda **options: QuantizedEmbedding(COUNT, DIM, bits=5, **options),
}
NOT_SERVED = {"full", "weighted"}

every_kind = pytest.mark.parametrize("name", KINDS)


def made(name: str, seed: int = 0, **options) -> EmbeddingTable:
    """A table as it is trained and evaluated in the end: with random rows, seen as they are stored."""
    table, generator = KINDS[name](**options), torch.Generator().manual_seed(seed)
    for part in tables_in(table):
        part.initialize(1.0, generator)
    with torch.no_grad():
        if hasattr(table, "residual"):
            table.residual[:-1].normal_(generator=generator)
        if hasattr(table, "shares"):
            table.shares.uniform_(generator=generator)
    encode([table], seed)
    table.see_stored(True)
    return table


def look_up(table: EmbeddingTable, ids: torch.Tensor) -> torch.Tensor:
    """The rows of ids, of a bag too."""
    return table(ids.reshape(-1, 1)).view(*ids.shape, DIM) if isinstance(table, CodebookEmbeddingBag) else table(ids)


def gradients(table: EmbeddingTable) -> list[torch.Tensor]:
    """Of a lookup with repeated ids and of the whole table, with the gradients that no parameter takes."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(COUNT, (40,), generator=generator)
    pull, push = torch.randn(40, DIM, generator=generator), torch.randn(COUNT, DIM, generator=generator)
    table.zero_grad()
    ((look_up(table, ids) * pull).sum() + (table.weight * push).sum()).backward()
    taken = [part for each in tables_in(table) if hasattr(each, "take_gradient") for part in each.take_gradient()]
    return taken + [parameter.grad for parameter in table.parameters() if parameter.grad is not None]


def same(one, other) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def kinds_below(kind: type) -> set[type]:
    return {kind}.union(*map(kinds_below, kind.__subclasses__()))


def test_every_kind_is_here():
    for file in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{file.name}")
    of_the_package = {kind for kind in kinds_below(EmbeddingTable) if kind.__module__.startswith("baco_gpu.")}
    bases = {EmbeddingTable, ExpandedTable, ResizableTable}
    # What a rank has of a table is no whole one: `test_sharded`.
    assert {type(make()) for make in KINDS.values()} == of_the_package - bases - {ShardedTable}


@every_kind
def test_lookups_are_rows_of_the_whole_table(name):
    table = made(name)
    weight = table.weight.detach()
    assert (table.num_embeddings, table.embedding_dim) == weight.shape == (COUNT, DIM)
    for ids in (torch.tensor(4), torch.tensor([[0, 3, 3], [9, 1, 3]]), torch.empty((0, 2), dtype=torch.int64)):
        for index in (ids, ids.int()):
            found = look_up(table, index)
            assert (found.shape, found.dtype) == ((*ids.shape, DIM), weight.dtype)
            torch.testing.assert_close(found.detach(), weight[ids], rtol=1e-6, atol=1e-6)
    for bad in (-1, COUNT):
        with pytest.raises((InputError, IndexError)):
            look_up(table, torch.tensor([0, bad]))


@every_kind
def test_padding_is_zero_and_learns_nothing(name):
    table = made(name, padding_idx=PADDING - COUNT)
    assert table.padding_idx == PADDING
    others = [index for index in range(COUNT) if index != PADDING]
    assert not table.weight[PADDING].any()
    assert not look_up(table, torch.tensor([PADDING])).any()
    assert table.weight[others].any(dim=1).all()
    before = copy.deepcopy(table)
    looked_up = look_up(table, torch.tensor([PADDING, PADDING]))
    # As in PyTorch, who reads the weight of a full table reads its padding row, too.
    (looked_up.sum() if name == "full" else looked_up.sum() + 2 * table.weight[PADDING].sum()).backward()
    assert not any(parameter.grad.any() for parameter in table.parameters() if parameter.grad is not None)
    for optimizer in own_optimizers(tables_in(table), 0.1, 0):
        optimizer.step()
    assert same(list(table.state_dict().values()), list(before.state_dict().values()))


def before(state: dict) -> dict:
    """A state by the names that tensors had before."""
    labelled = "labels" in state
    former = {"assignments": "codes", "codes": "numbers"} if labelled else {}
    return {former.get(key, key.replace("latent_weight.", "behind.")): tensor for key, tensor in state.items()}


@every_kind
@pytest.mark.parametrize("inside", [False, True])
def test_states_by_the_names_of_before_load(name, inside):
    table, loaded = made(name), made(name, seed=1)
    model, state = (nn.ModuleDict({"user": loaded}), "user.") if inside else (loaded, "")
    model.load_state_dict({state + key: tensor for key, tensor in before(without_facts(table.state_dict())).items()})
    assert same(list(loaded.state_dict().values()), list(table.state_dict().values()))
    assert torch.equal(loaded.weight, table.weight)


@every_kind
def test_copies_pickles_and_states_are_the_same_table(name):
    table, loaded = made(name, padding_idx=PADDING), made(name, seed=1, padding_idx=PADDING)
    if hasattr(loaded, "assignments"):
        loaded.assignments.copy_(loaded.assignments.flip(0))
    if hasattr(loaded, "labels"):
        loaded.labels.add_(100)
    _ = gradients(table), gradients(loaded)  # fills what is kept between lookups
    assert not torch.equal(loaded.weight, table.weight)
    file = io.BytesIO()
    torch.save(table.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for twin in (loaded, copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert repr(twin) == repr(table)
        assert list(twin.state_dict()) == list(table.state_dict())
        assert same(list(twin.state_dict().values()), list(table.state_dict().values()))
        assert torch.equal(twin.weight, table.weight)
        assert not hasattr(table, "labels") or torch.equal(twin.labels, table.labels)
        assert same(gradients(twin), gradients(table))
        for part in tables_in(twin):
            part.initialize(1.0, torch.Generator().manual_seed(2))
        encode([twin], 0)
        twin.begin_epoch(stored=True)
        assert not torch.equal(twin.weight, table.weight)


WRITES = {
    "copied": lambda tensor, new: tensor.copy_(new),
    "data set": lambda tensor, new: setattr(tensor, "data", new),
    "data copied": lambda tensor, new: tensor.data.copy_(new),
    "detached": lambda tensor, new: tensor.detach().copy_(new),
    "by NumPy": lambda tensor, new: tensor.numpy().__setitem__(slice(None), new.numpy()),
}


@every_kind
@pytest.mark.parametrize("way", [*WRITES, "state", "assigned", "registered", "half"])
def test_gradients_follow_whatever_is_written_to_what_says_which_rows_ids_have(name, way):
    table, wanted = made(name), made(name)
    _ = gradients(table)  # which keeps what it has listed
    for part in (table, wanted):
        for key in ("assignments", "secondary", "codes", "residual_rows"):
            old = dict(part.named_buffers()).get(key)
            if old is None:
                continue
            new = old.flip(0)
            if part is wanted:
                part.register_buffer(key, new)
            elif way in WRITES:
                WRITES[way](old, new)
            elif way == "registered":
                part.register_buffer(key, new)
    if way in ("state", "assigned"):
        table.load_state_dict(copy.deepcopy(wanted.state_dict()), assign=way == "assigned")
    if way == "half":
        table, wanted = (made(name).bfloat16() for _ in range(2))
        _ = gradients(made(name)), gradients(table)
    if hasattr(table, "own_share"):
        table.own_share = wanted.own_share = 0.75
    wanted._kept = Derived()
    assert torch.equal(table.weight, wanted.weight)
    assert same(gradients(table), gradients(wanted))


def grown_labels(table: EmbeddingTable, places: np.ndarray, count: int) -> Codes:
    """Labels of so many ids: old ones as they are, and new ones that of id 0."""
    own = CODES if table.owns_rows else table.labels.numpy()[table.assignments.numpy()]
    second = None if getattr(table, "secondary", None) is None else table.labels.numpy()[table.secondary.numpy()]
    stay = places >= 0

    def moved(labels):
        grown = np.repeat(labels[:1], count, axis=0)
        grown[places[stay]] = labels[stay]
        return grown

    return Codes(moved(own), None if second is None else moved(second))


@every_kind
@pytest.mark.parametrize("bag", [False, True])
def test_rows_follow_their_ids_when_others_come_and_go(name, bag):
    table = made(name, padding_idx=PADDING)
    model = nn.ModuleDict({"user": TableBag(table) if bag else table})
    own = own_optimizers(tables_in(table), 0.01, 0)
    taken = {each for optimizer in own for group in optimizer.param_groups for each in group["params"]}
    adam = torch.optim.Adam([torch.zeros(1), *(each for each in table.parameters() if each not in taken)], 0.01)
    optimizer = CombinedOptimizer([adam, *own])
    loss = trained(table, optimizer)  # kept, as a training loop does
    before, rows, size = table.weight.detach().clone(), table.read_rows().clone(), size_of(table).rows
    places = np.array([11, 0, 2, 3, 5, 4, 7, 8, 9, 1]) if bag else np.array([7, 0, 2, 3, 5, 4, -1, -1, 9, 1])
    owns, stay, count = table.owns_rows, places >= 0, COUNT + 2 if bag else COUNT
    moments = adam.state[table.row_parameter]["exp_avg"].clone() if table.row_parameter in adam.state else None
    labels = grown_labels(table, places, count)
    resize_module(model, {"user": labels}, optimizer, {"user": places})
    assert (table.num_embeddings, table.padding_idx) == (count, places[PADDING])
    assert len(table.weight) == count
    old, now = torch.as_tensor(np.flatnonzero(stay)), torch.as_tensor(places[stay])
    torch.testing.assert_close(table.weight.detach()[now], before[old], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(look_up(table, now).detach(), before[old], rtol=1e-6, atol=1e-6)
    new = np.setdiff1d(np.arange(count), places)
    if owns:
        assert size_of(table).rows == len(table.read_rows()) == count
        like = [index for index in np.flatnonzero(stay) if CODES[index] == CODES[0] and index != PADDING]
        torch.testing.assert_close(
            table.read_rows()[new], rows[like].mean(dim=0).expand(len(new), -1), rtol=0, atol=0.1
        )
        if moments is not None:
            moved = adam.state[table.row_parameter]["exp_avg"]
            assert torch.equal(moved[now], moments[old])
            assert not moved[new].any()
    else:
        assert size_of(table).rows == size, "there are as many rows as before"
        assert torch.equal(table.row_numbers()[new], table.row_numbers()[places[0]].expand(len(new)))
    loss = trained(table, optimizer)
    assert trained(table, optimizer) < loss
    fresh = nn.ModuleDict({"user": nn.Embedding(count, DIM, places[PADDING])})
    settings = table.settings() | ({"row_bits": 8} if getattr(table, "row_bits", None) else {})
    state = {f"user.{key}": value for key, value in table.state_dict().items()}
    rebuild_module(fresh, state, settings={"user": settings})
    as_table(fresh["user"]).see_stored(True)
    assert torch.equal(fresh["user"].weight, table.weight)


def trained(table: EmbeddingTable, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """A step on all rows."""
    optimizer.zero_grad()
    loss = (table.weight - torch.linspace(-1, 1, DIM)).square().mean()
    loss.backward()
    optimizer.step()
    return loss


@every_kind
@pytest.mark.parametrize("padding_idx", [None, PADDING])
def test_what_is_exported_is_looked_up_again_and_has_the_bytes_that_are_counted(name, padding_idx, tmp_path):
    table, path = made(name, padding_idx=padding_idx), tmp_path / "table.safetensors"
    if name in NOT_SERVED:
        with pytest.raises(InputError, match="a table must be"):
            export_codebook(table, path)
        assert not path.exists()
        read = [tensor for key, tensor in table.state_dict().items() if key != "labels"]
        assert table.nbytes == sum(tensor.nbytes for tensor in read)
        return
    served = load_codebook(export_codebook(table, path))
    assert (served.num_embeddings, served.embedding_dim, served.padding_idx) == (COUNT, DIM, padding_idx)
    ids = np.array([[0, PADDING, 9], [4, 4, 1]])
    wanted = table.weight.detach()[ids]
    torch.testing.assert_close(torch.from_numpy(served.lookup(ids)), wanted, rtol=1e-6, atol=1e-6)
    module = ServedEmbedding.of(table)
    torch.testing.assert_close(module(torch.from_numpy(ids)), wanted, rtol=1e-6, atol=1e-6)
    assert table.nbytes == served.nbytes == module.nbytes


@every_kind
def test_what_tables_share_counts_once(name):
    table = made(name)
    alone = size_of(table)
    assert alone[1:] == (table.parameter_count, table.nbytes)
    assert alone.rows == len(table.read_rows())
    assert size_of(table, table) == alone
    assert size_of(table, copy.deepcopy(table)) == tuple(2 * figure for figure in alone)
    twin = copy.deepcopy(table)
    shared = table.stored()[0]
    owned = table._parameters | table._buffers
    owner = next(key for key, tensor in owned.items() if tensor is shared.tensor)
    setattr(twin, owner, shared.tensor)
    assert size_of(table, twin) == tuple(
        2 * figure - own for figure, own in zip(alone, (shared.rows, *shared[1:3]), strict=True)
    )


@every_kind
def test_gradients_have_the_same_bits_every_time(name):
    table = made(name)
    wanted = [gradient.clone() for gradient in gradients(table)]
    assert any(gradient.any() for gradient in wanted)
    for _ in range(2):
        assert same(gradients(table), wanted)
    assert same(gradients(made(name)), wanted)


@every_kind
def test_it_is_trained_by_adam_and_what_it_brings_along(name):
    def trained() -> list[torch.Tensor]:
        table = made(name, padding_idx=PADDING)
        table.check_training(std=0.1, cuda_graph=False)
        table.begin_training()
        own = own_optimizers(tables_in(table), 0.05, 0)
        taken = {parameter for optimizer in own for group in optimizer.param_groups for parameter in group["params"]}
        adam = torch.optim.Adam([torch.zeros(1), *(each for each in table.parameters() if each not in taken)], 0.05)
        losses = []
        for epoch in range(24):
            if epoch == 12:
                encode(tables_in(table), 0)
            table.begin_epoch(stored=epoch >= 12)
            for optimizer in (adam, *own):
                optimizer.zero_grad()
            loss = (table.weight - torch.linspace(-1, 1, DIM)).square().sum()
            losses.append(float(loss.detach()))
            loss.backward()
            for optimizer in (adam, *own):
                optimizer.step()
        assert losses[-1] < 0.8 * losses[0]
        assert not table.weight[PADDING].any() or name == "full"
        return list(table.state_dict().values())

    assert same(trained(), trained())


@every_kind
def test_lookups_see_rows_as_they_are_trained_or_as_they_are_stored(name):
    table = made(name)
    seen = []
    for stored in (True, False, True):
        table.see_stored(stored)
        seen.append(table.weight.detach().clone())
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], seen[1]) == (not table.is_quantized)


@every_kind
def test_rows_are_read_written_and_drawn(name):
    table = made(name)
    table.begin_training()
    rows = table.read_rows().clone()
    assert not rows.requires_grad
    assert rows.shape[1] == DIM
    numbers = table.row_numbers()
    assert numbers.shape == (COUNT,)
    assert set(numbers.tolist()) <= set(range(len(rows)))
    values = torch.linspace(-1, 1, rows.numel()).view(rows.shape)
    table.write_rows(values)
    torch.testing.assert_close(table.read_rows(), values, rtol=0, atol=0.05)  # 5 bits are no more exact
    drawn = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        for part in tables_in(table):
            part.initialize(0.5, generator)
        drawn.append(table.read_rows().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@every_kind
def test_finalized_tables_give_what_they_gave(name):
    table = made(name)
    before, size = table.weight.detach().clone(), size_of(table)
    table.finalize()
    assert torch.equal(table.weight, before)
    assert size_of(table) == size


@pytest.mark.parametrize("padding_idx", [None, PADDING])
def test_an_embedding_of_pytorch_is_a_full_table(padding_idx):
    embedding = torch.nn.Embedding(COUNT, DIM, padding_idx, sparse=True)
    table = as_table(embedding)
    assert table.weight is embedding.weight
    assert table.padding_idx == padding_idx
    assert size_of(embedding) == (COUNT, COUNT * DIM, 4 * COUNT * DIM)
    assert repr(FullTable(COUNT, DIM)) == repr(torch.nn.Embedding(COUNT, DIM)), "checkpoints know models by it"
    (found,) = tables_in(torch.nn.ModuleList([embedding, torch.nn.Linear(2, 2)]))
    assert found.weight is embedding.weight
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Embedding(COUNT, DIM))
    assert torch.equal(as_table(normed).read_rows(), normed.weight)
    with pytest.raises(InputError, match="such as a CodebookEmbedding, got Linear"):
        as_table(torch.nn.Linear(2, 2))


def keeps_the_contract(name: str, folder: Path) -> None:
    for check in (
        test_lookups_are_rows_of_the_whole_table,
        test_padding_is_zero_and_learns_nothing,
        test_copies_pickles_and_states_are_the_same_table,
        test_what_tables_share_counts_once,
        test_gradients_have_the_same_bits_every_time,
        test_it_is_trained_by_adam_and_what_it_brings_along,
        test_lookups_see_rows_as_they_are_trained_or_as_they_are_stored,
        test_rows_are_read_written_and_drawn,
        test_finalized_tables_give_what_they_gave,
    ):
        check(name)
    for padding in (None, PADDING):
        test_what_is_exported_is_looked_up_again_and_has_the_bytes_that_are_counted(name, padding, folder)
        test_a_state_and_its_settings_say_all_of_a_table(name, padding)


@pytest.mark.heavy("trains models")
def test_a_kind_that_stores_other_arrays_is_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "methods")
    monkeypatch.setattr(Decoder, "named", dict(Decoder.named))
    try:
        kind = importlib.import_module("low_rank").LowRankEmbedding
        monkeypatch.setitem(KINDS, "low rank", functools.partial(kind, COUNT, DIM, rank=2))
        keeps_the_contract("low rank", tmp_path)
    finally:
        del sys.modules["low_rank"]


@pytest.mark.heavy("trains models")
def test_the_kind_of_contributing_is_one(tmp_path, monkeypatch):
    """As files of their own, as the page says, and under every test of this one."""
    page = blocks((ROOT / "CONTRIBUTING.md").read_text("utf-8"), "python")
    names = {"residual_quantized": "class ResidualQuantizedEmbedding(", "residual_rows": "(ProductRows, name="}
    names["residual_method"] = "METHOD = ResidualQuantized("
    for module, mark in names.items():
        (block,) = [block for block in page if mark in block.code]
        (tmp_path / f"{module}.py").write_text(block.code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Decoder, "named", dict(Decoder.named))
    name = "residual-quantized"
    try:
        kind = importlib.import_module("residual_quantized").ResidualQuantizedEmbedding
        importlib.import_module("residual_rows")
        method = importlib.import_module("residual_method").METHOD
        make = functools.partial(kind, OWN, DIM, subspaces=2, centroids=5, lengths=True)
        monkeypatch.setitem(KINDS, name, make)
        keeps_the_contract(name, tmp_path)
        for bag in (False, True):
            test_rows_follow_their_ids_when_others_come_and_go(name, bag)
        table, fresh = made(name), torch.nn.ModuleDict({"item": torch.nn.Embedding(COUNT, DIM)})
        one = made("product of own rows")
        assert (table.weight - table.latent_rows()).norm() < (one.weight - one.latent_rows()).norm()
        rebuild_module(fresh, torch.nn.ModuleDict({"item": table}).state_dict())
        assert type(fresh["item"]) is kind
        assert torch.equal(fresh["item"].weight, table.weight)
        from onnx.reference import ReferenceEvaluator

        (found,) = ReferenceEvaluator(str(export_onnx(table, tmp_path / "table.onnx"))).run(None, {"ids": OWN})
        assert np.array_equal(found, ServedEmbedding.of(table)(torch.from_numpy(OWN)).numpy())
        path = export_codebook(table, tmp_path / "table.safetensors")
        monkeypatch.delitem(Decoder.named, "residual codes")
        with pytest.raises(InputError, match="encoding must be one that is known here"):
            load_codebook(path)
        graph, budget = random_graph(800, 400, 4000, seed=0), Budget.of(0.3, "bytes")
        built = method.build(graph, Spec(embedding_dim=16), budget, 0)
        assert 0.2 < size_of(*built.tables.values()).nbytes / (1200 * 16 * 4) <= 0.3
    finally:
        for module in names:
            sys.modules.pop(module, None)


@every_kind
@pytest.mark.parametrize("padding", [None, PADDING])
def test_a_state_and_its_settings_say_all_of_a_table(name, padding):
    table = made(name, padding_idx=padding)
    for part in tables_in(table):
        part.finalize()
    settings = json.loads(json.dumps(as_table(table).settings()))
    again = table_of(table.state_dict(), DIM, **settings)
    as_table(again).see_stored(True)
    ids = torch.arange(COUNT)
    assert torch.equal(again(ids), look_up(table, ids))


def test_kinds_that_sum_rows_are_what_their_parts_say():
    summing = {kind: table for kind, make in KINDS.items() if (table := make()).sums_rows}
    assert {"full", "codebook", "codebook of more rows", "codebook of two rows"} <= summing.keys()
    assert not {"codebook of 4 bits", "bag"} & summing.keys()
    for table in summing.values():
        total = sum(share * table.float_rows[numbers.long()] for numbers, share in table.row_parts())
        torch.testing.assert_close(total, table.weight)


NOT_OF_ONNX = {"aten.view.dtype", "aten.__rshift__.Tensor", "aten.__lshift__.Tensor", "aten.aminmax.default"}


@pytest.mark.heavy("exports modules")
@torch.no_grad()
@every_kind
def test_graphs_of_it_are_of_operators_that_exporters_to_onnx_know(name, monkeypatch):
    table = made(name, padding_idx=PADDING).eval()
    ids = torch.tensor([[0, PADDING, 9], [4, 4, 1]])
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = torch.export.export(table, (ids,), dynamic_shapes=({0: torch.export.Dim("batch")},)).run_decompositions()
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert called
    assert not {target for target in called if not target.startswith(("aten.", "<built-in"))} | (called & NOT_OF_ONNX)
    others = torch.tensor([[7, 2, PADDING]])
    monkeypatch.undo()
    torch.testing.assert_close(exported.module()(others), table(others), rtol=1e-6, atol=1e-6)


@pytest.mark.nightly("needs onnxscript and ONNX Runtime")
@every_kind
@pytest.mark.parametrize("mode", [None, "sum", "mean", "max"])
def test_a_whole_model_with_it_has_the_same_rows_in_onnx(name, mode, tmp_path):
    import onnxruntime

    table, path = made(name, padding_idx=PADDING), str(tmp_path / "model.onnx")
    pooled = mode is not None and not isinstance(table, CodebookEmbeddingBag)
    model = nn.Sequential(TableBag(table, mode=mode) if pooled else table, nn.Linear(DIM, 2)).eval()
    ids, others = torch.tensor([[0, PADDING, 9], [4, 4, 1]]), torch.tensor([[7, 2, PADDING], [PADDING] * 3, [5, 5, 5]])
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (ids,), path, dynamo=True, input_names=["ids"], dynamic_shapes=dynamic, verbose=False)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"ids": others.numpy()})
    np.testing.assert_allclose(found, model(others).detach().numpy(), rtol=1e-5, atol=1e-6)
