"""Spectral starting values: ids of a group start together, at the length of random ones, and repeat."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.experiment import compress
from baco_gpu.models import MatrixFactorization, full_table
from baco_gpu.tables import ProductCodebookEmbedding, QuantizedEmbedding
from baco_gpu.training import TrainingSettings, reset_embeddings, train
from baco_gpu.training.spectral import spectral_embeddings
from planted_training import GROUPS, ITEMS, USERS, planted_split

pytestmark = pytest.mark.heavy("trains models")

STD, DIM = 0.1, 4


def full_model(users=USERS, items=ITEMS, dim=DIM):
    model = MatrixFactorization(full_table(users, dim), full_table(items, dim))
    reset_embeddings(model, STD, seed=0)
    return model


def test_ids_of_a_group_start_in_one_direction():
    model = full_model()
    spectral_embeddings(model, planted_split().train, STD)
    users, items = (table.detach() for table in model.representations())
    for table, other in ((users, users), (items, items), (users, items)):
        cosines = table @ other.T / (STD**2 * DIM)
        same = torch.arange(len(table))[:, None] % GROUPS == torch.arange(len(other)) % GROUPS
        assert cosines[same].min() > 0.9
        assert cosines[~same].max() < 0.1


def test_rows_have_the_length_of_random_ones():
    model = full_model()
    spectral_embeddings(model, planted_split().train, STD)
    for table in model.representations():
        torch.testing.assert_close(table.norm(dim=1), torch.full((len(table),), STD * DIM**0.5))


def test_rows_of_a_codebook_stand_for_all_their_ids():
    split = planted_split()
    clustering = BalancedCoclustering(budget=2 * GROUPS + 4, embedding_dim=DIM, random_state=0)
    tables = compress(split, "baco-multilevel", clustering)
    model = MatrixFactorization(tables.user_table, tables.item_table)
    reset_embeddings(model, STD, seed=0)
    spectral_embeddings(model, split.train, STD)
    rows = model.user_embedding.codebook.detach() / (STD * DIM**0.5)
    groups = [
        set((np.flatnonzero(model.user_embedding.assignments == row) % GROUPS).tolist()) for row in range(len(rows))
    ]
    assert all(len(group) == 1 for group in groups)
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert (rows[one] @ rows[other] > 0.9) == (groups[one] == groups[other])


def test_a_codebook_of_both_tables_starts_in_the_directions_of_both():
    split = planted_split()
    clustering = BalancedCoclustering(budget=GROUPS + 2, embedding_dim=DIM, random_state=0)
    tables = compress(split, "affinity", clustering)
    model = MatrixFactorization(tables.user_table, tables.item_table)
    reset_embeddings(model, STD, seed=0)
    spectral_embeddings(model, split.train, STD)
    codebook = model.user_embedding.codebook.detach()
    torch.testing.assert_close(codebook.norm(dim=1), torch.full((len(codebook),), STD * DIM**0.5))
    users, items = (torch.nn.functional.normalize(table.detach(), dim=1) for table in model.representations())
    cosines = users @ items.T
    same = torch.arange(USERS)[:, None] % GROUPS == torch.arange(ITEMS) % GROUPS
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


def test_rows_of_few_bits_take_it_rounded():
    floats = full_model()
    rounded = MatrixFactorization(
        QuantizedEmbedding(USERS, DIM), ProductCodebookEmbedding(np.arange(ITEMS), DIM, subspaces=2, row_bits=8)
    )
    reset_embeddings(rounded, STD, seed=0)
    for model in (floats, rounded):
        spectral_embeddings(model, planted_split().train, STD)
    for found, wanted in zip(rounded.representations(), floats.representations(), strict=True):
        assert (found - wanted).abs().max() < 0.01 * STD


def test_what_has_no_interaction_and_what_has_no_vector_stays():
    graph = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 4, 5)
    model = full_model(4, 5, dim=8)
    before = [table.detach().clone() for table in model.representations()]
    spectral_embeddings(model, graph, STD)
    users, items = (table.detach() for table in model.representations())
    assert torch.equal(users[3], before[0][3])
    assert torch.equal(items[3:], before[1][3:])
    assert torch.equal(users[:, 3:], before[0][:, 3:])  # 4 users have 3 singular vectors at most
    assert not torch.equal(users[:3, :3], before[0][:3, :3])


def test_a_side_of_one_row_stays_as_it_is():
    graph = Interactions(np.array([0, 0]), np.array([0, 1]), 1, 2)
    model = full_model(1, 2)
    before = model.user_embedding.weight.detach().clone()
    spectral_embeddings(model, graph, STD)
    assert torch.equal(model.user_embedding.weight, before)


def test_training_starts_from_it_and_repeats():
    split = planted_split()
    settings = TrainingSettings(epochs=1, batch_size=64, learning_rate=1e-3, embedding_init="spectral", patience=None)
    found = []
    for chosen in (settings, settings, replace(settings, embedding_init="normal")):
        model = full_model()
        result = train(model, split, chosen)
        found.append((model.user_embedding.weight.detach().clone(), result.validation["recall@20"]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] > found[2][1] + 0.1


def test_a_start_that_is_not_known_or_has_no_scale_is_refused():
    with pytest.raises(InputError, match="embedding_init must be one of 'normal', 'spectral', got 'zero'"):
        TrainingSettings(embedding_init="zero")
    with pytest.raises(InputError, match="embedding_init 'spectral' needs an embedding_std, got None"):
        TrainingSettings(embedding_init="spectral", embedding_std=None)
