"""A table that is divided among ranks is one process's table of floats."""

from __future__ import annotations

import pytest
import torch

from baco_gpu.errors import InputError
from baco_gpu.models import full_table
from baco_gpu.tables import ShardedTable
from thread_ranks import on_ranks

COUNT, DIM = 11, 3


def drawn(table, seed=0):
    table.initialize(0.5, torch.Generator().manual_seed(seed))
    return table


@pytest.mark.parametrize("count", [1, 5, 11, 4096, 4099, 4117, 9000])
@pytest.mark.parametrize("dim", [1, 3])
def test_rows_are_drawn_as_those_of_a_whole_table(count, dim):
    expected = drawn(full_table(count, dim)).weight
    for part in on_ranks(3, lambda ranks: drawn(ShardedTable(count, dim, ranks)).weight.detach()):
        assert torch.equal(part, expected)
    assert torch.equal(drawn(ShardedTable(count, dim)).shard, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 8])  # of eight the last two have no row
def test_lookups_and_gradients_are_those_of_a_whole_table(size):
    ids = [torch.randint(0, COUNT, (4, rank), generator=torch.Generator().manual_seed(rank)) for rank in range(size)]
    scale = torch.arange(DIM) + 1.0

    def work(ranks):
        table = drawn(ShardedTable(COUNT, DIM, ranks))
        rows = table(ids[ranks.rank])
        (rows * scale).sum().backward()
        return rows.detach(), table.shard.grad, table.begin

    table = drawn(full_table(COUNT, DIM))
    (table(torch.cat([some.flatten() for some in ids])) * scale).sum().backward()
    for rank, (rows, gradient, begin) in enumerate(on_ranks(size, work)):
        assert torch.equal(rows, table(ids[rank]))
        torch.testing.assert_close(gradient, table.weight.grad[begin : begin + len(gradient)])


def test_the_whole_table_passes_gradients_to_its_ranks():
    factor = torch.rand(COUNT, DIM, generator=torch.Generator().manual_seed(1))

    def work(ranks):
        table = drawn(ShardedTable(COUNT, DIM, ranks))
        (table.weight * factor * (ranks.rank + 1)).sum().backward()
        return table.shard.grad

    torch.testing.assert_close(torch.cat(on_ranks(3, work)), 6 * factor)


def test_what_is_stored_and_written_is_the_whole_table():
    values = torch.rand(COUNT, DIM)

    def work(ranks):
        table = ShardedTable(COUNT, DIM, ranks)
        table.write_rows(values)
        return table.read_rows(), table.parameter_count, table.nbytes, len(table.shard)

    for rows, parameters, nbytes, own in on_ranks(2, work):
        assert torch.equal(rows, values)
        assert (parameters, nbytes) == (COUNT * DIM, 4 * COUNT * DIM)
        assert own in (6, 5)


@pytest.mark.parametrize("ids", [[-1], [COUNT], [0, 99]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(InputError, match="indices must be from 0 to 10"):
        ShardedTable(COUNT, DIM)(torch.tensor(ids))
