"""The meter of the host build counts what kernels and operations read and write, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from baco_gpu.cuda.catalogue import instance
from cuda_host.device_arrays import DeviceModule, OnDevice
from cuda_host.host import ON_KERNELS, SMALL
from cuda_host.meter import Count, Meter, MeteredLauncher

pytestmark = ON_KERNELS


@pytest.fixture
def meter():
    return Meter()


def test_what_a_kernel_reads_and_writes_counts_and_an_atomic_does_both(meter):
    launch = MeteredLauncher(SMALL, meter, ["volumes.cu"])
    labels = np.array([0, 1, -1, 1, 0, -1, 2], np.int32)
    values, sums = np.arange(7), np.zeros(3, np.int64)
    launch("sums_by_label", ("int",), 1, [labels, values, 7, sums])
    assert sums.tolist() == [4, 4, 6]
    meter.end_phase("one")
    # A label each, and a value of the five that are some; three sums before, which lanes read together, and five after.
    assert meter.counts == {("one", "sums_by_label"): Count(1, 7 * 4 + 5 * 8 + 3 * 8, 5 * 8)}


def test_what_the_lanes_of_a_warp_read_together_counts_once(meter):
    launch = MeteredLauncher(SMALL, meter, ["volumes.cu"])
    offsets, neighbors = np.array([0, 3]), np.array([0, 1, 2], np.int32)
    labels, others, within = np.array([5], np.int32), np.array([5, 4, 5], np.int32), np.zeros(1, np.int64)
    arguments = [offsets, neighbors, None, 1, labels, others, within]
    launch.run(instance("weight_within", ("int", "false")), 1, [*arguments[:3], np.int64(1), *arguments[4:]])
    assert within.tolist() == [2]
    meter.end_phase("one")
    (count,) = meter.counts.values()
    assert count.written == 8
    assert count.read <= 2 * 3 * 8 + 3 * (4 + 4) + 4 + 8  # 32 lanes of each warp have asked for the ends and the label


def test_operations_count_by_their_arrays(meter, monkeypatch):
    monkeypatch.setattr(OnDevice, "operation", staticmethod(meter.operation))
    xp = DeviceModule()
    array = xp.arange(10, dtype=np.int64)
    xp.cumsum(array)
    array[array]
    xp.sort(array)
    meter.end_phase("one")
    assert {what: count for (_, what), count in meter.counts.items()} == {
        "arange": Count(1, 0, 80),
        "cumsum": Count(1, 80, 80),
        "take": Count(1, 160, 80),
        "sort": Count(1, 8 * 80 + 80 + 80, 8 * 80 + 80),  # 8 passes, a histogram, a copy
    }
