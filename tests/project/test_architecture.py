"""Data flows one way through the package: every room imports from rooms above it alone, and no modules in a ring.

An import counts wherever it stands: inside a function, for type checkers alone, or as a module's name in a string.
"""

from __future__ import annotations

import ast
import configparser
import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import baco_gpu
from baco_gpu.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "baco_gpu"
LONGEST_FILE = 400

# The rooms in the order data flows, and what each may import beside itself and the small tools.
TOOLS = (
    "atomic",
    "checks",
    "discovery",
    "errors",
    "machine",
    "parallel",
    "progress",
    "ranks",
    "renaming",
    "stopwatch",
    "visible",
)
ROOMS: dict[str, tuple[str, ...]] = {
    "compiling": (),
    "prefetch": (),
    "precision": (),
    "tensor_file": (),
    "kernels": (),
    "cuda": ("kernels",),
    "data": (),
    "graph": ("compiling", "data"),
    "budget": ("precision",),
    "clustering": ("compiling", "prefetch", "precision", "tensor_file", "data", "graph", "cuda", "budget"),
    "benchmarking": ("data", "graph", "cuda", "clustering"),
    "plots": ("graph", "clustering"),
    "distributed": ("data", "graph", "clustering"),
    "estimator": ("compiling", "graph", "clustering", "plots", "distributed"),
    "ops": ("compiling", "precision", "cuda"),
    "serving": ("compiling", "precision", "tensor_file", "data", "ops"),
    "tables": ("compiling", "precision", "cuda", "serving", "ops"),
    "models": ("compiling", "prefetch", "cuda", "data", "ops", "tables"),
    "evaluation": ("data", "ops", "models"),
    "training": ("compiling", "prefetch", "tensor_file", "cuda", "data", "ops", "tables", "models", "evaluation"),
    "methods": (
        *("compiling", "precision", "data", "graph", "budget", "clustering", "estimator", "ops", "tables", "training"),
    ),
    "columns": ("precision", "graph", "budget", "estimator", "ops", "tables", "methods"),
    "pretrained": ("tensor_file", "data", "budget", "serving", "tables", "methods", "columns"),
    "experiment": (
        *("compiling", "precision", "tensor_file", "data", "graph", "budget", "estimator", "tables"),
        *("serving", "models", "evaluation", "training", "methods"),
    ),
    "report": ("graph", "clustering", "plots", "estimator"),
    "cli": (
        *("compiling", "precision", "data", "graph", "budget", "clustering", "plots", "distributed", "estimator"),
        *("ops", "tables", "models", "evaluation", "training", "methods", "pretrained", "experiment", "report"),
        *("benchmarking",),
    ),
    "__main__": ("cli",),
}

# Packages that only some rooms may import.
ONLY_IN = {
    "cudf": ("graph",),
    "cugraph": ("graph",),
    "cupy": ("graph", "clustering", "cuda", "cli"),
    "filelock": ("experiment",),
    "infomap": ("methods",),
    "ipywidgets": ("report",),
    "jinja2": ("report",),
    "llvmlite": ("prefetch",),
    "matplotlib": ("plots", "report"),
    "onnx": ("serving",),
    "pylibcugraph": ("graph", "methods"),
    "pymetis": ("methods",),
    "numba": (
        *("compiling", "prefetch", "graph", "clustering", "benchmarking", "methods", "tables", "models"),
        *("ops", "training", "cli"),
    ),
    "rich": ("cli",),
    "sknetwork": ("methods",),
    "torch": (
        "distributed",
        "ops",
        "tables",
        "models",
        "evaluation",
        "training",
        "methods",
        "columns",
        "pretrained",
        "experiment",
        "cli",
    ),
    "typer": ("cli",),
    "yaml": ("cli",),
}

# Optional packages that no extra of ours brings: whoever converts to a `cugraph.Graph` has them.
BROUGHT_ALONG = ("cudf", "cugraph")

