"""What a method is: a name, where it comes from, what it needs, and how it makes the tables that a budget buys."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from baco_gpu.budget import SIDES, AnyBudget, Budget, SideBudgets, TableSize, as_written
from baco_gpu.checks import check_integer
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.common.extras import missing
from baco_gpu.precision import FLOAT
from baco_gpu.progress import Progress, silent
from baco_gpu.ranks import Ranks
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.training.callbacks import Callback


class Package(NamedTuple):
    """A package that a plain installation lacks: what is imported, and what provides it."""

    module: str
    distribution: str


@dataclass(frozen=True)
class Spec:
    """What is asked of tables by whatever method they are made.

    Attributes
    ----------
    embedding_dim, value_bytes : int
    codebook_dtype : str or None
        How rows are stored, one of `baco_gpu.precision.CODEBOOK_DTYPES`; None for what the method does by itself.
    clustering : mapping
        Parameters of `BalancedCoclustering` that are about clusters, for the methods that it runs.
    result : CoclusteringResult or None
        A finished clustering, for the methods that take one.
    progress : function
    sides : tuple of str
        What the model has tables of: "users" and "items", or one of these, and then the budget is a `SideBudgets` with
        that of this one alone.
    ranks : Ranks or None
        The processes that train together, for the methods whose tables they share out.
    """

    embedding_dim: int = 64
    value_bytes: int = 4
    codebook_dtype: str | None = None
    clustering: Mapping[str, Any] = field(default_factory=dict)
    result: CoclusteringResult | None = None
    progress: Progress = silent
    sides: tuple[str, ...] = SIDES
    ranks: Ranks | None = None

    @classmethod
    def of(cls, clustering: BalancedCoclustering, **others: Any) -> Spec:
        """What an estimator says beside its budget and its seed."""
        about = clustering.get_params()
        del about["budget"], about["random_state"]
        own = {name: about.pop(name) for name in ("embedding_dim", "value_bytes", "codebook_dtype")}
        return cls(**own, clustering=about, **others)

    def size_for(self, graph: BipartiteGraph) -> TableSize:
        dim = check_integer("embedding_dim", self.embedding_dim, minimum=1)
        dtype = self.codebook_dtype or FLOAT
        return TableSize(graph.num_users, graph.num_items, dim, self.value_bytes, dtype)

    def estimator(self, budget: AnyBudget | None, seed: int, fixed: Mapping[str, Any]) -> BalancedCoclustering:
        """What clusters for a budget; `fixed` are parameters that the method decides."""
        estimator = BalancedCoclustering(budget=as_written(budget), random_state=seed)
        estimator.set_params(embedding_dim=self.embedding_dim, value_bytes=self.value_bytes)
        return estimator.set_params(**{"codebook_dtype": self.codebook_dtype, **self.clustering, **fixed})


class Built(NamedTuple):
    """What a method has made.

    Attributes
    ----------
    tables : dict
        The tables of "users" and of "items"; that of the other side may be missing where a model has none of it.
    result : CoclusteringResult or None
        The clustering that says who shares rows, where it is ours.
    callbacks : tuple of Callback
        What the method does between the epochs of a training.
    clustered : bool
        Whether it had to be found who shares rows, the time of which is reported.
    """

    tables: dict[str, EmbeddingTable]
    result: CoclusteringResult | None = None
    callbacks: tuple[Callback, ...] = ()
    clustered: bool = True

    @classmethod
    def of(cls, pair: Sequence[EmbeddingTable], *others: Any, **named: Any) -> Built:
        return cls(dict(zip(SIDES, pair, strict=True)), *others, **named)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """One way to bring the tables of users and items to a budget.

    Attributes
    ----------
    name : str
        As users type it. "NAME:SETTING" is the method with another setting; see `with_setting`.
    family : str
    shared : str
        Who shares rows with whom, in one line.
    stored, trained : str
        How rows are stored, and what they are until then.
    when : str
        When to use it, in one line.
    source : str
        The paper that the definition comes from.
    size : {"budget", "own", "full"}
        Whether it meets a budget, chooses its own size, or does not compress.
    secondary : str or None
        Sides with secondary clusters ("users", "items", "both", "none"); None where there can be none, since users and
        items share no labels.
    served : bool
        Whether its tables can be exported to serve from.
    takes_result : bool
        Whether it can go on from a finished clustering.
    joint : bool
        Whether the tables of users and of items are of no use without one another.
    by_side : bool
        Whether it meets a budget of the users' table and one of the items', where it takes any.
    leaves_open : bool
        Whether it can have one of these alone, and leave the rows of the other table open.
    sharded : bool
        Whether each of several processes has a part of its tables.
    requires : Package or None
        What it needs of an extra.
    order : int
        Where lists have it: from the least on, and of the same by family and name.
    former : tuple of str
        What it was called before, and is for a release.
    asked : str
        The former name that it was asked for by, if that is so.
    """

    name: str
    family: str
    shared: str
    stored: str = "floats, or integers"
    trained: str = "floats"
    when: str = "to compare with"
    source: str
    size: str = "budget"
    secondary: str | None = None
    served: bool = True
    takes_result: bool = False
    joint: bool = False
    by_side: bool = False
    leaves_open: bool = False
    sharded: bool = False
    requires: Package | None = None
    order: int = 100
    former: tuple[str, ...] = ()
    asked: str = field(default="", compare=False)

    @property
    def said(self) -> str:
        """The name in a message, with the one that whoever reads it has written."""
        return f"{self.name!r} (asked for as {self.asked!r})" if self.asked else repr(self.name)

    @abstractmethod
    def build(self, graph: BipartiteGraph, spec: Spec, budget: AnyBudget | None, seed: int) -> Built:
        """Make the tables of users and items, from the graph of the training part alone.

        Raises
        ------
        InputError
            If the budget cannot be met, or is missing.
        """

    def check(self, spec: Spec, budget: AnyBudget | None) -> None:
        """Raise the InputError of `build` that needs no data."""
        if len(spec.sides) == 1 and spec.clustering.get("codebooks") == "shared" and self.heeds("codebooks"):
            raise InputError(
                f"codebooks must be 'separate' for a model with one table, of {spec.sides[0]}, got 'shared'"
            )
        if len(spec.sides) == 1 and self.joint:
            raise InputError(
                f"method {self.said} makes tables of users and of items that need one another, and there is one of "
                f"{spec.sides[0]} alone"
            )
        if isinstance(budget, SideBudgets) and len(spec.sides) > 1 and not self.by_side:
            raise InputError(
                f"budget must be one number for method {self.said}, which is brought to one number of rows in all, "
                f"got {as_written(budget)}"
            )
        if isinstance(budget, SideBudgets) and not self.leaves_open:
            self.parts(spec, budget)

    def heeds(self, parameter: str) -> bool:
        """Whether a parameter of `BalancedCoclustering` that is about clusters changes what the method does."""
        return False

    def with_setting(self, setting: str) -> Self:
        """The method with the setting that a suffix names; InputError where it has none of that name."""
        raise InputError(
            f"method {self.said} has no secondary clusters: users and items share no labels, "
            f"got {f'{self.name}:{setting}'!r}"
        )

    def given(self, budget: AnyBudget | None) -> AnyBudget:
        """The budget; InputError where there is none."""
        if budget is None:
            raise InputError(f"budget must be given for method {self.said}, got None")
        return budget

    def parts(self, spec: Spec, budget: AnyBudget | None) -> dict[str, Budget]:
        """The budget of every table that the model has, by its side; InputError where there is none."""
        budget = self.given(budget)
        assert isinstance(budget, SideBudgets)
        parts = {side: part for side, part in zip(SIDES, budget.pair, strict=True) if side in spec.sides}
        for side, part in parts.items():
            if part is None:
                raise InputError(f"budget of {side} must be a number for method {self.said}, got None")
        return {side: part for side, part in parts.items() if part is not None}

    @property
    def takes_budget(self) -> bool:
        """Whether it is brought to a budget."""
        return self.size == "budget"

    @property
    def installed(self) -> bool:
        """Whether the package that the method needs is there."""
        return self.requires is None or importlib.util.find_spec(self.requires.module) is not None

    def check_installed(self) -> None:
        """Raise MissingExtraError unless the package that the method needs is there."""
        if self.requires is not None and not self.installed:
            raise missing(self.requires.distribution, f"method {self.said}")
