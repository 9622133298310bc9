"""Methods that learn their groups while training: they find planted groups, keep the budget, repeat and resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from baco_gpu.baselines.cce import cluster_embeddings
from baco_gpu.baselines.registry import METHODS
from baco_gpu.clustering.estimator import BalancedCoclustering
from baco_gpu.experiment import compress, run
from baco_gpu.training import TrainingSettings
from baco_gpu.training.checkpoint import Checkpoint
from test_trainer import GROUPS, USERS, one_thread, planted_split

__all__ = ["one_thread"]

LEARNED = [name for name, method in METHODS.items() if method.regroup is not None]
BUDGET = 0.7
SETTINGS = TrainingSettings(
    epochs=40, evaluate_every=40, batch_size=16, learning_rate=5e-2, embedding_std=0.1, patience=None
)


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
def test_learned_groups_agree_with_the_planted_ones(name):
    outcome, _ = trained(name)
    table = outcome.compression.user_table
    planted = np.arange(USERS) % GROUPS
    hashed = compress(planted_split(), name, BalancedCoclustering(budget=BUDGET, embedding_dim=8, random_state=0))
    learned, drawn = (adjusted_rand_score(planted, codes) for codes in (table.codes, hashed.user_table.codes))
    assert learned > drawn + 0.1


@pytest.mark.parametrize("name", LEARNED)
def test_regrouping_keeps_to_the_parameters(name):
    outcome, before = trained(name)
    assert outcome.compression.parameters == before <= BUDGET * outcome.compression.full_parameters


@pytest.mark.parametrize("name", LEARNED)
def test_learned_groups_repeat_bit_for_bit(name):
    first, second = (trained(name, replace(SETTINGS, epochs=9))[0] for _ in range(2))
    assert same(state(first), state(second))


@pytest.mark.parametrize("name", LEARNED)
def test_a_resumed_run_learns_the_same_groups(name, tmp_path):
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


def test_clusters_of_cce_are_rows_whose_mean_with_their_helpers_is_the_clusters():
    generator = np.random.default_rng(0)
    centres = np.array([[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0]])
    group = np.arange(30) % 3
    table = centres[group] + 0.01 * generator.standard_normal((30, 2))
    made = cluster_embeddings(table, 6, generator)
    expanded = (made.codebook[made.codes] + made.codebook[made.secondary]) / 2
    means = np.array([table[group == number].mean(axis=0) for number in range(3)])
    assert np.allclose(expanded, means[group])
    assert made.codebook.shape == (6, 2)
    assert made.codes.max() < 3 <= made.secondary.min()
    assert len(set(made.secondary.tolist())) > 1
