"""`CoclusteringResult`: a clustering with all that one can do with it.

The labels and figures are those of `ResultData`; every method here is a function of another module, which takes data
and knows nothing of this class.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco_gpu.clustering.extend.assign import assign
from baco_gpu.clustering.extend.forgetting import Day
from baco_gpu.clustering.extend.update import Update, update
from baco_gpu.clustering.inspect.members import Cocluster, cocluster_members, similar_nodes
from baco_gpu.clustering.result import ResultData
from baco_gpu.clustering.result_file import load_result, save_result
from baco_gpu.plots.accessor import ResultPlots
from baco_gpu.plots.card import result_card

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class CoclusteringResult(ResultData):
    """The result of `BalancedCoclustering.fit`: a `ResultData` with methods, which saves to one file.

    Compare results by `labels_sha256`; == compares objects.
    """

    def cluster(self, number: int) -> Cocluster:
        """The users and items of one co-cluster by raw id; see `clustering.inspect.members.cocluster_members`."""
        return cocluster_members(self, number)

    def similar(self, raw_id: Any, *, side: str = "items", limit: int = 10) -> pandas.DataFrame:
        """The items (or users) that share most co-clusters with one; see `clustering.inspect.members`."""
        return similar_nodes(self, raw_id, side=side, limit=limit)

    def assign(self, interactions: Any, *, fallback: str = "refuse") -> CoclusteringResult:
        """This result, extended by new users and items with no retraining; see `clustering.extend.assign`."""
        return assign(self, interactions, fallback=fallback)

    def update(
        self, graph: Any, *, sweeps: int = 3, backend: str = "auto", forget: int | Day | None = None
    ) -> Update[CoclusteringResult]:
        """Cluster a grown graph from the present labels, and count who moved; see `clustering.extend.update`."""
        return update(self, graph, sweeps=sweeps, backend=backend, forget=forget)

    @property
    def plot(self) -> ResultPlots:
        """The pictures of the result: `plot.sizes()`, `.trace()`, `.blocks(graph)`, `.quality_vs_budget(...)`."""
        return ResultPlots(self)

    def _repr_html_(self) -> str:
        return result_card(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to one safetensors file, whole or not at all; see `clustering.result_file`."""
        return save_result(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CoclusteringResult:
        """Read what `save` wrote; InputError for any other file."""
        return cls(**vars(load_result(path)))
