"""A clustering that follows its graph: from the present labels a few sweeps, in the codebook rows that there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Generic, NamedTuple

from baco_gpu.budget import SideBudgets, as_written
from baco_gpu.checks import check_integer
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Array, Backend, Partition, Problem
from baco_gpu.clustering.extend.assign import largest_label, placed, unplaced_labels
from baco_gpu.clustering.extend.growth import Growth, grow
from baco_gpu.clustering.result import NO_LABEL, Result, ResultData
from baco_gpu.clustering.solve.cocluster import Solution, accounted, timed
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.parameters import SolverParameters
from baco_gpu.clustering.solve.sweeps import sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.errors import InputError


class Update(NamedTuple, Generic[Result]):
    """What became of a result when its graph grew.

    Attributes
    ----------
    result : CoclusteringResult, of the grown graph
    moved_users, moved_items : int, old nodes whose co-cluster is another one now
    new_users, new_items : int, nodes that were not there before
    """

    result: Result
    moved_users: int
    moved_items: int
    new_users: int
    new_items: int


def update(result: Result, interactions: Any, *, sweeps: int = 3, backend: str = "auto") -> Update[Result]:
    """Cluster a grown graph from the labels of a result.

    New nodes first get the label that `assign` gives them, or the largest co-cluster where that gives none.
    Then sweeps move every node to its best label at the result's gamma, as the refinement of the solver does: no
    co-cluster loses its last user or item and none gains its first, so that labels keep their meaning and the codebook
    its rows. `CodebookEmbedding.resize` takes the new labels as they are.

    Parameters
    ----------
    result : CoclusteringResult
    interactions : BipartiteGraph, Interactions, pair of id arrays, data frame, or whatever `as_graph` takes
        All interactions of the grown graph, the old ones among them, named as for `assign`. Old nodes without any
        keep their labels.
    sweeps : int
        At most so many; it ends when one moves nothing.
    backend : {"auto", "cpu", "cuda"}

    Returns
    -------
    Update
        The same for the same seed, bit for bit, on every backend and number of threads. The objective trace begins
        with the labels before the first sweep.

    Raises
    ------
    InputError
        If the interactions are not what they must be, the settings of the result are not those of an estimator, its
        solver is "bisecting", or its budget is one for each side.
    BackendUnavailableError
        If the backend asked for cannot run here.
    """
    check_integer("sweeps", sweeps, minimum=0)
    settings = SolverParameters(**{**result.settings, "backend": backend}).check_parameters()
    if settings.solver == "bisecting":
        raise InputError(
            "result must be of solver='multilevel' or 'paper' to be updated, whose sweeps move nodes, got 'bisecting': "
            "cluster the grown graph anew, or `assign` new nodes"
        )
    if isinstance(settings.budget, SideBudgets):
        # Sweeps know one partition, and would move nearly all of the side with more rows to labels that the other has.
        raise InputError(
            f"result must be of a budget that is one number to be updated, got one of {as_written(settings.budget)}: "
            "cluster the grown graph anew, or `assign` new nodes"
        )
    device, seconds = settings.backend, dict[str, float]()
    with timed(seconds, "load"):
        grown = grow(result, interactions)
        graph = grown.graph()
        weights = integer_weights(graph, settings.scheme)
        problem = device.load(graph, weights)
    penalty = result.gamma * weights.penalty_per_gamma
    with timed(seconds, "solve"):
        partition = _placed(device, problem, grown, result, penalty)
        trace = [objective(device, partition.within, partition.volumes, penalty, weights.unit)]
        for number in range(sweeps):
            moved = sweep(device, problem, partition, penalty, seed=result.seed, number=number, hold_rows=True)
            trace.append(objective(device, partition.within, partition.volumes, penalty, weights.unit))
            if not moved:
                break
    with timed(seconds, "secondary"):
        users, items = (
            device.second_best(problem, partition, side, penalty) if wanted else None
            for side, wanted in zip((USERS, ITEMS), settings.secondary, strict=True)
        )
    solution = Solution(partition, (users, items), result.gamma, trace)
    updated = replace(result, **vars(accounted(graph, weights, problem, settings, result.settings, solution, seconds)))
    moved_users, moved_items = (
        int((after.labels != before.labels)[~before.is_new].sum())
        for before, after in zip(grown.sides, (updated.users, updated.items), strict=True)
    )
    new_users, new_items = (int(side.is_new.sum()) for side in grown.sides)
    return Update(updated, moved_users, moved_items, new_users, new_items)


def _placed(backend: Backend, problem: Problem, grown: Growth, result: ResultData, penalty: float) -> Partition:
    """The partition of the grown graph before the first sweep."""
    xp = backend.xp
    user_labels, item_labels = map(xp.asarray, unplaced_labels(problem, grown, result.num_clusters))
    unplaced = (user_labels, item_labels)
    before = Partition(unplaced, backend.volumes(problem, unplaced, result.num_clusters + 1), within=0)

    def labels_of(side: int) -> Array:
        labels = placed(backend, problem, before, side, grown.sides[side], result.partners, penalty).labels
        lost = labels == NO_LABEL
        if lost.any():
            labels[lost] = largest_label(grown, side)
        return xp.asarray(labels, dtype=unplaced[side].dtype)

    labels = (labels_of(USERS), labels_of(ITEMS))
    volumes = backend.volumes(problem, labels, result.num_clusters)
    return Partition(labels, volumes, backend.weight_within(problem, labels))
