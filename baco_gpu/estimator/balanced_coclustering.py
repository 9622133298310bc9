"""`BalancedCoclustering`: the solver as a scikit-learn estimator."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, BiclusterMixin

from baco_gpu.checks import check_integer
from baco_gpu.clustering.solve.cocluster import cocluster
from baco_gpu.clustering.solve.parameters import SolverParameters
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import as_graph
from baco_gpu.progress import Progress, silent
from baco_gpu.stopwatch import telling


class BalancedCoclustering(BiclusterMixin, SolverParameters, BaseEstimator):
    """Co-cluster the users and items of an interaction graph within a budget of codebook rows.

    Maximises  sum over edges B_ui [label_u == label_i] - gamma * sum over clusters V_U(c) V_I(c)  (BACO, arXiv
    2604.18351): connectivity inside co-clusters against their volume.

    Parameters
    ----------
    budget : float, int, mapping or None
        A float in (0, 1] is a share of the full table. An integer is the number of codebook rows that the result has
        (one less if only merges that save two are left; fewer if the graph has no more: users without an edge share one
        row, and so do items). A mapping has one of these for "users" and one for "items", each met exactly; None in it
        leaves that side open (for solver="bisecting": one row). None lets Q alone decide (for solver="paper": gamma).
    gamma : float, optional
        The resolution: higher means smaller, more even clusters. By default `default_gamma` of the graph and budget
        for solver="multilevel"; for solver="paper" it is searched to meet the budget.
    weights : {"degree", "sqrt", "log", "unit", "paper"}, optional
        The weight scheme of nodes; see `baco_gpu.clustering.solve.weights.integer_weights`. "degree" by default,
        "paper" for solver="paper".
    solver : {"multilevel", "paper", "bisecting"}
        "multilevel": sweeps, then merging with refinement, which meets the budget to the row. "paper": the published
        five sweeps. "bisecting": minimises the variance of spectral rows within clusters in place of Q, with two rows
        an id; it keeps most recall (docs/how-sure.md), and is slower. Corresponding clusters of users and items share a
        label; gamma only gives the Q of the result and the place of new ids.
    secondary : {"users", "items", "both", "none"}, optional
        Which sides get secondary clusters: by default "users", for solver="bisecting" "both".
    backend : {"auto", "cpu", "cuda"}, or a GPU by number, such as "cuda:1"
        "cuda" is CuPy's current device; of a process group over NCCL, the one by which it sends. solver="bisecting"
        runs on the CPU: "auto" is "cpu" there, and "cuda" is refused.
    random_state : int or None
        The seed, 0 to 2**63 - 1. The same seed gives the same labels, bit for bit, on every backend and number of
        threads; None means 0, so that results repeat by default.
    budget_measure : {"parameters", "bytes"}
        What a ratio is a ratio of; either counts secondary indices.
    embedding_dim : int
        The dimension of the embeddings, for the accounting.
    value_bytes : int
        Bytes of one embedding value, for the accounting (4 for float32).
    codebooks : {"separate", "shared"}
        "separate": users and items have a codebook each, so a co-cluster of both has two rows. "shared": they have one,
        and a budget buys up to twice as many co-clusters.
    codebook_dtype : {"float", "int16", "int8", "int7", "int6", "int5", "int4", "int3", "int2"}, optional
        How codebooks are stored, for the accounting: "float" (by default) as the full table is, the others in so many
        bits a value and a scale of one byte for every row.
    sweeps, levels, refinements : int
        The solver's schedule; see `baco_gpu.clustering.solve.multilevel.Schedule`. solver="paper" uses `sweeps` alone.
    process_group : torch.distributed.ProcessGroup, optional
        All processes of the group cluster together, each with a share of the edges. Labels are those of one process,
        bit for bit. All make the same calls and have the whole result. See `baco_gpu.distributed.coclustering`.

    Attributes
    ----------
    row_labels_, column_labels_ : int32 arrays (int64 for huge graphs), the co-cluster of every user and item
    labels_row_, labels_col_ : the same under scikit-network's names
    secondary_row_labels_, secondary_column_labels_ : arrays of secondary co-clusters, -1 for none; None unless asked
    rows_, columns_ : bool arrays of shape (clusters, users) and (clusters, items), made when read
    gamma_ : float
    objective_ : float
    objective_trace_ : float64 array
    n_features_in_ : int, the number of items
    result_ : CoclusteringResult, with everything above and what saves it
    """

    def fit(self, X: Any, y: None = None, *, progress: Progress = silent) -> BalancedCoclustering:
        """Cluster the graph `X`.

        Parameters
        ----------
        X : BipartiteGraph, Interactions, SciPy sparse matrix, pair of arrays, dense array, data frame or path
            Anything that `baco_gpu.graph.bipartite.as_graph` makes a graph of, or, with a process group, this process's
            share of one (`baco_gpu.distributed.coclustering.share_graph`). A data frame is a table with one
            interaction a row, not a matrix of features, so that there are no feature names to keep.
        y : ignored
        progress : function
            Called as progress(phase, done, total, note).

        Raises
        ------
        InputError
            If a parameter or the input is not what it must be, or the budget cannot be met.
        BackendUnavailableError
            If the backend asked for cannot run here.
        RankError
            If another process of the group has failed.
        """
        settings, parameters = self.check_parameters(), self.get_params()
        group = parameters.pop("process_group")  # no part of the result, which does not depend on it
        if group is None:
            solve = partial(cocluster, as_graph(X))
        else:
            from baco_gpu.distributed.coclustering import cocluster_over  # PyTorch loads here

            solve = partial(cocluster_over, group, X)
        with telling(progress):
            data = solve(settings, parameters, progress)
        self.result_ = CoclusteringResult(**vars(data))
        self.row_labels_, self.column_labels_ = self.result_.users.labels, self.result_.items.labels
        self.secondary_row_labels_ = self.result_.users.secondary
        self.secondary_column_labels_ = self.result_.items.secondary
        self.objective_ = self.result_.objective
        self.objective_trace_ = self.result_.objective_trace
        self.gamma_ = self.result_.gamma
        self.n_features_in_ = len(self.column_labels_)
        return self

    def __sklearn_clone__(self) -> BalancedCoclustering:
        """A new one with the same parameters, of the same process group: groups cannot be copied."""
        parameters = self.get_params()
        group = parameters.pop("process_group")
        return type(self)(**copy.deepcopy(parameters), process_group=group)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may hand over: non-negative numbers, dense or sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        return tags

    @property
    def labels_row_(self) -> np.ndarray:
        return self.row_labels_

    @property
    def labels_col_(self) -> np.ndarray:
        return self.column_labels_

    @property
    def rows_(self) -> np.ndarray:
        return _indicators(self.row_labels_, self.result_.num_clusters)

    @property
    def columns_(self) -> np.ndarray:
        return _indicators(self.column_labels_, self.result_.num_clusters)

    def _html_repr(self) -> str:
        """What a notebook shows: scikit-learn's diagram, and once fitted what came of it."""
        diagram = super()._html_repr()
        return diagram + self.result_._repr_html_() if hasattr(self, "result_") else diagram

    def get_indices(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The users and the items of co-cluster `i`; InputError if there is no such co-cluster."""
        check_integer("i", i, minimum=0, maximum=self.result_.num_clusters - 1)
        return np.flatnonzero(self.row_labels_ == i), np.flatnonzero(self.column_labels_ == i)


def _indicators(labels: np.ndarray, num_clusters: int) -> np.ndarray:
    indicators = np.zeros((num_clusters, len(labels)), dtype=bool)
    indicators[labels, np.arange(len(labels))] = True
    return indicators
