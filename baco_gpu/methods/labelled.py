"""Methods that find labels, and count on codebooks for all else: most of those that are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from baco_gpu.budget import AnyBudget, Reach, SideBudgets, TableSize, solve_within, solve_within_sides
from baco_gpu.clustering.solve.parameters import SECONDARY
from baco_gpu.clustering.solve.targets import Target
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.sides import Sides
from baco_gpu.methods.method import Built, Method, Spec
from baco_gpu.methods.reassign import Reassign, ReassignCallback
from baco_gpu.methods.residual_plan import NOBODY
from baco_gpu.precision import bits_of
from baco_gpu.tables.embedding_table import EmbeddingTable

# From a graph, a seed and, where users and items share labels, the sides that shall have secondary clusters, to a
# function of the codebook rows, a `Target`: of all; of one side, for a model that has one table; or, where the method
# is `by_side`, of each. What does not depend on the rows is done once: a budget with secondary clusters takes several
# numbers of rows.
Solver = Callable[..., Callable[[Any], Sides]]


def sides_of(secondary: str | None) -> tuple[bool, bool]:
    """Whether users, and whether items, get secondary clusters."""
    return secondary in ("users", "both"), secondary in ("items", "both")


def check_sides(method: Method, setting: str) -> None:
    """Raise InputError unless the setting names sides."""
    if setting not in SECONDARY:
        raise InputError(
            f"method {method.said} must be followed by one of :{', :'.join(SECONDARY)}, "
            f"got {f'{method.name}:{setting}'!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Labelled(Method):
    """A method of a function that labels both sides.

    Attributes
    ----------
    solver : function
        See `Solver`.
    second_rows : bool
        Whether the method itself gives nodes two rows.
    weights : int
        How many weights of its rows an id has of its own, each of which counts, and is stored, as an index is.
    reassign : function or None
        How codes and codebooks are made anew between epochs, by the methods that learn their groups.
    reassign_when : {"early", "converged"}
        See `ReassignCallback`.
    """

    solver: Solver
    second_rows: bool = False
    weights: int = 0
    reassign: Reassign | None = None
    reassign_when: str = "early"

    def with_setting(self, setting: str) -> Self:
        if self.secondary is None:
            return super().with_setting(setting)
        check_sides(self, setting)
        return replace(self, name=f"{self.name}:{setting}", secondary=setting)

    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        size = spec.size_for(graph)
        if isinstance(budget, SideBudgets):
            budget = SideBudgets(**{"users": None, "items": None, **self.parts(spec, budget)})
        made = self.tables(self.assign(graph, budget, size, seed), size)
        if self.reassign is None:
            return Built.of(made)
        return Built.of(made, callbacks=(ReassignCallback(self.reassign, self.reassign_when, graph),))

    def tables(self, sides: Sides, size: TableSize) -> Sequence[EmbeddingTable]:
        """The tables of users and items with these labels."""
        return NOBODY.tables(sides, size.embedding_dim, bits=bits_of(size.codebook_dtype))

    def assign(self, graph: BipartiteGraph, budget: AnyBudget | None, table: TableSize, seed: int) -> Sides:
        """The labels that meet the budget; a method that chooses its own size takes none.

        Raises
        ------
        InputError
            If the budget buys fewer rows than the method can be brought to.
        """
        wanted = sides_of(self.secondary)
        if self.size == "own":
            return self.solver(graph, seed, wanted)(0)
        budget = self.given(budget)
        solve = self.solver(graph, seed) if self.secondary is None else self.solver(graph, seed, wanted)

        sizes = (graph.num_users, graph.num_items)
        weights = [self.weights * size for size in sizes]
        second = (True, True) if self.second_rows else wanted
        slots = [size * side + extra for size, side, extra in zip(sizes, second, weights, strict=True)]
        users, items = (Reach(min(size, 1), size, slot, slot) for size, slot in zip(sizes, slots, strict=True))

        def counted(rows: Target) -> tuple[Sides, tuple[int, int], tuple[int, int]]:
            sides = solve(rows)
            indices = [side.secondary_indices + extra for side, extra in zip(sides, weights, strict=True)]
            return sides, (sides[0].rows, sides[1].rows), (indices[0], indices[1])

        if isinstance(budget, SideBudgets):
            return solve_within_sides(budget, table, (users, items), counted)

        def counted_in_all(rows: int) -> tuple[Sides, int, int]:
            sides, counts, indices = counted(rows)
            return sides, sum(counts), sum(indices)

        reach = Reach(*map(sum, zip(users, items, strict=True)))
        return solve_within(budget, table, reach, counted_in_all)
