"""README.md and docs/ are true: the commands, files, rooms and errors that they name exist."""

from __future__ import annotations

import configparser
import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import typer.main
import yaml
from test_architecture import ROOMS

import baco_gpu
from baco_gpu import errors
from baco_gpu.cli.main import app
from pages import PAGES, ROOT, TEXTS, blocks, commands

LANGUAGES = ("python", "sh", "text")


def command_lines(text: str) -> list[str]:
    shell = [line for block in blocks(text, "sh") for line in commands(block)]
    inline = re.findall(r"`(baco [^`]*)`", text)
    return [line for line in [*shell, *inline] if len(line.split()) > 1 and line.startswith("baco ")]


def in_all(find: Callable[[str], list[str]]) -> pytest.MarkDecorator:
    """Parametrised by what is found in README.md and in every page, with the name of the page."""
    found = [(name, text) for name, page in TEXTS.items() for text in dict.fromkeys(find(page))]
    return pytest.mark.parametrize(("page", "text"), found)


def test_every_block_of_code_says_what_it_is():
    """Python and shell run in test_pages.py: no block escapes it by having no name, or another one."""
    for page, text in TEXTS.items():
        for block in blocks(text):
            # mkdocstrings takes its options from an indented block.
            assert block.language in LANGUAGES or "show_root" in block.code, f"{page}:{block.line}: {block.code}"


@in_all(command_lines)
def test_every_command_and_option_exists(page: str, text: str):
    command = typer.main.get_command(app)
    _, *arguments = shlex.split(text.replace("\\\n", " "), comments=True)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    known = {option for parameter in command.get_params(typer.Context(command)) for option in parameter.opts}
    used = [argument for argument in arguments if argument.startswith("-")]
    used += re.findall(r"--[a-z-]+", text.partition("#")[2])
    assert set(used) <= known


@in_all(lambda text: re.findall(r"(?:baco_gpu|\.)\[([a-z0-9]+)\]", text))
def test_every_extra_that_is_named_exists(page: str, text: str):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert text in setup["options.extras_require"]


@in_all(lambda text: re.findall(r"`make ([a-z]+)`", text))
def test_every_make_target_exists(page: str, text: str):
    assert re.search(rf"^{text}:.*## \w", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@in_all(lambda text: re.findall(r"\]\(([^):#]+)[^):]*\)", re.sub(r"(?s)```.*?```", "", text)))
def test_every_link_leads_somewhere(page: str, text: str):
    assert (ROOT / page).parent.joinpath(text).exists()


def test_the_rooms_are_those_of_the_package_in_their_order():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `baco_gpu/(\w+)`", contributing, re.MULTILINE) == [
        room for room in ROOMS if room != "__main__"
    ]


def test_the_commands_of_the_demo_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(SET)", "movielens-100k")
    lines = re.findall(r"^\t\$\(BIN\)/(baco .*)$", makefile, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        test_every_command_and_option_exists("Makefile", line)


@in_all(lambda text: re.findall(r"`((?:benchmarks|docs|notebooks|tests)/[^`]*)`", text))
def test_every_file_that_is_named_exists(page: str, text: str):
    assert (ROOT / text).exists()


@in_all(lambda text: re.findall(r"`python -m (benchmarks\.\w+)", text))
def test_every_benchmark_that_is_named_exists(page: str, text: str):
    assert (ROOT / f"{text.replace('.', '/')}.py").exists()


def test_every_error_and_every_extra_is_explained():
    text = PAGES["docs/troubleshooting.md"]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert len(classes) > 4
    extras = list(setup["options.extras_require"])
    assert not [name for name in [*classes, *extras] if f"`{name}`" not in text]
    assert not [name for name in extras if f"`{name}`" not in PAGES["docs/index.md"]]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The hook of mkdocs that lists the messages."""
    spec = importlib.util.spec_from_file_location("messages", ROOT / "docs" / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_messages_has_them_all(hook: ModuleType):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="troubleshooting.md"))
    listing = hook.on_page_markdown("before\n<!-- messages -->\nafter", page=page, config=None, files=None)
    assert listing.startswith("before\n| error |")
    assert listing.endswith("|\nafter")
    assert "<code>... must be one of ..., got ...</code>" in listing
    assert "fetched with pooch, which is not installed: pip install &#x27;baco_gpu[data]&#x27;</code>" in listing
    # The text of an interruption is put together where it happens, and BacoError is but a base.
    assert {message.error for message in hook.messages()} == hook.CLASSES - {"BacoError", "Interrupted"}
    assert hook.MARK in PAGES["docs/troubleshooting.md"]


def test_the_messages_that_are_explained_are_those_of_the_package(hook: ModuleType):
    known = [message.text for message in hook.messages()]
    quoted = re.findall(r"\*\*`([^`]*)`\*\*", PAGES["docs/troubleshooting.md"])
    assert len(quoted) > 5
    for quote in quoted:
        pattern = ".*".join(map(re.escape, quote.split("...")))
        assert any(re.search(pattern, text) for text in known), quote


def test_every_public_name_is_in_the_reference():
    reference = PAGES["docs/api.md"]
    assert not [name for name, home in baco_gpu._HOMES.items() if f"::: {home}.{name}\n" not in reference]


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    entries = [entry if isinstance(entry, str) else next(iter(entry.values())) for entry in navigation]
    files = [file for entry in entries for file in ([entry] if isinstance(entry, str) else entry)]
    assert sorted(f"docs/{file}" for file in files) == sorted(PAGES)
