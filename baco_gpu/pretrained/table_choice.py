"""Which tensors of a model are embedding tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from baco_gpu.errors import InputError
from baco_gpu.pretrained.state_sources import StateSource, StoredTensor
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.full import FullTable
from baco_gpu.tables.rebuild import kind_of

_SAID = "emb"  # user_embedding, embedding_bags.t1, embed_tokens, emb_l.0
# A table of ids has more rows than columns, which a projection named after embeddings does not have. Of tensors whose
# name does not say it, those that are much taller could be one.
_LEAST_ROWS_PER_COLUMN = 2
_COULD_BE = (10, 1000)  # rows per column, and rows
_WEIGHT = ".weight"


class Chosen(NamedTuple):
    """A table that is to be made small.

    Attributes
    ----------
    key : str
        The name of its tensor.
    tensor : StoredTensor
    """

    key: str
    tensor: StoredTensor


def choose_tables(
    source: StateSource, patterns: Sequence[str] | None
) -> tuple[dict[str, Chosen], dict[str, tuple[str, str]]]:
    """The tables by name, and those that are left alone: the name of the tensor, and why.

    A table is a matrix of floats. Of a module, those of `nn.Embedding` and `nn.EmbeddingBag`. Of a file, those whose
    name has "emb" in it and no bias beside it, and that have at least twice as many rows as columns; where another one
    could be a table, as it has a thousand rows and ten times as many as columns, patterns have to say which are. A
    table has the name of its tensor without ".weight". Tied ones are left alone, and so are those that are small
    already.

    Raises
    ------
    InputError
        If there is none, a pattern fits none or a tensor that cannot be made small, or it is not plain which are.
    """
    small = _small_already(source)
    matrices = {
        key: tensor
        for key, tensor in source.tensors.items()
        if tensor.could_be_table and key.rpartition(".")[0] not in small
    }
    if not matrices:
        got = f"those that are small already: {', '.join(map(repr, small))}" if small else "none"
        raise InputError(f"source must have an embedding table, a matrix of floats, got {got}")
    tied = _tied(source, matrices)
    if patterns is not None:
        return _by_patterns(matrices, tied, patterns)
    if source.embeddings is not None:
        named = [key for key in matrices if key in source.embeddings]
        others: list[str] = []
    else:
        free = [key for key in matrices if key.removesuffix(_WEIGHT) + ".bias" not in source.tensors]
        named = [key for key in free if _SAID in key.lower()]
        others = [key for key in free if key not in named and key not in tied and _could_be(matrices[key])]
    if others or not named:
        shown = ", ".join(f"{key!r} {matrices[key].shape}" for key in (*named, *others) or matrices)
        raise InputError(f"tables must be given, as names or patterns, for these could be embedding tables: {shown}")
    chosen, left = {}, {}
    for key in named:
        rows, columns = matrices[key].shape
        name = key.removesuffix(_WEIGHT)
        if key in tied:
            left[name] = (key, tied[key])
        elif rows < _LEAST_ROWS_PER_COLUMN * columns:
            left[name] = (key, "few rows")
        else:
            chosen[name] = Chosen(key, matrices[key])
    if not chosen:
        reasons = ", ".join(f"{name!r} ({reason})" for name, (_, reason) in left.items())
        raise InputError(f"source must have an embedding table that can be made small, got {reasons}")
    return chosen, left


def _small_already(source: StateSource) -> list[str]:
    """The names of the modules whose state is that of a small table."""
    modules: dict[str, dict[str, int]] = {}
    for key, tensor in source.tensors.items():
        module, _, part = key.rpartition(".")
        modules.setdefault(module, {})[part] = len(tensor.shape)
    return [module for module, parts in modules.items() if kind_of(parts) not in (EmbeddingTable, FullTable)]


def _by_patterns(
    matrices: Mapping[str, StoredTensor], tied: Mapping[str, str], patterns: Sequence[str]
) -> tuple[dict[str, Chosen], dict[str, tuple[str, str]]]:
    chosen: dict[str, Chosen] = {}
    if isinstance(patterns, str) or not patterns:
        raise InputError(f"tables must be a sequence of names or patterns, one at least, got {patterns!r}")
    for pattern in patterns:
        keys = [key for key in matrices if any(fnmatchcase(name, pattern) for name in (key, key.removesuffix(_WEIGHT)))]
        if not keys:
            raise InputError(f"tables must fit matrices of floats ({', '.join(map(repr, matrices))}), got {pattern!r}")
        for key in keys:
            if key in tied:
                raise InputError(f"tables must not be tied, got {key!r}, which is {tied[key]}: leave it out")
            chosen[key.removesuffix(_WEIGHT)] = Chosen(key, matrices[key])
    return chosen, {}


def _tied(source: StateSource, matrices: Mapping[str, StoredTensor]) -> dict[str, str]:
    """The tensors that the model reads under another name, too, and what that is."""
    tied = {first: f"tied to {name}" for name, first in source.tied.items()}
    if source.config.get("tie_word_embeddings"):
        size = source.config.get("vocab_size")
        for key, tensor in matrices.items():
            if tensor.shape[0] == size and key not in tied:
                tied[key] = "tied to the output, as config.json says"
    return tied


def _could_be(tensor: StoredTensor) -> bool:
    rows, columns = tensor.shape
    return rows >= _COULD_BE[1] and rows >= _COULD_BE[0] * columns
