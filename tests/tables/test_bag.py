"""CodebookEmbeddingBag in the place of nn.EmbeddingBag."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from baco_gpu import CodebookEmbeddingBag
from baco_gpu.errors import InputError
from baco_gpu.tables import TableBag

pytestmark = pytest.mark.heavy("compiles and exports modules")

NUM_IDS = 30
CODES = np.arange(NUM_IDS) % 7
SECONDARY = np.where(np.arange(NUM_IDS) % 3 == 0, (CODES + 1) % 7, -1)


IDS, OFFSETS = torch.arange(4), torch.tensor([0, 2])


def bag(**options) -> CodebookEmbeddingBag:
    torch.manual_seed(0)
    return CodebookEmbeddingBag(CODES, 6, SECONDARY, **options)


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(NUM_IDS, (20,), generator=generator), torch.tensor([0, 0, 5, 6, 20])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("include_last_offset", [False, True])
def test_it_is_the_bag_over_the_expanded_table(mode, padding_idx, include_last_offset):
    ours = bag(mode=mode, padding_idx=padding_idx, include_last_offset=include_last_offset)
    theirs = ours.expand()
    assert isinstance(theirs, nn.EmbeddingBag)
    indices, offsets = batch()
    if padding_idx is not None:
        indices[5] = padding_idx  # a bag of nothing else
    torch.testing.assert_close(ours(indices, offsets), theirs(indices, offsets))
    torch.testing.assert_close(ours(indices.reshape(4, 5)), theirs(indices.reshape(4, 5)))
    ours(indices, offsets).square().sum().backward()
    theirs(indices, offsets).square().sum().backward()
    folded = torch.zeros_like(ours.codebook)
    second = ours.secondary
    for index, grad in enumerate(theirs.weight.grad):
        if index != padding_idx:
            folded[ours.assignments[index]] += grad / 2
            folded[second[index]] += grad / 2
    torch.testing.assert_close(ours.codebook.grad, folded, rtol=1e-4, atol=1e-5)


def test_weights_of_samples():
    ours = bag(mode="sum")
    indices, offsets = batch()
    weights = torch.rand(20, generator=torch.Generator().manual_seed(2), requires_grad=True)
    torch.testing.assert_close(ours(indices, offsets, weights), ours.expand()(indices, offsets, weights))
    ours(indices, offsets, weights).sum().backward()
    torch.testing.assert_close(weights.grad, ours.weight.detach()[indices].sum(1), rtol=1e-4, atol=1e-5)


def test_gradients_repeat_bit_for_bit():
    gradients = []
    for _ in range(2):
        ours = bag(mode="mean")
        ours(*batch()).square().sum().backward()
        gradients.append(ours.codebook.grad)
    assert torch.equal(*gradients)


def test_copies_pickles_states_and_new_ids_are_the_same_bag():
    ours = bag(mode="max", padding_idx=2)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(*batch()), ours(*batch()))
    other = bag(mode="max", padding_idx=2)
    with torch.no_grad():
        other.codebook.zero_()
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other(*batch()), ours(*batch()))
    grown = ours.with_new_ids([4, 5])
    assert (grown.mode, grown.padding_idx) == ("max", 2)
    assert torch.equal(grown(torch.tensor([[NUM_IDS]]))[0], ours.codebook[4])
    assert "mode='max'" in repr(ours)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_it_compiles_and_exports(mode):
    ours = bag(mode=mode, padding_idx=3)
    indices, offsets = batch()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(indices, offsets), ours(indices, offsets))
    length, bags = torch.export.Dim("length"), torch.export.Dim("bags")
    exported = torch.export.export(ours, (indices, offsets), dynamic_shapes=({0: length}, {0: bags}))
    longer, more = torch.arange(NUM_IDS), torch.arange(10)
    torch.testing.assert_close(exported.module()(longer, more), ours(longer, more))


def test_autocast_keeps_working():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(bag(mode="mean")(*batch())).all()


def test_offsets_of_any_integers_and_no_bags_are_taken():
    ours = bag()
    assert torch.equal(ours(IDS.int(), OFFSETS.int()), ours(IDS, OFFSETS))
    assert ours(IDS[:0], OFFSETS[:0]).shape == (0, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bag(mode="median"), "mode must be"),
        (lambda: bag()(torch.arange(4)), "indices must have two dimensions, or one and offsets"),
        (lambda: bag()(torch.zeros(2, 2), None), "indices must be an int32 or int64 tensor"),
        (lambda: bag()(torch.full((1, 1), NUM_IDS)), "indices must be from 0 to 29, got 30"),
        (lambda: bag()(torch.zeros((1, 1), dtype=torch.int64), None, torch.ones(1, 1)), "per_sample_weights need"),
        (lambda: bag()(IDS, torch.tensor([0, 3, 2])), "offsets must ascend, got 2 after 3"),
        (lambda: bag()(IDS, torch.tensor([0, -1])), "offsets must ascend, got -1 after 0"),
        (lambda: bag()(IDS, torch.tensor([-1, 2])), "offsets must begin with 0, got -1"),
        (lambda: bag()(IDS, torch.tensor([1, 2])), "offsets must begin with 0, got 1"),
        (lambda: bag()(IDS, torch.tensor([0, 5])), "offsets must be up to the 4 indices, got 5"),
        (lambda: bag(include_last_offset=True)(IDS, torch.tensor([0, 2, 9])), "up to the 4 indices, got 9"),
        (lambda: bag(include_last_offset=True)(IDS, torch.tensor([0, 2])), "up to the 4 indices, got 2"),
        (lambda: bag()(IDS, torch.empty(0, dtype=torch.int64)), "must begin with 0, got none and 4 indices"),
        (lambda: bag()(IDS, torch.tensor([0.0, 2.0])), "offsets must be an int32 or int64 tensor, got torch.float32"),
        (lambda: bag()(IDS, [0, 2]), "offsets must be an int32 or int64 tensor, got list"),
        (lambda: bag()(IDS, torch.tensor([[0, 2]])), r"offsets must have one dimension, got shape \(1, 2\)"),
        (lambda: bag(mode="sum")(IDS, OFFSETS, torch.ones(3)), r"of the indices, \(4,\), got \(3,\)"),
        (lambda: bag(mode="sum")(IDS, OFFSETS, torch.tensor([1, 1, 1, 1])), "floating tensor, got torch.int64"),
        (lambda: bag(include_last_offset=1), "include_last_offset must be True or False, got 1"),
        (lambda: TableBag(bag().expand()), "table must be an EmbeddingTable, got EmbeddingBag"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
