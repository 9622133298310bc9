"""The page of a result: figures, balance, the largest co-clusters by raw id and pictures, in one file without links."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from baco_gpu.atomic import replacing
from baco_gpu.checks import check_integer
from baco_gpu.clustering.inspect.coverage import check_same_sides, coverage
from baco_gpu.clustering.inspect.members import cocluster_members
from baco_gpu.clustering.inspect.statistics import describe
from baco_gpu.clustering.result import ResultData
from baco_gpu.errors import InputError
from baco_gpu.graph.bipartite import BipartiteGraph
from baco_gpu.plots import coclusters as pictures
from baco_gpu.plots.svg import svg
from baco_gpu.visible import visible

BINS = 128


def report_page(
    result: ResultData,
    graph: BipartiteGraph | None = None,
    *,
    title: str = "Co-clustering",
    largest: int = 10,
    members: int = 8,
    names: Mapping[Any, str] | None = None,
) -> str:
    """A result as one HTML page, without other files or a network, in the reader's light or dark mode.

    Parameters
    ----------
    result : CoclusteringResult
    graph : BipartiteGraph, optional
        What was clustered: with it, the page shows the interaction matrix and what share of it is inside.
    title : str
    largest : int
        How many of the largest co-clusters to list.
    members : int
        How many members of each to name, those with most interactions first.
    names : mapping of raw ids to names, optional
        Of items, such as `baco_gpu.data.names.item_names` has; others stand for themselves.

    Raises
    ------
    InputError
        If an argument is out of range, or `graph` is another graph than was clustered.
    """
    check_integer("largest", largest, minimum=0)
    check_integer("members", members, minimum=0)
    if graph is not None:
        _check_clustered(result, graph)
    description = describe(result, largest=largest, members=0)
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(files("baco_gpu.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        title=visible(title),
        result=result,
        share=result.parameters_compressed / max(result.table.full_parameters, 1),
        summary=description["summary"],
        balance=description["balance"],
        clusters=[{**row, **_members(result, row["cluster"], members, names or {})} for row in description["largest"]],
        coverage=None if graph is None else coverage(result, graph),
        sizes=svg(partial(pictures.sizes, result), "Sizes of co-clusters"),
        trace=svg(partial(pictures.trace, result), "The objective after every step"),
        blocks=None
        if graph is None
        else svg(
            lambda axes: pictures.blocks(result, graph, axes, bins=BINS),
            "Interactions by co-cluster",
            width=8,
            height=5,
        ),
    )


def write_report(path: str | os.PathLike[str], *arguments: Any, **options: Any) -> Path:
    """Write `report_page(*arguments, **options)` to a file, whole or not at all."""
    page = report_page(*arguments, **options)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _check_clustered(result: ResultData, graph: BipartiteGraph) -> None:
    check_same_sides(result, graph)
    checksum = graph.checksum()
    if checksum != result.graph_checksum:
        raise InputError(
            f"graph must be the one that was clustered (checksum {result.graph_checksum[:12]}...), got another "
            f"({checksum[:12]}...): read the same data with the same split, seed and filters"
        )


def _members(result: ResultData, cluster: int, count: int, names: Mapping[Any, str]) -> dict[str, list[Any]]:
    found = cocluster_members(result, cluster)
    users, items = (side["id"].tolist()[:count] for side in (found.users, found.items))
    items = [names.get(item, item) for item in items]
    return {"some_users": list(map(visible, users)), "some_items": list(map(visible, items))}
