"""The other kernels, and whole solves on kernels run on the CPU, equal the CPU backend and the reference solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_solver as reference
from baco_gpu.clustering.backends.backend import ITEMS, USERS
from baco_gpu.clustering.backends.cpu_backend import CpuBackend
from baco_gpu.clustering.solve.merging import compact, merge_to
from baco_gpu.clustering.solve.partners import one_sided_partners
from baco_gpu.clustering.solve.sweeps import singletons, sweep
from baco_gpu.clustering.solve.weights import SCHEMES, integer_weights
from baco_gpu.cuda.catalogue import KERNELS, SOURCES, instances
from baco_gpu.cuda.plan import Limits
from cuda_host import sanitized
from cuda_host.host import (
    ON_KERNELS,
    SANITIZERS,
    SMALL,
    HostLauncher,
    build,
    build_text,
    host_backend,
    run_sanitized,
    with_ids,
)
from cuda_host.sanitized import solve
from graphs import bipartite_graphs, random_graph, reference_of, targets
from tiers import examples

pytestmark = ON_KERNELS

SOLVER = [source for source in SOURCES if source not in ("codebook.cu", "low_precision.cu", "sampling.cu")]

gammas = st.sampled_from([0.0, 0.25, 1.0, 3.7, 40.0, 1e6])


def labels_of(partition):
    return [labels.tolist() for labels in partition.labels]


def rows_of(clusters):
    """The rows of a graph of clusters as sorted lists of (neighbor, weight)."""
    return [
        sorted(np.stack([part[row : row + count] for part in (clusters.neighbors, clusters.weights)], 1).tolist())
        for row, count in zip(clusters.rows.tolist(), clusters.counts.tolist(), strict=True)
    ]


def assert_same_clusters(clusters, expected):
    assert rows_of(clusters) == rows_of(expected)
    for mine, theirs in zip(clusters.volumes + clusters.occupied, expected.volumes + expected.occupied, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert clusters.neighbors.dtype == expected.neighbors.dtype


class TestPrimitives:
    @pytest.fixture(params=[False, True], ids=["plain", "weighted"])
    def case(self, request):
        graph = random_graph(257, 130, 2100, seed=6, weighted=request.param)
        weights = integer_weights(graph)
        cpu, host = CpuBackend(), host_backend(seed=9, interrupt=3)
        problem = cpu.load(graph, weights)
        partition = singletons(cpu, problem)
        sweep(cpu, problem, partition, weights.penalty_per_gamma, seed=1, number=0)
        return cpu, problem, compact(cpu, partition), host, host.load(graph, weights), 2 * weights.penalty_per_gamma

    @pytest.mark.parametrize("ids", [np.int32, np.int64])
    def test_sums(self, case, ids):
        cpu, problem, partition, host, loaded, _ = case
        wide, same = with_ids(loaded, partition, ids)
        for mine, theirs in zip(
            host.volumes(wide, same.labels, same.num_labels),
            cpu.volumes(problem, partition.labels, partition.num_labels),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)
        assert host.weight_within(wide, same.labels) == cpu.weight_within(problem, partition.labels)

    @pytest.mark.parametrize("stream", [0, 1, 2**63 + 12345, 2**64 - 1])
    def test_blocks_and_anchors(self, case, stream):
        cpu, problem, partition, host, loaded, _ = case
        for side in (USERS, ITEMS):
            for count in (1, 3, 4):
                blocks = host.blocks(loaded, side, stream, count)
                for mine, theirs in zip(blocks, cpu.blocks(problem, side, stream, count), strict=True):
                    np.testing.assert_array_equal(np.sort(mine.nodes[slice(*mine.range)]), theirs)
            for ids in (np.int32, np.int64):
                _, same = with_ids(loaded, partition, ids)
                same.volumes = tuple(np.append(volumes, [0, 0]) for volumes in same.volumes)  # labels of nobody
                before = same.copy()
                streams = (stream, None) if side == USERS else (None, stream)
                with host.holding(same, streams) as mine, cpu.holding(partition, streams) as theirs:
                    assert mine[1 - side] is None
                    assert mine[side][-2:].tolist() == [-1, -1]
                    np.testing.assert_array_equal(mine[side][:-2], theirs[side])
                for volumes, earlier in zip(same.volumes, before.volumes, strict=True):
                    np.testing.assert_array_equal(volumes, earlier)

    @pytest.mark.parametrize("ids", [np.int32, np.int64])
    def test_contraction_and_partners(self, case, ids):
        cpu, problem, partition, host, loaded, penalty = case
        wide, same = with_ids(loaded, partition, ids)
        clusters, expected = host.contract(wide, same), cpu.contract(problem, partition)
        for _ in range(3):
            clusters_narrow = clusters._replace(neighbors=clusters.neighbors.astype(expected.neighbors.dtype))
            assert_same_clusters(clusters_narrow, expected)
            for mine, theirs in zip(
                host.best_partners(clusters, penalty), cpu.best_partners(expected, penalty), strict=True
            ):
                np.testing.assert_array_equal(mine, theirs)
                assert mine.dtype == theirs.dtype
            number = (expected.num_clusters + 2) // 3
            relabel = (np.arange(expected.num_clusters) * 7 % number).astype(np.int32)
            # From either backend's graph: the CPU's has gaps between its rows.
            assert_same_clusters(host.contract_again(expected, relabel), cpu.contract_again(expected, relabel))
            clusters = host.contract_again(clusters, relabel.astype(ids))
            expected = cpu.contract_again(expected, relabel)


class TestSolves:
    @examples(60)
    @given(
        *(bipartite_graphs(), st.sampled_from(SCHEMES), gammas, st.integers(0, 2**63 - 1)),
        *(targets, st.booleans(), st.integers(0, 5)),
    )
    def test_equal_the_reference_solver(self, graph, scheme, gamma, seed, target, shared, interrupt):
        shared &= not isinstance(target, tuple)
        slow, weights = reference_of(graph, scheme)
        penalty = gamma * weights.penalty_per_gamma
        backend = host_backend(seed=seed % 1000, interrupt=interrupt)
        problem = backend.load(graph, weights)
        partition, expected = singletons(backend, problem), reference.singletons(slow)
        for number in range(2):
            sweep(backend, problem, partition, penalty, seed=seed, number=number, hold_rows=number == 1)
            reference.sweep(slow, expected, penalty, seed, number, hold_rows=number == 1)
            assert labels_of(partition) == expected
        for side in (USERS, ITEMS):
            second = backend.second_best(problem, partition, side, penalty)
            assert second.tolist() == reference.second_best(slow, expected, side, penalty)
        partners = one_sided_partners(backend, problem, compact(backend, partition), penalty)
        assert partners.tolist() == reference.one_sided_partners(slow, reference.compacted(expected), penalty)
        merged = merge_to(backend, problem, partition, penalty, target, shared=shared)
        assert labels_of(merged) == reference.merge_to(slow, expected, penalty, target, shared)
        assert merged.within == sum(
            weight
            for (user, item), weight in slow.edges.items()
            if merged.labels[USERS][user] == merged.labels[ITEMS][item]
        )

    @pytest.mark.parametrize("limits", [SMALL, Limits()], ids=["small", "full"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_equal_the_cpu_backend_on_a_larger_graph(self, limits, weighted):
        graph = random_graph(900, 700, 9000, seed=3, weighted=weighted)
        backend = host_backend(limits, interrupt=11)
        assert solve(backend, graph, 150) == solve(CpuBackend(), graph, 150)


class TestTheBuild:
    def test_arguments_and_instances_are_those_of_the_catalogue(self):
        types = host_backend()._launch.types
        assert sorted(types) == sorted(name for source in SOURCES for name in instances(source))
        for name, found in types.items():
            kernel, _, values = name.partition("<")
            template = dict(zip(KERNELS[kernel].axes, values.rstrip(">").split(", "), strict=False))
            template["wide"] = "double" if template.get("value") == "double" else "float"
            kinds = [kind.rstrip("*?") for _, kind in KERNELS[kernel].arguments]
            stars = ["*" * ("*" in kind) for _, kind in KERNELS[kernel].arguments]
            expected = [
                template.get(kind, kind).replace("long long", "long") + star
                for kind, star in zip(kinds, stars, strict=True)
            ]
            assert found.split() == expected, name

    @pytest.mark.parametrize("extra", [(), ("-DCUDA_HOST_PORTABLE",)], ids=["by-hand", "portable"])
    def test_faults_of_kernels_show(self, tmp_path, extra):
        text = (Path(sanitized.__file__).parent / "faults.cu").read_text(encoding="utf-8")
        names = ["divergent_barrier", "mixed_barriers", "part_of_a_warp", "last_one_wins", "lost_update"]
        library = build_text(tmp_path, SMALL, "faults.cu", text, names, extra)
        launcher = HostLauncher([library], SMALL, interrupt=2)
        result = np.zeros(2, np.int32)
        with pytest.raises(RuntimeError, match="deadlock"):
            launcher.run("divergent_barrier", 1, [result])
        with pytest.raises(RuntimeError, match="different operations"):
            launcher.run("mixed_barriers", 1, [result])
        with pytest.raises(RuntimeError, match="all lanes"):
            launcher.run("part_of_a_warp", 1, [result])
        for name in ("last_one_wins", "lost_update"):
            outcomes = set()
            for _ in range(20):
                result[:] = 0
                launcher.run(name, 1, [result])
                assert result[1] == SMALL.threads
                outcomes.add(int(result[0]))
            assert len(outcomes) > 1, "the order of threads must leave a trace in a faulty kernel"

    @pytest.mark.nightly("builds kernels with sanitizers")
    def test_sanitizers_find_nothing(self, tmp_path):
        build(tmp_path, SMALL, SOLVER, SANITIZERS, without="<long long")
        done = run_sanitized("cuda_host.sanitized", tmp_path)
        lines = []
        for weighted in (False, True):
            result = solve(CpuBackend(), random_graph(150, 100, 1500, seed=2, weighted=weighted))
            lines.append(
                f"{sum(sum(part) for part in result[2:])} {result[0]} {result[1][0]} {result[1][1]} {result[1][2]}"
            )
        assert done.stdout.splitlines() == 2 * lines  # all edges at once, and in pieces from the host
