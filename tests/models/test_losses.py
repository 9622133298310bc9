"""Losses against their definitions, written out triple by triple."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies

from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models import build_model, full_table
from baco_gpu.tables import CodebookEmbedding
from baco_gpu.training import Objective, TrainingSettings
from tiers import examples

USERS, ITEMS, DIM = 5, 6, 3


def model(name="mf", users=USERS, items=ITEMS):
    part = Interactions(np.array([0, 1]), np.array([2, 0]), users, items)
    torch.manual_seed(3)
    tables = full_table(users, DIM), full_table(items, DIM)
    return build_model(
        name, dict(zip(("users", "items"), tables, strict=True)), SplitInteractions(part, part, part)
    ).double()


def scores(model):
    users, items = (table.detach().numpy() for table in model.representations())
    return users @ items.T


triples_of = strategies.lists(
    strategies.tuples(*(strategies.integers(0, size - 1) for size in (USERS, ITEMS, ITEMS))), min_size=1, max_size=9
)


@given(triples_of)
@examples(30)
def test_bpr_is_the_mean_over_triples(triples):
    chosen = model()
    score = scores(chosen)
    wanted = np.mean([math.log1p(math.exp(score[user, other] - score[user, item])) for user, item, other in triples])
    assert chosen.loss(torch.tensor(triples).T, Objective("bpr")).item() == pytest.approx(wanted)


@given(triples_of, strategies.integers(1, 12))
@examples(60)
def test_softmax_is_over_the_item_and_the_first_negatives_of_the_batch(triples, negatives):
    chosen = model()
    score = scores(chosen)
    others = [other for _, _, other in triples][:negatives]
    terms = []
    for user, item, _ in triples:
        terms.append(math.log(sum(math.exp(score[user, other]) for other in [item, *others])) - score[user, item])
    loss = chosen.loss(torch.tensor(triples).T, Objective(negatives=negatives))
    assert loss.item() == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("negatives", [1, 2, 9])
def test_the_gradient_of_the_softmax_is_exact(negatives):
    chosen = model()
    triples = torch.tensor([[0, 2, 2, 4], [1, 1, 0, 5], [3, 5, 3, 1]])
    users, items = chosen.user_embedding, chosen.item_embedding

    def loss(*tables):
        twin = model()
        for table, weight in zip((twin.user_embedding, twin.item_embedding), tables, strict=True):
            del table.weight
            table.weight = weight
        return twin.loss(triples, Objective(negatives=negatives))

    assert torch.autograd.gradcheck(
        loss, (users.weight.detach().requires_grad_(), items.weight.detach().requires_grad_())
    )


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_objective_adds_the_penalty_on_the_rows_that_the_loss_reads(loss):
    chosen = model()
    triples = torch.tensor([[0, 2], [1, 1], [3, 5]])
    users, items = chosen.user_embedding.weight.detach(), chosen.item_embedding.weight.detach()
    read = [users[0], users[2], items[1], items[1], items[3], *([items[5]] if loss == "bpr" else [])]
    penalty = sum(float(row.square().sum()) for row in read) / 2 / 2
    plain, decayed = (chosen.loss(triples, Objective(loss, 1, decay)).item() for decay in (0, 0.1))
    assert decayed - plain == pytest.approx(0.1 * penalty)


def test_large_scores_do_not_overflow():
    chosen = model().float()
    with torch.no_grad():
        chosen.user_embedding.weight.mul_(1e4)
    triples = torch.tensor([[0, 1], [2, 0], [3, 5]])
    loss = chosen.loss(triples, Objective(negatives=2))
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(chosen.user_embedding.weight.grad).all())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of 'softmax', 'bpr', got 'hinge'"),
        ({"negatives": 0}, "negatives must be"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        TrainingSettings(**wrong)


def test_weight_decay_follows_the_loss_and_the_density():
    def part(count, users=50, items=30):
        return Interactions(np.arange(count) % users, np.arange(count) % items, users, items)

    lightgcn, mf = model("lightgcn", 50, 30), model("mf", 50, 30)
    assert mf.default_weight_decay("bpr", part(400)) == lightgcn.default_weight_decay("bpr", part(40)) == 1e-4
    assert lightgcn.default_weight_decay("softmax", part(800)) == pytest.approx(50 / 20**2.5)
    assert lightgcn.default_weight_decay("softmax", part(1600)) == pytest.approx(50 / 40**2.5)
    assert mf.default_weight_decay("softmax", part(800)) == pytest.approx(0.9 / 20**0.5)
    assert [lightgcn.default_weight_decay("softmax", part(count)) for count in (0, 40)] == [0.2, 0.2]
    assert [mf.default_weight_decay("softmax", part(count)) for count in (0, 40)] == [0.3, 0.3]
    own, given = TrainingSettings(loss="softmax"), TrainingSettings(loss="softmax", weight_decay=0.9 / 20**0.5)
    triples = torch.tensor([[0, 2], [1, 1], [3, 5]])
    assert mf.loss(triples, own.objective(part(800), mf)) == mf.loss(triples, given.objective(part(3), mf))


def test_rows_that_ids_share_decay_down_to_half_as_much():
    part = Interactions(np.arange(800) % 50, np.arange(800) % 30, 50, 30)
    users, items = CodebookEmbedding(np.arange(50) % 10, DIM), CodebookEmbedding(np.arange(30) % 10, DIM)
    for shared, rows in ((False, 20), (True, 10)):
        if shared:
            items.codebook = users.codebook
        mf = build_model("mf", {"users": users, "items": items}, SplitInteractions(part, part, part))
        assert mf.num_rows == rows
        wanted = 0.9 / 20**0.5 * (1 + rows / 80) / 2
        assert mf.default_weight_decay("softmax", part) == pytest.approx(wanted)
