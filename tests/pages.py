"""README.md and the pages of docs/, with their blocks of code as a Markdown parser finds them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
TEXTS = {"README.md": README, **dict(sorted(PAGES.items()))}


class Block(NamedTuple):
    """A block of code: its language ("" where it is indented, not fenced), its text, and the line where that begins."""

    language: str
    code: str
    line: int


def blocks(text: str, *languages: str) -> list[Block]:
    """The blocks of a page in their order; those in `languages` alone, where there are any."""
    found = [
        Block(token.info.strip(), token.content, token.map[0] + (1 if token.type == "fence" else 0))
        for token in MarkdownIt("commonmark").parse(text)
        if token.type in ("fence", "code_block") and token.map is not None
    ]
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[str]:
    """The commands of a block of shell, each with the lines that it goes on over."""
    return [line for line in re.split(r"(?<!\\)\n", block.code) if line.strip() and not line.startswith("#")]
