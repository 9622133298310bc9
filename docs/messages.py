"""Every message that the package raises, for the page that lists them: a hook of mkdocs, and a source for tests."""

from __future__ import annotations

import ast
import html
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from baco_gpu import errors

PACKAGE = Path(errors.__file__).parent
PAGE, MARK = "troubleshooting.md", "<!-- messages -->"
CLASSES = {name for name, value in vars(errors).items() if inspect.isclass(value)} | {"DivergenceError"}


class Message(NamedTuple):
    """A message as the sources have it, with "..." where a value comes."""

    error: str
    room: str
    text: str


def messages() -> list[Message]:
    """Every message of an error of ours, sorted, each once."""
    return sorted({message for file in PACKAGE.rglob("*.py") for message in _messages_of(file)})


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the list of messages where the page asks for it."""
    return markdown.replace(MARK, _listing()) if page.file.src_uri == PAGE else markdown


def _listing() -> str:
    lines = ["| error | from | message |", "|---|---|---|"]
    for message in messages():
        text = html.escape(message.text).replace("|", "&#124;")
        lines.append(f"| `{message.error}` | {message.room} | <code>{text}</code> |")
    return "\n".join(lines)


def _messages_of(file: Path) -> Iterator[Message]:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES and node.args:
            text = _text(node.args[0])
            if text != "...":
                yield Message(node.func.id, room, text)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values)).replace("......", "...")  # two values, one after the other
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "..."
