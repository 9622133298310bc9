"""The contract of a model: what training, evaluation, experiments and the command line ask of it, and its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from baco_gpu.checks import check_choice, check_integer, suggestion
from baco_gpu.data.interactions import Interactions, SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.models.losses import Objective
from baco_gpu.tables.embedding_table import EmbeddingTable
from baco_gpu.tables.full import FullTable, size_of, tables_in

Table = nn.Embedding | EmbeddingTable
USERS, ITEMS = "users", "items"  # what tables are of

MODELS: dict[str, type[Model]] = {}


class Sampler(Protocol):
    """The batches of an epoch, a function of the seed and the epoch's number.

    Attributes
    ----------
    num_samples : int
        Of an epoch: the sum of the batches' sizes.
    """

    num_samples: int

    def epoch(self, number: int) -> Iterator[Tensor]:
        """Yield what `loss` takes: int64 tensors of shape (columns, batch, ...), all but the last of one shape.

        A batch holds everything that its step draws at random.
        """


def option(default: Any, text: str) -> Any:
    """A field of a model's options: its value where none is given, and what --help says of it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class NoOptions:
    """The options of a model that has none."""


class Model(nn.Module):
    """Base of the models, which score a user and an item by the inner product of two vectors.

    A model is one file in `baco_gpu/models/` with a subclass, whose name registers it:
    `class Popularity(Model, name="popularity")`. It says what its tables are of, what it learns from, its loss
    and its vectors; nobody asks which model it is.

    Attributes
    ----------
    name : str
        What users call it.
    table_names : tuple of str
        What its tables are of: users and items, or items alone.
    Options : frozen dataclass
        Its own options, made with `option`, with checks in `__post_init__`; --NAME on the command line.
    needs_timestamps : bool
        Whether it learns from the order of interactions.
    """

    name: ClassVar[str]
    table_names: ClassVar[tuple[str, ...]] = (USERS, ITEMS)
    Options: ClassVar[type[Any]] = NoOptions
    needs_timestamps: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            if name in MODELS and MODELS[name].__qualname__ != cls.__qualname__:
                raise InputError(f"model name must be new, got {name!r}, which {MODELS[name].__qualname__} has")
            cls.name = name
            MODELS[name] = cls

    @classmethod
    def build(cls, tables: Mapping[str, Table], split: SplitInteractions, options: Any) -> Self:
        """The model over these tables, one for each of `table_names`, with what it knows of the training part."""
        raise NotImplementedError

    @property
    def tables(self) -> dict[str, Table]:
        """The embedding tables, by what they are of."""
        raise NotImplementedError

    def loss(self, batch: Tensor, objective: Objective = Objective()) -> Tensor:  # noqa: B008 (immutable)
        """What a step on a batch of the sampler minimises, in the mean over its samples: a scalar, differentiable."""
        raise NotImplementedError

    def user_vectors(self, ids: Tensor) -> Tensor:
        """The vectors of these users, (len(ids), dim)."""
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        """The vectors of all items, (num_items, dim)."""
        raise NotImplementedError

    def sampler(
        self, split: SplitInteractions, *, batch_size: int, seed: int, device: torch.device | str = "cpu"
    ) -> Sampler:
        """What draws batches of about `batch_size` interactions of the training part."""
        raise NotImplementedError

    def default_weight_decay(self, loss: str, train: Interactions) -> float:
        """The objective's weight decay where none is given."""
        return 0.0

    @property
    def scores_rows(self) -> bool:
        """Whether its vectors are the embeddings of the ids of a batch themselves, and it learns by triples of ids."""
        return False

    @property
    def num_users(self) -> int:
        return self.tables[USERS].num_embeddings

    @property
    def num_items(self) -> int:
        return self.tables[ITEMS].num_embeddings

    @property
    def num_rows(self) -> int:
        """Rows that are trained: those of all tables, and of a codebook that several share once."""
        return size_of(*self.tables.values()).rows

    def ranked(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """What a full ranking reads: `user_vectors` and `item_vectors`, of a model that makes them at once."""
        return self.user_vectors, self.item_vectors()

    def lookups(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """What answers read: vectors of users, and of items, by int64 index; made at once where `ranked` makes them so.

        A model whose vectors are rows of a table says so here, and no more floats are made than are asked for.
        """
        users, items = self.ranked()
        return users, items.__getitem__

    def initialize(self, std: float, generator: torch.Generator) -> None:
        """Draw what is trained, on the CPU: the rows of the tables from N(0, std^2)."""
        for table in tables_in(self):
            table.initialize(std, generator)

    @classmethod
    def check_data(cls, split: SplitInteractions) -> None:
        """Raise InputError where the model cannot learn from such data."""
        if cls.needs_timestamps and split.train.timestamps is None:
            raise InputError(
                f"model {cls.name!r} learns from the order of interactions and needs their timestamps, got none: split "
                "data that have them by time (--split temporal or leave-last-out), or name their column "
                f"(--timestamp-column); of data without any, {_without_order()} can learn"
            )

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        """Raise InputError where rows cannot be drawn anew (`std` is not None), or steps not be recorded."""
        for table in tables_in(self):
            table.check_training(std=std, cuda_graph=cuda_graph)


def _without_order() -> str:
    return " and ".join(f"--model {name}" for name, kind in MODELS.items() if not kind.needs_timestamps)


def find_model(name: str) -> type[Model]:
    """The model of this name; InputError where there is none."""
    check_choice("model", name, tuple(MODELS))
    return MODELS[name]


def model_options(name: str, given: Mapping[str, Any]) -> Any:
    """The options of the model of this name; InputError for one that it does not have, or a value out of range."""
    kind = find_model(name).Options
    known = [each.name for each in fields(kind)]
    for other in given.keys() - set(known):
        raise InputError(
            f"model {name!r} has no option {other!r}, it has {', '.join(known) or 'none'}{suggestion(other, known)}"
        )
    return kind(**given)


def build_model(name: str, tables: Mapping[str, Table], split: SplitInteractions, **options: Any) -> Model:
    """The model called `name`; what it knows of interactions comes from the training part alone.

    Parameters
    ----------
    name : str, a key of `MODELS`
    tables : dict of EmbeddingTable or nn.Embedding
        At least those of the model's `table_names`, with one row for each user ("users") or item ("items") of the
        split, of one width.
    split : SplitInteractions
    **options
        Those of the model's `Options`.

    Raises
    ------
    InputError
        If there is no such model, or an argument does not suit it.
    """
    kind = find_model(name)
    chosen = model_options(name, options)
    kind.check_data(split)
    sizes = {USERS: split.num_users, ITEMS: split.num_items}
    for side in kind.table_names:
        if side not in tables:
            raise InputError(f"model {name!r} needs tables of {' and '.join(kind.table_names)}, got {list(tables)}")
        if tables[side].num_embeddings != sizes[side]:
            raise InputError(
                f"the split has {sizes[side]} {side}, the table of {side} has {tables[side].num_embeddings} rows"
            )
    return kind.build({side: tables[side] for side in kind.table_names}, split, chosen)


def full_table(count: int, embedding_dim: int) -> FullTable:
    """An uncompressed table of `count` rows."""
    return FullTable(check_integer("count", count, minimum=0), check_integer("embedding_dim", embedding_dim, minimum=1))
