"""The parameters of the solver as users give them: their defaults and their checks."""

from __future__ import annotations

from typing import Any

from baco_gpu.budget import MEASURES, SideBudgets, budget_of
from baco_gpu.checks import check_choice, check_integer, check_number
from baco_gpu.clustering.backends import get_backend
from baco_gpu.clustering.solve.cocluster import Settings
from baco_gpu.clustering.solve.multilevel import Schedule
from baco_gpu.clustering.solve.paper import PUBLISHED_SWEEPS
from baco_gpu.clustering.solve.weights import SCHEMES
from baco_gpu.errors import InputError
from baco_gpu.precision import CODEBOOK_DTYPES, FLOAT

SOLVERS = ("multilevel", "paper", "bisecting")
SECONDARY = ("users", "items", "both", "none")
CODEBOOKS = ("separate", "shared")
MOST_ROUNDS = 1000  # rounds of anything: none that is of use comes near


class SolverParameters:
    """What `BalancedCoclustering` takes, which says what each parameter means."""

    def __init__(
        self,
        budget: Any = 0.25,
        gamma: float | None = None,
        weights: str | None = None,
        solver: str = "multilevel",
        secondary: str | None = None,
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
        process_group: Any = None,
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
        self.process_group = process_group

    def check_parameters(self) -> Settings:
        """The parameters, checked; InputError or BackendUnavailableError for the first that is not right."""
        check_choice("solver", self.solver, SOLVERS)
        secondary = self.secondary if self.secondary is not None else "both" if self.solver == "bisecting" else "users"
        check_choice("secondary", secondary, SECONDARY)
        scheme = self.weights if self.weights is not None else "paper" if self.solver == "paper" else "degree"
        check_choice("weights", scheme, SCHEMES)
        check_choice("budget_measure", self.budget_measure, MEASURES)
        check_choice("codebooks", self.codebooks, CODEBOOKS)
        codebook_dtype = FLOAT if self.codebook_dtype is None else self.codebook_dtype
        check_choice("codebook_dtype", codebook_dtype, CODEBOOK_DTYPES)
        seed = 0 if self.random_state is None else self.random_state
        if self.solver == "bisecting":
            self._check_bisecting(scheme)
        settings = Settings(
            solver=self.solver,
            budget=None if self.budget is None else budget_of(self.budget, self.budget_measure),
            gamma=None if self.gamma is None else check_number("gamma", self.gamma, minimum=0, maximum=1e100),
            scheme=scheme,
            secondary=(secondary in ("users", "both"), secondary in ("items", "both")),
            seed=check_integer("random_state", seed, minimum=0, maximum=2**63 - 1),
            embedding_dim=check_integer("embedding_dim", self.embedding_dim, minimum=1, maximum=2**31 - 1),
            value_bytes=check_integer("value_bytes", self.value_bytes, minimum=1, maximum=16),
            codebook_dtype=codebook_dtype,
            schedule=Schedule(
                sweeps=check_integer("sweeps", self.sweeps, minimum=0, maximum=MOST_ROUNDS),
                levels=check_integer("levels", self.levels, minimum=1, maximum=MOST_ROUNDS),
                refinements=check_integer("refinements", self.refinements, minimum=0, maximum=MOST_ROUNDS),
            ),
            backend=get_backend("cpu" if (self.solver, self.backend) == ("bisecting", "auto") else self.backend),
            shared=self.codebooks == "shared",
        )
        if self.solver == "paper" and (self.gamma is None) == (self.budget is None):
            raise InputError(
                "solver='paper' has as many clusters as gamma makes: give either gamma with budget=None, or budget "
                f"and no gamma, got gamma={self.gamma!r} and budget={self.budget!r}"
            )
        if isinstance(settings.budget, SideBudgets):
            if self.solver == "paper" and None not in settings.budget.pair:
                raise InputError(
                    "budget must be one number for solver='paper', whose gamma meets one number of rows, "
                    f"got {self.budget!r}: solver='multilevel' meets one a side"
                )
            if settings.shared:
                raise InputError(
                    "budget must be one number for codebooks='shared', whose rows are of both sides, "
                    f"got {self.budget!r}"
                )
        return settings

    def _check_bisecting(self, scheme: str) -> None:
        """Raise InputError for what bisecting k-means of rows has no answer to."""
        for name, value, expected in (
            ("weights", scheme, "degree"),
            ("codebooks", self.codebooks, "separate"),
            ("process_group", self.process_group, None),
        ):
            if value != expected:
                raise InputError(f"{name} must be {expected!r} for solver='bisecting', got {value!r}")
        if self.budget is None:
            raise InputError("budget must be given for solver='bisecting', got None")
        if self.backend not in ("auto", "cpu"):
            raise InputError(
                f"backend must be 'auto' or 'cpu' for solver='bisecting', which has no kernels, got {self.backend!r}"
            )
