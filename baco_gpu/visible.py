"""Names of files and ids as they are shown: what a terminal or a page would obey becomes what Python writes for it."""

from __future__ import annotations

import re

# Controls, marks that turn the direction of writing, and bytes of a name that are no UTF-8.
_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """The text in one line, with escapes such as \\x1b for letters that are commands."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], str(text))