# Packages of extras: a plain installation lacks them, so no module may import them as it loads.
OPTIONAL = {
    "cupy": "cuda13",
    "infomap": "baselines",
    "ipywidgets": "notebook",
    "onnx": "onnx",
    "pooch": "data",
    "pylibcugraph": "cugraph13",
    "pymetis": "baselines",
    "sknetwork": "baselines",
}

DISTRIBUTIONS = {
    "cupy": "cupy-cuda13x",
    "pylibcugraph": "pylibcugraph-cu13",
    "sklearn": "scikit-learn",
    "sknetwork": "scikit-network",
    "yaml": "pyyaml",
}


class Import(NamedTuple):
    file: str
    room: str
    module: str
    line: int
    late: bool  # inside a function, or for type checkers alone

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def home(self) -> str:
        """The module that it loads: that of a public name, or the package's own for its version."""
        if self.module == "baco_gpu.__version__":
            return "baco_gpu"
        return baco_gpu._HOMES.get(self.module.removeprefix("baco_gpu."), self.module)

    @property
    def imported_room(self) -> str | None:
        """The room of the package that it reaches into; None for the package's version and for other packages."""
        return None if self.home == "baco_gpu" or self.top != "baco_gpu" else self.home.split(".")[1]


def sources() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])


def room_of(file: Path) -> str:
    if not file.is_relative_to(PACKAGE):
        return "kernels"
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else ROOT).with_suffix("").parts
    return ".".join(("baco_gpu", *parts)).removesuffix(".__init__")


MODULES = {module_of(file): file for file in sources()}


def is_file(module: str) -> bool:
    """Whether it is a module of the package, and no folder (in strings, folders' names are names of formats, too)."""
    return module in MODULES and MODULES[module].name != "__init__.py"


def folder_of(module: str) -> str:
    """The folder of a module; a module that lies in the package itself stands for itself."""
    parent = module.rpartition(".")[0]
    return parent if is_file(module) and parent != "baco_gpu" else module


