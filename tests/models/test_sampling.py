"""The sampler's promises: every interaction once an epoch, negatives unseen and uniform, the same for the same seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.models import TripleSampler, sampling, sasrec
from baco_gpu.ops.counters import permuted, philox, random_words

pytestmark = pytest.mark.heavy("trains models")


def interactions(pairs, num_users, num_items):
    array = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    return Interactions(np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1]), num_users, num_items)


def epoch(sampler, number=1):
    return [torch.cat(parts).tolist() for parts in zip(*sampler.epoch(number), strict=True)]


graphs = st.integers(1, 6).flatmap(
    lambda items: st.tuples(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, items - 1)), min_size=1, max_size=40), st.just(items)
    )
)


@given(graphs, st.integers(1, 9), st.integers(0, 3))
def test_every_interaction_once_and_negatives_unseen(graph, batch_size, seed):
    pairs, items = graph
    seen = {user: {i for u, i in pairs if u == user} for user in range(8)}
    usable = sorted((user, item) for user, item in pairs if len(seen[user]) < items)
    train = interactions(pairs, 8, items)
    if not usable:
        with pytest.raises(InputError, match="who has not seen every item"):
            TripleSampler(train, batch_size, seed=seed)
        return
    sampler = TripleSampler(train, batch_size, seed=seed)
    batches = list(sampler.epoch(1))
    assert sampler.num_samples == len(usable)
    assert sampler.num_batches == len(batches)
    assert all(len(users) == batch_size for users, _, _ in batches[:-1])
    users, positives, negatives = (torch.cat(parts).tolist() for parts in zip(*batches, strict=True))
    assert sorted(zip(users, positives, strict=True)) == usable
    assert all(0 <= item < items and item not in seen[user] for user, item in zip(users, negatives, strict=True))


def test_negatives_are_uniform_over_the_unseen_items():
    # User 1 has seen 0, 1, 5, 9 of ten; user 0 and 2 would show items of a neighbor leaking in.
    pairs = [(1, 0), (1, 1), (1, 5), (1, 9), (0, 2), (2, 3)]
    users, items = np.array(pairs * 15_000).T
    sampler = TripleSampler(Interactions(users, items, 3, 10), 4)
    draws = 60_000
    drawn_for, _, negatives = sampler.triples(1, 0, sampler.num_samples)
    counts = np.bincount(negatives[drawn_for == 1].numpy(), minlength=10)
    unseen = [2, 3, 4, 6, 7, 8]
    assert counts.sum() == counts[unseen].sum() == draws
    expected = draws / len(unseen)
    chi_square = float(((counts[unseen] - expected) ** 2 / expected).sum())
    assert chi_square < 25.7  # five degrees of freedom, one time in ten thousand


def test_one_unseen_item_is_always_found():
    train = interactions([(0, item) for item in range(1000) if item != 617] + [(1, 0)], 2, 1000)
    sampler = TripleSampler(train, 64)
    users, _, negatives = epoch(sampler)
    assert {item for user, item in zip(users, negatives, strict=True) if user == 0} == {617}


def test_same_seed_same_batches_and_every_epoch_another_order():
    train = interactions([(user, item) for user in range(20) for item in range(user % 7 + 1)], 20, 10)
    first, again, other = (TripleSampler(train, 8, seed=seed) for seed in (5, 5, 6))
    epochs = [epoch(first, 1), epoch(first, 2)]
    # The second epoch needs no first one.
    assert epochs[::-1] == [epoch(again, 2), epoch(again, 1)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != epoch(other)


def test_a_triple_depends_on_its_place_alone():
    train = interactions([(user, item) for user in range(20) for item in range(user % 7 + 1)], 20, 10)
    whole = epoch(TripleSampler(train, 8))
    assert epoch(TripleSampler(train, 77)) == whole
    sampler = TripleSampler(train, 1)
    for first, count in ((0, 1), (5, 4), (7, 12), (sampler.num_samples - 1, 1)):
        part = sampler.triples(1, first, count).tolist()
        assert part == [column[first : first + count] for column in whole]


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_the_compiled_loop_draws_what_pytorch_draws(monkeypatch, seed):
    monkeypatch.setattr(sampling, "_PARALLEL", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    rng = np.random.default_rng(0)
    train = interactions([(int(user), int(item)) for user, item in rng.integers(0, (50, 30), (700, 2))], 50, 30)
    sampler = TripleSampler(train, 8, seed=seed)
    for number, first, count in ((0, 0, 700), (2**32 - 1, 3, 96)):
        assert torch.equal(
            sampler._triples_in_loop(number, first, count), sampler._triples_by_torch(number, first, count)
        )


def test_chunks_change_nothing_but_memory(monkeypatch):
    train = interactions([(user, item) for user in range(20) for item in range(4)], 20, 10)
    monkeypatch.setattr(sampling, "_CPU_CHUNK", 16)
    sampler = TripleSampler(train, 6)
    batches = list(sampler.epoch(1))
    assert [len(users) for users, _, _ in batches] == [6] * 13 + [2]
    users, positives, _ = (torch.cat(parts).tolist() for parts in zip(*batches, strict=True))
    assert sorted(zip(users, positives, strict=True)) == [(user, item) for user in range(20) for item in range(4)]


def test_ids_beyond_32_bits_in_the_product():
    big = 2**31 - 1
    train = interactions([(big - 1, big - 1), (big - 1, 0)], big, big)
    with pytest.raises(InputError, match="below 2\\^63"):
        TripleSampler(interactions([(0, 0)], 2**33, 2**31), 2)
    # The offsets of two thousand million users would take 16 GB; the arithmetic is the same with few of them.
    few = Interactions(np.array([2, 2]), train.items, 3, big)
    users, _, negatives = epoch(TripleSampler(few, 2))
    assert users == [2, 2]
    assert all(0 < item < big - 1 for item in negatives)


@pytest.mark.parametrize(("batch_size", "seed"), [(0, 0), (1.5, 0), (4, -1)])
def test_bad_arguments_are_refused(batch_size, seed):
    with pytest.raises(InputError, match="must be an integer"):
        TripleSampler(interactions([(0, 0)], 1, 2), batch_size, seed=seed)


def test_nothing_to_sample_is_refused():
    with pytest.raises(InputError, match="no training interaction"):
        TripleSampler(interactions([], 3, 4), 2)


@pytest.mark.parametrize("number", [-1, 2**32, 1.5])
def test_a_bad_epoch_is_refused(number):
    with pytest.raises(InputError, match="number must be an integer from 0 to"):
        next(TripleSampler(interactions([(0, 0)], 1, 2), 1).epoch(number))


def test_philox_gives_the_published_words():
    """The known answers that come with Random123 (Salmon et al., SC 2011) for philox4x32 with 10 rounds."""
    ones = 0xFFFFFFFF
    answers = [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones, ones, ones), 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, expected in answers:
        assert philox(counter, key) == expected
        tensors = tuple(torch.tensor([word, 0]) for word in counter)
        assert tuple(int(word[0]) for word in philox(tensors, key)) == expected


def test_random_words_are_those_of_their_places():
    whole = random_words(0, 50, 9, 3, torch.device("cpu"))
    assert all(0 <= word < 2**63 for word in whole.tolist())
    assert len(set(whole.tolist())) == 50
    for first, count in ((0, 1), (1, 1), (3, 8), (20, 30), (49, 1)):
        assert torch.equal(random_words(first, count, 9, 3, torch.device("cpu")), whole[first : first + count])
    far = 2**33 + 1
    words = philox((far // 2 & 0xFFFFFFFF, far // 2 >> 32, 3, 0), 9)
    assert int(random_words(far, 1, 9, 3, torch.device("cpu"))[0]) == (words[3] & 0x7FFFFFFF) << 32 | words[2]


@given(st.integers(1, 300), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_permutations_are_permutations(count, seed, stream):
    sent = permuted(torch.arange(count), count, seed, stream)
    assert sorted(sent.tolist()) == list(range(count))
    assert permuted(torch.tensor([count - 1]), count, seed, stream)[0] == sent[-1]


def test_permutations_send_every_place_everywhere():
    """Chi-square of (place, where it goes), and of how far neighbors come apart, over 4000 permutations of 12."""
    count, draws = 12, 4000
    sent = torch.stack([permuted(torch.arange(count), count, 77, stream) for stream in range(draws)]).numpy()
    table = np.stack([np.bincount(column, minlength=count) for column in sent.T])
    assert float(((table - draws / count) ** 2 / (draws / count)).sum()) < 180  # 121 degrees of freedom, p < 4e-4
    gaps = np.bincount(((sent[:, 1:] - sent[:, :-1]) % count).ravel(), minlength=count)[1:]
    expected = draws * (count - 1) / (count - 1)
    assert float(((gaps - expected) ** 2 / expected).sum()) < 40  # 10 degrees of freedom


@pytest.mark.gpu
def test_a_sampler_stays_on_the_device_that_has_its_tensors(monkeypatch):
    """Where it was told "cuda", without an index, another device may be current later."""

    class Placed(sampling.UnseenItems):
        def __init__(self, train, device):
            super().__init__(train, device)
            self.starts = SimpleNamespace(device=torch.device(device.type, 0))

    train = Interactions(np.array([0, 1]), np.array([0, 1]), 2, 3)
    for module in (sampling, sasrec):
        monkeypatch.setattr(module, "UnseenItems", Placed)
    for sampler in (TripleSampler(train, 2), sasrec.SequenceSampler(train, 1, 2)):
        assert sampler.device == torch.device("cpu", 0) != torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_gpu_draws_what_the_cpu_draws(monkeypatch, kernels):
    monkeypatch.setenv("BACO_TRAINING_KERNELS", kernels)
    train = interactions([(user, item) for user in range(200) for item in range(user % 37 + 1)], 200, 40)
    samplers = [TripleSampler(train, 64, seed=5, device=device) for device in ("cpu", "cuda")]
    assert epoch(samplers[0], 3) == epoch(samplers[1], 3)
