"""A clustering that follows its graph: from the present labels a few sweeps, in the codebook rows that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, NamedTuple

import numpy as np

from baco_gpu.budget import SideBudgets
from baco_gpu.checks import check_integer
from baco_gpu.clustering.backends.backend import ITEMS, USERS, Array, Backend, Partition, Problem
from baco_gpu.clustering.extend.assign import largest_label, placed, unplaced_labels
from baco_gpu.clustering.extend.forgetting import Day, check_forget, fill_rows, forgotten, unseen_updates
from baco_gpu.clustering.extend.growth import GrownGraph, grow
from baco_gpu.clustering.result import NO_LABEL, Result, ResultData
from baco_gpu.clustering.solve.cocluster import Settings, Solution, accounted, timed
from baco_gpu.clustering.solve.objective import objective
from baco_gpu.clustering.solve.parameters import MOST_ROUNDS, SolverParameters
from baco_gpu.clustering.solve.sweeps import sweep
from baco_gpu.clustering.solve.weights import integer_weights
from baco_gpu.errors import InputError


class Update(NamedTuple, Generic[Result]):
    """The result of `update`.

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


def update(
    result: Result, interactions: Any, *, sweeps: int = 3, backend: str = "auto", forget: int | Day | None = None
) -> Update[Result]:
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
    backend : {"auto", "cpu", "cuda"}, or a GPU by number, such as "cuda:1"
    forget : int, or date (ISO 8601 text, datetime.date or datetime, numpy.datetime64), optional
        Forget ids that had no interaction in the last `forget` updates, this one among them; or those whose last
        interaction is before the date (in UTC), or that have none, of `Interactions` with timestamps in seconds since
        1970. They are not in the result, nor are their interactions. A codebook row whose last id is forgotten goes to
        an old or new id of the same side (`baco_gpu.clustering.extend.forgetting`): there are as many rows as before.
        Takes a result with raw ids. `result.users.places_in(updated.users, forgotten=True)` says who is gone.

    Returns
    -------
    Update
        The same for the same seed, bit for bit, on every backend and number of threads. The objective trace begins
        with the labels before the first sweep; of a budget for each side, whose sides are swept apart, it has the
        objective at the end alone.

    Raises
    ------
    InputError
        If the interactions are not what they must be, the settings of the result are not those of an estimator, or its
        solver is "bisecting".
    BackendUnavailableError
        If the backend asked for cannot run here.
    """
    check_integer("sweeps", sweeps, minimum=0, maximum=MOST_ROUNDS)
    settings = SolverParameters(**{**result.settings, "backend": backend}).check_parameters()
    if settings.solver == "bisecting":
        raise InputError(
            "result must be of solver='multilevel' or 'paper' to be updated, whose sweeps move nodes, got 'bisecting': "
            "cluster the grown graph anew, or `assign` new nodes"
        )
    limit = check_forget(result, interactions, forget)
    with settings.backend.at_work():
        return _updated(result, interactions, settings, sweeps, limit)


def _updated(
    result: ResultData, interactions: Any, settings: Settings, sweeps: int, limit: int | float | None
) -> Update:
    device, seconds = settings.backend, dict[str, float]()
    with timed(seconds, "load"):
        grown = grow(result, interactions)
        unseen = unseen_updates(result, grown)
        if limit is not None:
            gone = forgotten(grown, unseen, interactions, limit)
            grown, unseen = grown.without(gone), (unseen[USERS][~gone[USERS]], unseen[ITEMS][~gone[ITEMS]])
        graph = grown.graph()
        weights = integer_weights(graph, settings.scheme)
        problem = device.load(graph, weights)
    penalty = result.gamma * weights.penalty_per_gamma

    def filled(labels: tuple[Array, Array], side: int) -> Array:
        """The labels of a side, with the rows that it had."""
        if limit is None:
            return labels[side]
        rows = np.unique((result.users, result.items)[side].labels)
        host = (device.to_host(labels[USERS]), device.to_host(labels[ITEMS]))
        if result.shared:  # a row is there as long as one of the two sides has it
            rows = np.setdiff1d(np.unique(np.concatenate((result.users.labels, result.items.labels))), host[1 - side])
        return device.xp.asarray(fill_rows(graph, weights, host, side, rows, penalty), dtype=labels[side].dtype)

    with timed(seconds, "solve"):
        if isinstance(settings.budget, SideBudgets):
            sides = tuple(
                _side_alone(device, problem, grown, result, penalty, side, sweeps, filled) for side in (USERS, ITEMS)
            )
            labels = (sides[USERS].labels[USERS], sides[ITEMS].labels[ITEMS])
            partition = _partition(device, problem, labels, result.num_clusters)
            trace = []
        else:
            labels = _placed(device, problem, grown, result, penalty)
            labels = (filled(labels, USERS), labels[ITEMS])
            labels = (labels[USERS], filled(labels, ITEMS))
            partition = _partition(device, problem, labels, result.num_clusters)
            sides = (partition, partition)
            trace = [objective(device, partition.within, partition.volumes, penalty, weights.unit)]
            for number in range(sweeps):
                moved = sweep(device, problem, partition, penalty, seed=result.seed, number=number, hold_rows=True)
                trace.append(objective(device, partition.within, partition.volumes, penalty, weights.unit))
                if not moved:
                    break
    with timed(seconds, "secondary"):
        users, items = (
            device.second_best(problem, sides[side], side, penalty) if wanted else None
            for side, wanted in zip((USERS, ITEMS), settings.secondary, strict=True)
        )
    trace = trace or [objective(device, partition.within, partition.volumes, penalty, weights.unit)]
    solution = Solution(partition, (users, items), result.gamma, trace)
    found = accounted(graph, weights, problem, settings, result.settings, solution, seconds)
    counted = [replace(part, unseen=count) for part, count in zip((found.users, found.items), unseen, strict=True)]
    updated = replace(result, **{**vars(found), "users": counted[USERS], "items": counted[ITEMS]})
    moved_users, moved_items = (
        int((after.labels != before.labels)[~before.is_new].sum())
        for before, after in zip(grown.sides, (updated.users, updated.items), strict=True)
    )
    new_users, new_items = (int(side.is_new.sum()) for side in grown.sides)
    return Update(updated, moved_users, moved_items, new_users, new_items)


def _placed(
    backend: Backend, problem: Problem, grown: GrownGraph, result: ResultData, penalty: float
) -> tuple[Array, Array]:
    """The labels of the grown graph before the first sweep."""
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

    return labels_of(USERS), labels_of(ITEMS)


def _partition(backend: Backend, problem: Problem, labels: tuple[Array, Array], num_labels: int) -> Partition:
    return Partition(labels, backend.volumes(problem, labels, num_labels), backend.weight_within(problem, labels))


def _side_alone(
    backend: Backend,
    problem: Problem,
    grown: GrownGraph,
    result: ResultData,
    penalty: float,
    side: int,
    sweeps: int,
    filled: Callable[[tuple[Array, Array], int], Array],
) -> Partition:
    """The partition of which one side has its labels, where each side has a budget of its own.

    Users and items have their labels from two partitions then, one finer than the other, and a result keeps half of
    each. What the other side's labels were is what they are best, given those of this side. From there sweeps go on,
    and hold the rows of this side alone. Nodes of the other side that are best off alone share a label that nobody of
    this side takes.
    """
    xp, nobody, other = backend.xp, result.num_clusters, 1 - side
    labels = [xp.asarray(part) for part in unplaced_labels(problem, grown, nobody)]
    labels[other][:] = nobody
    partition = _partition(backend, problem, (labels[USERS], labels[ITEMS]), nobody + 1)
    (everyone,) = backend.blocks(problem, other, 0, 1)
    backend.move(problem, partition, other, everyone, penalty, None, xp.zeros(2, dtype="int64"))
    found = placed(backend, problem, partition, side, grown.sides[side], None, penalty).labels
    lost = found == NO_LABEL
    if lost.any():
        found[lost] = largest_label(grown, side)
    labels[other], labels[side] = partition.labels[other], xp.asarray(found, dtype=labels[side].dtype)
    labels[side] = filled((labels[USERS], labels[ITEMS]), side)
    partition = _partition(backend, problem, (labels[USERS], labels[ITEMS]), nobody + 1)
    for number in range(sweeps):
        moved = sweep(
            backend, problem, partition, penalty, seed=result.seed, number=number, hold_rows=True, sides_held=(side,)
        )
        if not moved:
            break
    return partition
