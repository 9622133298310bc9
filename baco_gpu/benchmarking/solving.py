"""Measuring the solver on planted graphs with power-law degrees, phase by phase, against the traffic of its edges."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import baco_gpu
from baco_gpu.benchmarking.meter import CudaMeter, HostMeter, Meter
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.backends.backend import USERS, Backend, NodeWeights, Partition
from baco_gpu.clustering.solve.cocluster import default_gamma
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Schedule, multilevel
from baco_gpu.clustering.solve.paper import PUBLISHED_SWEEPS, sweeps_only
from baco_gpu.clustering.solve.sweeps import count_rows
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.machine import describe_machine, source_commit
from baco_gpu.progress import Progress, silent

SOLVERS = ("sweeps", "full")
PHASES = ("load", "sweep", "merge", "refine", "secondary")
FEWEST_EDGES, MOST_EDGES = 10_000, 10**10
BUDGET = 0.25

_EDGES_A_NODE = 14
_NODES_A_CLUSTER = 60
_SWEEPING = ("sweep", "refine")

Row = dict[str, Any]


def measure_solver(
    edges: Sequence[int],
    *,
    solvers: Sequence[str] = SOLVERS,
    backend: str = "auto",
    repeats: int = 3,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Row]:
    """Run the solver on a planted graph of each size, once to warm up and then `repeats` times.

    Parameters
    ----------
    edges : sequence of int
        Edges of each graph, 10,000 to 10**10. A graph has a node for 14 edges, two users for an item, and a planted
        co-cluster for 60 nodes; a tenth of the edges leave it.
    solvers : sequence of {"sweeps", "full"}
        "sweeps": five sweeps from singletons alone. "full": sweeps, merging down to a quarter of the rows with
        refinement, and the users' secondary clusters. Both at the default gamma of that budget.
    backend : {"auto", "cpu", "cuda"}, or a GPU by number, such as "cuda:1"
    repeats : int
    seed : int
        Of graphs and solver.
    progress : function
        Called as progress(phase, done, total, note).

    Returns
    -------
    list of dict
        A row for each size and solver, all with the same keys. Seconds are medians. `seconds` (with `seconds_p20` and
        `seconds_p80`), which `edges_a_second` goes by, is all that follows loading; `seconds_load` is what it takes
        to make integer weights and put the graph on the device. `seconds_merge` includes the last sweep where that is
        undone because it falls below the budget. `edge_visits_a_second` counts two visits an edge and sweep, over the
        time of the sweeps alone; `bytes_of_visits` is what these visits move at least, the id and the label of a
        neighbor each, `floor_seconds` what that takes at the bandwidth of a copy, and `share_of_copy` how near the
        sweeps come to it. `streamed` says that the edges were read from the host, where the device's memory is too
        small for them. `peak_gib` is the peak of the device's memory pool, or of the process on a CPU; `planned_gib`
        is the most that a backend had planned to take of a device.

    Raises
    ------
    InputError
        If an argument is out of its range.
    BackendUnavailableError
        If the backend asked for cannot run here.
    """
    sizes = [check_integer("edges", size, minimum=FEWEST_EDGES, maximum=MOST_EDGES) for size in edges]
    for name, values in (("edges", sizes), ("solvers", solvers)):
        if not values:
            raise InputError(f"{name} must name at least one, got none")
    for solver in solvers:
        check_choice("solver", solver, SOLVERS)
    check_integer("repeats", repeats, minimum=1)
    check_integer("seed", seed, minimum=0, maximum=2**63 - 1)
    chosen = get_backend(backend)
    with chosen.at_work():
        return _measured(sizes, solvers, chosen, repeats, seed, progress)


def _measured(
    sizes: Sequence[int], solvers: Sequence[str], chosen: Backend, repeats: int, seed: int, progress: Progress
) -> list[Row]:
    meter = meter_of(chosen)
    facts = {
        "device": meter.device,
        **describe_machine(),
        "version": baco_gpu.__version__,
        "commit": source_commit(),
    }
    progress("measuring the bandwidth of a copy", 0, 0, "")
    bandwidth = meter.copy_bandwidth()
    rows = []
    for size in sizes:
        progress(f"{size:,} edges", 0, 0, "generating and building")
        graph, building = _planted(size, seed)
        for solver in solvers:
            runs: list[Solve] = []
            meter.forget_peak()
            for repeat in range(1 + repeats):
                progress(f"{size:,} edges, {solver}", repeat, 1 + repeats, "" if repeat else "warming up")
                runs.append(run_solver(graph, solver, chosen, meter, seed))
            progress(f"{size:,} edges, {solver}", 1 + repeats, 1 + repeats, "")
            row = summarize(graph, runs[1:], bandwidth, meter.peak_bytes())
            rows.append({"solver": solver, "backend": chosen.name, **row, "seconds_build": building, **facts})
    return rows


def meter_of(backend: Backend) -> Meter:
    """What measures the device of a backend."""
    if hasattr(backend.xp, "cuda"):
        return CudaMeter(backend.xp)
    import numba

    return HostMeter(numba.get_num_threads())


class Solve(NamedTuple):
    """One solve: seconds by phase, how many sweeps they hold, the codebook rows that came out, where edges were, and
    the bytes of the device that it was planned to take at most."""

    seconds: dict[str, float]
    sweeps: int
    rows: int
    streamed: bool = False
    planned: int | None = None

    @property
    def total(self) -> float:
        """All seconds but those of loading."""
        return sum(seconds for phase, seconds in self.seconds.items() if phase != "load")

    @property
    def sweeping(self) -> float:
        return sum(self.seconds.get(phase, 0.0) for phase in _SWEEPING)


def run_solver(graph: BipartiteGraph, solver: str, backend: Backend, meter: Meter, seed: int) -> Solve:
    """Load and solve once."""
    target = round(BUDGET * (graph.num_users + graph.num_items))
    clock = _Clock(meter)
    weights: NodeWeights = integer_weights(graph, "degree")
    problem = backend.load(graph, weights, merging=solver == "full")
    clock.stop("load", None)
    penalty = default_gamma(graph, target, "degree") * weights.penalty_per_gamma
    if solver == "sweeps":
        partition = sweeps_only(backend, problem, penalty, seed=seed, sweeps=PUBLISHED_SWEEPS, observe=clock.stop)
    else:
        schedule = Schedule()
        partition = multilevel(backend, problem, penalty, target, seed=seed, schedule=schedule, observe=clock.stop)
        partition = compact(backend, partition)
        clock.stop("merge", partition)
        backend.second_best(problem, partition, USERS, penalty)
        clock.stop("secondary", partition)
    sweeps = sum(clock.stops.get(phase, 0) for phase in _SWEEPING)
    planned = getattr(problem, "planned", None)
    return Solve(clock.seconds, sweeps, count_rows(backend, partition), problem.streamed, planned)


class _Clock:
    """Adds the time since the last stop to a phase, once the device has caught up."""

    def __init__(self, meter: Meter) -> None:
        self.seconds: dict[str, float] = {}
        self.stops: dict[str, int] = {}
        self._meter = meter
        meter.synchronize()
        self._last = time.perf_counter()

    def stop(self, phase: str, partition: Partition | None) -> None:
        self._meter.synchronize()
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self.stops[phase] = self.stops.get(phase, 0) + 1
        self._last = now


def summarize(graph: BipartiteGraph, runs: Sequence[Solve], bandwidth: float, peak: int | None) -> Row:
    """The figures of a row, of several runs of one solver on one graph."""
    totals = [run.total for run in runs]
    seconds = statistics.median(totals)
    visits = 2 * graph.num_edges * runs[0].sweeps
    moved = visits * 2 * graph.csr.neighbors.dtype.itemsize  # a neighbor's id, and its label
    sweeping = statistics.median(run.sweeping for run in runs)
    phases = {
        f"seconds_{phase}": statistics.median(run.seconds[phase] for run in runs) if phase in runs[0].seconds else None
        for phase in PHASES
    }
    return {
        "edges": graph.num_edges,
        "users": graph.num_users,
        "items": graph.num_items,
        "rows": runs[0].rows,
        "sweeps": runs[0].sweeps,
        "streamed": runs[0].streamed,
        "repeats": len(runs),
        "seconds": seconds,
        "seconds_p20": float(np.quantile(totals, 0.2)),
        "seconds_p80": float(np.quantile(totals, 0.8)),
        **phases,
        "edges_a_second": graph.num_edges / seconds,
        "edge_visits_a_second": visits / sweeping,
        "bytes_of_visits": moved,
        "floor_seconds": moved / bandwidth,
        "share_of_copy": moved / sweeping / bandwidth,
        "copy_bytes_a_second": bandwidth,
        "peak_gib": None if peak is None else peak / 2**30,
        "planned_gib": None if runs[0].planned is None else runs[0].planned / 2**30,
    }


def _planted(num_edges: int, seed: int) -> tuple[BipartiteGraph, float]:
    """A planted graph, and the seconds that building it from its interactions took."""
    num_nodes = num_edges // _EDGES_A_NODE
    num_clusters = max(num_nodes // _NODES_A_CLUSTER, 1)
    interactions, _, _ = planted_coclusters(
        num_nodes * 2 // 3, num_nodes // 3, num_edges, num_clusters, noise=0.1, seed=seed
    )
    started = time.perf_counter()
    graph = BipartiteGraph.from_interactions(interactions)
    return graph, time.perf_counter() - started
