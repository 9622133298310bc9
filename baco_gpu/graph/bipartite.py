"""The graph of users and items that everything else works on: immutable, compressed in both directions."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from baco_gpu.checks import check_choice, check_instance
from baco_gpu.data.exact_sum import ExactSum
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import InputError
from baco_gpu.graph import building, cugraph
from baco_gpu.graph.arrays import Adjacency, add_to_digest, as_ids, as_matrix, as_weights, import_cupy
from baco_gpu.progress import Progress, silent

if TYPE_CHECKING:
    import scipy.sparse

    from baco_gpu.data.vocabulary import Vocabulary

Duplicates = Literal["sum", "drop", "refuse"]


@dataclass(frozen=True, eq=False, repr=False)
class BipartiteGraph:
    """Users, items and the weighted edges between them.

    Make one with `from_edges`, `from_scipy`, `from_interactions` or `from_file`; the arrays of a finished graph are
    read-only. Users or items without an edge, one side without any node, and no edge at all are legal.

    Attributes
    ----------
    csr : Adjacency
        The items of every user.
    csc : Adjacency
        The users of every item: the same edges, the other way round.
    user_vocabulary, item_vocabulary : Vocabulary or None
        The raw id of every user and item, where they are known.
    """

    csr: Adjacency
    csc: Adjacency
    user_vocabulary: Vocabulary | None = None
    item_vocabulary: Vocabulary | None = None

    @classmethod
    def from_edges(
        cls,
        users: Any,
        items: Any,
        weights: Any = None,
        *,
        num_users: int | None = None,
        num_items: int | None = None,
        duplicates: Duplicates = "sum",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
    ) -> BipartiteGraph:
        """Build a graph from two arrays of zero-based ids.

        Parameters
        ----------
        users, items : integer arrays of shape (n,)
            NumPy, torch or CuPy arrays, sequences, or anything with DLPack or an array interface. Edge k joins
            `users[k]` and `items[k]`.
        weights : array of shape (n,), optional
            Finite and non-negative; an edge of weight zero is no edge and is dropped. Without weights every edge
            counts 1.
        num_users, num_items : int, optional
            The sizes of the two sides; one more than the largest id unless given.
        duplicates : {"sum", "drop", "refuse"}
            What to do with a repeated pair: make it one edge that weighs the sum (2 for a click seen twice; a graph
            without weights and without repeated pairs stays without weights), keep the first one, or raise.
            A floating-point sum of three and more fractions may depend on their order in its last bit.
        user_vocabulary, item_vocabulary : Vocabulary, optional
            The raw ids, of the lengths num_users and num_items (which they then give).

        Raises
        ------
        InputError
            If the arrays differ in length or dimension, ids are not integers, negative or beyond the sizes, weights
            are not finite or negative, sizes and vocabularies disagree, or a pair repeats under "refuse".
        """
        check_choice("duplicates", duplicates, building.DUPLICATES)
        user_ids, item_ids = as_ids("users", users), as_ids("items", items)
        if len(user_ids) != len(item_ids):
            raise InputError(f"users and items must have the same length, got {len(user_ids)} and {len(item_ids)}")
        values = None if weights is None else as_weights("weights", weights, len(user_ids))
        csr, csc = building.compress(
            user_ids,
            item_ids,
            values,
            building.side_size("users", user_ids, num_users, user_vocabulary),
            building.side_size("items", item_ids, num_items, item_vocabulary),
            duplicates,
        )
        return cls(csr.frozen(), csc.frozen(), user_vocabulary, item_vocabulary)

    @classmethod
    def from_interactions(cls, interactions: Interactions, *, duplicates: Duplicates | None = None) -> BipartiteGraph:
        """Build a graph from `Interactions`, keeping their sizes and vocabularies; see `from_edges`.

        Unless `duplicates` says otherwise, a repeated pair counts once, or has the sum of the weights that there are.
        """
        check_instance("interactions", interactions, Interactions)
        if duplicates is None:
            duplicates = "drop" if interactions.weights is None else "sum"
        return cls.from_edges(
            interactions.users,
            interactions.items,
            interactions.weights,
            num_users=interactions.num_users,
            num_items=interactions.num_items,
            duplicates=duplicates,
            user_vocabulary=interactions.user_vocabulary,
            item_vocabulary=interactions.item_vocabulary,
        )

    @classmethod
    def from_scipy(
        cls,
        matrix: scipy.sparse.sparray | scipy.sparse.spmatrix,
        *,
        duplicates: Duplicates = "sum",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
    ) -> BipartiteGraph:
        """Build a graph from a SciPy sparse matrix of shape (num_users, num_items) in any format.

        The values are the weights; explicit zeros are dropped, and a matrix of nothing but ones (or of booleans)
        becomes a graph without weights.

        Raises
        ------
        InputError
            If `matrix` is not a two-dimensional sparse matrix of real, finite, non-negative numbers.
        """
        import scipy.sparse

        if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
            raise InputError(f"matrix must be a two-dimensional SciPy sparse matrix, got {type(matrix).__name__}")
        edges = matrix.tocoo()
        return cls.from_edges(
            edges.row,
            edges.col,
            None if (edges.data == 1).all() else edges.data,
            num_users=edges.shape[0],
            num_items=edges.shape[1],
            duplicates=duplicates,
            user_vocabulary=user_vocabulary,
            item_vocabulary=item_vocabulary,
        )

    @classmethod
    def from_dense(cls, matrix: Any) -> BipartiteGraph:
        """Build a graph from a dense array of shape (num_users, num_items): an edge for every value but zero.

        Raises
        ------
        InputError
            If `matrix` is not two-dimensional, or holds anything but finite non-negative numbers.
        """
        values = as_matrix("matrix", matrix)
        users, items = np.nonzero(values)
        weights = values[users, items]
        return cls.from_edges(
            users,
            items,
            None if (weights == 1).all() else weights,
            num_users=values.shape[0],
            num_items=values.shape[1],
        )

    @classmethod
    def from_cugraph(
        cls, network: Any, num_users: int, num_items: int | None = None, *, resource_handle: Any = None
    ) -> BipartiteGraph:
        """Build a graph from cuGraph's, with vertices as `to_cugraph` numbers them.

        Parameters
        ----------
        network : cugraph.Graph or pylibcugraph.SGGraph
            Directed or not; an edge that is stored in both directions counts once, a repeated one its summed weights.
        num_users : int
            Vertices below it are users, the others items.
        num_items : int, optional
            As many as the largest vertex that has an edge asks for, unless given.
        resource_handle : pylibcugraph.ResourceHandle, optional
            What an SGGraph is read with; a new one unless given.

        Raises
        ------
        InputError
            If `network` is something else, joins two users or two items, has vertices beyond the sizes, or weighs the
            two directions of an edge differently.
        MissingExtraError
            If pylibcugraph, which reads an SGGraph, is not installed.
        """
        pairs = cugraph.pairs_of(network, num_users, num_items, resource_handle)
        return cls.from_edges(*pairs[:3], num_users=pairs.num_users, num_items=pairs.num_items)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        duplicates: Duplicates | None = None,
        progress: Progress = silent,
        **reading: Any,
    ) -> BipartiteGraph:
        """Build the graph, `from_interactions`, of a file; `reading` is what `baco_gpu.load_interactions` takes."""
        return cls._from_source(path, duplicates, progress, reading)

    @classmethod
    def from_frame(
        cls, frame: Any, *, duplicates: Duplicates | None = None, progress: Progress = silent, **reading: Any
    ) -> BipartiteGraph:
        """Build a graph from a data frame of pandas, polars or pyarrow, one interaction a row; as `from_file`."""
        return cls._from_source(frame, duplicates, progress, reading)

    @classmethod
    def _from_source(
        cls, source: Any, duplicates: Duplicates | None, progress: Progress, reading: dict[str, Any]
    ) -> BipartiteGraph:
        from baco_gpu.data.readers import load_interactions

        interactions = load_interactions(source, progress=progress, **reading)
        progress("build graph", 0, 1, f"{len(interactions)} interactions")
        graph = cls.from_interactions(interactions, duplicates=duplicates)
        progress("build graph", 1, 1, f"{graph.num_edges} edges")
        return graph

    @property
    def num_users(self) -> int:
        """Number of users, those without an edge included."""
        return self.csr.num_rows

    @property
    def num_items(self) -> int:
        """Number of items, those without an edge included."""
        return self.csc.num_rows

    @property
    def num_edges(self) -> int:
        """Number of distinct pairs."""
        return len(self.csr.neighbors)

    @property
    def total_weight(self) -> float:
        """The summed weight of all edges, rounded once: it does not depend on their order."""
        return float(self.num_edges if self.csr.weights is None else ExactSum.of(self.to("cpu").csr.weights))

    @property
    def user_degrees(self) -> Any:
        """Number of edges of every user: int64 array of shape (num_users,), on the graph's device."""
        return self.csr.degrees

    @property
    def item_degrees(self) -> Any:
        """Number of edges of every item: int64 array of shape (num_items,), on the graph's device."""
        return self.csc.degrees

    @property
    def device(self) -> str:
        """Where the arrays are: "cpu" (NumPy) or "cuda" (CuPy)."""
        return "cpu" if isinstance(self.csr.offsets, np.ndarray) else "cuda"

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of both directions, without the vocabularies."""
        return self.csr.nbytes + self.csc.nbytes

    def to(self, device: str) -> BipartiteGraph:
        """Return the graph on "cpu" or "cuda" (the current CuPy device); itself if it is there already.

        Raises
        ------
        BackendUnavailableError
            If "cuda" is asked for and CuPy or a CUDA device is missing.
        """
        check_choice("device", device, ("cpu", "cuda"))
        if device == self.device:
            return self
        cupy = import_cupy()
        move = cupy.asarray if device == "cuda" else cupy.asnumpy
        return replace(self, csr=self.csr.moved(move), csc=self.csc.moved(move))

    def transpose(self) -> BipartiteGraph:
        """The same edges with users and items changing places; shares all arrays."""
        return BipartiteGraph(self.csc, self.csr, self.item_vocabulary, self.user_vocabulary)

    def to_scipy(self) -> scipy.sparse.csr_array:
        """Return the edge weights as a float64 matrix of shape (num_users, num_items) in canonical CSR format."""
        from scipy.sparse import csr_array

        csr = self.to("cpu").csr
        data = np.ones(self.num_edges) if csr.weights is None else csr.weights.copy()
        matrix = csr_array((data, csr.neighbors, csr.offsets), shape=(self.num_users, self.num_items), copy=True)
        matrix.has_canonical_format = True
        return matrix

    def to_cugraph(self) -> Any:
        """Return an undirected `cugraph.Graph` with the columns "source", "destination" and "weight".

        User u is vertex u, item i vertex num_users + i; nodes without an edge are vertices as well.

        Raises
        ------
        MissingExtraError
            If cugraph is not installed.
        """
        return cugraph.to_cugraph(self.csr, self.num_items)

    def to_pylibcugraph(self, resource_handle: Any = None) -> Any:
        """Return a symmetric `pylibcugraph.SGGraph` on CuPy's current device, with the vertices of `to_cugraph`.

        Parameters
        ----------
        resource_handle : pylibcugraph.ResourceHandle, optional
            A new one unless given.

        Raises
        ------
        MissingExtraError
            If pylibcugraph is not installed.
        BackendUnavailableError
            If CuPy or a CUDA device is missing.
        """
        return cugraph.to_pylibcugraph(self.csr, self.num_items, resource_handle)

    def first_twins(self) -> tuple[np.ndarray, np.ndarray]:
        """The first user of the same edges as each user, and the first such item: int64; on the CPU."""
        from baco_gpu.graph import twins

        return twins.first_twins(self.csr), twins.first_twins(self.csc)

    def checksum(self) -> str:
        """SHA-256, in hexadecimal, of the sizes and edges; the same on any device, for any order and dtype they had.

        The stream is made of little-endian 64-bit values: num_users, num_items, num_edges, the offsets of the users'
        rows, their neighbors, and the weights unless every one is 1. Vocabularies do not count. Computed once.
        """
        return self._checksum

    @cached_property
    def _checksum(self) -> str:
        csr = self.to("cpu").csr
        digest = hashlib.sha256()
        digest.update(np.array([self.num_users, self.num_items, self.num_edges], dtype="<i8").tobytes())
        add_to_digest(digest, csr.offsets, "<i8")
        add_to_digest(digest, csr.neighbors, "<i8")
        if csr.weights is not None and (csr.weights != 1).any():
            add_to_digest(digest, csr.weights, "<f8")
        return digest.hexdigest()

    def __repr__(self) -> str:
        edges = f"{self.num_edges} edges" + ("" if self.csr.weights is None else ", weighted")
        return f"BipartiteGraph({self.num_users} users, {self.num_items} items, {edges}, {self.device})"


def as_graph(source: Any) -> BipartiteGraph:
    """Return a graph for whatever can stand for one.

    Parameters
    ----------
    source : BipartiteGraph, Interactions, SciPy sparse matrix, tuple of two id arrays, dense array, table or path
        A dense array has the shape (num_users, num_items); a table is no matrix, and has one interaction a row
        (`BipartiteGraph.from_frame`); paths, and the name of a set, go to `BipartiteGraph.from_file`.

    Raises
    ------
    InputError
        If it is none of these, or not a valid one.
    """
    from baco_gpu.data.sources.files import is_path
    from baco_gpu.data.sources.kinds import is_table

    if isinstance(source, BipartiteGraph):
        return source
    if isinstance(source, Interactions):
        return BipartiteGraph.from_interactions(source)
    if is_path(source) or is_table(source):
        return BipartiteGraph.from_frame(source)
    if isinstance(source, tuple) and len(source) == 2:
        return BipartiteGraph.from_edges(*source)
    from scipy.sparse import issparse

    if issparse(source):
        return BipartiteGraph.from_scipy(source)
    if getattr(source, "ndim", None) == 2:
        return BipartiteGraph.from_dense(source)
    raise InputError(
        "a graph must be a BipartiteGraph, Interactions, a SciPy sparse matrix, a tuple of two id arrays, a dense "
        f"two-dimensional array, a data frame or a path, got {type(source).__name__}"
    )
