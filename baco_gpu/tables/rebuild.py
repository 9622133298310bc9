"""The tables that a file has, in a model that has others: full ones, or those of another compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from baco_gpu.checks import check_mapping, shown
from baco_gpu.discovery import modules_of
from baco_gpu.errors import InputError
from baco_gpu.tables.assignments import check_arguments
from baco_gpu.tables.bag import CodebookEmbeddingBag, TableBag, bag_options
from baco_gpu.tables.codebook import CodebookEmbedding
from baco_gpu.tables.embedding_table import EmbeddingTable, State, check_model, state_of
from baco_gpu.tables.facts import without_facts
from baco_gpu.tables.former_states import current_names
from baco_gpu.tables.full import FullTable, as_table

_PLACES = (nn.Embedding, nn.EmbeddingBag, EmbeddingTable, TableBag)


def rebuild_module(
    model: nn.Module,
    state_dict: State,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = True,
) -> None:
    """Give `model` the tables that a `state_dict` has, in place, and load it.

    A fresh model takes the state of a compressed one, a compressed model that of a full one, with the same ids and
    dimensions. Padding index, sparse gradients and the pooling of bags are those of the model's own modules. Make
    optimizers afterwards, since parameters are new. If anything is refused, the model stays as it was.

    Parameters
    ----------
    model : nn.Module
    state_dict : mapping of str to Tensor
        Of a model that differs from this one in its tables alone.
    settings : mapping of the name of a table to a mapping, optional
        Further arguments of tables, where the state is from before it said what no tensor tells:
        `{"user": {"own_share": 0.5}}` for rows that ids mix, `bits` of rows that are trained through their rounding.
    strict : bool
        As of `load_state_dict`.

    Raises
    ------
    InputError
        When settings are of no table or not those of its kind, a table has other ids or dimensions, what a state has
        does not say how a table is made, or a module is on the device meta, or has `max_norm` or `scale_grad_by_freq`,
        which a table has not.
    RuntimeError
        As of `load_state_dict`.
    """
    check_model(model)
    check_mapping("state_dict", state_dict, "names to tensors")
    given = {} if settings is None else settings
    check_mapping("settings", given, "names of tables to mappings")
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, _PLACES) and name]
    names = {name for name, _ in found}
    for name in given:
        if name not in names:
            raise InputError(f"settings must be of tables of the model, got {name!r}")
        check_mapping(f"settings of {name!r}", given[name], "names to values")
    made: dict[str, nn.Module] = {}
    for name, module in found:
        if any(name.startswith(f"{other}.") for other in made):
            continue  # a part of a table
        own = current_names(state_of(name, state_dict))
        for key, value in own.items():
            if not isinstance(value, Tensor):
                raise InputError(f"state_dict must have a tensor for '{name}.{key}', got {shown(value)}")
        if own and (name in given or _differ(own, module.state_dict())):
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


def pools(model: nn.Module, name: str) -> bool:
    """Whether the module of this name looks bags of ids up; InputError where it is none that a table can replace."""
    module = dict(model.named_modules(remove_duplicate=False)).get(name)
    if not isinstance(module, _PLACES):
        got = "none" if module is None else type(module).__name__
        raise InputError(f"model must have an embedding of the name {name!r}, as the table has, got {got}")
    return isinstance(module, nn.EmbeddingBag | TableBag)


def state_under(name: str, table: EmbeddingTable, *, pooled: bool) -> dict[str, Tensor]:
    """The part of a model's state that a table has as the module of this name, or in the bag that is this module."""
    prefix = f"{name}.table." if pooled and type(table) is not CodebookEmbedding else f"{name}."
    return {prefix + part: tensor for part, tensor in table.state_dict().items()}


def table_of(state: State, dim: int, **settings: Any) -> nn.Module:
    """The table that a state is of, with its values, on the CPU.

    Parameters
    ----------
    state : mapping of str to Tensor
        The `state_dict` of one table.
    dim : int
        Its `embedding_dim`.
    settings
        What `EmbeddingTable.settings` said of it.

    Raises
    ------
    InputError
        When no kind of table is made of such a state and settings.
    """
    table = kind_of(_dimensions(state)).from_state(state, dim, **settings)
    table.load_state_dict(dict(state))
    return table


def check_known(table: EmbeddingTable) -> None:
    """Raise InputError for a table whose state is taken for that of another kind, or of none."""
    if kind_of(_dimensions(table.state_dict())) is not type(table):
        name = type(table).__name__
        raise InputError(f"a table must be of a kind that is known by its state, got {name}: give the class a known_by")


def _checked(name: str, state: State, old: Any, settings: dict[str, Any]) -> nn.Module:
    """The table of a state, which says all of it, and is as large as the one that it takes the place of."""
    check_arguments(f"table {name!r} of the model", old)
    if any(parameter.is_meta for parameter in old.parameters()):
        raise InputError(f"model must be on a device with memory, got {name!r} on meta: call model.to_empty first")
    try:
        made = _module_of(state, old, settings)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError) and str(error).startswith("settings must give"):
            raise InputError(str(error).replace("settings", f"settings of {name!r}", 1)) from error
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


def _differ(state: State, held: State) -> bool:
    """Whether a state is of another table than the one that is held; one from before leaves its facts to that."""
    shapes, expected = ({name: part.shape for name, part in without_facts(each).items()} for each in (state, held))
    told = {name: part.tolist() for name, part in state.items() if name not in without_facts(state)}
    return shapes != expected or any(name not in held or held[name].tolist() != fact for name, fact in told.items())


def _module_of(state: State, old: Any, settings: dict[str, Any]) -> nn.Module:
    pooled = isinstance(old, nn.EmbeddingBag | CodebookEmbeddingBag | TableBag)
    pooling = bag_options(old) if pooled else {}
    inner = state_of("table", state)
    kind = kind_of(_dimensions(inner or state))
    sparse = bool(getattr(old, "sparse", False))
    options = {"padding_idx": old.padding_idx, "device": next(old.parameters()).device, "sparse": sparse, **settings}
    if inner:
        return TableBag(as_table(kind.from_state(inner, old.embedding_dim, **options)), **pooling)
    if pooled and kind is FullTable:
        count, dim = state["weight"].shape
        return nn.EmbeddingBag(count, dim, dtype=state["weight"].dtype, **options, **pooling)
    if pooled and kind is CodebookEmbedding:
        return CodebookEmbeddingBag.from_state(state, old.embedding_dim, **pooling, **options)
    return kind.from_state(state, old.embedding_dim, **options)


def kind_of(dimensions: Mapping[str, int]) -> type[EmbeddingTable]:
    """The kind of table that is known by most of what a state has; of several, the one that others are derived of.

    `dimensions` are those of the tensors of the state, by their names; nothing that is known has `EmbeddingTable`
    itself. Kinds are those of the folder, and any other that is defined by now.
    """
    modules_of(__package__)
    kinds: list[type[EmbeddingTable]] = [EmbeddingTable]
    for kind in kinds:
        kinds += kind.__subclasses__()
    fits = [kind for kind in kinds if kind.known_by.items() <= dimensions.items()]
    return max(fits, key=lambda kind: len(kind.known_by))


def _dimensions(state: State) -> dict[str, int]:
    return {name: part.ndim for name, part in state.items()}


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
