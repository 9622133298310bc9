"""Write the tables of README.md and docs/ from the files of `benchmarks/results/`: make figures

In a page, the line `<!-- figures: NAME -->` stands above a table that is written here and nowhere else.
`tests/project/test_figures.py` holds the pages to it.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from baco_gpu.methods.registry import current_name

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TABLE = re.compile(r"(?<=<!-- figures: )([\w-]+)( -->\n)((?:\|.*\n)*)")

Row = dict[str, str]


@functools.cache
def rows_of(name: str) -> tuple[Row, ...]:
    """The rows of a file of results, methods by the names that they have now."""
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if "method" in row:
            name, bracket, dtype = row["method"].partition(" (")
            row["method"] = current_name(name) + bracket + dtype
    return tuple(rows)


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A table of Markdown, its first column the names of its rows."""
    lines = ["| " + " | ".join(cells) + " |\n" for cells in (list(head), *body)]
    lines.insert(1, "|" + "---|" * (lines[0].count(" |")) + "\n")
    return "".join(lines).replace("|  |", "| |").replace("|  |", "| |")


class Column(NamedTuple):
    """A column of a table of recall: where its figures lie, and what they are figures of."""

    title: str
    data: str
    model: str
    files: tuple[str, ...]
    metric: str = "recall@20"


class Line(NamedTuple):
    """A line of such a table: a method at a budget."""

    title: str
    method: str
    budget: str = ""
    measure: str = "parameters"


def found(column: Column, line: Line) -> Row | None:
    """The row of a method at a budget, of the first file that has one."""
    for file in column.files:
        for row in rows_of(file):
            asked = {"data": column.data, "model": column.model, "method": line.method, "budget": line.budget}
            if (
                all(row[key] == value for key, value in asked.items())
                and row.get("measure", line.measure) == line.measure
            ):
                return row
    return None


def recall(row: Row | None, metric: str = "recall@20") -> str:
    """As pages have it: four digits, and the number of seeds where there are several."""
    if row is None or not row.get(metric):
        return ""
    seeds = "" if row["seeds"] == "1" or metric.endswith("_paper") else f" [{row['seeds']}]"
    return f"{float(row[metric]):.4f}".lstrip("0") + seeds


def lost(row: Row | None, full: Row | None) -> str:
    """How much of the full table's recall a method lacks."""
    if row is None or full is None:
        return ""
    return f"{100 * (1 - float(row['recall@20']) / float(full['recall@20'])):.1f}%".replace("-0.0", "0.0")


def share(row: Row | None) -> str:
    """What a method has of the full table's bytes."""
    return "" if row is None else f"{100 * float(row['bytes']) / float(row['bytes_full']):.1f}%"


def grid(columns: list[Column], lines: list[Line | str]) -> str:
    """Methods at budgets, below one another; "lost" and "its share" speak of the line above them."""
    body, above = [], lines[0]
    for line in lines:
        if isinstance(line, Line):
            above = line
            body.append([line.title, *(recall(found(column, line), column.metric) for column in columns)])
        else:
            assert isinstance(above, Line)
            rows = [(found(column, above), found(column, Line("", "full"))) for column in columns]
            body.append([line, *(lost(*pair) if line == "lost" else share(pair[0]) for pair in rows)])
    return table(["", *(column.title for column in columns)], body)


def by_method(columns: list[Column], leave_out: tuple[str, ...] = ()) -> str:
    """All methods of some files, the best of the first column that has them at the top."""
    cells: dict[str, list[str]] = {}
    for place, column in enumerate(columns):
        for file in column.files:
            for row in rows_of(file):
                name = row["method"]
                if (row["data"], row["model"]) != (column.data, column.model) or name in leave_out:
                    continue
                line = cells.setdefault(name, [""] * len(columns))
                line[place] = line[place] or recall(row, column.metric)
    best = sorted(cells, key=lambda name: [(cell != "", cell) for cell in cells[name]], reverse=True)
    return table(["method", *(column.title for column in columns)], [[name, *cells[name]] for name in best])


def listed(name: str, columns: dict[str, Callable[[Row], str]], keep: Callable[[Row], bool] = lambda row: True) -> str:
    """The rows of a file as they lie."""
    return table(columns, [[cell(row) for cell in columns.values()] for row in rows_of(name) if keep(row)])


def crossed(name: str, down: str, across: Callable[[Row], str], cell: Callable[[Row], str]) -> str:
    """The rows of a file that have a name, as a table of two ways, each in the order of the file."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows_of(name):
        if row[down]:
            cells.setdefault(row[down], {})[across(row)] = cell(row)
    head = list(dict.fromkeys(title for line in cells.values() for title in line))
    return table(["", *head], [[title, *(line.get(name, "") for name in head)] for title, line in cells.items()])


# ----------------------------------------------------------------------------------------------------------------------

MODELS = {"lightgcn": "LightGCN", "mf": "MF"}
SETS = {"movielens-100k": "MovieLens", "beauty": "Beauty", "gowalla": "Gowalla"}


def on_three_sets(*files: str) -> list[Column]:
    names = tuple(f"quality-{file}" for file in files)
    return [Column(f"{title} {MODELS[model]}", data, model, names) for data, title in SETS.items() for model in MODELS]


def paper_columns(data: str) -> list[Column]:
    """A set's capped recall@10, as the paper has it: in our settings, in the published ones, and in the paper."""
    title, ours, published = SETS[data], f"quality-{data}-methods", f"quality-{data}-published"
    return [
        Column(f"capped recall@10: {title}", data, "lightgcn", (ours,), "recall_capped@10"),
        Column(f"{title}, as published", data, "lightgcn", (published,), "recall_capped@10"),
        Column("the paper's", data, "lightgcn", (published,), "recall_capped@10_paper"),
    ]


