"""Sequences: the network against loops over its formulas, what a place may depend on, and that order is learned."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.data.temporal import leave_last_out
from baco_gpu.errors import InputError
from baco_gpu.models import Objective, build_model, full_table
from baco_gpu.models.sasrec import NOTHING, SASRec, SASRecOptions, SequenceSampler, histories
from baco_gpu.tables import CodebookEmbedding, ProductCodebookEmbedding
from baco_gpu.training import TrainingSettings, train

ITEMS, DIM, LENGTH = 9, 6, 5
# In the order of time: user 0 chose 4, 2, 7; user 1 nothing; user 2 chose 1 to 8 and then 0; user 3 chose 5.
TIMES = {(0, 4): 1, (0, 2): 5, (0, 7): 9, (3, 5): 2, (2, 0): 99, **{(2, item): 10 + item for item in range(1, 8)}}
SEQUENCES = [[4, 2, 7], [], [1, 2, 3, 4, 5, 6, 7, 0], [5]]


def data():
    rng = np.random.default_rng(0)
    pairs = [list(TIMES)[place] for place in rng.permutation(len(TIMES))]
    users, items = np.array(pairs, np.int32).T
    times = np.array([TIMES[pair] for pair in pairs])
    return Interactions(np.ascontiguousarray(users), np.ascontiguousarray(items), 4, ITEMS, timestamps=times)


def make(table=None, **options):
    torch.manual_seed(0)
    model = SASRec(full_table(ITEMS, DIM) if table is None else table, data(), SASRecOptions(LENGTH, **options))
    model.initialize(0.5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand(parameter.shape))
    return model.double()


def normalised(values, norm):
    """A LayerNorm, written out."""
    centred = values - values.mean()
    return centred / math.sqrt((centred**2).mean() + norm.eps) * norm.weight + norm.bias


def one_by_one(model, sequence):
    """The states of a sequence, place by place, of the items that are there alone: nothing is padded or masked."""
    offset = LENGTH - len(sequence)
    hidden = [
        model.item_embedding.weight[item] * math.sqrt(DIM) + model.positions[offset + place]
        for place, item in enumerate(sequence)
    ]
    for block in model.blocks:
        queries = [normalised(state, block.attention_norm) for state in hidden]
        attended = []
        for place, query in enumerate(queries):
            odds = [
                math.exp(float((block.query.weight @ query) @ (block.key.weight @ key)) / math.sqrt(DIM))
                for key in queries[: place + 1]
            ]
            values = [block.value.weight @ key for key in queries[: place + 1]]
            attended.append(sum(odd / sum(odds) * value for odd, value in zip(odds, values, strict=True)))
        hidden = [state + more for state, more in zip(hidden, attended, strict=True)]
        for place, state in enumerate(hidden):
            inner = block.inner.weight @ normalised(state, block.transform_norm) + block.inner.bias
            hidden[place] = state + block.outer.weight @ inner.clamp(min=0) + block.outer.bias
    return [normalised(state, model.norm) for state in hidden]


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("sequence", [[3], [4, 2, 7], [1, 8, 1, 0, 5]])
@torch.no_grad()
def test_states_follow_the_formulas_and_padding_does_not_matter(blocks, sequence):
    model = make(blocks=blocks)
    padded = torch.tensor([[NOTHING] * (LENGTH - len(sequence)) + sequence])
    found = model.states(padded)[0, LENGTH - len(sequence) :]
    torch.testing.assert_close(found, torch.stack(one_by_one(model, sequence)))


@torch.no_grad()
def test_later_items_do_not_change_earlier_places():
    model = make()
    items = torch.tensor([[NOTHING, 3, 1, 4, 1], [2, 7, 1, 8, 2]])
    before = model.states(items)
    for place in range(1, LENGTH):
        changed = items.clone()
        changed[:, place] = (changed[:, place] + 1) % ITEMS
        after = model.states(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.isclose(after[:, place:], before[:, place:]).all(-1).any(), "and change those from there on"


def test_gradients_are_exact():
    model = make(blocks=1, dropout=0.5)
    batch = next(model.sampler(SplitInteractions(data(), data(), data()), batch_size=100, seed=0).epoch(1))
    parameters = list(model.parameters())

    def loss(*values):
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
            return model.loss(batch, Objective("bpr", weight_decay=0.1))

    gradients = torch.autograd.grad(model.loss(batch, Objective("bpr", weight_decay=0.1)), parameters)
    start = [parameter.detach().clone() for parameter in parameters]
    direction = [torch.randn(part.shape, dtype=part.dtype) for part in start]
    step = 1e-6
    ends = [
        float(loss(*(part + sign * step * way for part, way in zip(start, direction, strict=True)))) for sign in (1, -1)
    ]
    expected = sum(float((grad * way).sum()) for grad, way in zip(gradients, direction, strict=True))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_a_user_is_what_follows_its_last_items():
    model = make()
    wanted = [one_by_one(model, sequence[-LENGTH:])[-1] for sequence in SEQUENCES if sequence]
    torch.testing.assert_close(model.user_vectors(torch.tensor([0, 2, 3])), torch.stack(wanted))
    assert model.user_vectors(torch.tensor([1])).isfinite().all()
    assert not torch.allclose(*model.user_vectors(torch.tensor([1, 3])))


def test_histories_are_in_the_order_of_time_and_ties_in_that_of_the_data():
    items, starts = histories(data())
    assert [items[start:end].tolist() for start, end in itertools.pairwise(starts)] == SEQUENCES
    tied = replace(data(), timestamps=np.zeros(len(data())))
    items, starts = histories(tied)
    assert items[starts[2] : starts[3]].tolist() == tied.items[tied.users == 2].tolist()


@pytest.mark.parametrize("batch_size", [1, 2 * LENGTH, 1000])
def test_every_interaction_is_a_next_item_once_an_epoch(batch_size):
    sampler = SequenceSampler(data(), LENGTH, batch_size, seed=4)
    items, chosen, others, words = torch.cat(list(sampler.epoch(3)), dim=1)
    assert sampler.num_samples == len(chosen) == 1 + 2 + 1
    pieces = {}
    for before, after in zip(items.tolist(), chosen.tolist(), strict=True):
        assert [b for b, a in zip(before[1:], after, strict=False) if a != NOTHING] == [a for a in after[:-1] if a >= 0]
        pieces[tuple(a for a in after if a != NOTHING)] = next(b for b, a in zip(before, after, strict=True) if a >= 0)
    # Pieces are cut from the end; each begins with the item before it, and a sequence with nothing.
    assert pieces == {(4, 2, 7): NOTHING, (4, 5, 6, 7, 0): 3, (1, 2, 3): NOTHING, (5,): NOTHING}
    assert torch.equal(others == NOTHING, chosen == NOTHING)
    owners = {(4, 2, 7): 0, (4, 5, 6, 7, 0): 2, (1, 2, 3): 2, (5,): 3}
    for after, other in zip(chosen.tolist(), others.tolist(), strict=True):
        own = SEQUENCES[owners[tuple(item for item in after if item != NOTHING)]]
        assert not set(own) & set(other)
    assert len(set(words.flatten().tolist())) == words.numel()
    alone = torch.cat(list(SequenceSampler(data(), LENGTH, 1, seed=4).epoch(3)), dim=1)
    assert torch.equal(alone, torch.stack((items, chosen, others, words))), "whatever the batch size"


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    model = make(dropout=0.25).float()
    values = torch.ones(200, LENGTH, DIM)
    words = torch.randint(0, 2**63 - 1, (200, LENGTH), generator=torch.Generator().manual_seed(0))
    thinned = [model._thinned(values, words, place) for place in range(5)]
    for once in thinned:
        assert set(once.flatten().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
        assert float(once.mean()) == pytest.approx(1.0, abs=0.03)
    assert not torch.equal(thinned[0], thinned[1])
    assert torch.equal(model._thinned(values, None, 0), values)


def planted_orders(users=200, items=30, seed=0):
    """Everybody walks on around a circle of items, from a start of their own: the next item is known from the last."""
    rng = np.random.default_rng(seed)
    walks = (rng.integers(0, items, users)[:, None] + np.arange(8)) % items
    times = np.broadcast_to(np.arange(8), walks.shape).ravel()
    order = rng.permutation(walks.size)
    whose = np.repeat(np.arange(users), 8)[order]
    return leave_last_out(Interactions(whose, walks.ravel()[order], users, items, timestamps=times[order]))


@pytest.mark.heavy("trains models")
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_it_learns_what_comes_next(loss, compressed):
    split = planted_orders()
    table = CodebookEmbedding(np.arange(30) // 2, 16) if compressed else full_table(30, 16)
    model = build_model("sasrec", {"items": table}, split, length=8, blocks=1, dropout=0.1)
    settings = TrainingSettings(epochs=15, batch_size=128, learning_rate=1e-2, loss=loss, k=2, ks=(2,), patience=None)
    result = train(model, split, settings)
    # By chance two of the 24 that a user has not seen. The validation item comes next, and that of the test after it.
    assert result.validation["recall@2"] > 0.9
    assert result.test["recall@2"] > 0.4


@pytest.mark.heavy("trains models")
def test_rows_of_product_codes_are_not_turned_before_the_network_reads_them():
    split = planted_orders()
    table = ProductCodebookEmbedding(np.arange(30), 16, subspaces=4, centroids=30)
    model = build_model("sasrec", {"items": table}, split, length=8, blocks=1)
    settings = TrainingSettings(epochs=15, batch_size=128, learning_rate=1e-2, k=2, ks=(2,), patience=None)
    assert train(model, split, settings).validation["recall@2"] > 0.9, "so many centroids keep all rows"


def test_what_does_not_fit_is_refused():
    timeless = replace(data(), timestamps=None)
    tables = {"items": full_table(ITEMS, DIM)}
    split = SplitInteractions(timeless, timeless, timeless)
    with pytest.raises(InputError, match=r"needs their timestamps, got none: .*--split.*--model mf"):
        build_model("sasrec", tables, split)
    for wrong, message in (
        ({"length": 0}, "length must be an integer at least 1"),
        ({"blocks": -1}, "blocks must be an integer at least 0"),
        ({"dropout": 1.0}, "dropout must be"),
    ):
        with pytest.raises(InputError, match=message):
            build_model("sasrec", tables, SplitInteractions(data(), data(), data()), **wrong)
    with pytest.raises(InputError, match="who has not seen every item"):
        SequenceSampler(data().take(np.arange(0)), LENGTH, 10)
    model = build_model("sasrec", tables, SplitInteractions(data(), data(), data()))
    with pytest.raises(InputError, match="cuda_graph must be False for model 'sasrec'"):
        model.check_training(std=0.1, cuda_graph=True)
    spectral = TrainingSettings(embedding_init="spectral")
    with pytest.raises(InputError, match="embedding_init must be 'normal' for a model of items alone"):
        train(model, SplitInteractions(data(), data(), data()), spectral)
