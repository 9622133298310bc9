"""How long work tells its caller how far it is: one function of four arguments, and nothing else.

The library calls `progress(phase, done, total, note)` at natural steps. What is shown, if anything, is the caller's
affair (the command line draws a bar on a terminal and prints plain lines elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """The progress function that shows nothing."""
