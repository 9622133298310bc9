"""Methods that learn their groups while training: they find planted groups, keep the budget, repeat and resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.experiment import compress, run
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods import reassign
from baco_gpu.methods.cce import cluster_embeddings
from baco_gpu.methods.labelled import Labelled
from baco_gpu.methods.legcf import solve_assignments
from baco_gpu.methods.reassign import ReassignCallback, SharedRows
from baco_gpu.methods.registry import METHODS
from baco_gpu.models import build_model
from baco_gpu.training import TrainingRun, TrainingSettings
from baco_gpu.training.checkpoint import Checkpoint
from baco_gpu.training.settings import EpochRecord
from graphs import random_graph
from planted_training import GROUPS, USERS, planted_split

pytestmark = pytest.mark.heavy("trains models")

LEARNED = [method.name for method in METHODS if isinstance(method, Labelled) and method.reassign is not None]
BUDGET = 0.7
SETTINGS = TrainingSettings(
    epochs=40, evaluate_every=40, batch_size=16, learning_rate=5e-2, embedding_std=0.1, patience=None
)


@pytest.fixture
def always(monkeypatch):
    """A training that counts as converged from its first epoch on."""
    monkeypatch.setattr(reassign, "STALE", 0)


def trained(name, settings=SETTINGS, callbacks=()):
    split = planted_split()
    clustering = BalancedCoclustering(budget=BUDGET, embedding_dim=8, random_state=0)
    compression = compress(split, name, clustering)
    before = compression.parameters
    outcome = run(split, compression, "mf", settings, callbacks=callbacks)
    return outcome, before


def state(outcome):
    return outcome.model.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_groups_agree_with_the_planted_ones(name, always):
    outcome, _ = trained(name)
    table = outcome.compression.user_table
    planted = np.arange(USERS) % GROUPS
    hashed = compress(planted_split(), name, BalancedCoclustering(budget=BUDGET, embedding_dim=8, random_state=0))
    learned, drawn = (
        adjusted_rand_score(planted, codes) for codes in (table.assignments, hashed.user_table.assignments)
    )
    assert learned > drawn + 0.1


@pytest.mark.parametrize("name", LEARNED)
def test_reassigning_keeps_to_the_parameters(name, always):
    outcome, before = trained(name)
    assert outcome.compression.parameters == before <= BUDGET * outcome.compression.full_parameters


@pytest.mark.parametrize("name", LEARNED)
def test_learned_groups_repeat_bit_for_bit(name, always):
    first, second = (trained(name, replace(SETTINGS, epochs=9))[0] for _ in range(2))
    assert same(state(first), state(second))


@pytest.mark.parametrize("name", LEARNED)
def test_a_resumed_run_learns_the_same_groups(name, tmp_path, always):
    path = tmp_path / "run.safetensors"
    settings = replace(SETTINGS, epochs=9, evaluate_every=3)
    whole, _ = trained(name, settings)

    class StopError(Exception):
        pass

    class Stop:
        def on_start(self, run):
            pass

        def on_epoch(self, run, record):
            if record.epoch == 4:
                raise StopError

    with pytest.raises(StopError):
        trained(name, settings, callbacks=[Checkpoint(path), Stop()])
    resumed, _ = trained(name, settings, callbacks=[Checkpoint(path, resume=True)])
    assert same(state(whole), state(resumed))


@pytest.mark.parametrize(("patience", "stale"), [(10, 5), (5, 3), (1, 1), (None, 10)])
def test_a_converged_training_has_used_half_of_its_patience(patience, stale):
    calls = []

    def reassigned(graph, sides, generator):
        calls.append(1)
        return sides

    compression = compress(planted_split(), "cce", BalancedCoclustering(budget=BUDGET, random_state=0))
    callback = ReassignCallback(reassigned, "converged", BipartiteGraph.from_edges([0], [0]))
    model = build_model("mf", {"users": compression.user_table, "items": compression.item_table}, planted_split())
    settings = TrainingSettings(patience=patience, lr_drops=0)
    state = TrainingRun(model, planted_split(), settings, torch.optim.Adam(model.parameters()))
    for state.stale in range(stale + 1):
        assert not calls
        callback.on_epoch(state, EpochRecord(1, 0.0, 0.0))
    assert len(calls) == (patience is None or stale < patience)


def test_clusters_of_cce_are_rows_whose_mean_with_their_helpers_is_the_clusters():
    generator = np.random.default_rng(0)
    centres = np.array([[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0]])
    codes = np.arange(30) % 6  # rows 0 and 3, 1 and 4, 2 and 5 are near the same centre
    codebook = centres[np.arange(6) % 3] + 0.01 * generator.standard_normal((6, 2))
    before = shared(codebook, codes, (codes + 3) % 6, (0.5, 0.5))
    alone = shared(np.ones((1, 2)), [0, 0], [0, 0], (0.5, 0.5))
    made, left = cluster_embeddings(BipartiteGraph.from_edges([0], [0]), [before, alone], generator)
    means = np.array([before.table[codes % 3 == number].mean(axis=0) for number in range(3)])
    assert np.allclose(made.table, means[codes % 3])
    assert made.codebook.shape == (6, 2)
    assert made.assignments.max() < 3 <= made.secondary.min()
    assert len(set(made.secondary.tolist())) > 1
    assert left is alone


def test_weights_of_legcf_are_the_two_greatest_of_least_squares():
    generator = np.random.default_rng(1)
    graph = random_graph(9, 7, 30, seed=4)
    before = [
        shared(generator.standard_normal((3, 5)), codes, (codes + 1) % 3, (0.9, 0.1))
        for codes in (np.arange(9) % 3, np.arange(7) % 3)
    ]
    after = solve_assignments(graph, before, generator)
    ids, rows = np.split(propagated(graph, before), [16])
    for side, own, books in zip(after, np.split(ids, [9]), np.split(rows, [3]), strict=True):
        solved = np.linalg.lstsq(books.T, own.T, rcond=None)[0].T
        order = np.argsort(-solved, axis=1)[:, :2]
        assert np.array_equal(np.stack([side.assignments, side.secondary], axis=1), order)
        assert np.allclose(side.shares, np.take_along_axis(solved, order, axis=1).clip(0))
    assert all(new.codebook is old.codebook for new, old in zip(after, before, strict=True))


def test_legcf_leaves_a_side_of_one_row_alone():
    graph = random_graph(9, 7, 30, seed=4)
    alone = shared(np.ones((1, 5)), np.zeros(7, int), np.zeros(7, int), (0.9, 0.1))
    codes = np.arange(9) % 3
    users = shared(np.eye(3, 5), codes, (codes + 1) % 3, (0.9, 0.1))
    _, items = solve_assignments(graph, [users, alone], np.random.default_rng(0))
    assert items is alone


def test_legcf_brings_an_id_back_to_the_rows_of_its_neighbors():
    """Two blocks, a row for either on each side; one user starts with the row of the other block."""
    generator = np.random.default_rng(0)
    users, items = np.meshgrid(np.arange(20), np.arange(20), indexing="ij")
    within = users // 10 == items // 10
    graph = BipartiteGraph.from_edges(users[within], items[within])
    block = np.arange(20) // 10
    strayed = block.copy()
    strayed[3] = 1
    first = [shared(np.eye(2, 4), codes, 1 - codes, (0.9, 0.1)) for codes in (strayed, block)]
    second = solve_assignments(graph, first, generator)
    third = solve_assignments(graph, second, generator)
    assert third[0].assignments.tolist() == third[1].assignments.tolist() == block.tolist()
    own = [sides[0].shares[3, 0 if sides is third else 1] for sides in (first, second, third)]
    assert own[0] < own[1] < own[2]


def shared(codebook, codes, secondary, shares):
    codes, secondary = np.asarray(codes), np.asarray(secondary)
    return SharedRows(codebook, codes, secondary, np.tile(shares, (len(codes), 1)))


def propagated(graph, sides):
    """The mean of layers 0 to 3 of users, items and their rows, on dense matrices of all nodes."""
    interactions = graph.to_scipy().toarray()
    users, items = interactions.shape
    counts = [users, items, *(len(side.codebook) for side in sides)]
    ends = np.cumsum([0, *counts])
    adjacency = np.zeros((ends[-1], ends[-1]))
    scale = np.sqrt(np.outer(interactions.sum(1), interactions.sum(0)))
    adjacency[:users, users : users + items] = np.divide(
        interactions, scale, out=np.zeros_like(interactions), where=scale > 0
    )
    for number, side in enumerate(sides):
        for index in range(len(side.assignments)):
            for row, weight in zip((side.assignments[index], side.secondary[index]), side.shares[index], strict=True):
                adjacency[ends[number] + index, ends[2 + number] + row] += weight
    adjacency += adjacency.T
    degrees = adjacency.sum(axis=1)
    adjacency /= np.sqrt(np.outer(degrees, degrees))
    layers = [np.concatenate([*(side.table for side in sides), *(side.codebook for side in sides)])]
    for _ in range(3):
        layers.append(adjacency @ layers[-1])
    return np.mean(layers, axis=0)
