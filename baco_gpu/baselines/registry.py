"""Every method of the comparison under one name.

A method finds labels for users and items; the same codebooks, training and evaluation then use them. Each gets the
same number of parameters by the same accounting (`baco_gpu.budget`), except those that choose their own
size, which are marked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baco_gpu.baselines import (
    bimlpa,
    brim,
    cce,
    cugraph,
    hashing,
    infomap,
    itcc,
    legcf,
    louvain,
    lsh,
    propagation,
    spectral,
)
from baco_gpu.baselines.method import (
    AFFINITY,
    COMPACT,
    CONVERGED,
    FULL,
    LOW_PRECISION,
    NARROW,
    OWN,
    PRODUCT,
    QUANTIZED,
    RESIDUAL,
    Method,
    Package,
    Solver,
)
from baco_gpu.baselines.sides import Sides
from baco_gpu.clustering.solve.parameters import SECONDARY
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph


def find_method(name: str) -> Method:
    """The method called `name`, with the secondary clusters that a suffix asks for ("louvain:users").

    Raises
    ------
    InputError
        For an unknown method or side, or where the method has no secondary clusters.
    """
    base, colon, sides = str(name).partition(":")
    method = METHODS.get(base)
    if method is None:
        raise InputError(f"method must be one of {', '.join(METHODS)} (baco methods describes them), got {name!r}")
    if not colon:
        return method
    if sides not in SECONDARY:
        raise InputError(f"method {base!r} must be followed by one of :{', :'.join(SECONDARY)}, got {name!r}")
    if not method.coclusters:
        raise InputError(f"method {base!r} has no secondary clusters: users and items share no labels, got {name!r}")
    parameters = None if method.parameters is None else {**method.parameters, "secondary": sides}
    return replace(method, name=name, secondary=sides, parameters=parameters)


def _plain(function: Callable[[BipartiteGraph, int, int], Sides]) -> Solver:
    """A solver of a function of graph, rows and seed that prepares nothing."""
    return lambda graph, seed, secondary: lambda rows: function(graph, rows, seed)


def _without(function: Callable[[BipartiteGraph, int], Callable[[int], Sides]]) -> Solver:
    """A solver of a function that knows no secondary clusters."""
    return lambda graph, seed, secondary: function(graph, seed)


_BACO = "BACO, arXiv 2604.18351"
_GRAPHHASH = "GraphHash, arXiv 2412.17245"
_SCIKIT_NETWORK = Package("sknetwork", "scikit-network")
_CUGRAPH = Package("pylibcugraph", "pylibcugraph")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("full", "none", "a row for every user and item", "-", size=FULL),
        Method("narrow", "none", "the full table, with as many dimensions as the budget allows", "-", table=NARROW),
        Method("random", "hashing", "every node draws a row", _GRAPHHASH, solver=_plain(hashing.random_hashing)),
        Method(
            "frequency",
            "hashing",
            "frequent nodes alone, the others draw a row",
            _GRAPHHASH,
            solver=_plain(hashing.frequency_hashing),
        ),
        Method(
            "double",
            "hashing",
            "every node draws two rows, and is their mean",
            _GRAPHHASH,
            solver=_plain(hashing.double_hashing),
            second_rows=True,
        ),
        Method(
            "hybrid",
            "hashing",
            "frequent nodes alone, the others draw two rows",
            "Zhang et al., arXiv 2007.14523",
            solver=_plain(hashing.hybrid_hashing),
            second_rows=True,
        ),
        Method(
            "lsh",
            "hashing",
            "nodes on the same side of random hyperplanes share a row",
            _GRAPHHASH,
            solver=_plain(lsh.locality_sensitive_hashing),
        ),
        Method(
            "cce",
            "learned",
            "k-means of the embeddings between epochs, and a row drawn (one column)",
            "CCE, arXiv 2210.05974",
            solver=_plain(cce.hashed_pairs),
            second_rows=True,
            regroup=cce.cluster_embeddings,
        ),
        Method(
            "legcf",
            "learned",
            "METIS's row and one drawn, and their weights solved for between epochs",
            "LEGCF, arXiv 2403.18479",
            solver=_without(legcf.metis_pairs),
            second_rows=True,
            shares=legcf.SHARES,
            regroup=legcf.solve_assignments,
            regroup_when=CONVERGED,
            needs=Package("pymetis", "pymetis"),
        ),
        Method(
            "louvain",
            "modularity",
            "Louvain (GraphHash)",
            _GRAPHHASH,
            solver=louvain.louvain_search,
            coclusters=True,
            needs=_SCIKIT_NETWORK,
        ),
        Method(
            "doublegraphhash",
            "modularity",
            "Louvain's row and one drawn, and their mean",
            _GRAPHHASH,
            solver=_without(louvain.double_graph_hash),
            second_rows=True,
            needs=_SCIKIT_NETWORK,
        ),
        Method(
            "leiden",
            "modularity",
            "Leiden",
            "Traag et al., Scientific Reports 9, 2019",
            solver=louvain.leiden_search,
            coclusters=True,
            needs=_SCIKIT_NETWORK,
        ),
        Method(
            "cugraph-louvain",
            "modularity",
            "Louvain on a GPU (Newman's modularity, no seed)",
            "Blondel et al., J. Stat. Mech. P10008, 2008",
            solver=cugraph.louvain_search,
            coclusters=True,
            needs=_CUGRAPH,
        ),
        Method(
            "cugraph-leiden",
            "modularity",
            "Leiden on a GPU (Newman's modularity)",
            "Traag et al., Scientific Reports 9, 2019",
            solver=cugraph.leiden_search,
            coclusters=True,
            needs=_CUGRAPH,
        ),
        Method(
            "propagation",
            "propagation",
            "label propagation, stopped at the budget",
            "Raghavan et al., Phys. Rev. E 76, 036106",
            solver=propagation.label_propagation,
            coclusters=True,
        ),
        Method(
            "ebmd",
            "propagation",
            "bipartite modularity density, stopped at the budget",
            "Xu et al., Information Sciences 317, 2015",
            solver=propagation.ebmd,
            coclusters=True,
        ),
        Method(
            "bimlpa",
            "propagation",
            "multi-label propagation between the sides",
            "Taguchi et al., NetSci-X 2020",
            size=OWN,
            solver=bimlpa.bimlpa,
            coclusters=True,
        ),
        Method(
            "brim",
            "modularity",
            "the best modules of users and items in turns",
            "Barber, Phys. Rev. E 76, 066102",
            size=OWN,
            solver=brim.brim,
            coclusters=True,
        ),
        Method(
            "infomap",
            "information",
            "the shortest description of a random walk",
            "Rosvall and Bergstrom, PNAS 105, 2008",
            size=OWN,
            solver=infomap.infomap_communities,
            coclusters=True,
            needs=Package("infomap", "infomap"),
        ),
        Method(
            "itcc",
            "information",
            "least mutual information lost, users and items apart",
            "Dhillon et al., KDD 2003",
            solver=_plain(itcc.information_theoretic),
        ),
        Method(
            "spectral-co",
            "spectral",
            "k-means on singular vectors, users and items together",
            "Dhillon, KDD 2001",
            solver=spectral.spectral_coclustering,
            coclusters=True,
        ),
        Method(
            "spectral-bi",
            "spectral",
            "k-means on singular vectors, users and items apart",
            "Kluger et al., Genome Research 13, 2003",
            solver=_without(spectral.spectral_biclustering),
        ),
        Method(
            "paper",
            "balanced",
            "BACO as published: five sweeps, gamma searched",
            _BACO,
            parameters={"solver": "paper", "gamma": None, "weights": None, "secondary": "users"},
            secondary="users",
            coclusters=True,
        ),
        Method(
            "codebook",
            "balanced",
            "ours: sweeps, merging and refinement",
            "this project",
            parameters={},
            secondary="users",
            coclusters=True,
        ),
        Method(
            "residual",
            "balanced",
            "ours, and a residual of low rank for well-known ids",
            "this project",
            parameters={},
            table=RESIDUAL,
            secondary="users",
            coclusters=True,
        ),
        Method(
            "affinity",
            "balanced",
            "ours, users and items in one codebook: ids mix the rows they interact with, and have residuals",
            "this project",
            parameters={"codebooks": "shared", "secondary": "none"},
            table=AFFINITY,
        ),
        Method(
            "quantized",
            "balanced",
            "ours, for budgets in bytes: rows of 16 or 8 to 2 bits a value, shared where these do not suffice",
            "this project",
            parameters={"secondary": "none"},
            table=QUANTIZED,
        ),
        Method(
            "low-precision",
            "quantisation",
            "rows of 16 or 8 to 6 bits a value while they are trained, too, rounded at random; for budgets in bytes",
            "ALPT, arXiv 2212.05735",
            table=LOW_PRECISION,
        ),
        Method(
            "product",
            "quantisation",
            "ours: rows in pieces, each the nearest of centroids that all of them have, trained on",
            "Jégou et al., IEEE TPAMI 33, 2011",
            table=PRODUCT,
        ),
        Method(
            "compact",
            "quantisation",
            "ours: product, of rows that are 16 bits a value in place of floats while they are trained",
            "this project",
            table=COMPACT,
        ),
    )
}
