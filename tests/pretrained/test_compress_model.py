"""A trained model's tables made small from a file, a folder or a module, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from baco_gpu import compress_model, load_compressed
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError, UnreachableBudgetError
from baco_gpu.pretrained.table_losses import SAMPLE
from baco_gpu.serving import load_codebooks

USERS, ITEMS, DIM = 600, 400, 16
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Towers(nn.Module):
    """Two towers, a small table, and a layer whose weight is no table."""

    def __init__(self, dtype: torch.dtype = torch.float32, *, bag: bool = False) -> None:
        super().__init__()
        self.bag = bag
        torch.manual_seed(1)
        self.user_embedding = nn.Embedding(USERS, DIM)
        self.item_embedding = (
            nn.EmbeddingBag(ITEMS, DIM, mode="mean", padding_idx=0) if bag else nn.Embedding(ITEMS, DIM, padding_idx=0)
        )
        self.city_embedding = nn.Embedding(12, 4)
        self.top = nn.Linear(DIM, 3)
        groups = planted_coclusters(USERS, ITEMS, 6000, 15, seed=0)
        centers = torch.randn(15, DIM)
        with torch.no_grad():
            for table, group in ((self.user_embedding, groups[1]), (self.item_embedding, groups[2])):
                table.weight.copy_(centers[torch.as_tensor(group)] + 0.3 * torch.randn(len(table.weight), DIM))
            self.item_embedding.weight[0] = 0
        self.to(dtype)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.top(self.user_embedding(users) * self.item_embedding(items[:, None] if self.bag else items))


CLICKS = planted_coclusters(USERS, ITEMS, 6000, 15, seed=0)[0]
PAIRS = torch.randint(USERS, (64,)), torch.randint(ITEMS, (64,))


def hf_folder(folder: Path, state: dict[str, Tensor], *, parts: int = 1, **config) -> Path:
    """A folder as Hugging Face's libraries write it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "towers", **config}))
    if parts == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return folder
    places = {}
    for part in range(parts):
        name = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        own = dict(list(state.items())[part::parts])
        save_file(own, folder / name, {"format": "pt"})
        places |= dict.fromkeys(own, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def sources(folder: Path, model: nn.Module) -> dict[str, object]:
    state = model.state_dict()
    save_file(state, folder / "model.safetensors")
    torch.save(state, folder / "model.pt")
    torch.save({"epoch": 3, "state_dict": state}, folder / "checkpoint.ckpt")
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    files = {name: folder / name for name in ("model.safetensors", "model.pt", "checkpoint.ckpt", "old.bin")}
    return {
        **files,
        "folder": hf_folder(folder / "whole", state),
        "parts": hf_folder(folder / "parts", state, parts=2),
        "state": state,
        "module": model,
    }


def test_whatever_a_model_lies_in_gives_the_same_file(tmp_path):
    model = Towers()
    digests = set()
    for name, source in sources(tmp_path, model).items():
        compressed = compress_model(source, 0.2)
        path = compressed.save(tmp_path / f"{name}.small.safetensors")
        digests.add(path.read_bytes())
        assert compressed.report.bytes_after <= 0.2 * compressed.report.bytes_before
        loaded, fresh = load_compressed(path), Towers()
        loaded.rebuild(fresh)
        wanted = model(*PAIRS).float()
        assert (fresh(*PAIRS).float() - wanted).norm() < 0.6 * wanted.norm()
        again = Towers()
        compressed.rebuild(again)
        assert torch.equal(fresh(*PAIRS), again(*PAIRS))
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["product", "quantized", "baco-multilevel", None])
def test_files_are_looked_up_without_the_model_and_as_small_as_they_say(dtype, method, tmp_path):
    model, methods = Towers(dtype), None if method is None else (method,)
    if method == "quantized" and dtype != torch.float32:
        with pytest.raises(InputError, match=r"for 'user_embedding', whose rows are .*float16 and would be float32"):
            compress_model(model, 0.3, methods=methods)
        return
    compressed = compress_model(model, 0.3, methods=methods, data=CLICKS)
    path = compressed.save(tmp_path / "small.safetensors")
    loaded, served = load_compressed(path), load_codebooks(path)
    assert set(served) == {"user_embedding", "item_embedding"} == set(loaded.tables)
    for name, table in served.items():
        ids = torch.arange(table.num_embeddings)
        rows = loaded.table(name)(ids).detach()
        assert rows.dtype == dtype
        np.testing.assert_array_equal(table.lookup(ids.numpy()), rows.float().numpy())
        assert torch.equal(rows, compressed.table(name)(ids).detach())
        loss = compressed.report[name]
        assert loss.bytes_after == compressed.table(name).nbytes
        trained = model.get_submodule(name).weight.detach()
        assert loss.row_error == pytest.approx(
            float((rows.double() - trained.double()).norm() / trained.double().norm())
        )
        if method is not None:
            assert loss.method == method
    rest = {key: tensor for key, tensor in model.state_dict().items() if key.startswith(("city", "top"))}
    with safetensors.safe_open(path, framework="pt") as file:
        for key, tensor in rest.items():
            assert torch.equal(file.get_tensor(key), tensor)
    size = sum(table.nbytes for table in compressed.tables.values()) + sum(tensor.nbytes for tensor in rest.values())
    assert size <= path.stat().st_size < size + 5000, "the header is all that comes on top"
    plain = Towers(dtype)
    plain.load_state_dict(loaded.expanded())
    fresh = Towers(dtype)
    loaded.rebuild(fresh)
    assert torch.equal(plain(*PAIRS), fresh(*PAIRS))
    plain = Towers(dtype)
    plain.load_state_dict(dict(safetensors.torch.load_file(loaded.save_expanded(tmp_path / "plain.safetensors"))))
    assert torch.equal(plain(*PAIRS), fresh(*PAIRS))


