"""From a graph to a result: choose gamma, solve within the budget, find the secondary clusters, account for it all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.budget import AnyBudget, Reach, SideBudgets, TableSize, solve_within, solve_within_sides
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Backend, NodeWeights, Partition, Problem
from baco_gpu.clustering.backends.share import GraphShare
from baco_gpu.clustering.result import NO_LABEL, Assignment, ResultData, WeightScale
from baco_gpu.clustering.solve.bisection import Bisection, as_coclusters
from baco_gpu.clustering.solve.by_side import joined, partitions_by_side
from baco_gpu.clustering.solve.merging import compact
from baco_gpu.clustering.solve.multilevel import Descent, Observer, Schedule
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.paper import search_gamma, sweeps_only
from baco_gpu.clustering.solve.partners import one_sided_partners
from baco_gpu.clustering.solve.sweeps import rows_by_side
from baco_gpu.clustering.solve.targets import Target, excesses
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.progress import Progress
from baco_gpu.stopwatch import Stopwatch

GAMMA_PER_ROOTS = 1.77e-3


@dataclass(frozen=True)
class Settings:
    """The checked parameters of `BalancedCoclustering`; see there."""

    solver: str
    budget: AnyBudget | None
    gamma: float | None
    scheme: str
    secondary: tuple[bool, bool]
    seed: int
    embedding_dim: int
    value_bytes: int
    codebook_dtype: str
    schedule: Schedule
    backend: Backend
    shared: bool = False


class Solution(NamedTuple):
    """A partition under labels 0..K-1, the secondary labels of each side (or None), gamma, and the trace of Q."""

    partition: Partition
    secondary: tuple[Any, Any]
    gamma: float
    trace: list[float]


def cocluster(
    graph: BipartiteGraph | GraphShare, settings: Settings, parameters: dict[str, Any], progress: Progress
) -> ResultData:
    """Co-cluster `graph`, or with other processes a graph of which this one has a share.

    `parameters` are kept in the result as they were given.

    Raises
    ------
    InputError
        If the budget cannot be met on this graph, or its weights cannot be held exactly.
    """
    with settings.backend.at_work():
        return _cocluster(graph, settings, parameters, progress)


def _cocluster(
    graph: BipartiteGraph | GraphShare, settings: Settings, parameters: dict[str, Any], progress: Progress
) -> ResultData:
    seconds: dict[str, float] = {}
    host = graph.to("cpu")
    table = TableSize(
        host.num_users, host.num_items, settings.embedding_dim, settings.value_bytes, settings.codebook_dtype
    )
    with timed(seconds, "load"):
        weights = integer_weights(host, settings.scheme)
        problem = settings.backend.load(graph, weights)
    run = _Run(host, problem, weights, settings, seconds, progress)

    def solve(rows: Target) -> tuple[Solution, tuple[int, int], tuple[int, int]]:
        solution = run.solve(run.gamma(rows), rows)
        users, items = (0 if side is None else int((side != NO_LABEL).sum()) for side in solution.secondary)
        return solution, rows_by_side(settings.backend, solution.partition, shared=settings.shared), (users, items)

    def solve_all(rows: int | None) -> tuple[Solution, int, int]:
        solution, counts, indices = solve(rows)
        return solution, sum(counts), sum(indices)

    if settings.budget is None:
        solution, _, _ = solve_all(None)
    elif isinstance(settings.budget, SideBudgets):
        reaches = reaches_of(host, settings.secondary)
        solution = solve_within_sides(settings.budget, table, reaches, solve)
    else:
        reach = reach_of(host, settings.secondary, shared=settings.shared)
        solution = solve_within(settings.budget, table, reach, solve_all)
    return accounted(host, weights, problem, settings, parameters, solution, seconds)


def reach_of(graph: BipartiteGraph | GraphShare, secondary: tuple[int, int], *, shared: bool) -> Reach:
    """What clusterings of a graph can cost, with so many secondary clusters for a user and for an item.

    Nodes without an edge share one row on each side or, where the sides share rows, one in all; they have no secondary
    clusters.
    """
    whole = Reach(*map(sum, zip(*reaches_of(graph, secondary), strict=True)))
    if not shared:
        return whole
    both_lone = all(bool((degrees == 0).any()) for degrees in (graph.user_degrees, graph.item_degrees))
    return whole._replace(fewest=min(whole.fewest, 1), most=whole.most - both_lone)


def reaches_of(graph: BipartiteGraph | GraphShare, secondary: tuple[int, int]) -> tuple[Reach, Reach]:
    """The same of users and of items apart."""
    sides = zip((graph.num_users, graph.num_items), (graph.user_degrees, graph.item_degrees), secondary, strict=True)
    users, items = (_side_reach(size, int((degrees > 0).sum()), wanted) for size, degrees, wanted in sides)
    return users, items


def _side_reach(size: int, connected: int, secondary: int) -> Reach:
    return Reach(
        fewest=min(size, 1),
        most=connected + (connected < size),
        indices=connected * secondary,
        slots=size * secondary,
    )


class _Run:
    """The steps of one call, with its clock and its progress."""

    def __init__(
        self,
        graph: BipartiteGraph | GraphShare,
        problem: Problem,
        weights: NodeWeights,
        settings: Settings,
        seconds: dict[str, float],
        progress: Progress,
    ) -> None:
        self.graph = graph
        self.problem = problem
        self.weights = weights
        self.settings = settings
        self.seconds = seconds
        self.progress = progress
        self.bisection: Bisection | None = None
        self.twins: tuple[np.ndarray, np.ndarray] | None = None
        if settings.solver == "multilevel":
            with timed(seconds, "load"):
                self.twins = graph.first_twins()

    def gamma(self, target: Target) -> float:
        """The gamma given, or the one searched (solver="paper"), or the default one."""
        settings = self.settings
        if settings.gamma is not None:
            return settings.gamma
        rows = target if target is None or isinstance(target, int) else sum(wanted or 0 for wanted in target)
        if settings.solver != "paper" or rows is None:
            return default_gamma(self.graph, rows, settings.scheme)

        def rows_at(gamma: float) -> int:
            partition = self._sweeps_only(gamma, lambda stage, partition: None)
            self.progress("searching gamma", 0, 0, f"gamma {gamma:.4g}")
            counts = rows_by_side(settings.backend, partition, shared=settings.shared)
            return sum(each.rows for each in excesses(counts, target)) + rows

        with timed(self.seconds, "search"):
            return search_gamma(rows_at, rows)

    def solve(self, gamma: float, target: Target) -> Solution:
        """Solve at this gamma for at most so many codebook rows."""
        if self.settings.solver == "bisecting":
            return self._bisected(gamma, target)
        settings, backend = self.settings, self.settings.backend
        penalty = gamma * self.weights.penalty_per_gamma
        stages = settings.schedule.stages if settings.solver == "multilevel" else settings.schedule.sweeps
        trace: list[float] = []

        def observe(stage: str, partition: Partition) -> None:
            trace.append(objective(backend, partition.within, partition.volumes, penalty, self.weights.unit))
            self.progress("clustering", len(trace), stages, f"{stage}, Q = {trace[-1]:.6g}")

        with timed(self.seconds, "solve"):
            sides = self._sides(gamma, target, observe)
        self.progress("clustering", stages, stages, f"{max(side.num_labels for side in sides)} co-clusters")
        with timed(self.seconds, "secondary"):
            users, items = (
                backend.second_best(self.problem, sides[side], side, penalty) if wanted else None
                for side, wanted in zip((USERS, ITEMS), settings.secondary, strict=True)
            )
        partition, secondary = joined(backend, self.problem, sides, (users, items))
        if sides[USERS] is not sides[ITEMS]:
            observe("join", partition)
        return Solution(partition, secondary, gamma, trace)

    def _bisected(self, gamma: float, target: Target) -> Solution:
        settings, backend = self.settings, self.settings.backend
        if self.bisection is None:
            assert isinstance(self.graph, BipartiteGraph)  # `SolverParameters` refuses a group of processes
            self.progress("embedding", 0, 1, "")
            with timed(self.seconds, "embed"):
                self.bisection = Bisection(self.graph, self.weights, settings.seed, settings.secondary)
        with timed(self.seconds, "solve"):
            sides = self.bisection.solve(target)
            partition, secondary = as_coclusters(backend, self.problem, sides)
        penalty = gamma * self.weights.penalty_per_gamma
        reached = objective(backend, partition.within, partition.volumes, penalty, self.weights.unit)
        self.progress("clustering", 1, 1, f"{partition.num_labels} co-clusters")
        return Solution(partition, secondary, gamma, [reached])

    def _sides(self, gamma: float, target: Target, observe: Observer) -> tuple[Partition, Partition]:
        """The partitions of which users and items have their labels, one and the same but for a target a side."""
        settings, backend = self.settings, self.settings.backend
        if settings.solver == "paper":
            partition = compact(backend, self._sweeps_only(gamma, observe))
            return partition, partition
        descent = Descent(
            backend,
            self.problem,
            gamma * self.weights.penalty_per_gamma,
            seed=settings.seed,
            schedule=settings.schedule,
            observe=observe,
            shared=settings.shared,
            twins=self.twins,
        )
        if not isinstance(target, tuple):
            partition = compact(backend, descent.to(target))
            return partition, partition
        users, items = partitions_by_side(descent, target)
        if users is items:
            partition = compact(backend, users)
            return partition, partition
        return compact(backend, users), compact(backend, items)

    def _sweeps_only(self, gamma: float, observe: Observer) -> Partition:
        settings = self.settings
        penalty = gamma * self.weights.penalty_per_gamma
        return sweeps_only(
            settings.backend,
            self.problem,
            penalty,
            seed=settings.seed,
            sweeps=settings.schedule.sweeps,
            observe=observe,
        )


def default_gamma(graph: BipartiteGraph | GraphShare, rows: int | None, scheme: str) -> float:
    """The resolution used where none is given: modularity's 1, raised with the edges and rows there are to share.

    gamma = max(1, 1.77e-3 * edges^(1/2) * rows^(1/3)), a rule fitted on validation recall: near the best gamma tried on
    four interaction sets of 80 thousand to 820 thousand edges, at budgets from a twentieth to a half, whose best gammas
    differ tenfold (benchmarks/results/gamma.md). Under "paper" the number is rescaled so that the volume of a cluster
    costs the same as under "degree".
    """
    gamma = 1.0 if rows is None else max(1.0, GAMMA_PER_ROOTS * math.sqrt(graph.num_edges) * rows ** (1 / 3))
    if scheme == "paper" and graph.num_edges:
        gamma *= math.sqrt(graph.num_items / graph.total_weight)
    return gamma


def accounted(
    graph: BipartiteGraph | GraphShare,
    weights: NodeWeights,
    problem: Problem,
    settings: Settings,
    parameters: dict[str, Any],
    solution: Solution,
    seconds: dict[str, float],
) -> ResultData:
    """The result of a solution on a graph on the CPU; `parameters` are kept in it as they were given."""
    partition, host = solution.partition, settings.backend.to_host
    sides = [
        Assignment(host(labels), None if secondary is None else host(secondary), vocabulary, degrees)
        for labels, secondary, vocabulary, degrees in zip(
            partition.labels,
            solution.secondary,
            (graph.user_vocabulary, graph.item_vocabulary),
            (graph.user_degrees, graph.item_degrees),
            strict=True,
        )
    ]
    user_volumes, item_volumes = (host(volumes).astype(np.float64) for volumes in partition.volumes)
    penalty = solution.gamma * weights.penalty_per_gamma
    with timed(seconds, "partners"):
        partners = one_sided_partners(settings.backend, problem, partition, penalty)
    return ResultData(
        users=sides[USERS],
        items=sides[ITEMS],
        gamma=solution.gamma,
        objective=objective(settings.backend, partition.within, partition.volumes, penalty, weights.unit),
        objective_trace=np.array(solution.trace, dtype=np.float64),
        num_edges=graph.num_edges,
        volumes=(user_volumes / weights.node_unit, item_volumes / weights.node_unit),
        embedding_dim=settings.embedding_dim,
        value_bytes=settings.value_bytes,
        seed=settings.seed,
        settings=parameters,
        graph_checksum=graph.checksum(),
        version=version("baco_gpu"),
        seconds=seconds,
        scale=WeightScale(settings.scheme, weights.unit, weights.node_unit, weights.penalty_per_gamma),
        partners=partners,
    )


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to `seconds[phase]`, and those of compiling to `seconds["compile"]`."""
    watch = Stopwatch()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + watch.seconds
    if watch.compiling:
        seconds["compile"] = seconds.get("compile", 0.0) + watch.compiling
