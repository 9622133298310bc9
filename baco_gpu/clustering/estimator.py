"""`BalancedCoclustering`: the solver as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, BiclusterMixin

from baco_gpu.checks import check_choice, check_integer, check_number
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.budget import MEASURES, Budget
from baco_gpu.clustering.cocluster import Settings, cocluster
from baco_gpu.clustering.multilevel import Schedule
from baco_gpu.clustering.paper import PUBLISHED_SWEEPS
from baco_gpu.clustering.weights import SCHEMES
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import as_graph
from baco_gpu.precision import CODEBOOK_DTYPES, FLOAT
from baco_gpu.progress import Progress, silent

SOLVERS = ("multilevel", "paper")
SECONDARY = ("users", "items", "both", "none")
CODEBOOKS = ("separate", "shared")


class BalancedCoclustering(BiclusterMixin, BaseEstimator):
    """Co-cluster the users and items of an interaction graph so that a codebook of a given budget can serve them.

    Maximises  sum over edges B_ui [label_u == label_i] - gamma * sum over clusters V_U(c) V_I(c)  (BACO, arXiv
    2604.18351): connectivity inside co-clusters against their volume.

    Parameters
    ----------
    budget : float, int or None
        A float in (0, 1] is a share of the full table; an integer is a number of codebook rows, which the result has
        (one less where only merges that save two are left; fewer where the graph has no more, since all users
        without an edge share one row, and so do all items). None lets Q alone decide (for solver="paper": gamma).
    gamma : float, optional
        The resolution: higher means smaller, more even clusters. By default `default_gamma` of the graph and budget
        for solver="multilevel"; for solver="paper" it is searched to meet the budget.
    weights : {"degree", "sqrt", "log", "unit", "paper"}, optional
        The weight scheme of nodes; see `baco_gpu.clustering.weights.integer_weights`. "degree" by default, "paper"
        for solver="paper".
    solver : {"multilevel", "paper"}
        "multilevel": sweeps, then merging with refinement, which meets the budget to the row. "paper": the published
        five sweeps alone.
    secondary : {"users", "items", "both", "none"}
        Which sides get secondary clusters.
    backend : {"auto", "cpu", "cuda"}
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
        Whether users and items have a codebook each, so that a co-cluster of both has two rows, or one that they share,
        in which every co-cluster has one row. A budget then buys up to twice as many co-clusters.
    codebook_dtype : {"float", "int16", "int8", "int7", "int6", "int5", "int4", "int3", "int2"}, optional
        How codebooks are stored, for the accounting: "float" (by default) as the full table is, the others in so many
        bits a value and a scale of one byte for every row.
    sweeps, levels, refinements : int
        The solver's schedule; see `baco_gpu.clustering.multilevel.Schedule`. solver="paper" uses `sweeps` alone.

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

    def __init__(
        self,
        budget: float | None = 0.25,
        gamma: float | None = None,
        weights: str | None = None,
        solver: str = "multilevel",
        secondary: str = "users",
        backend: str = "auto",
        random_state: int | None = None,
        *,
        budget_measure: str = "parameters",
        embedding_dim: int = 64,
        value_bytes: int = 4,
        codebooks: str = "separate",
        codebook_dtype: str | None = None,
        sweeps: int = PUBLISHED_SWEEPS,
        levels: int = 4,
        refinements: int = 2,
    ) -> None:
        self.budget = budget
        self.gamma = gamma
        self.weights = weights
        self.solver = solver
        self.secondary = secondary
        self.backend = backend
        self.random_state = random_state
        self.budget_measure = budget_measure
        self.embedding_dim = embedding_dim
        self.value_bytes = value_bytes
        self.codebooks = codebooks
        self.codebook_dtype = codebook_dtype
        self.sweeps = sweeps
        self.levels = levels
        self.refinements = refinements

    def fit(self, X: Any, y: None = None, *, progress: Progress = silent) -> BalancedCoclustering:
        """Cluster the graph `X`.

        Parameters
        ----------
        X : BipartiteGraph, Interactions, SciPy sparse matrix, pair of arrays, dense array, data frame or path
            Anything that `baco_gpu.graph.bipartite.as_graph` makes a graph of. A data frame is a table with one
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
        """
        settings = self.check_parameters()
        self.result_ = cocluster(as_graph(X), settings, self.get_params(), progress)
        self.row_labels_, self.column_labels_ = self.result_.users.labels, self.result_.items.labels
        self.secondary_row_labels_ = self.result_.users.secondary
        self.secondary_column_labels_ = self.result_.items.secondary
        self.objective_ = self.result_.objective
        self.objective_trace_ = self.result_.objective_trace
        self.gamma_ = self.result_.gamma
        self.n_features_in_ = len(self.column_labels_)
        return self

    def check_parameters(self) -> Settings:
        """The parameters, checked; InputError or BackendUnavailableError for the first that is not right."""
        check_choice("solver", self.solver, SOLVERS)
        check_choice("secondary", self.secondary, SECONDARY)
        scheme = self.weights if self.weights is not None else "paper" if self.solver == "paper" else "degree"
        check_choice("weights", scheme, SCHEMES)
        check_choice("budget_measure", self.budget_measure, MEASURES)
        check_choice("codebooks", self.codebooks, CODEBOOKS)
        codebook_dtype = FLOAT if self.codebook_dtype is None else self.codebook_dtype
        check_choice("codebook_dtype", codebook_dtype, CODEBOOK_DTYPES)
        seed = 0 if self.random_state is None else self.random_state
        settings = Settings(
            solver=self.solver,
            budget=None if self.budget is None else Budget.of(self.budget, self.budget_measure),
            gamma=None if self.gamma is None else check_number("gamma", self.gamma, minimum=0, maximum=1e100),
            scheme=scheme,
            secondary=(self.secondary in ("users", "both"), self.secondary in ("items", "both")),
            seed=check_integer("random_state", seed, minimum=0, maximum=2**63 - 1),
            embedding_dim=check_integer("embedding_dim", self.embedding_dim, minimum=1),
            value_bytes=check_integer("value_bytes", self.value_bytes, minimum=1),
            codebook_dtype=codebook_dtype,
            schedule=Schedule(
                sweeps=check_integer("sweeps", self.sweeps, minimum=0),
                levels=check_integer("levels", self.levels, minimum=1),
                refinements=check_integer("refinements", self.refinements, minimum=0),
            ),
            backend=get_backend(self.backend),
            shared=self.codebooks == "shared",
        )
        if self.solver == "paper" and (self.gamma is None) == (self.budget is None):
            raise InputError(
                "solver='paper' has as many clusters as gamma makes: give either gamma with budget=None, or budget "
                f"and no gamma, got gamma={self.gamma!r} and budget={self.budget!r}"
            )
        return settings

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