def imports_of(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    late = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
        for child in ast.walk(node)
    }
    name = str(file.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            named = [f"{source}.{alias.name}" for alias in node.names]
            modules = [child if child in MODULES or source == "baco_gpu" else source for child in named]
        elif isinstance(node, ast.Constant) and is_file(text := str(node.value).partition(":")[0]):
            modules = [text]
        else:
            continue
        for module in dict.fromkeys(modules):
            yield Import(name, room_of(file), module, node.lineno, node in late)


@functools.cache
def all_imports() -> list[Import]:
    return [item for file in sources() for item in imports_of(file)]


def ring_in(arrows: dict[str, set[str]]) -> list[str]:
    """The modules of a ring, or none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def listed(items: list[Import]) -> list[str]:
    return [f"{item.file}:{item.line} imports {item.module}" for item in items]


def kinds_asked_for(file: Path) -> Iterator[str]:
    """Where a file asks what kind of table something is."""
    kinds = {"Embedding", "EmbeddingBag"}
    for table in (PACKAGE / "tables").glob("*.py"):
        kinds |= {node.name for node in ast.walk(ast.parse(table.read_text("utf-8"))) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked: list[ast.AST] = node.args[1:]
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type("):
            asked = list(node.comparators)
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        else:
            continue
        names = {ast.unparse(name).rpartition(".")[2] for part in asked for name in ast.walk(part)}
        yield from (f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}" for _ in names & kinds)


def test_nobody_asks_a_table_what_it_is():
    """What a kind of table does differently it says itself: see `baco_gpu.tables.embedding_table.EmbeddingTable`."""
    found = {file: list(kinds_asked_for(file)) for file in sources()}
    assert found[PACKAGE / "tables" / "full.py"], "the search finds what is there"
    assert not [place for file, places in found.items() if room_of(file) != "tables" for place in places]


def test_experiments_know_no_method_by_name():
    """What a method does differently it says itself: see `baco_gpu.methods.method.Method`."""
    names = {method.name for method in METHODS}
    for file in (PACKAGE / "experiment").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not names & {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}, file
    own = [item for item in all_imports() if item.room == "experiment" and item.imported_room == "methods"]
    files = [file for file in (PACKAGE / "methods").glob("*.py") if "\n    name=" in file.read_text("utf-8")]
    of_one = {module_of(file) for file in files}
    assert len(of_one) > 20, "the search finds what is there"
    assert not listed([item for item in own if item.module in of_one])


def test_the_rooms_are_listed_in_the_order_data_flows():
    seen: set[str] = set()
    for room, allowed in ROOMS.items():
        assert seen.issuperset(allowed), f"{room} imports from a room below it"
        seen.add(room)


def test_every_room_has_its_place():
    rooms = {room_of(file) for file in sources()} - {"__init__", *TOOLS}
    assert rooms == set(ROOMS), "give a new room its place in ROOMS: what may it import, and who may import it?"


def test_tests_lie_in_folders_named_as_the_rooms_are():
    beside = {"cuda_host", "project", "tools"}  # what runs kernels on the CPU; the project as a whole; the small tools
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")} - {ROOT / "tests"}
    assert {folder.relative_to(ROOT / "tests").as_posix() for folder in folders} - beside <= {
        room for room in ROOMS if not room.startswith("__")
    }
    assert not list((ROOT / "tests").glob("test_*.py")), "a test belongs into the folder of its room"


def test_the_tiers_alone_say_how_many_examples_a_property_has():
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert not [path.name for path in tests if "max_examples" in path.read_text(encoding="utf-8")]


def test_no_two_files_bear_the_same_name():
    names = Counter(file.name for file in sources())
    assert {name for name, count in names.items() if count > 1} == {"__init__.py"}


def test_no_two_classes_bear_the_same_name():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sources()]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert len(names) > 200, "the search finds what is there"
    assert not [name for name, count in names.items() if count > 1 and not name.startswith("_")]


def test_imports_are_absolute():
    assert not listed([item for item in all_imports() if item.module.startswith(".")])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_above_it_alone(room: str):
    allowed = {None, room, *ROOMS[room], *TOOLS}
    own = [item for item in all_imports() if item.room == room]
    assert not listed([item for item in own if item.imported_room not in allowed])


@pytest.mark.parametrize("place", [str, folder_of], ids=["modules", "folders"])
def test_no_ring_of_imports(place: Callable[[str], str]):
    arrows: dict[str, set[str]] = {place(module): set() for module in MODULES}
    for item in all_imports():
        source = module_of(ROOT / item.file)
        if item.home in MODULES:
            arrows[place(source)] |= {place(item.home)} - {place(source)}
    assert not ring_in(arrows)


def test_the_small_tools_import_nothing_but_numpy_and_each_other():
    known = {"numpy", *sys.stdlib_module_names}
    own = [item for item in all_imports() if item.room in TOOLS and item.top not in known]
    assert not listed([item for item in own if item.imported_room not in TOOLS])


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_in_their_rooms(package: str):
    own = [item for item in all_imports() if item.top == package]
    assert not listed([item for item in own if item.room not in ONLY_IN[package]])


@pytest.mark.parametrize("package", [*OPTIONAL, *BROUGHT_ALONG])
def test_packages_of_extras_are_imported_where_they_are_used(package: str):
    assert not listed([item for item in all_imports() if item.top == package and not item.late])


def test_every_import_is_a_requirement_and_every_requirement_is_imported():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]

    def names(text: str) -> set[str]:
        return {re.split(r"[<>=!~]", line)[0].strip() for line in text.split("\n") if line.strip()}

    foreign = {item.top for item in all_imports()} - {"baco_gpu"} - sys.stdlib_module_names
    plain = {DISTRIBUTIONS.get(name, name) for name in foreign if name not in (*OPTIONAL, *BROUGHT_ALONG)}
    assert plain == names(setup["options"]["install_requires"])
    for name in foreign & OPTIONAL.keys():
        assert DISTRIBUTIONS.get(name, name) in names(extras[OPTIONAL[name]])


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_too_long_to_read(file: Path):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
