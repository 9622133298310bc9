"""Compressing by a method: from the training part to a pair of tables, with what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from baco_gpu.budget import SIDES, AnyBudget, SideBudgets, TableSize, budget_of
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.estimator.coclustering_result import CoclusteringResult
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.methods.method import Method, Spec
from baco_gpu.methods.registry import METHODS, find_method
from baco_gpu.models.model import Table
from baco_gpu.progress import Progress, silent
from baco_gpu.ranks import Ranks
from baco_gpu.stopwatch import Stopwatch
from baco_gpu.tables.full import as_table, size_of
from baco_gpu.tables.rebuild import check_known
from baco_gpu.training.callbacks import Callback


@dataclass(frozen=True)
class Compression:
    """The tables that a model has, what they cost, and how long their assignment took.

    Attributes
    ----------
    tables : dict
        Of "users" and of "items", or of one of them.
    full : TableSize
        Of full ones of the same.
    seconds, compiling : float
        Of clustering, and of compiling the loops that do it where that was done for the first time.
    """

    method: str
    tables: dict[str, Table]
    full: TableSize
    seconds: float = 0.0
    compiling: float = 0.0
    result: CoclusteringResult | None = None
    callbacks: tuple[Callback, ...] = ()  # what the method does between epochs

    def __repr__(self) -> str:
        share = f"{self.parameters:,} of {self.full_parameters:,} parameters"
        return f"Compression({self.method!r}: {self.rows:,} rows, {share}, {self.bytes:,} bytes)"

    @property
    def full_parameters(self) -> int:
        return self.full.full_parameters

    @property
    def full_bytes(self) -> int:
        return self.full.full_bytes

    @property
    def user_table(self) -> Table:
        return self.tables["users"]

    @property
    def item_table(self) -> Table:
        return self.tables["items"]

    @property
    def rows(self) -> int:
        return size_of(*self.tables.values()).rows

    @property
    def parameters(self) -> int:
        """Trained parameters, plus one for each secondary index and each weight of a row (arXiv 2604.18351).

        And one for every 4 bytes of product codes.
        """
        return size_of(*self.tables.values()).parameters

    @property
    def bytes(self) -> int:
        """Tables or codebooks at their dtype, and index arrays."""
        return size_of(*self.tables.values()).nbytes

    @property
    def common(self) -> list[str]:
        """Names of the parameters that are those of both tables."""
        if len(self.tables) < 2:
            return []
        users = dict(self.user_table.named_parameters())
        return [name for name, parameter in self.item_table.named_parameters() if users.get(name) is parameter]

    @property
    def shared(self) -> bool:
        """Whether one codebook is that of both tables."""
        return "codebook" in self.common

    def check_export(self) -> None:
        """Raise the InputError of `export_tables` for tables that cannot be exported, however they are trained."""
        for table in self.tables.values():
            as_table(table).check_export()

    def check_save(self) -> None:
        """Raise InputError for tables that `load_recommender` could not make again of what `save_model` writes."""
        for table in self.tables.values():
            check_known(as_table(table))


def check_budget(method: str, clustering: BalancedCoclustering, sides: tuple[str, ...] = SIDES) -> None:
    """Raise what `compress` would for a budget of the wrong kind, or for rows stored twice, before there are data."""
    chosen = find_method(method)
    chosen.check(Spec.of(clustering, sides=sides), _budget_of(clustering, chosen, sides))


def compress(
    split: SplitInteractions,
    method: str,
    clustering: BalancedCoclustering,
    *,
    result: CoclusteringResult | None = None,
    sides: tuple[str, ...] = SIDES,
    progress: Progress = silent,
    ranks: Ranks | None = None,
) -> Compression:
    """Make the user and item tables of a method, from the training part alone.

    Parameters
    ----------
    split : SplitInteractions
    method : str
        A name of `baco_gpu.methods.registry`, as `baco methods` lists them.
    clustering : BalancedCoclustering
        Says the budget, the embedding dimension, how codebooks are stored and the seed for every method, and does the
        work for those of co-clusters.
    result : CoclusteringResult, optional
        A finished clustering to use instead, for the methods that take one.
    sides : tuple of str
        What there are to be tables of: the `table_names` of the model. A budget is that of these tables.
    ranks : Ranks, optional
        The processes that train together, where there are several and each is to have a part of sharded tables.

    Raises
    ------
    InputError
        If the method is unknown, the budget cannot be met, `result` belongs to another graph, or ranks have different
        data.
    MissingExtraError
        If the method needs a package that is not installed.
    """
    chosen = find_method(method)
    spec = Spec.of(clustering, result=result, progress=progress, sides=sides, ranks=ranks)
    budget = _budget_of(clustering, chosen, sides)
    chosen.check(spec, budget)
    chosen.check_installed()
    if result is not None and not chosen.takes_result:
        takers = ", ".join(repr(other.name) for other in METHODS if other.takes_result)
        raise InputError(f"a finished clustering serves method {takers} alone, got method {chosen.said}")
    graph = BipartiteGraph.from_interactions(split.train)
    if ranks is not None:
        ranks.agree(checksum_of_the_training_part=graph.checksum())
    if result is not None and result.graph_checksum != graph.checksum():
        raise InputError(
            "the clustering was made from another graph than this training part: "
            f"expected checksum {graph.checksum()[:12]}..., got {result.graph_checksum[:12]}... "
            "(compress with the same split and seed)"
        )
    watch = Stopwatch()
    built = chosen.build(graph, spec, budget, clustering.random_state or 0)
    seconds, compiling = watch.seconds if built.clustered else 0.0, watch.compiling
    full = spec.size_for(graph)
    if len(sides) == 1:
        full = full.of_side(sides[0])
    return Compression(
        chosen.name,
        {side: built.tables[side] for side in sides},
        full,
        seconds,
        compiling,
        built.result,
        built.callbacks,
    )


def _budget_of(clustering: BalancedCoclustering, method: Method, sides: tuple[str, ...]) -> AnyBudget | None:
    """The budget, of a method that takes one; where there is one table, of that one alone."""
    if clustering.budget is None or not method.takes_budget:
        return None
    budget = budget_of(clustering.budget, clustering.budget_measure)
    if len(sides) > 1:
        return budget
    own = {side: getattr(budget, side) if isinstance(budget, SideBudgets) else budget for side in sides}
    return SideBudgets(**{**dict.fromkeys(SIDES), **own})