def test_bags_and_padding_stay_what_they_were(tmp_path):
    model = Towers(bag=True)
    compressed = compress_model(model, 0.2, methods=["product"])
    assert compressed.table("item_embedding").padding_idx == 0
    assert not compressed.table("item_embedding").weight[0].any()
    loaded = load_compressed(compressed.save(tmp_path / "small.safetensors"))
    fresh = Towers(bag=True)
    loaded.rebuild(fresh)
    bags = torch.tensor([[3, 0, 0], [5, 6, 0]])
    wanted = loaded.table("item_embedding")(torch.tensor([[3, 3], [5, 6]])).mean(dim=1)
    torch.testing.assert_close(fresh.item_embedding(bags), wanted)
    optimizer = torch.optim.Adam(fresh.parameters(), 0.01)
    before = float(fresh(*PAIRS).square().mean().detach())
    for _ in range(5):
        optimizer.zero_grad()
        fresh(*PAIRS).square().mean().backward()
        optimizer.step()
    assert fresh(*PAIRS).square().mean() < before, "it trains on"
    file = tmp_path / "model.safetensors"
    save_file(model.state_dict(), file)
    assert compress_model(file, 0.2).table("item_embedding").padding_idx == 0, "the only row of zeros"
    state = model.state_dict()
    state["item_embedding.weight"][5] = 0
    assert compress_model(state, 0.2).table("item_embedding").padding_idx is None


def test_one_budget_goes_to_where_it_helps_and_data_say_where_that_is():
    model = Towers()
    report = compress_model(model, 0.1).report
    assert report.bytes_after <= report.budget == int(0.1 * report.bytes_before)
    assert report["city_embedding"].reason == "small"
    with torch.no_grad():
        model.item_embedding.weight.mul_(0.01)
    skewed = compress_model(model, 0.1).report
    assert skewed["user_embedding"].bytes_after > report["user_embedding"].bytes_after
    assert skewed["user_embedding"].row_error < report["user_embedding"].row_error
    weighted = compress_model(model, 0.1, data=CLICKS).report
    assert weighted["user_embedding"].row_error_weighted is not None
    assert weighted["city_embedding"].row_error_weighted is None
    named = compress_model(
        model, 0.1, data={"user_embedding": CLICKS.users, "item_embedding": CLICKS.items}, methods=["baco-multilevel"]
    )
    assert named.report == compress_model(model, 0.1, data=CLICKS, methods=["baco-multilevel"]).report
    assert "as seen" in str(weighted)
    assert compress_model(model, 0.1, data=CLICKS).report == weighted


