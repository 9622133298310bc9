"""Every method under one name, and the names that some had before."""

from __future__ import annotations

from dataclasses import replace

from baco_gpu.checks import suggestion
from baco_gpu.errors import InputError
from baco_gpu.methods import (
    baco,
    baco_affinity,
    baco_multilevel,
    baco_residual,
    bimlpa,
    bisecting,
    brim,
    cce,
    cugraph_leiden,
    cugraph_louvain,
    double_hashing,
    doublegraphhash,
    ebmd,
    few_bits,
    frequency_hashing,
    full_table,
    hybrid_hashing,
    infomap,
    itcc,
    legcf,
    leiden,
    louvain,
    low_dim,
    lsh,
    propagation,
    random_hashing,
    spectral_bi,
    spectral_co,
)
from baco_gpu.methods.method import Method
from baco_gpu.renaming import warn_renamed

METHODS: tuple[Method, ...] = (
    full_table.METHOD,
    few_bits.PRODUCT,
    few_bits.COMPACT,
    few_bits.QUANTIZED,
    few_bits.LOW_PRECISION,
    baco_affinity.METHOD,
    baco_residual.METHOD,
    baco_multilevel.METHOD,
    baco.METHOD,
    bisecting.METHOD,
    low_dim.METHOD,
    random_hashing.METHOD,
    frequency_hashing.METHOD,
    double_hashing.METHOD,
    hybrid_hashing.METHOD,
    lsh.METHOD,
    cce.METHOD,
    legcf.METHOD,
    louvain.METHOD,
    doublegraphhash.METHOD,
    leiden.METHOD,
    cugraph_louvain.METHOD,
    cugraph_leiden.METHOD,
    propagation.METHOD,
    ebmd.METHOD,
    bimlpa.METHOD,
    brim.METHOD,
    infomap.METHOD,
    itcc.METHOD,
    spectral_co.METHOD,
    spectral_bi.METHOD,
)
NAMES = tuple(method.name for method in METHODS)

# What methods were called before, and are for a release.
FORMER = {
    "paper": "baco",
    "codebook": "baco-multilevel",
    "narrow": "low-dim",
    "compact": few_bits.COMPACT.name,
    "low-precision": few_bits.LOW_PRECISION.name,
}


def find_method(name: str) -> Method:
    """The method called `name`, with the setting that a suffix asks for ("louvain:users").

    A name that it had before is heeded, with a FutureWarning.

    Raises
    ------
    InputError
        For an unknown method or setting.
    """
    current = current_name(name)
    if current != name:
        warn_renamed(f"method {name!r}", repr(current))
    known = dict(zip(NAMES, METHODS, strict=True))
    base, _, setting = str(current).partition(":")
    asked = "" if current == name else name
    if current in known:
        return replace(known[current], asked=asked) if asked else known[current]
    if base not in known:
        raise InputError(
            f"method must be one of {', '.join(NAMES)} (baco methods describes them), got {name!r}"
            f"{suggestion(base, NAMES)}"
        )
    return replace(known[base], asked=asked).with_setting(setting)


def current_name(name: str) -> str:
    """What a method is called that had this name before, or has it."""
    base, colon, setting = str(name).partition(":")
    return f"{FORMER.get(base, base)}{colon}{setting}"


def former_names(name: str) -> list[str]:
    """What a method was called that has this name."""
    return [old + name.removeprefix(new) for old, new in FORMER.items() if name == new or name.startswith(f"{new}:")]
