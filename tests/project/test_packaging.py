"""The package's facts are stated once: version, requirements and rooms agree wherever they appear."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import baco_gpu

ROOT = Path(__file__).parents[2]

# What conda calls differently.
CONDA_NAMES = {
    "cupy-cuda13x": "cupy",
    "matplotlib": "matplotlib-base",  # without the windows of a desktop
    "nvidia-cuda-nvrtc": "cuda-nvrtc",
    "nvidia-cuda-runtime": "cuda-cudart-dev",
    "torch": "pytorch",
}
# What only the conda environment names: the tools of an environment, and one CUDA for all.
CONDA_ONLY = {"cuda-version", "cugraph", "pip", "python"}


def requirements(lines: str) -> dict[str, str]:
    """Bounds by name, in one order."""
    parsed = [Requirement(line) for line in lines.splitlines() if line.strip()]
    return {requirement.name: ",".join(sorted(map(str, requirement.specifier))) for requirement in parsed}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def extras(setup: configparser.ConfigParser) -> dict[str, dict[str, str]]:
    return {name: requirements(lines) for name, lines in setup["options.extras_require"].items()}


@pytest.fixture(scope="module")
def installed(setup: configparser.ConfigParser) -> dict[str, str]:
    return requirements(setup["options"]["install_requires"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of the sources as they are, built from a copy: a build folder left in them must not enter it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("baco_gpu", "kernels"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = ["-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([sys.executable, *command, str(folder), str(folder / "source")], check=True)
    (path,) = folder.glob("baco_gpu-*.whl")
    return zipfile.ZipFile(path)


def test_the_version_is_that_of_setup_cfg(setup: configparser.ConfigParser):
    assert baco_gpu.__version__ == setup["metadata"]["version"], "install the package again: make test does"


def test_the_version_stands_nowhere_else(setup: configparser.ConfigParser):
    version = setup["metadata"]["version"]
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert "project" not in tomllib.load(file)
    quoted = re.compile(rf"""["']{re.escape(version)}["']""")
    sources = [*(ROOT / "baco_gpu").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    assert not [path for path in sources if quoted.search(path.read_text(encoding="utf-8"))]


def test_the_changelog_and_the_citation_are_of_the_version(setup: configparser.ConfigParser):
    headings = re.findall(
        r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings[0] == ("Unreleased", "")
    released = headings[1:]
    versions = [Version(version) for version, _ in released]
    assert versions == sorted(versions, reverse=True)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released[0] == (str(citation["version"]), citation["date-released"])
    assert citation["version"] == setup["metadata"]["version"]
    assert citation["license"] == setup["metadata"]["license"]
    assert ", ".join(citation["keywords"]) == setup["metadata"]["keywords"]


def test_the_classifiers_are_of_the_least_python_and_those_that_follow_it(setup: configparser.ConfigParser):
    listed = re.findall(r"Python :: 3\.(\d+)", setup["metadata"]["classifiers"])
    least = Version(setup["options"]["python_requires"].removeprefix(">=")).minor
    assert list(map(int, listed)) == list(range(least, least + len(listed)))


def test_every_room_is_packed(setup: configparser.ConfigParser):
    folders = [path.parent for path in (ROOT / "baco_gpu").rglob("*.py")]
    rooms = {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"baco_gpu.kernels"}
    listed = setup["options"]["packages"].split()
    assert listed == sorted(rooms)
    for room in rooms - {"baco_gpu.kernels"}:
        assert (ROOT / room.replace(".", "/") / "__init__.py").is_file(), f"{room} lacks an __init__.py"


def test_no_extra_is_empty_and_none_is_missing(extras: dict[str, dict[str, str]]):
    assert {"baselines", "cuda12", "cuda13", "dev"} <= extras.keys()
    assert all(extras.values())


def test_the_test_tools_bring_what_the_tests_compare_with_and_compile_with(extras: dict[str, dict[str, str]]):
    for name in ("baselines", "cuda13"):
        assert extras[name].items() <= extras["dev"].items()


@pytest.mark.parametrize(("extra", "suffix"), [("cuda12", "-cu12"), ("cuda13", "")])
def test_the_extras_of_a_gpu_sort_rightly_and_bring_the_headers_of_cuda(
    extras: dict[str, dict[str, str]], extra: str, suffix: str
):
    """CuPy before 14.1 returns wrong data where a sort finds no memory; each later one includes CUDA's headers."""
    needed = extras[extra]
    specifier = Requirement(f"cupy{needed[f'cupy-{extra}x']}").specifier
    assert [version for version in ("13.4", "14.0.1", "14.1", "14.2") if version in specifier] == ["14.1", "14.2"]
    major = int(extra.removeprefix("cuda"))
    for package in ("nvrtc", "runtime"):
        assert needed[f"nvidia-cuda-{package}{suffix}"] == f"<{major + 1},>={major}.0"


def test_every_requirement_has_a_lower_bound(installed: dict[str, str], extras: dict[str, dict[str, str]]):
    for group in (installed, *extras.values()):
        assert not [name for name, bounds in group.items() if ">=" not in bounds]


def test_the_pinned_torch_is_one_that_the_package_accepts(installed: dict[str, str]):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = requirements("\n".join(line for line in lines if not line.startswith("#")))
    assert pins["torch"].startswith("==")
    assert Requirement(f"torch{installed['torch']}").specifier.contains(pins["torch"].removeprefix("=="))


def test_the_conda_environment_has_the_same_requirements(
    setup: configparser.ConfigParser, installed: dict[str, str], extras: dict[str, dict[str, str]]
):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    listed = requirements("\n".join(conda))
    assert len(listed) == len(conda), "a name appears twice"
    assert listed["python"] == setup["options"]["python_requires"]
    expected = {**installed, **extras["cuda13"], **extras["baselines"]}
    named = {CONDA_NAMES.get(name, name): bounds for name, bounds in expected.items()}
    assert {name: bounds for name, bounds in listed.items() if name not in CONDA_ONLY} == named


def test_the_wheel_holds_every_source_and_nothing_else(wheel: zipfile.ZipFile):
    source = Path(str(wheel.filename)).parent / "source"
    package = [
        path
        for path in (source / "baco_gpu").rglob("*")
        if path.suffix in (".py", ".json", ".html") or path.name == "py.typed"
    ]
    kernels = [path for path in (source / "kernels").rglob("*") if path.suffix in (".py", ".cu", ".cuh")]
    expected = {path.relative_to(source).as_posix() for path in package}
    expected |= {f"baco_gpu/{path.relative_to(source).as_posix()}" for path in kernels}
    assert "baco_gpu/py.typed" in expected
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_wheel_has_its_command_and_its_license(wheel: zipfile.ZipFile, setup: configparser.ConfigParser):
    names = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(names["entry_points.txt"]).decode())
    assert entry_points["console_scripts"]["baco"] == "baco_gpu.cli.main:run"
    metadata = message_from_bytes(wheel.read(names["METADATA"]))
    assert metadata["Version"] == setup["metadata"]["version"]
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_is_importable_with_its_kernels(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import importlib.resources, baco_gpu.kernels\n"
        "print(baco_gpu.__file__, importlib.resources.files('baco_gpu.kernels'), sep='\\n')"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.split() == [str(tmp_path / "baco_gpu" / "__init__.py"), str(tmp_path / "baco_gpu" / "kernels")]


def test_the_installed_kernels_are_found():
    from importlib.resources import files

    assert files("baco_gpu.kernels").joinpath("__init__.py").is_file()


def dry_run(target: str) -> str:
    return subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_sanitizers_run_nothing_that_captures_a_graph():
    """A capture may not allocate, and under them PyTorch and CuPy keep no pools: the targets go by the tests' names."""
    commands = dry_run("gpu-sanitize")
    sanitized = next(line for line in commands.splitlines() if "compute-sanitizer --tool" in line and "pytest" in line)
    assert "PYTORCH_NO_CUDA_MEMORY_CACHING=1" in commands
    assert "not captured" in sanitized
    for name in re.findall(r"tests/\S+\.py", commands):
        functions = (ROOT / name).read_text(encoding="utf-8").split("\ndef ")[1:]
        captures = [text for text in functions if re.search(r"CUDAGraph\(|begin_capture\(", text)]
        assert all("captured" in text.partition("(")[0] for text in captures), name


GPU_TARGETS = [("gpu-first", 1), ("gpu-measure", 1), ("gpu-sanitize", 3), ("gpu-profile", 1)]


@pytest.mark.parametrize(("target", "rounds"), GPU_TARGETS)
def test_a_command_of_a_session_with_a_gpu_ends_within_ten_minutes(target: str, rounds: int):
    seconds = [int(number) for number in re.findall(r"\btimeout (\d+)", dry_run(target))]
    assert seconds
    assert rounds * sum(seconds) <= 570


def test_make_bench_runs_what_needs_no_data():
    dry_run = subprocess.run(["make", "-n", "bench"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = re.search(r"^for name in (.*?);", dry_run, re.MULTILINE)
    assert names is not None
    assert {"growth", "loading"} <= set(names[1].split())
    assert not {"__init__", "machine", "quality", "training"} & set(names[1].split())
