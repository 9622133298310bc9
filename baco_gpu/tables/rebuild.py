"""The tables that a file has, in a model that has others: full ones, or those of another compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.precision import BITS, packed_width
from baco_gpu.tables.bag import CodebookEmbeddingBag, TableBag, bag_options
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.former_states import current_names
from baco_gpu.tables.full import as_table
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.tables.product import ProductCodebookEmbedding
from baco_gpu.tables.quantized import QuantizedEmbedding
from baco_gpu.tables.residual import ResidualCodebookEmbedding, ResidualMixedCodebookEmbedding
from baco_gpu.tables.weighted import WeightedCodebookEmbedding

State = Mapping[str, Tensor]
_PLACES = (nn.Embedding, nn.EmbeddingBag, EmbeddingTable, TableBag)


def rebuild_module(
    model: nn.Module,
    state_dict: State,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = True,
) -> None:
    """Give `model` the tables that a `state_dict` has, in place, and load it.

    A fresh model takes the state of a compressed one, and a compressed model that of a full one; ids and dimensions
    stay as many as the model has. What is no tensor a state does not tell: the padding index, whether gradients are
    sparse, and how bags are pooled are those of the module that the model has in that place, and what `settings` are
    for has to be given, or lookups are others. Optimizers are to be made afterwards, for the parameters are others.
    Where anything is refused the model stays as it was.

    Parameters
    ----------
    model : nn.Module
    state_dict : mapping of str to Tensor
        Of a model that differs from this one in its tables alone.
    settings : mapping of the name of a table to a mapping, optional
        Further arguments that no tensor tells: `{"user": {"bits": 4}}` for rows that are trained through their
        rounding, `own_share` for rows that ids mix.
    strict : bool
        As of `load_state_dict`.

    Raises
    ------
    InputError
        When settings are of no table or not those of its kind, a table has other ids or dimensions, or what a state has
        does not say how a table is made.
    RuntimeError
        As of `load_state_dict`.
    """
    if not isinstance(state_dict, Mapping):
        raise InputError(f"state_dict must be a mapping of names to tensors, got {type(state_dict).__name__}")
    given = {} if settings is None else settings
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, _PLACES) and name]
    names = {name for name, _ in found}
    for name in given:
        if name not in names:
            raise InputError(f"settings must be of tables of the model, got {name!r}")
    made: dict[str, nn.Module] = {}
    for name, module in found:
        if any(name.startswith(f"{other}.") for other in made):
            continue  # a part of a table
        own = current_names(
            {key.removeprefix(f"{name}."): value for key, value in state_dict.items() if key.startswith(f"{name}.")}
        )
        if own and (name in given or _shapes(own) != _shapes(module.state_dict())):
            made[name] = _checked(name, own, module, dict(given.get(name, {})))
    _share(made, state_dict)
    places = [
        (model.get_submodule(other.rpartition(".")[0]), other.rpartition(".")[2], held, made[name])
        for name, module in found
        if name in made
        for other, held in model.named_modules(remove_duplicate=False)
        if held is module
    ]
    for parent, attribute, old, new in places:
        setattr(parent, attribute, new.train(old.training))
    try:
        model.load_state_dict(dict(state_dict), strict=strict)
    except RuntimeError:
        for parent, attribute, old, _ in places:
            setattr(parent, attribute, old)
        raise


def _checked(name: str, state: State, old: Any, settings: dict[str, Any]) -> nn.Module:
    """The table of a state, which says all of it, and is as large as the one that it takes the place of."""
    try:
        made = _module_of(name, state, old, settings)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError) and str(error).startswith("settings of"):
            raise
        raise InputError(
            f"state_dict must have all parts of the table {name!r}, and settings must be of its kind: {error!r}"
        ) from error
    size, expected = _size(made), _size(old)
    if size != expected:
        raise InputError(
            f"table {name!r} must have {expected[0]} ids of {expected[1]} dimensions, as the model has, "
            f"got {size[0]} of {size[1]}"
        )
    return made


def _size(table: Any) -> tuple[int, int]:
    return int(table.num_embeddings), int(table.embedding_dim)


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _module_of(name: str, state: State, old: Any, settings: dict[str, Any]) -> nn.Module:
    pooled = isinstance(old, nn.EmbeddingBag | CodebookEmbeddingBag | TableBag)
    options: dict[str, Any] = {"padding_idx": old.padding_idx, "device": next(old.parameters()).device}
    if "table.assignments" in state or "table.integers" in state or "table.weight" in state:
        inner = {key.removeprefix("table."): value for key, value in state.items()}
        return TableBag(_table_of(name, inner, old, options, settings), **bag_options(old))
    if pooled and "assignments" in state and _kind_of(state) is CodebookEmbedding:
        return _labelled(CodebookEmbeddingBag, state, {**options, **_sparse(old), **bag_options(old), **settings})
    if pooled and "weight" in state:
        count, dim = state["weight"].shape
        full = {**options, **_sparse(old), **bag_options(old), "dtype": state["weight"].dtype}
        return nn.EmbeddingBag(count, dim, **full)
    return _table_of(name, state, old, options, settings)


def _table_of(name: str, state: State, old: Any, options: dict[str, Any], settings: dict[str, Any]) -> Any:
    if "weight" in state:
        count, dim = state["weight"].shape
        full: dict[str, Any] = {**options, **_sparse(old), "dtype": state["weight"].dtype}
        return nn.Embedding(count, dim, **full)
    if "integers" in state:
        return _quantized(name, state, int(old.embedding_dim), {**options, **settings})
    kind = _kind_of(state)
    if issubclass(kind, MixedCodebookEmbedding) and "own_share" not in settings:
        raise InputError(f"settings of {name!r} must give own_share, which no tensor tells, for rows that ids mix")
    if issubclass(kind, ProductCodebookEmbedding):
        codes, centroids = state["codes"], state["centroids"]
        options |= {"subspaces": codes.shape[1], "centroids": len(centroids), "lengths": "scales" in state}
        options["code_bits"] = 8 * codes.element_size()
        if "latent_weight.integers" in state:
            dim = state["codebook"].shape[1]
            options["row_bits"] = settings.pop("row_bits", None) or _bits_of(name, state["latent_weight.integers"], dim)
        return _labelled(kind, state, {**options, **settings})
    if issubclass(kind, ResidualCodebookEmbedding):
        rows, last = state["residual_rows"].cpu(), len(state["residual"]) - 1
        ids = (rows < last).nonzero().squeeze(1)
        options |= {"residual_dim": state["basis"].shape[0], "residual_ids": ids[rows[ids].argsort()].numpy()}
    return _labelled(kind, state, {**options, **_sparse(old), **settings})


def _kind_of(state: State) -> type[CodebookEmbedding]:
    secondary = state.get("secondary")
    mixes = secondary is not None and secondary.ndim == 2
    if "codes" in state:
        return ProductCodebookEmbedding
    if "residual" in state:
        return ResidualMixedCodebookEmbedding if mixes else ResidualCodebookEmbedding
    if "shares" in state:
        return WeightedCodebookEmbedding
    return MixedCodebookEmbedding if mixes else CodebookEmbedding


def _labelled(kind: type[CodebookEmbedding], state: State, options: dict[str, Any]) -> CodebookEmbedding:
    labels, codebook = state["labels"].cpu().numpy(), state["codebook"]
    assignments, secondary = (
        state[part].cpu().numpy() if part in state else None for part in ("assignments", "secondary")
    )
    second = None if secondary is None else labels[secondary]
    assert assignments is not None
    dtype = codebook.dtype
    return kind(labels[assignments], codebook.shape[1], second, labels=labels, dtype=dtype, **options)


def _quantized(name: str, state: State, dim: int, options: dict[str, Any]) -> QuantizedEmbedding:
    integers = state["integers"]
    bits = options.pop("bits", None) or _bits_of(name, integers, dim)
    return QuantizedEmbedding(len(integers), dim, bits=bits, **options)


def _bits_of(name: str, integers: Tensor, dim: int) -> int:
    fitting = [bits for bits in BITS.values() if packed_width(dim, bits) == integers.shape[1]]
    if len(fitting) != 1:
        raise InputError(
            f"settings of {name!r} must give its bits: {integers.shape[1]} bytes a row of {dim} values are of "
            f"{' or '.join(map(str, fitting)) or 'no'} bits"
        )
    return fitting[0]


def _sparse(old: nn.Module) -> dict[str, bool]:
    return {"sparse": bool(getattr(old, "sparse", False))}


def _share(made: Mapping[str, nn.Module], state_dict: State) -> None:
    """Let tables hold one parameter where the state holds one tensor for both."""
    first: dict[tuple[int, tuple[int, ...]], nn.Parameter] = {}
    for name, module in made.items():
        table = module if isinstance(module, nn.EmbeddingBag) else as_table(module)
        prefix = f"{name}.table." if isinstance(module, TableBag) else f"{name}."
        for key, parameter in list(table._parameters.items()):
            stored = state_dict.get(prefix + key)
            if parameter is None or stored is None or not stored.numel():
                continue
            setattr(table, key, first.setdefault((stored.data_ptr(), tuple(stored.shape)), parameter))
