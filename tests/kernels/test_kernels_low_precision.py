"""The kernel of low_precision.cu, run on the CPU, does to a table what plain PyTorch does: to the bit."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from baco_gpu import QuantizedEmbedding, RowwiseRMSprop
from baco_gpu.cuda.catalogue import instances
from baco_gpu.ops.counters import odd_words
from baco_gpu.tables import rowwise
from cuda_host.host import ON_KERNELS, SANITIZERS, SMALL, build, host_launcher, run_sanitized

pytestmark = ON_KERNELS

ROWS = 40


@pytest.fixture(scope="module")
def launch():
    return host_launcher(seed=6, interrupt=3)


def steps(dim, count, monkeypatch, launch=None, bits=8):
    """A table after so many steps, its optimiser's state, and the table one step before."""
    table = QuantizedEmbedding(ROWS, dim, padding_idx=3, bits=bits)
    table.reset_parameters(0.5, torch.Generator().manual_seed(dim))
    table.scales[5] = 0  # a row of zeros
    optimizer = RowwiseRMSprop(table, lr=0.03, seed=2**63 - 9)
    move = rowwise.move_rows if launch is None else functools.partial(rowwise.move_rows_by_kernel, launch)
    monkeypatch.setattr(rowwise, "move_rows_in_loop", move)
    for step in range(count):
        before = copy.deepcopy(table)
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, ROWS, (12,), generator=generator)
        pull = torch.randn((12, dim), generator=generator)
        pull[0] = 0  # a row may be looked up for nothing
        (table(ids) * pull).sum().backward()
        optimizer.step()
    monkeypatch.undo()
    return table, optimizer.state[table.anchor], before


@pytest.mark.parametrize("dim", [1, 3, 64, 100, 129])
@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_step_has_the_bits_of_plain_pytorch(launch, monkeypatch, dim, count, bits):
    wanted, state, before = steps(dim, count, monkeypatch, bits=bits)
    found, own, _ = steps(dim, count, monkeypatch, launch, bits)
    assert torch.equal(found.integers, wanted.integers)
    assert torch.equal(found.scales, wanted.scales)
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own)
    assert not torch.equal(wanted.integers, before.integers)


def test_counts_stop_at_a_byte(launch, monkeypatch):
    wanted, state, _ = steps(2, 1200, monkeypatch)
    found, own, _ = steps(2, 1200, monkeypatch, launch)
    assert own["count"].max() == 255
    assert torch.equal(own["count"], state["count"])
    assert torch.equal(found.integers, wanted.integers)


def test_every_instance_has_run(monkeypatch):
    launch = host_launcher()
    for bits in rowwise.KERNEL_LEVELS:
        steps(4, 1, monkeypatch, launch, bits)
    assert launch.launched == set(instances("low_precision.cu"))


@pytest.mark.nightly("builds kernels with sanitizers")
def test_nothing_beyond_the_arrays_is_touched(tmp_path):
    build(tmp_path, SMALL, ["low_precision.cu"], SANITIZERS)
    run_sanitized("cuda_host.sanitized_low_precision", tmp_path)


def check_that_one_row_stays(launch, bits, gradient, *, square=0.25, eps=1e-8):
    """A step of four rows by this gradient moves all but the third, and leaves the same on every device."""
    dim, found = gradient.shape[1], []
    for move in (rowwise.move_rows, rowwise.move_rows_in_loop, functools.partial(rowwise.move_rows_by_kernel, launch)):
        table = QuantizedEmbedding(ROWS, dim, bits=bits)
        table.reset_parameters(0.5, torch.Generator().manual_seed(dim))
        before = copy.deepcopy(table)
        state = {
            "squares": torch.full((ROWS,), square),
            "count": torch.full((ROWS,), 3, dtype=torch.uint8),
            "step": torch.tensor(1),
        }
        rows, odd = torch.tensor([0, 7, 8, 39]), odd_words(dim, 0, torch.device("cpu"))
        move(rowwise.Move(table, state, rows, gradient, odd, 0.1, eps, 0))
        assert (table.integers != before.integers).any(dim=1).nonzero().view(-1).tolist() == [0, 7, 39]
        found.append([table.integers, table.scales, state["squares"], state["count"]])
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("dim", [3, 70])
def test_a_gradient_that_is_no_number_leaves_its_row_on_every_device(launch, bits, bad, dim):
    gradient = torch.randn((4, dim), generator=torch.Generator().manual_seed(1))
    gradient[2, dim - 1] = bad
    check_that_one_row_stays(launch, bits, gradient)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("dim", [3, 70])
def test_a_rate_that_is_no_number_leaves_its_row_on_every_device(launch, bits, dim):
    """An eps below every float32 makes it infinite for a row whose gradients were all zero, and its steps NaN."""
    gradient = torch.randn((4, dim), generator=torch.Generator().manual_seed(1))
    gradient[2] = 0
    check_that_one_row_stays(launch, bits, gradient, square=0.0, eps=1e-300)
