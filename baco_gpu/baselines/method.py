"""What a method of the comparison is: a name, where it comes from, what it needs, and how it is brought to a budget."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from baco_gpu.baselines.extras import missing
from baco_gpu.baselines.sides import Sides, rows_of, secondary_indices_of
from baco_gpu.budget import Budget, Reach, TableSize, solve_within
from baco_gpu.graph.bipartite import BipartiteGraph

# From a graph, a seed and the sides that shall have secondary clusters to a function of the codebook rows. What does
# not depend on the rows is done once: a budget with secondary clusters takes several numbers of rows.
Solver = Callable[[BipartiteGraph, int, tuple[bool, bool]], Callable[[int], Sides]]


class SharedRows(NamedTuple):
    """A side's codebook, and what its ids take from it, between two epochs.

    Attributes
    ----------
    codebook : floats of shape (rows, dim)
    codes, secondary : integers of shape (ids,), rows of the codebook; the two of an id differ
    shares : floats of shape (ids, 2), the weights of the two
    """

    codebook: np.ndarray
    codes: np.ndarray
    secondary: np.ndarray
    shares: np.ndarray

    @property
    def table(self) -> np.ndarray:
        """The expanded table, (ids, dim)."""
        return self.shares[:, :1] * self.codebook[self.codes] + self.shares[:, 1:] * self.codebook[self.secondary]


# What both sides become, of the same shapes; a codebook that is handed on as it came keeps its optimiser's state.
Regroup = Callable[[BipartiteGraph, Sequence[SharedRows], np.random.Generator], Sequence[SharedRows]]

EARLY, CONVERGED = "early", "converged"
FULL, BUDGET, OWN = "full", "budget", "own"
CODEBOOK, RESIDUAL, AFFINITY, NARROW = "codebook", "residual", "affinity", "narrow"
QUANTIZED, LOW_PRECISION, PRODUCT, COMPACT = "quantized", "low-precision", "product", "compact"


class Package(NamedTuple):
    """A package that a plain installation lacks: what is imported, and what provides it."""

    module: str
    distribution: str


@dataclass(frozen=True)
class Method:
    """One way to share rows among users and items.

    Attributes
    ----------
    name : str
        As users type it. "NAME:SIDES" has secondary clusters on these sides ("users", "items", "both", "none").
    family : str
    description, source : str
        One line, and the paper that the definition comes from.
    size : {"budget", "own", "full"}
        Whether it meets a budget, chooses its own size, or does not compress.
    table : {"codebook", "residual", "affinity", "quantized", "low-precision", "narrow", "product",
        "compact"}
        What is made of the labels: codebooks, codebooks with residuals, one codebook of which ids mix the rows that
        they have an affinity for, with residuals, or codebooks of as many bits a value as the budget has room for.
        Without labels: the full table, "narrow" with as many dimensions as the budget has room for, "low-precision" as
        integers of as many bits that are so while they are trained, too, "product" as product codes, and "compact" as
        those, of rows that are such integers until then.
    solver : function, or None
        See `Solver`; None for the full table, and where `parameters` say it.
    parameters : dict, or None
        Of `BalancedCoclustering`, for the methods that it runs.
    secondary : str
        Sides with secondary clusters.
    coclusters : bool
        Whether users and items share labels, without which there are no secondary clusters.
    second_rows : bool
        Whether the method itself gives nodes two rows.
    shares : pair of float, or None
        What the two rows of an id weigh at first, where each id has weights of its own, which count as parameters;
        None where ids are the mean of their rows.
    regroup : function, or None
        How codes and codebooks are made anew between epochs, by the methods that learn their groups.
    regroup_when : {"early", "converged"}
        After epochs further and further apart from the first on, or after every epoch of a training that has converged.
    needs : Package, or None
        What it needs of the extra `baselines`.
    """

    name: str
    family: str
    description: str
    source: str
    size: str = BUDGET
    table: str = CODEBOOK
    solver: Solver | None = None
    parameters: dict[str, Any] | None = field(default=None, hash=False)
    secondary: str = "none"
    coclusters: bool = False
    second_rows: bool = False
    shares: tuple[float, float] | None = None
    regroup: Regroup | None = None
    regroup_when: str = EARLY
    needs: Package | None = None

    @property
    def secondary_sides(self) -> tuple[bool, bool]:
        """Whether users, and whether items, get secondary clusters."""
        return self.secondary in ("users", "both"), self.secondary in ("items", "both")

    @property
    def served(self) -> bool:
        """Whether its tables are codebooks that can be exported to serve from."""
        return self.size != FULL and self.table != NARROW and self.shares is None

    @property
    def installed(self) -> bool:
        """Whether the package that the method needs is there."""
        return self.needs is None or importlib.util.find_spec(self.needs.module) is not None

    def heeds(self, parameter: str) -> bool:
        """Whether a parameter of `BalancedCoclustering` that is about clusters changes what the method does."""
        return self.parameters is not None and parameter not in self.parameters

    def check_installed(self) -> None:
        """Raise MissingExtraError unless the package that the method needs is there."""
        if self.needs is not None and not self.installed:
            raise missing(self.needs.distribution, f"method {self.name!r}")

    def assign(self, graph: BipartiteGraph, budget: Budget | None, table: TableSize, seed: int) -> Sides:
        """The labels that meet the budget, of a method with a solver; one that chooses its own size takes no budget.

        Raises
        ------
        InputError
            If the budget buys fewer rows than the method can be brought to.
        """
        assert self.solver is not None
        solve = self.solver(graph, seed, self.secondary_sides)
        if self.size == OWN:
            return solve(0)
        assert budget is not None

        sizes = (graph.num_users, graph.num_items)
        weights = 0 if self.shares is None else 2 * sum(sizes)  # each counts, and is stored, as an index is

        def counted(rows: int) -> tuple[Sides, int, int]:
            sides = solve(rows)
            return sides, rows_of(sides), secondary_indices_of(sides) + weights

        wanted = (True, True) if self.second_rows else self.secondary_sides
        slots = sum(size for size, side in zip(sizes, wanted, strict=True) if side) + weights
        reach = Reach(sum(size > 0 for size in sizes), table.full_rows, slots, slots)
        return solve_within(budget, table, reach, counted)
