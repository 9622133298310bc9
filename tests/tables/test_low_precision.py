"""Tables of few bits without floats: what they look up, what gradients they collect, and how these move their rows."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from baco_gpu import CodebookEmbedding, QuantizedEmbedding, RowwiseRMSprop, precision
from baco_gpu.errors import InputError
from baco_gpu.ops.counters import ROUNDING, odd_words, philox, random_chances
from baco_gpu.ops.quantization import pack, scale_values, stochastic_rows, unpack, values_of
from baco_gpu.tables import export_codebook, rowwise
from baco_gpu.tables.rowwise import NonFiniteGradientError
from tiers import full

pytestmark = pytest.mark.heavy("trains models")

BITS = st.sampled_from([16, *range(8, 1, -1)])
IDS = torch.tensor([[0, 4, 4], [6, 1, 4]])


def normal(rows, dim, seed=0):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def made(rows=7, dim=5, bits=8, **options):
    return QuantizedEmbedding.from_pretrained(normal(rows, dim), bits=bits, **options)


def twin(table):
    """The same rows as floats."""
    return nn.Embedding.from_pretrained(table.read_rows(), freeze=False, padding_idx=table.padding_idx)


@given(BITS, st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=2), st.integers(0, 2**32 - 1))
def test_integers_are_packed_as_files_have_them(bits, dim, shape, seed):
    integers = np.random.default_rng(seed).integers(0, 2**bits, (*shape, dim), dtype=np.int32)
    packed = pack(torch.tensor(integers, dtype=torch.uint8 if bits <= 8 else torch.int32), bits)
    assert (packed.dtype, packed.shape) == (torch.uint8, (*shape, precision.packed_width(dim, bits)))
    assert np.array_equal(unpack(packed, bits, dim).numpy(), integers)
    assert np.array_equal(precision.unpack(packed.numpy(), bits, dim), integers)


def test_the_state_of_the_optimizer_is_where_its_table_is():
    """After steps on one device a module may move to another, where a kernel would follow addresses of the first."""
    table = made()
    optimizer = RowwiseRMSprop(table)
    for _ in range(2):
        table(IDS).square().sum().backward()
        optimizer.step()
    before = {name: tensor.clone() for name, tensor in optimizer.state[table.anchor].items()}
    table.to("meta")
    state = optimizer._state_of(table)
    assert {name: (tensor.device.type, tensor.dtype) for name, tensor in state.items()} == {
        name: ("meta", tensor.dtype) for name, tensor in before.items()
    }
    assert optimizer.state[table.anchor] is state
    assert optimizer._odd_of(table, 0).device.type == "meta"


@given(BITS, st.integers(0, 2**32 - 1), st.floats(1e-4, 1e4))
def test_rounding_at_random_is_right_on_average(bits, seed, size):
    values = normal(3, 6, seed) * size
    count = full(512, 64)
    draws = [
        values_of(*stochastic_rows(values, bits, torch.full_like(values, (draw + 0.5) / count)), bits).double()
        for draw in range(count)
    ]
    scales = scale_values(stochastic_rows(values, bits, torch.full_like(values, 0.5))[1], bits)
    single = 2.0 ** (bits - 24) if bits > 8 else 0.0  # what float32 can tell apart, beside fine levels
    spread = 1 / count + 1e-4 + single
    assert (torch.stack(draws).mean(dim=0) - values).abs().max() <= scales.max() * spread
    assert all(bool(((draw - values).abs() <= scales * (1 + 1e-4)).all()) for draw in draws)


@pytest.mark.parametrize("bits", [16, 8, 7, 4, 2])
def test_it_looks_up_what_a_table_rounded_to_the_nearest_does(bits):
    table = made(bits=bits, padding_idx=-1)
    rounded = CodebookEmbedding.from_pretrained(normal(7, 5), np.arange(7), padding_idx=6, bits=bits)
    for ids in (IDS, IDS.int(), torch.tensor(3), torch.empty((0, 2), dtype=torch.int64)):
        assert torch.equal(table(ids), rounded(ids))
    assert torch.equal(table.weight, rounded.weight)
    assert torch.equal(table.expand().weight, rounded.weight)
    assert table.nbytes == rounded.nbytes
    assert table.parameter_count == rounded.parameter_count
    assert not table.weight[6].any()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("padding_idx", [None, 4])
def test_gradients_are_those_of_a_table_of_floats(whole, padding_idx):
    table = made(padding_idx=padding_idx)
    floats = twin(table)
    upstream = normal(6, 5, 1).view(2, 3, 5)
    for module in (table, floats):
        loss = (module(IDS) * upstream).sum() + (module(torch.tensor([2, 4])).square()).sum()
        (loss + (module.weight[3:6] ** 3).sum() if whole else loss).backward()
    wanted = floats.weight.grad
    if padding_idx is not None:
        wanted[padding_idx] = 0  # which `nn.Embedding` does for lookups alone
    rows, gradient = table.take_gradient()
    touched = sorted({0, 1, 2, 4, 6, *((3, 5) if whole else ())} - {padding_idx})
    assert rows.tolist() == touched
    torch.testing.assert_close(gradient, wanted[rows])
    assert not wanted[[row for row in range(7) if row not in touched]].any()
    assert len(table.take_gradient()[0]) == 0  # they are taken once


def test_nothing_is_left_where_nothing_is_to_be_learned():
    table = made()
    with torch.no_grad():
        table(IDS)
    table.anchor.requires_grad_(False)
    assert not table(IDS).requires_grad
    rows, gradient = table.take_gradient()
    assert (rows.shape, gradient.shape) == ((0,), (0, 5))
    assert rows.dtype == torch.int64


def test_a_state_of_floats_is_refused():
    table = made(bits=6)
    state = {name: tensor.float() for name, tensor in table.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"integers must be torch.uint8, got torch.float32"):
        table.load_state_dict(state)


def test_rows_are_drawn_by_the_generator():
    one, other, another = (QuantizedEmbedding(1000, 16, padding_idx=0) for _ in range(3))
    for table, seed in ((one, 1), (other, 1), (another, 2)):
        table.reset_parameters(0.1, torch.Generator().manual_seed(seed))
    assert torch.equal(one.integers, other.integers)
    assert not torch.equal(one.integers, another.integers)
    assert not one.weight[0].any()
    assert 0.095 < one.weight[1:].std() < 0.105


def moved_by_the_book(table, history, lr, eps):
    """RMSprop with one mean square a row, without rounding, in float64."""
    values, squares, count = table.read_rows().double(), torch.zeros(7, dtype=torch.float64), torch.zeros(7)
    for rows, gradient in history:
        for row, g in zip(rows.tolist(), gradient.double(), strict=True):
            count[row] = min(count[row] + 1, 256)
            squares[row] += (g.square().mean() - squares[row]) / count[row]
            values[row] -= lr * g / (squares[row].sqrt() + eps)
    return values


@pytest.mark.parametrize("bits", [8, 16])
def test_a_step_is_rms_prop_with_one_mean_square_a_row(bits):
    table = made(bits=bits)
    optimizer = RowwiseRMSprop(table, lr=0.02, eps=1e-3)
    history = []
    for step in range(300):
        before = copy.deepcopy(table)
        ids = torch.randint(0, 6, (4,), generator=torch.Generator().manual_seed(step))
        (table(ids) * normal(4, 5, step)).sum().backward()
        history.append(copy.deepcopy(table.anchor.grad).sums())
        optimizer.step()
        if step in (0, 1, 40, 299):
            # The rows before a step are what it starts from; its mean squares are of all steps so far.
            start = moved_by_the_book(before, history[:-1], 0, 1e-3)
            steps = moved_by_the_book(before, history, 0.02, 1e-3) - moved_by_the_book(before, history[:-1], 0.02, 1e-3)
            level = scale_values(table.scales, bits)
            assert ((table.read_rows() - (start + steps)).abs() <= level * 1.001).all()
            assert steps.abs().max() > 0.005
    assert optimizer.state[table.anchor]["count"].tolist()[6] == 0
    # A row without a gradient stays as it is, to the bit.
    assert torch.equal(table.read_rows()[6], made(bits=bits).read_rows()[6])


@pytest.mark.parametrize(
    ("bits", "dim", "rows"), [(16, 64, 3000), (8, 64, 3000), (7, 33, 200), (5, 1, 200), (2, 8, 200)]
)
def test_the_loop_has_the_bits_of_plain_pytorch(monkeypatch, bits, dim, rows):
    found, wanted = (QuantizedEmbedding.from_pretrained(normal(rows, dim), bits=bits) for _ in range(2))
    found.scales[:5], wanted.scales[:5] = 0, 0
    # Steps are longer than rows, so that what rounds them otherwise is seen.
    optimizers = [RowwiseRMSprop(table, lr=3.0, seed=2**63 - 9) for table in (found, wanted)]
    for step in range(12):
        pull = normal(rows, dim, step) * (torch.arange(rows) % 7 != step % 7)[:, None]
        for table, optimizer in zip((found, wanted), optimizers, strict=True):
            (table.weight * pull).sum().backward()
            if table is wanted:
                monkeypatch.setattr(rowwise, "move_rows_in_loop", rowwise.move_rows)
            optimizer.step()
            monkeypatch.undo()
        states = [optimizer.state[optimizer.param_groups[0]["params"][0]] for optimizer in optimizers]
        assert all(torch.equal(states[0][name], states[1][name]) for name in ("squares", "count", "step"))
        assert torch.equal(found.scales, wanted.scales)
        assert torch.equal(found.integers, wanted.integers)


def test_steps_smaller_than_a_level_add_up():
    table = QuantizedEmbedding.from_pretrained(torch.ones(400, 8) * torch.linspace(0.1, 1, 8), bits=4)
    level, before = float(scale_values(table.scales[0], 4)), table.read_rows()
    optimizer = RowwiseRMSprop(table, lr=level / 50)
    for _ in range(100):  # by two levels, down, but for the greatest value, which says what a level is
        table(torch.arange(400))[:, :7].sum().backward()
        optimizer.step()
    fallen = (before - table.read_rows())[:, :7].mean() / level
    assert 1.9 < fallen * (7 / 8) ** 0.5 < 2.1


def test_steps_depend_on_the_seed_and_can_be_resumed():
    def trained(steps, seed=0, *, resume=False):
        table = made(rows=50, dim=16)
        optimizer = RowwiseRMSprop([table], lr=1e-3, seed=seed)
        for step in range(steps):
            if resume and step == steps // 2:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = RowwiseRMSprop(table, lr=1e-3, seed=seed)
                optimizer.load_state_dict(state)
            (table(torch.arange(step, 50)) - 1).square().sum().backward()
            optimizer.step()
        return table

    assert torch.equal(trained(8).integers, trained(8, resume=True).integers)
    assert not torch.equal(trained(8).integers, trained(8, seed=1).integers)


def test_a_table_learns_what_it_is_to_hold():
    wanted = normal(200, 16, 3)
    table = QuantizedEmbedding(200, 16)
    optimizer = RowwiseRMSprop(table)
    for step in range(1200):
        ids = torch.randint(0, 200, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.param_groups[0]["lr"] = 0.1 if step < 800 else 0.01
        (table(ids) - wanted[ids]).square().sum().backward()
        optimizer.step()
    assert (table.read_rows() - wanted).square().mean() < 2e-3


def test_gradients_that_no_step_took_can_be_forgotten():
    table = made()
    before = table.read_rows()
    optimizer = RowwiseRMSprop(table)
    table(IDS).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(table.read_rows(), before)
    assert optimizer.step(lambda: 3.5) == 3.5


@given(st.integers(0, 2**63), st.integers(1, 2**32 - 1), st.integers(0, 2**40), st.integers(0, 300))
def test_chances_are_a_function_of_seed_step_row_and_dimension(seed, step, row, dimension):
    odd = odd_words(dimension + 1, seed, torch.device("cpu"))
    found = random_chances(torch.tensor([5, row]), odd, seed, torch.tensor(step))
    own = philox((row % 2**32, row >> 32, step, ROUNDING), seed)[0]
    odd = philox((dimension, 0, 0, ROUNDING), seed)[0] | 1
    assert found[1, dimension] == (own * odd % 2**32 >> 8) / 2**24


def test_chances_are_even_and_do_not_repeat():
    odd = odd_words(64, 0, torch.device("cpu"))
    first, second = (random_chances(torch.arange(4000), odd, 0, torch.tensor(step)) for step in (1, 2))
    counts = torch.histc(first, bins=64, min=0, max=1)
    assert first.min() >= 0
    assert first.max() < 1
    assert (counts / counts.mean() - 1).abs().max() < 0.1
    for one, other in ((first, second), (first[:-1], first[1:])):
        assert abs(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1]) < 0.01
    between = np.corrcoef(first.T)
    assert np.abs(between - np.eye(64)).max() < 0.1  # 0.016 is the deviation of 4,000 pairs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantizedEmbedding(3, 4, bits=9), "bits must be one of .*, got 9"),
        (lambda: QuantizedEmbedding(-1, 4), "num_embeddings must be an integer at least 0, got -1"),
        (lambda: QuantizedEmbedding(3, 0), "embedding_dim must be an integer at least 1, got 0"),
        (lambda: QuantizedEmbedding(3, 4, padding_idx=3), "padding_idx"),
        (
            lambda: QuantizedEmbedding.from_pretrained(torch.zeros(3)),
            r"must be a floating matrix, got .*\(3,\)",
        ),
        (lambda: QuantizedEmbedding.from_pretrained(torch.full((2, 2), torch.nan)), "table must be finite"),
        (lambda: made()(torch.tensor([7])), "indices must be from 0 to 6, got 7"),
        (lambda: made()(torch.tensor([0.5])), "indices must be an int32 or int64 tensor, got torch.float32"),
        (lambda: RowwiseRMSprop(nn.Linear(2, 2)), "tables must be of QuantizedEmbedding, one at least, got Linear"),
        (lambda: RowwiseRMSprop([made(), nn.Embedding(2, 2)]), "tables must be of QuantizedEmbedding"),
        (lambda: RowwiseRMSprop(made(), lr=0), "lr must be a finite number above 0, got 0"),
        (lambda: RowwiseRMSprop(made(), seed=-1), "seed must be an integer from 0 to .*, got -1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e20])
@pytest.mark.parametrize("bits", [8, 5])
def test_a_gradient_that_is_no_number_moves_no_row_and_is_spoken_of(bad, bits):
    first, second = made(bits=bits), made(bits=bits)
    optimizer = RowwiseRMSprop([first, second], lr=0.1)
    before = [copy.deepcopy(table.state_dict()) for table in (first, second)]
    (first(torch.tensor([1])).sum() + second(torch.tensor([[4, 2]])).sum(dim=2) @ torch.tensor([1.0, bad])).backward()
    with pytest.raises(
        NonFiniteGradientError, match=r"for 1 of the 7 rows of a table, the first of them row 2; nothing"
    ):
        optimizer.step()
    for table, state in zip((first, second), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in table.state_dict().items())
    assert not optimizer.state
    first(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert not torch.equal(first.integers, before[0]["integers"])


@pytest.mark.parametrize("move", [rowwise.move_rows, rowwise.move_rows_in_loop])
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_a_row_whose_mean_square_is_no_number_stays_as_it_is(move, bits):
    table, gradient = made(bits=bits), torch.ones(4, 5)
    gradient[1, 2], gradient[2, 0] = torch.nan, 1e30
    state = {
        "squares": torch.full((7,), 0.25),
        "count": torch.full((7,), 3, dtype=torch.uint8),
        "step": torch.tensor(1),
    }
    before = copy.deepcopy((table.state_dict(), state))
    odd = odd_words(5, 0, torch.device("cpu"))
    move(rowwise.Move(table, state, torch.tensor([0, 1, 2, 5]), gradient, odd, 0.1, 1e-8, 0))
    moved = (table.integers != before[0]["integers"]).any(dim=1)
    assert moved.tolist() == [True, False, False, False, False, True, False]
    assert torch.equal(table.scales[1:3], before[0]["scales"][1:3])
    assert state["count"].tolist() == [4, 3, 3, 3, 3, 4, 3]
    assert state["squares"][1:3].tolist() == [0.25, 0.25]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e9, -1e9])
def test_values_that_integers_cannot_hold_are_refused(bad, tmp_path):
    values = normal(3, 4)
    values[1, 2] = bad
    shared = CodebookEmbedding(torch.arange(3), 4, bits=8)
    shared.codebook.data.copy_(values)
    for make in (
        lambda: CodebookEmbedding.from_pretrained(values, [0, 1, 2], bits=8),
        lambda: QuantizedEmbedding.from_pretrained(values),
        lambda: made(3, 4).write(torch.arange(3), values),
        lambda: made(3, 4).weight.data.copy_(values),
        lambda: export_codebook(shared, tmp_path / "table.safetensors"),
    ):
        with pytest.raises(InputError, match=r"must be finite and of values up to 7\.8336e\+06 with 8 bits, got"):
            make()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_another_optimizer_is_told_of_the_one_that_is_needed(optimizer):
    table = made()
    other = optimizer(table.parameters(), lr=0.1)

    def steps():
        for _ in range(50):
            other.zero_grad()
            table(IDS).sum().backward()
            other.step()

    with pytest.raises(InputError, match=r"wait for a step of baco_gpu\.RowwiseRMSprop, and none is there"):
        steps()
    assert table.anchor.grad is None


@pytest.mark.parametrize("whole", [False, True])
def test_gradients_that_wait_are_bounded_and_add_up(whole):
    table = made()
    optimizer = RowwiseRMSprop(table)
    wanted = torch.zeros(7, 5)
    for step in range(100):
        pull = normal(6, 5, step)
        rows = table.weight[:6] if whole else table(IDS.view(-1))
        (rows * pull).sum().backward()
        wanted.index_add_(0, torch.arange(6) if whole else IDS.view(-1), pull)
        assert table.anchor.grad.waiting <= 2 * 7 + 7
    assert optimizer.state == {}
    rows, gradient = table.take_gradient()
    torch.testing.assert_close(gradient, wanted[rows])


def test_torch_func_is_refused_where_gradients_would_be_lost():
    table = made()

    def loss(anchor):
        return torch.func.functional_call(table, {"anchor": anchor}, (IDS,)).sum()

    with pytest.raises(InputError, match=r"torch\.func must not differentiate a QuantizedEmbedding"):
        torch.func.grad(loss)(table.anchor.detach())