def test_what_is_lost_is_what_a_slow_count_says(monkeypatch):
    monkeypatch.setattr("baco_gpu.pretrained.table_losses._BLOCK", 37)
    model = Towers()
    compressed = compress_model(model, 0.15, seed=3)
    ids = np.sort(np.random.default_rng(3).choice(USERS, SAMPLE, replace=False))
    rows = [[table.weight.detach() for table in (model.user_embedding, model.item_embedding)]]
    rows.append([compressed.table(name).weight.detach() for name in ("user_embedding", "item_embedding")])
    best = [(users[ids] @ items.T).topk(20).indices for users, items in rows]
    kept = np.mean(
        [len(set(one) & set(other)) / 20 for one, other in zip(best[0].tolist(), best[1].tolist(), strict=True)]
    )
    assert compressed.report.scores_kept == pytest.approx(kept, abs=1e-3)
    assert compressed.report.scores_of == ("user_embedding", "item_embedding")
    near = []
    for users, _ in rows:
        units = nn.functional.normalize(users, dim=1)
        cosines = units[ids] @ units.T
        cosines[torch.arange(len(ids)), torch.as_tensor(ids)] = -2
        near.append(cosines.topk(20).indices.tolist())
    kept = np.mean([len(set(one) & set(other)) / 20 for one, other in zip(*near, strict=True)])
    assert compressed.report["user_embedding"].neighbors_kept == pytest.approx(kept, abs=1e-3)