def seeds_columns() -> list[Column]:
    return [Column(MODELS[model], "movielens-100k", model, ("quality-seeds",)) for model in MODELS]


def number(column: str, form: str = ",.0f", unit: float = 1) -> Callable[[Row], str]:
    return lambda row: format(float(row[column]) / unit, form) if row[column] else ""


def text(column: str) -> Callable[[Row], str]:
    return lambda row: row[column]


def relative_objective(row: Row) -> str:
    louvain = next(other for other in rows_of("clustering") if other["data"] == row["data"])
    return f"{100 * float(row['objective']) / float(louvain['objective']):.1f}"


FIGURES: dict[str, Callable[[], str]] = {
    "clustering": lambda: listed(
        "clustering",
        {
            "set": text("data"),
            "solver": text("solver"),
            "rows": number("rows"),
            "seconds": number("median_seconds", ".3f"),
            "times faster": number("times_faster_than_louvain", ".1f"),
            "objective (Louvain's = 100)": relative_objective,
        },
        lambda row: row["solver"].startswith(("louvain", "ours")) and "gamma" not in row["solver"],
    ),
    "growth": lambda: listed(
        "growth",
        {
            "edges": number("edges"),
            "seconds": number("seconds_solving", ".2f"),
            "microseconds an edge": number("microseconds_an_edge", ".2f"),
            "GiB at the peak": number("peak_gib", ".2f"),
        },
    ),
    "reading": lambda: crossed(
        "loading",
        "candidate",
        lambda row: row["file"].replace(".", ", ").replace("tsv", "TSV").replace("parquet", "Parquet"),
        number("seconds", ".1f"),
    ),
    "steps": lambda: crossed(
        "training",
        "table",
        lambda row: f"{row['candidate']}, {row['loss']}",
        number("triples_per_second", ",.0f", 1000),
    ),
    "memory": lambda: listed(
        "memory",
        {
            "table and optimiser": text("candidate"),
            "MB": number("megabytes"),
            "of the floats": number("of_float_table", ".1f"),
            "ms a step": number("milliseconds"),
            "MB that a step must move": number("least_megabytes_a_step"),
        },
    ),
    "front": lambda: grid(
        on_three_sets("product", "bytes", "compact"),
        [
            Line("full table, floats", "full"),
            Line("**product**, 13% of the bytes (MovieLens 23%)", "product", "0.25"),
            Line("**product**, 10%", "product", "0.1"),
            Line("**quantized**, 10%", "quantized", "0.1", "bytes"),
            Line("**product:integers**, small while training too", "product:integers", "0.25"),
            Line("**affinity**, shared rows, 25% of the parameters", "affinity", "0.25"),
        ],
    ),
    "product": lambda: grid(
        on_three_sets("product", "product-sixteenth", "trellis"),
        [
            Line("full table", "full"),
            *(Line("**`product`, budget of 25%**", "product", "0.25"), "its share of parameters and bytes", "lost"),
            *(Line("**`product`, budget of 10%**", "product", "0.1"), "its share", "lost"),
            *(Line("`product`, 6%", "product", "0.06"), "lost"),
            *(Line("**`trellis`, 6.25%**", "trellis", "0.0625"), "lost"),
            *(Line("`trellis`, 3.1%", "trellis", "0.03125"), "lost"),
            Line("`affinity`, 25% of the parameters", "affinity", "0.25"),
        ],
    ),
    "beauty": lambda: by_method(
        [
            Column(title, "beauty", model, ("quality-beauty-softmax", "quality-bisecting-quarter"))
            for model, title in MODELS.items()
        ]
    ),
    "gowalla": lambda: by_method(
        [
            Column(f"{title}, {until}", "gowalla", model, files)
            for (model, title), epochs in zip(MODELS.items(), (10, 20), strict=True)
            for until, files in (
                ("to the end", ("quality-gowalla-softmax", "quality-product", "quality-bisecting-quarter")),
                (f"{epochs} epochs", ("quality-gowalla-short",)),
            )
        ]
    ),
    "compact": lambda: grid(
        on_three_sets("product", "compact"),
        [
            Line("full table", "full"),
            Line("`product`, budget of 25%", "product", "0.25"),
            Line("**`product:integers`, budget of 25%: rows of 16 bits**", "product:integers", "0.25"),
            Line("`product:integers`, budget of 25%, rows of 8 bits", "product:integers (int8)", "0.25"),
            Line("`product:integers`, budget of 10%, rows of 8 bits", "product:integers (int8)", "0.1"),
            Line("`quantized:integers`, 8 bits, 25.4% of the bytes", "quantized:integers", "0.26", "bytes"),
            Line("`affinity`, 25% of the parameters", "affinity", "0.25"),
        ],
    ),
    "paper": lambda: by_method(
        [
            Column("Beauty", "beauty", "lightgcn", ("quality-beauty-methods",)),
            Column("Gowalla", "gowalla", "lightgcn", ("quality-gowalla-methods",)),
            *(paper_columns("beauty") + paper_columns("gowalla")),
        ]
    ),
}


def filled(page: str) -> str:
    """A page with its tables as the results have them."""
    return TABLE.sub(lambda match: match[1] + match[2] + FIGURES[match[1]](), page)


def main() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        page = path.read_text(encoding="utf-8")
        written = filled(page)
        if written != page:
            path.write_text(written, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
