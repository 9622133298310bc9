"""What a clustering is once it is done: labels on the host, where they came from, and what they cost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from baco_gpu.budget import TableSize
from baco_gpu.checks import shown
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.precision import FLOAT

if TYPE_CHECKING:
    import pandas

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Assignment:
    """One side's co-cluster labels.

    Attributes
    ----------
    labels : int32 or int64 array of shape (nodes,)
        The co-cluster of every node, in [0, num_clusters); users and items share the label space.
    secondary : array of the same shape and dtype, or None
        The second-best co-cluster of every node, always one that another node of this side has as its label; -1 for
        none. None where the side has no secondary clusters.
    vocabulary : Vocabulary or None
        The raw id of every node.
    degrees : integer array of the same shape, or None
        The number of edges of every node in the graph that was clustered (of an assigned node: its known neighbors);
        None where it is not known.
    unseen : int32 array of the same shape, or None
        For how many updates every node has had no interaction, since it last had; None where there was no update.
    """

    labels: np.ndarray
    secondary: np.ndarray | None = None
    vocabulary: Vocabulary | None = None
    degrees: np.ndarray | None = None
    unseen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        second = "" if self.secondary is None else f", {self.secondary_indices:,} with a secondary one"
        return f"Assignment({len(self):,} in {self.rows:,} co-clusters{second})"

    @cached_property
    def rows(self) -> int:
        """The codebook rows of this side: the labels that it uses."""
        return len(np.unique(self.labels))

    @property
    def secondary_indices(self) -> int:
        """How many nodes have a secondary cluster."""
        return 0 if self.secondary is None else int((self.secondary != NO_LABEL).sum())

    def take(self, nodes: np.ndarray) -> Assignment:
        """The assignment of some nodes alone, by strictly increasing index."""
        secondary, degrees, unseen = (
            None if part is None else part[nodes] for part in (self.secondary, self.degrees, self.unseen)
        )
        vocabulary = None if self.vocabulary is None else self.vocabulary.take(nodes)
        return Assignment(self.labels[nodes], secondary, vocabulary, degrees, unseen)

    def sizes(self, num_clusters: int) -> np.ndarray:
        """How many nodes of this side every co-cluster has, int64 of shape (num_clusters,)."""
        return np.bincount(self.labels, minlength=num_clusters)

    def label_of(self, raw_ids: Any) -> np.ndarray:
        """The labels of nodes named by raw id (by index where there is no vocabulary); InputError for unknown ids."""
        return self.labels[self.index_of(raw_ids)]

    def index_of(self, raw_ids: Any) -> Any:
        """The indices of nodes named by raw id (the ids themselves where there is no vocabulary).

        Raises
        ------
        InputError
            For unknown ids.
        """
        if self.vocabulary is not None:
            return self.vocabulary.lookup(raw_ids)
        try:
            index = np.asarray(raw_ids)
        except ValueError as error:  # lists of other lengths within one another
            raise InputError(f"ids must be a flat list of integers, got {shown(raw_ids)}") from error
        if index.size and index.dtype.kind not in "iu":
            raise InputError(f"ids must be integers where no raw ids are known, got {index.dtype}")
        unknown = (index < 0) | (index >= len(self))
        if unknown.any():
            raise InputError(f"ids must be from 0 to {len(self) - 1}, got {index[unknown][0]}")
        return index.astype(np.int64)

    def places_in(self, grown: Assignment, *, forgotten: bool = False) -> np.ndarray:
        """The index that every node of this side has in a grown one: int64 of shape (nodes,).

        Numbers of raw ids move when others come between them; nodes without raw ids keep theirs. `resize_module`, and
        the `resize` of an embedding table, take it as it is.

        Parameters
        ----------
        grown : Assignment
        forgotten : bool
            Whether it may lack nodes, as after `update(..., forget=...)`; their index is -1.

        Raises
        ------
        InputError
            If a node is not there that is not said to be forgotten, or one side has raw ids and the other has none.
        """
        if self.vocabulary is None or grown.vocabulary is None:
            if self.vocabulary is not grown.vocabulary:
                raise InputError("grown must name its nodes as this side does, by raw id or by index")
            lost, places = max(len(self) - len(grown), 0), np.arange(len(self))
        else:
            union = grown.vocabulary.union(self.vocabulary)
            lost = len(union) - len(grown)
            there = np.full(len(union), -1)
            there[grown.vocabulary.positions_in(union)] = np.arange(len(grown))
            places = there[self.vocabulary.positions_in(union)]
        if lost and not (forgotten and grown.vocabulary is not None):
            raise InputError(f"grown must have all {len(self)} nodes of this side, got one without {lost} of them")
        return places

    def raw_ids(self, index: np.ndarray) -> np.ndarray:
        """The raw ids of the nodes at `index` (the indices themselves where there is no vocabulary)."""
        return np.asarray(index) if self.vocabulary is None else self.vocabulary.decode(index)

    def to_frame(self) -> pandas.DataFrame:
        """A table with one line a node: id (raw), cluster, and secondary where the side has them (-1 for none)."""
        import pandas

        columns = {"id": self.raw_ids(np.arange(len(self))), "cluster": self.labels}
        if self.secondary is not None:
            columns["secondary"] = self.secondary
        return pandas.DataFrame(columns)


class WeightScale(NamedTuple):
    """What the integers of a clustering stand for: enough to weigh further nodes as its own were weighed.

    Attributes
    ----------
    scheme : str, one of `baco_gpu.clustering.solve.weights.SCHEMES`
    unit, node_unit, penalty_per_gamma : as of `baco_gpu.clustering.backends.backend.NodeWeights`
    """

    scheme: str
    unit: float
    node_unit: float
    penalty_per_gamma: float


@dataclass(frozen=True, eq=False, repr=False)
class ResultData:
    """A clustering as data; `CoclusteringResult` adds the methods.

    Attributes
    ----------
    users, items : Assignment
    gamma : float
        The resolution used, whether given or chosen.
    objective : float
        Q of the labels, in units of edge weight.
    objective_trace : float64 array
        Q after every sweep and merging step. It never falls in a sweep; a merging step may lower it to meet a budget.
    num_edges : int
        Distinct edges of the graph.
    volumes : pair of float64 arrays of shape (num_clusters,)
        The summed node weights of every co-cluster's users and items, in units of the weight scheme.
    embedding_dim, value_bytes : int
        What the accounting of parameters and bytes assumes.
    seed : int
    settings : dict
        The estimator's parameters, as given.
    graph_checksum : str
        SHA-256 of the graph.
    seconds : dict
        Wall-clock seconds by phase; "compile" is there where loops were compiled, which happens once on a machine.
    version : str
        The version of baco_gpu that made it.
    scale : WeightScale or None
        How nodes were weighed, by which further ones can be assigned; None where it is not known.
    partners : integer array of shape (num_clusters,), of the dtype of the labels, or None
        For every co-cluster without users or items, the one that it would merge with first: new nodes of the missing
        side go there. -1 for co-clusters of both sides, and for those without an edge. None in files from before there
        were any.
    """

    users: Assignment
    items: Assignment
    gamma: float
    objective: float
    objective_trace: np.ndarray
    num_edges: int
    volumes: tuple[np.ndarray, np.ndarray]
    embedding_dim: int
    value_bytes: int
    seed: int
    settings: dict[str, Any]
    graph_checksum: str
    version: str
    seconds: dict[str, float] = field(default_factory=dict)
    scale: WeightScale | None = None
    partners: np.ndarray | None = None

    @property
    def num_clusters(self) -> int:
        """Co-clusters, of users, items or both."""
        return len(self.volumes[0])

    @property
    def shared(self) -> bool:
        """Whether users and items share the rows of one codebook."""
        return bool(self.settings.get("codebooks") == "shared")

    @property
    def codebook_rows(self) -> int:
        return self.num_clusters if self.shared else self.users.rows + self.items.rows

    @property
    def table(self) -> TableSize:
        """The full table that the result compresses."""
        dtype = self.settings.get("codebook_dtype") or FLOAT
        return TableSize(len(self.users), len(self.items), self.embedding_dim, self.value_bytes, dtype)

    @property
    def parameters_compressed(self) -> int:
        """Codebook rows * embedding_dim, plus one for each secondary index."""
        return self.table.compressed_parameters(
            self.codebook_rows, self.users.secondary_indices + self.items.secondary_indices
        )

    @property
    def bytes_compressed(self) -> int:
        """The codebook as it is stored and every index array at 4 bytes an entry."""
        slots = sum(len(side) for side in (self.users, self.items) if side.secondary is not None)
        return self.table.compressed_bytes(self.codebook_rows, slots)

    @property
    def labels_sha256(self) -> str:
        """SHA-256 of the labels of users, then items, then the secondary ones, as little-endian int64."""
        digest = hashlib.sha256()
        for part in (self.users.labels, self.items.labels, self.users.secondary, self.items.secondary):
            if part is not None:
                digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """The figures of the result under the names that `baco compress --json` prints."""
        return {
            "num_users": len(self.users),
            "num_items": len(self.items),
            "num_edges": self.num_edges,
            "clusters": self.num_clusters,
            "user_clusters": self.users.rows,
            "item_clusters": self.items.rows,
            "codebook_rows": self.codebook_rows,
            "secondary_users": self.users.secondary_indices,
            "secondary_items": self.items.secondary_indices,
            "embedding_dim": self.embedding_dim,
            "parameters_full": self.table.full_parameters,
            "parameters_compressed": self.parameters_compressed,
            "bytes_full": self.table.full_bytes,
            "bytes_compressed": self.bytes_compressed,
            "gamma": self.gamma,
            "objective": self.objective,
            "labels_sha256": self.labels_sha256,
            "largest_user_cluster": int(self.users.sizes(self.num_clusters).max(initial=0)),
            "largest_item_cluster": int(self.items.sizes(self.num_clusters).max(initial=0)),
            "seed": self.seed,
            "seconds": {phase: round(value, 6) for phase, value in self.seconds.items()},
        }

    def __repr__(self) -> str:
        share = self.parameters_compressed / max(self.table.full_parameters, 1)
        return (
            f"{type(self).__name__}({len(self.users):,} users and {len(self.items):,} items in {self.num_clusters:,} "
            f"co-clusters, {self.codebook_rows:,} codebook rows, {share:.1%} of the parameters, "
            f"gamma={self.gamma:.4g}, Q={self.objective:,.1f})"
        )


# What keeps the class of a result that it is given: `CoclusteringResult` in, `CoclusteringResult` out.
Result = TypeVar("Result", bound=ResultData)