def test_tied_weights_and_tables_of_few_rows_are_left_alone(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens, self.position_embedding = nn.Embedding(500, 8), nn.Embedding(12, 8)
            self.item_embedding, self.head = nn.Embedding(400, 8), nn.Linear(8, 500, bias=False)
            self.head.weight = self.embed_tokens.weight

    model = Tied()
    for source in (model, model.state_dict()):
        compressed = compress_model(source, 0.3)
        assert list(compressed.tables) == ["item_embedding"]
        assert compressed.report["embed_tokens"].reason == "tied to head.weight"
        assert compressed.report["position_embedding"].reason == "few rows"
        loaded, fresh = load_compressed(compressed.save(tmp_path / "small.safetensors")), Tied()
        loaded.rebuild(fresh)
        assert torch.equal(fresh.head.weight, model.head.weight)
        assert fresh.head.weight is fresh.embed_tokens.weight
    with pytest.raises(InputError, match=r"tables must not be tied, got 'embed_tokens.weight', which is tied to head"):
        compress_model(model, 0.3, tables=["embed*"])
    state = {key: tensor for key, tensor in model.state_dict().items() if key != "head.weight"}
    folder = hf_folder(tmp_path / "hf", state, tie_word_embeddings=True, vocab_size=500)
    assert compress_model(folder, 0.3).report["embed_tokens"].reason == "tied to the output, as config.json says"


def test_which_tensors_are_tables_is_asked_where_it_is_not_plain():
    state = {"Gu": torch.randn(2000, 8), "Gi": torch.randn(1500, 8), "mlp.weight": torch.randn(4000, 8)}
    state["mlp.bias"] = torch.zeros(4000)
    with pytest.raises(InputError, match=r"tables must be given, .* 'Gu' \(2000, 8\), 'Gi' \(1500, 8\)$"):
        compress_model(state)
    assert list(compress_model(state, 0.3, tables=["G*"]).tables) == ["Gu", "Gi"]
    assert list(compress_model(state, 0.3, tables=["Gi", "mlp"]).tables) == ["Gi", "mlp"]
    with pytest.raises(InputError, match=r"'user_emb.weight' \(900, 8\), 'Gu' \(2000, 8\)"):
        compress_model({"user_emb.weight": torch.randn(900, 8), "Gu": state["Gu"]})
    with pytest.raises(
        InputError, match=r"tables must fit matrices of floats \('Gu', 'Gi', 'mlp.weight'\), got 'user'"
    ):
        compress_model(state, tables=["user"])
    with pytest.raises(InputError, match="model must have an embedding of the name 'Gu', as the table has, got none"):
        compress_model(state, 0.3, tables=["G*"]).rebuild(Towers())


def test_torchrec_like_collections_are_compressed_in_place(tmp_path):
    class Collection(nn.Module):  # as TorchRec's EmbeddingBagCollection keeps its tables
        def __init__(self):
            super().__init__()
            self.embedding_bags = nn.ModuleDict(
                {name: nn.EmbeddingBag(size, 8, mode="sum") for name, size in (("t_user", 700), ("t_item", 500))}
            )

        def forward(self, ids):
            return [bag(ids[name]) for name, bag in self.embedding_bags.items()]

    model = Collection()
    compressed = compress_model(model, 0.3)
    ids = {name: torch.randint(500, (5, 3)) for name in ("t_user", "t_item")}
    before = model(ids)
    compressed.rebuild(model)
    for old, new, name in zip(before, model(ids), ids, strict=True):
        assert (old - new).norm() < 0.6 * old.norm()
        table = compressed.table(f"embedding_bags.{name}")
        torch.testing.assert_close(new, table(ids[name]).sum(dim=1))


def test_what_is_no_trained_model_is_refused_in_a_line(tmp_path):
    state = Towers().state_dict()
    damaged = tmp_path / "damaged.safetensors"
    save_file(state, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    evil = tmp_path / "evil.pt"
    torch.save({"x": Path("here")}, evil)
    (tmp_path / "text.pt").write_text("no")
    (tmp_path / "model.h5").write_text("no")
    empty = tmp_path / "empty"
    empty.mkdir()
    lost = hf_folder(tmp_path / "lost", state, parts=2)
    (lost / "model-00002-of-00002.safetensors").unlink()
    outside = hf_folder(tmp_path / "outside", state)
    (outside / "model.safetensors").unlink()
    (outside / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')
    for source, message in (
        (tmp_path / "none.safetensors", "no such file; expected a trained model"),
        (damaged, "not a readable safetensors file"),
        (evil, "expected a state_dict that loads with weights_only=True"),
        (tmp_path / "text.pt", "expected a state_dict that loads with weights_only=True"),
        (tmp_path / "model.h5", "expected a file of .safetensors, .pt, .pth, .bin, .ckpt, got .h5"),
        (empty, r"config.json: no such file"),
        (lost, r"model-00002-of-00002.safetensors: no such file"),
        (outside, "expected the name of a file beside it for 'a', got '../model.safetensors'"),
        ({"a": 3}, "expected a state_dict, of names to tensors, got int under 'a'"),
        ({}, "expected a state_dict with tensors, got none"),
        (7, "source must be a path, a state_dict or a module, got int"),
        ({"a": torch.zeros(3)}, "source must have an embedding table, a matrix of floats, got none"),
    ):
        with pytest.raises(InputError, match=message):
            compress_model(source)
    model = Towers()
    for options, message in (
        ({"budget": 3}, "budget must be a share of the tables, from 0 to 1, got 3 rows"),
        ({"methods": "product"}, "methods must be a sequence of"),
        ({"methods": ["produkt"]}, r"methods must be one of .* \(did you mean 'product'"),
        ({"methods": ["baco-multilevel"]}, "data must be given for method 'baco-multilevel'"),
        ({"users": "user"}, r"users must be a table \('user_embedding', .*\), got 'user'"),
        (
            {"users": "user_embedding", "items": "city_embedding"},
            "users and items must be tables of one width, got 16 and 4",
        ),
        ({"data": {"user": [1]}}, "data must name tables that are made small .* got 'user'"),
        ({"data": {"user_embedding": [USERS]}}, f"data of 'user_embedding' must be from 0 to {USERS - 1}"),
        ({"tables": ["city*", "top"], "data": CLICKS}, "users and items must be given"),
    ):
        with pytest.raises(InputError, match=message):
            compress_model(model, **options)
    texts = Interactions(CLICKS.users[:3] * 0, CLICKS.items[:3] * 0, 1, 1, None, Vocabulary(["a"]), Vocabulary([3]))
    with pytest.raises(
        InputError, match="data must have users by the numbers of their rows, integers from 0 on, got 'a'"
    ):
        compress_model(model, data=texts)
    with pytest.raises(UnreachableBudgetError, match="budget must be at least"):
        compress_model(model, 0.001)
    with torch.no_grad():
        model.user_embedding.weight[3, 2] = torch.nan
    with pytest.raises(InputError, match="rows of 'user_embedding' must be finite"):
        compress_model(model)


def test_a_file_is_whole_or_not_there_and_a_flipped_bit_is_found(tmp_path, monkeypatch):
    compressed = compress_model(Towers(), 0.2)
    path = compressed.save(tmp_path / "small.safetensors")
    whole = path.read_bytes()
    assert compressed.save(tmp_path / "again.safetensors").read_bytes() == whole
    for place in (len(whole) - 5, len(whole) - 3000, 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for load in (load_compressed, load_codebooks):
            with pytest.raises(InputError):
                load(path)
    path.write_bytes(whole)
    monkeypatch.setattr("baco_gpu.pretrained.compressed_model._bytes", lambda tensor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compressed.save(path)
    assert [each.name for each in tmp_path.iterdir()].count("small.safetensors") == 1
    assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == whole
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"expected a compressed model .* got another safetensors file"):
        load_compressed(tmp_path / "other.safetensors")


@pytest.mark.parametrize("argument", [{"max_norm": 0.5}, {"scale_grad_by_freq": True}])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_what_small_tables_do_not_have_is_refused_of_models(kind, argument):
    plain, other = nn.ModuleDict({"emb": kind(300, 8)}), nn.ModuleDict({"emb": kind(300, 8, **argument)})
    with pytest.raises(InputError, match=f"table 'emb' of the model must have no {next(iter(argument))}"):
        compress_model(other, 0.4)
    small = compress_model(plain, 0.4)
    with pytest.raises(InputError, match=f"table 'emb' of the model must have no {next(iter(argument))}"):
        small.rebuild(other)
    assert type(other["emb"]) is kind


def test_a_tensor_that_would_be_taken_for_a_table_s_is_refused_before_there_is_a_file(tmp_path):
    model = compress_model({"emb.weight": torch.randn(300, 8), "emb.state.count": torch.ones(3)}, 0.4)
    with pytest.raises(InputError, match=r"must not be named as a table's, got 'emb\.state\.count'"):
        model.save(tmp_path / "small.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_module_that_was_pickled_whole_is_refused_without_advice_to_run_it(tmp_path):
    torch.save(nn.Embedding(300, 8), tmp_path / "whole.pt")
    with pytest.raises(InputError, match=r"\(Weights only load failed\); save model\.state_dict\(\)$"):
        compress_model(tmp_path / "whole.pt", 0.4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_below_a_twelfth_tables_are_trellis_codes_where_these_err_less(dtype, tmp_path):
    torch.manual_seed(0)
    state = {f"{side}_embedding.weight": torch.randn(2000, 64, dtype=dtype) for side in ("user", "item")}
    seen = {"user_embedding": np.arange(4000) % 2000, "item_embedding": np.random.default_rng(1).zipf(1.5, 4000) % 2000}
    least = {method: compress_model(state, 0.05, data=seen, methods=[method]) for method in ("product", "trellis")}
    lost = {method: [table.row_error_weighted for table in made.report.tables] for method, made in least.items()}
    compressed = compress_model(state, 0.05, data=seen, methods=["product", "trellis"])
    assert [table.method for table in compressed.report.tables] == ["trellis", "trellis"], lost
    assert all(trellis < product for trellis, product in zip(lost["trellis"], lost["product"], strict=True))
    assert compressed.report.bytes_after <= 0.05 * compressed.report.bytes_before
    again = load_compressed(compressed.save(tmp_path / "small.safetensors"))
    ids = torch.arange(2000)
    for name, table in compressed.tables.items():
        assert torch.equal(again.table(name)(ids), table(ids))
    larger = compress_model(state, 0.2, methods=["product", "trellis"])
    assert {table.method for table in larger.report.tables} == {"product"}
