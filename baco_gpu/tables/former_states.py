"""States of tables by the names that their tensors had before: what was written then loads still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of tables of labels; one name makes room for the next.
_NAMES = {"codes": "assignments", "numbers": "codes"}
_NAMES |= {f"behind.{part}": f"latent_weight.{part}" for part in ("integers", "scales", "anchor")}

_IN_REPR = {
    "QuantizedEmbedding(": "LowPrecisionEmbedding(",
    "(latent_weight): ": "(behind): ",
    "code_bits=": "number_bits=",
}


def rename_table(state: dict[str, Any], prefix: str) -> None:
    """In place, give the tensors of the table of labels under `prefix` the names that they have now."""
    if f"{prefix}labels" in state and f"{prefix}assignments" not in state:
        for former, current in _NAMES.items():
            if prefix + former in state:
                state[prefix + current] = state.pop(prefix + former)


def current_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a model of tables, by the names of now."""
    renamed = dict(state)
    for prefix in _tables(state):
        rename_table(renamed, prefix)
    return renamed


def former_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a model of tables, by the names of before."""
    former = {prefix + now: prefix + then for prefix in _tables(state) for then, now in _NAMES.items()}
    return {former.get(name, name): value for name, value in state.items()}


def former_repr(described: str) -> str:
    """The `repr` of a model of tables, by the names of before."""
    for current, former in _IN_REPR.items():
        described = described.replace(current, former)
    return described


def _tables(state: Mapping[str, Any]) -> list[str]:
    """The prefixes of tables of labels."""
    return [name.removesuffix("labels") for name in state if f".{name}".endswith(".labels")]
