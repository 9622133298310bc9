"""A trained model's tables, made small in one call and without training, under one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from baco_gpu.budget import Budget
from baco_gpu.checks import check_choice, check_integer
from baco_gpu.columns.candidates import OF_ONE_TABLE, Candidate, choose
from baco_gpu.columns.event_log import Column, columns_of, names_in
from baco_gpu.columns.storage import FULL, CoclusterRows, CodedRows, FewBitRows, Lookups, StorageChoice
from baco_gpu.data.interactions import Interactions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.pretrained.compressed_model import CompressedModel
from baco_gpu.pretrained.state_sources import StoredTensor, open_state
from baco_gpu.pretrained.table_choice import choose_tables
from baco_gpu.pretrained.table_losses import (
    SAMPLE,
    ModelReport,
    Reader,
    TableLoss,
    blocks,
    neighbors_kept,
    row_error,
    sampled,
    scores_kept,
)
from baco_gpu.progress import Progress, silent
from baco_gpu.tables.assignments import check_arguments
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.quantized import QuantizedEmbedding

METHODS = (*OF_ONE_TABLE, CoclusterRows.name)


def compress_model(
    source: Any,
    budget: float = 0.13,
    *,
    tables: Sequence[str] | None = None,
    data: Any = None,
    users: str | None = None,
    items: str | None = None,
    methods: Sequence[str] | None = None,
    budget_measure: str = "bytes",
    seed: int = 0,
    progress: Progress = silent,
) -> CompressedModel:
    """Make the embedding tables of a trained model small, without training, and report the loss.

    Tables are stored as product codes, below a twelfth as trellis codes, as integers of few bits or, if data say which
    ids are alike, as rows that co-clusters share, whichever has the least error. One budget is divided among all, for
    the least error of the rows that are looked up (`baco_gpu.columns.division`). The smallest tables are left alone,
    and so are tied ones. A padding row, the one row of zeros that a table has, stays zero. One table at a time is held
    as floats.

    Parameters
    ----------
    source : path, state_dict or torch.nn.Module
        A .safetensors file, a `state_dict` that `torch.save` wrote (read with `weights_only`), a folder with a
        config.json and model.safetensors, or an index of its parts, as Hugging Face's libraries write it, or a module,
        such as TorchRec's `EmbeddingBagCollection`.
    budget : float
        The share of the tables that is left, in (0, 1].
    tables : sequence of str, optional
        Names of tables, or patterns (`*item*`), where `choose_tables` does not find them. A table is named as its
        module: "user_embedding" has the tensor "user_embedding.weight".
    data : mapping of table to ids, `Interactions`, or what `load_interactions` takes, optional
        How often rows are looked up, and who shares them. A mapping names tables, as in `compress_tables`. Ids of
        interactions are the numbers of rows: integers from 0 on.
    users, items : str, optional
        The tables of users and of items, for interactions and for the ranking in the report. Where they are not given,
        the only tables with "user" and with "item" in their names.
    methods : sequence of "product", "trellis", "quantized" and "baco-multilevel", optional
        How tables may be stored: all of them, but the last without data. Trellis codes are tried below a twelfth. Only
        tables of float32 are quantized.
    budget_measure : {"bytes", "parameters"}
    seed : int
        The same seed gives the same tables, and looks at the same ids for the report.
    progress : function
        Called as progress(phase, done, total, note).

    Returns
    -------
    CompressedModel
        `save` writes it to one file, `rebuild` puts it into a model, and `report` is what was lost.

    Raises
    ------
    InputError
        When the source is none of these or damaged, it is not plain which tensors are tables, rows are not finite,
        a module has `max_norm` or `scale_grad_by_freq`, data do not fit the tables, or a method is not one of these or
        needs data.
    UnreachableBudgetError
        When the budget is below what the cheapest way to store every table costs.
    """
    share = Budget.of(budget, budget_measure)
    if share.ratio is None:
        raise InputError(f"budget must be a share of the tables, from 0 to 1, got {share.rows} rows")
    check_integer("seed", seed, minimum=0)
    allowed = _methods(methods, has_data=data is not None)
    state = open_state(source)
    chosen, left = choose_tables(state, tables)
    all_tensors = {name: found.tensor for name, found in chosen.items()}
    all_tensors |= {name: state.tensors[key] for name, (key, _) in left.items()}
    logs = None if data is None else data if _names_tables(data) else _read(data)
    pair = _pair(all_tensors, users, items, needed=isinstance(logs, Interactions))
    modules = state.embeddings or {}
    for name, (key, _) in chosen.items():
        check_arguments(f"table {name!r} of the model", modules.get(key))
    read = [
        _Table(name, tensor, _padding(name, tensor, modules.get(key), _telling(progress, place, len(chosen))))
        for place, (name, (key, tensor)) in enumerate(chosen.items())
    ]
    _see(read, logs, pair)
    candidates = [Candidate(each.lookups(budget_measure, seed), each.seen, each.methods(allowed)) for each in read]
    most = choose(candidates, share.ratio, allowed, seed, progress)
    losses = []
    for place, (each, candidate) in enumerate(zip(read, candidates, strict=True)):
        progress("compress tables", place, len(read), each.name)
        each.store(candidate.stored, seed)
        losses.append(each.loss(candidate, seed))
    progress("compress tables", len(read), len(read), "")
    losses += [_left(name, all_tensors[name], reason) for name, (_, reason) in left.items()]
    made = {each.name: each.table for each in read if each.table is not None}
    kept = None if pair is None else _scores_kept(pair, all_tensors, made, read, seed)
    report = ModelReport(tuple(losses), pair, kept, SAMPLE, most, budget_measure)
    keys = {name: chosen[name].key for name in made}
    others = {key: tensor for key, tensor in state.tensors.items() if key not in keys.values()}
    return CompressedModel(made, keys, others, state.tied, report)


@dataclass
class _Table:
    """A table that is to be made small."""

    name: str
    tensor: StoredTensor
    padding_idx: int | None
    column: Column | None = None
    table: EmbeddingTable | None = None

    @property
    def num_embeddings(self) -> int:
        return self.tensor.shape[0]

    @property
    def seen(self) -> bool:
        """Whether the data say which rows are looked up."""
        return self.column is not None

    def lookups(self, measure: str, seed: int) -> Lookups:
        ids, dim = self.tensor.shape
        column = self.column or Column(self.name, ids, np.arange(ids), None, ids)
        value_bytes = self.tensor.dtype.itemsize
        return Lookups(column, self.tensor.read, dim, measure, value_bytes, seed)

    def methods(self, allowed: Sequence[str]) -> list[str]:
        """What it may be stored as: integers are looked up as float32."""
        fitting = [name for name in allowed if name != FewBitRows.name or self.tensor.dtype == torch.float32]
        if not fitting:
            raise InputError(
                f"methods must be others than {', '.join(map(repr, allowed))} for {self.name!r}, whose rows are "
                f"{_said(self.tensor)} and would be float32"
            )
        return fitting

    @torch.no_grad()
    def store(self, stored: StorageChoice, seed: int) -> None:
        """Make the table that was chosen, of the dtype of the trained one."""
        if stored.method == FULL:
            return
        count, dim = self.tensor.shape
        weight = self.tensor.read()
        padding: dict[str, Any] = {"padding_idx": self.padding_idx}
        made: Any
        if isinstance(stored.what, CodedRows):
            made = stored.what.kind(np.arange(count), dim, _codebook=weight.float(), **padding, **stored.what.options)
            made.encode(seed)
            made.finalize()
        elif stored.method == FewBitRows.name:
            made = QuantizedEmbedding.from_pretrained(weight, bits=stored.what, **padding)
        else:
            counts = None if self.column is None else self.column.counts
            made = CodebookEmbedding.from_pretrained(weight, stored.what, weights=counts, **padding)
        self.table = made.to(self.tensor.dtype).eval()

    def loss(self, candidate: Candidate, seed: int) -> TableLoss:
        if self.table is None:
            return _left(self.name, self.tensor, candidate.why)
        before, count = _rows(self.tensor), self.num_embeddings
        counts = None if self.column is None else self.column.counts
        return TableLoss(
            self.name,
            count,
            self.tensor.shape[1],
            _said(self.tensor),
            candidate.stored.method,
            self.tensor.nbytes,
            self.table.nbytes,
            row_error(before, self.table, count),
            None if counts is None else row_error(before, self.table, count, counts),
            neighbors_kept(before, self.table, count, sampled(count, seed, counts)),
        )


def _methods(methods: Sequence[str] | None, *, has_data: bool) -> tuple[str, ...]:
    if methods is None:
        return METHODS if has_data else tuple(OF_ONE_TABLE)
    if isinstance(methods, str) or not methods:
        raise InputError(f"methods must be a sequence of {', '.join(map(repr, METHODS))}, got {methods!r}")
    for method in methods:
        check_choice("methods", method, METHODS)
    if not has_data and CoclusterRows.name in methods:
        raise InputError(f"data must be given for method {CoclusterRows.name!r}, which shares rows by them, got none")
    return tuple(methods)


def _names_tables(data: Any) -> bool:
    """Whether data are columns of tables by their names, not interactions."""
    return isinstance(data, Mapping)


def _read(data: Any) -> Interactions:
    if isinstance(data, Interactions):
        return data
    from baco_gpu.data.readers import load_interactions

    return load_interactions(data)


def _telling(progress: Progress, done: int, total: int) -> Progress:
    """The progress of one table among several that are read."""
    return lambda _, __, ___, note: progress("read tables", done, total, note)


def _pair(
    tensors: Mapping[str, StoredTensor], users: str | None, items: str | None, *, needed: bool
) -> tuple[str, str] | None:
    """The tables of users and of items: as given, or the only ones whose names say so."""
    found = []
    for side, given in (("user", users), ("item", items)):
        if given is not None and given not in tensors:
            raise InputError(f"{side}s must be a table ({', '.join(map(repr, tensors))}), got {given!r}")
        named = [name for name in tensors if side in name.lower()] if given is None else [given]
        found.append(named[0] if len(named) == 1 else None)
    first, second = found
    if first is None or second is None or first == second:
        if needed or users is not None or items is not None:
            raise InputError(
                "users and items must be given, as their names do not say which of the tables are theirs: "
                f"{', '.join(map(repr, tensors))}"
            )
        return None
    if tensors[first].shape[1] != tensors[second].shape[1]:
        if users is not None and items is not None:
            raise InputError(
                f"users and items must be tables of one width, got {tensors[first].shape[1]} and "
                f"{tensors[second].shape[1]}"
            )
        return None
    return first, second


def _padding(name: str, tensor: StoredTensor, module: Any, progress: Progress) -> int | None:
    """The padding index: that of the module, or the only row of zeros; InputError where rows are not finite."""
    progress("", 0, 0, name)
    weight, zeros = tensor.read(), []
    for ids in blocks(len(weight)):
        rows = weight[ids[0] : ids[-1] + 1]
        if not rows.isfinite().all():
            raise InputError(f"rows of {name!r} must be finite, got NaN or infinity")
        zeros.append(ids[~rows.any(dim=1)])
    found = torch.cat(zeros)
    if module is not None:
        return None if module.padding_idx is None or module.padding_idx not in found else int(module.padding_idx)
    return int(found[0]) if len(found) == 1 else None


def _see(tables: Sequence[_Table], logs: Any, pair: tuple[str, str] | None) -> None:
    """Give tables the columns of the data that are theirs."""
    named = {each.name: each for each in tables}
    if logs is None:
        return
    if isinstance(logs, Interactions):
        assert pair is not None
        ids = (
            _row_numbers("user", logs.users, logs.user_vocabulary),
            _row_numbers("item", logs.items, logs.item_vocabulary),
        )
        logs = {name: column for name, column in zip(pair, ids, strict=True) if name in named}
    for name in names_in(logs):
        if name not in named:
            raise InputError(f"data must name tables that are made small ({', '.join(map(repr, named))}), got {name!r}")
    for column in columns_of({name: named[name] for name in names_in(logs)}, logs):
        named[column.name].column = column


def _row_numbers(side: str, ids: np.ndarray, vocabulary: Vocabulary | None) -> np.ndarray:
    if vocabulary is None:
        return ids
    raw = vocabulary.decode(ids)
    if not vocabulary.is_integer:
        raise InputError(f"data must have {side}s by the numbers of their rows, integers from 0 on, got {raw[0]!r}")
    return np.asarray(raw)


def _scores_kept(
    pair: tuple[str, str],
    tensors: Mapping[str, StoredTensor],
    made: Mapping[str, EmbeddingTable],
    tables: Sequence[_Table],
    seed: int,
) -> float:
    users, items = pair
    seen = next((each.column.counts for each in tables if each.name == users and each.column is not None), None)
    both = [(_rows(tensors[name]), made.get(name, _rows(tensors[name]))) for name in pair]
    return scores_kept(both[0], both[1], tensors[items].shape[0], sampled(tensors[users].shape[0], seed, seen))


def _rows(tensor: StoredTensor) -> Reader:
    weight = tensor.read()
    return lambda ids: weight[ids]


def _left(name: str, tensor: StoredTensor, reason: str) -> TableLoss:
    (count, dim), nbytes = tensor.shape, tensor.nbytes
    return TableLoss(name, count, dim, _said(tensor), FULL, nbytes, nbytes, reason=reason)


def _said(tensor: StoredTensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
