"""What a table of embeddings is to whoever trains, counts, exports and serves it: they ask it, and not what it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from baco_gpu.checks import shown
from baco_gpu.errors import InputError, brief
from baco_gpu.ranks import Ranks
from baco_gpu.renaming import RenamedAttributes
from baco_gpu.serving.decoders import Decoder
from baco_gpu.tables.assignments import GONE, Labels, label_array
from baco_gpu.tables.derived import normal_tensors
from baco_gpu.tables.facts import SaysFacts
from baco_gpu.tables.id_growth import Assigned, Growth, Moves, first_rows, has_kinds, joined, padding_now, places_of

State = Mapping[str, Tensor]
Device = torch.device | str | int | None


class StoredPart(NamedTuple):
    """A part of what a table stores.

    Attributes
    ----------
    tensor : Tensor
        What the part is known by: tables that hold the same tensor store it once.
    parameters : int
        As the BACO paper counts them: trained values, and one for an index that is more than the one that every id has.
    nbytes : int
    rows : int
    """

    tensor: Tensor
    parameters: int
    nbytes: int
    rows: int = 0


class Size(NamedTuple):
    """What parts come to: rows, parameters and bytes."""

    rows: int
    parameters: int
    nbytes: int

    @classmethod
    def of(cls, parts: Iterable[StoredPart]) -> Size:
        """The sum of parts, each tensor once."""
        distinct = {id(part.tensor): part for part in parts}.values()
        return cls(*(sum(getattr(part, figure) for part in distinct) for figure in cls._fields))


class EmbeddingTable(RenamedAttributes, SaysFacts):
    """A table of rows, called like `torch.nn.Embedding`: indices in, (*shape, embedding_dim) out.

    A kind of table is a subclass that says what it stores, and how its rows are drawn, read and written. The other
    methods fit a table of floats that Adam trains, with a row for every id; other kinds override them.

    Attributes
    ----------
    num_embeddings, embedding_dim : int
    padding_idx : int or None
    weight : floating tensor of shape (num_embeddings, embedding_dim)
        The whole table, through which gradients reach what is trained.
    known_by : dict of str to int
        The tensors of a state, with their dimensions, that tell this kind; added to those of the bases.
    encoding : str or None
        The name of the decoder (`baco_gpu.serving.decoders`) that reads its rows where they are served.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    _renamed: ClassVar[Mapping[str, str]] = {"rounds": "is_quantized"}

    known_by: ClassVar[Mapping[str, int]] = {}
    encoding: ClassVar[str | None] = None

    _sums_rows: ClassVar[bool] = False

    def __init_subclass__(cls, *, known_by: Mapping[str, int] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited = (kind.__dict__.get("known_by", {}).items() for kind in reversed(cls.__mro__[1:]))
        cls.known_by = dict(itertools.chain(*inherited, (known_by or {}).items()))

    if TYPE_CHECKING:

        @property
        def weight(self) -> Tensor: ...

    @property
    def is_quantized(self) -> bool:
        """Whether what is stored of rows is not what is trained."""
        return False

    def stored(self) -> list[StoredPart]:
        """What is stored of the table once it is trained: its rows, and what says which of them an id has."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """Parameters as the BACO paper counts them; see `stored`."""
        return Size.of(self.stored()).parameters

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return Size.of(self.stored()).nbytes

    @property
    def float_rows(self) -> Tensor:
        """The rows, of a kind that trains floats; others read, write and draw them in their own way."""
        raise NotImplementedError

    @torch.no_grad()
    def initialize(self, std: float, generator: torch.Generator | None = None) -> None:
        """Draw the rows from N(0, std^2), on the CPU, so that those of a generator are the same on every device."""
        rows = self.float_rows
        rows.copy_(torch.empty(rows.shape, dtype=rows.dtype).normal_(0.0, std, generator=generator))

    def read_rows(self, rows: Tensor | None = None) -> Tensor:
        """The rows, or these, as floats of shape (rows, embedding_dim); no gradient passes through them."""
        values = self.float_rows.detach()
        return values if rows is None else values[rows]

    @torch.no_grad()
    def write_rows(self, values: Tensor) -> None:
        """Take these values for the rows."""
        self.float_rows.copy_(values)

    @property
    def row_parameter(self) -> nn.Parameter | None:
        """The parameter of one row of floats each that an optimizer's state is of; None where there is none."""
        return None

    def set_padding(self, padding_idx: int | None) -> None:
        """Let an index have zeros for its embedding, of a table that has had none such so far."""
        self.padding_idx = padding_idx

    @property
    def keeps_rows(self) -> bool:
        """Whether rows are for good what they are."""
        return False

    def take_rows(self, values: Tensor) -> None:
        """Take the rows of a trained table, and store them by what the table stores by now."""
        self.write_rows(values)

    def row_parts(self) -> list[tuple[Tensor, Tensor | float]]:
        """The rows of every id, and the shares that it has of them."""
        return [(self.row_numbers(), 1.0)]

    @property
    def sums_rows(self) -> bool:
        """Whether an embedding is the sum of the `float_rows` that `row_parts` says, and nothing else is read."""
        # A class that is made of such a one may read more, and so has to say it anew.
        alone = vars(type(self)).get("_sums_rows", False) and not self.is_quantized and self.padding_idx is None
        return bool(alone) and not (self._forward_hooks or self._forward_pre_hooks)

    def fit_own(self, source: Tensor) -> None:
        """Fit what ids have beside their rows to the table (num_embeddings, embedding_dim) that rows were made of."""

    def row_numbers(self) -> Tensor:
        """Which row an id has, or the first of them: integers of shape (num_embeddings,)."""
        return torch.arange(self.num_embeddings)

    def check_training(self, *, std: float | None, cuda_graph: bool) -> None:
        """Raise InputError where rows cannot be drawn anew (`std` is not None), or steps not be recorded."""

    @classmethod
    def own_optimizer(cls, tables: Sequence[Self], lr: float, seed: int) -> torch.optim.Optimizer | None:
        """What trains the tables of this kind in a model, where Adam does not; None where it does."""
        return None

    def add_gradients(self, ranks: Ranks) -> None:
        """Sum over the ranks what backward passes have left with the table itself; of parameters others do it."""

    def begin_training(self) -> None:
        """Before the first epoch: see rows as they are trained, where that is known."""

    def begin_epoch(self, *, stored: bool) -> None:
        """Before every epoch: see rows as they are trained, or as they are stored by now."""
        self.see_stored(stored)

    def see_stored(self, stored: bool) -> None:
        """Whether lookups see rows as they are stored, where it is known by now how they are."""

    @classmethod
    def encode_all(cls, tables: Sequence[Self], seed: int) -> None:
        """Find how to store the rows of the tables of this kind in a model, where that is not known as yet.

        The scores of the model are inner products of rows, or of what is linear in them.
        """

    def finalize(self) -> None:
        """Let go of what only training reads, for good."""

    @property
    def owns_rows(self) -> bool:
        """Whether id i has row i, and nobody else has."""
        return True

    def resize(self, assignments: Assigned, secondary: Labels | None = None, *, places: Any = None) -> Moves:
        """Change the ids in place: old ones may have moved or gone, new ones may have come.

        A new id gets its own row: the mean of the rows of old ids with its label, or of all old ids if none has it.
        Parameters stay the same objects; `resize_module` lets an optimizer follow.

        Parameters
        ----------
        assignments : integers of shape (number of ids, old and new,), or one side of a result
            Whom every id is like, in any non-negative label space.
        secondary : not read
        places : integers of shape (num_embeddings,)
            The number that every old id has now, -1 for one that is gone. May be left out where there are no other ids.

        Returns
        -------
        dict of parameter to RowMoves
            For every parameter that has an entry a row, and whose rows are others now, which.

        Raises
        ------
        InputError
            When labels are no integers, places are missing or no distinct numbers of ids, or the padding index is gone.
        """
        return self.regrow(self.growth_of(assignments, secondary, places, own_rows=True))

    def growth_of(
        self, assignments: Assigned, secondary: Labels | None = None, places: Any = None, *, own_rows: bool = False
    ) -> Growth:
        """The checks of `resize`: what it is to do."""
        if type(self).move_rows is EmbeddingTable.move_rows:
            raise InputError(f"a table must be of a kind that can be resized, got a {self._get_name()}")
        if has_kinds(assignments):
            raise InputError("assignments must be one array, for a table whose ids have rows of their own, got a list")
        return self._own_growth(joined("to resize", assignments)[0].labels, places)

    def _own_growth(self, labels: Labels, places: Labels | None) -> Growth:
        groups = label_array("assignments", labels, minimum=0)
        if places is None and len(groups) != self.num_embeddings:
            raise InputError(
                f"places must be given where {self.num_embeddings} ids become {len(groups)}, got None: rows belong to "
                "ids, and result.users.places_in(grown.users) says where the old ones are now"
            )
        now = places_of(places, self.num_embeddings, len(groups))
        padding_now(self.padding_idx, now)
        return Growth(groups, now, own_rows=True)

    def regrow(self, growth: Growth) -> Moves:
        """What `resize` does once all is checked."""
        moves = self._regrow_rows(growth)
        padding, self.padding_idx = padding_now(self.padding_idx, growth.places), None
        self.num_embeddings = len(growth.labels)
        self.padding_idx = padding
        return moves

    @torch.no_grad()
    def _regrow_rows(self, growth: Growth) -> Moves:
        """Rows of one's own for the ids that there are to be, those of new ids begun."""
        device = self.stored()[0].tensor.device
        begun = first_rows(self, growth, device)
        with normal_tensors():
            moves = self.move_rows(growth.sources)
        new = torch.as_tensor(np.flatnonzero(growth.sources == GONE), device=device)
        self.set_rows(new, begun)
        return moves

    def move_rows(self, sources: np.ndarray) -> Moves:
        """Have these of the rows that there were, -1 for one that is to be set."""
        raise NotImplementedError

    def set_rows(self, rows: Tensor, values: Tensor) -> None:
        """Store floats as these rows, in the way of the table."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, state: State, dim: int, **options: Any) -> nn.Module:
        """The table that a state is of, but for its values.

        Parameters
        ----------
        state : mapping of str to Tensor
        dim : int
            The `embedding_dim`, where no tensor tells it.
        options
            `padding_idx`, `sparse`, `device`, and whatever else no tensor tells.

        Raises
        ------
        InputError
            When an option has to be given: "settings must give ...".
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What `from_state` has to be given to make the same table, as its state does not say it; of plain values."""
        return {} if self.padding_idx is None else {"padding_idx": self.padding_idx}

    def check_export(self) -> None:
        """Raise InputError where the table cannot be exported, however it is trained."""
        if type(self).export_arrays is EmbeddingTable.export_arrays:
            raise not_served(self)
        if self.encoding is not None:
            Decoder.of_name(self.encoding)

    def export_arrays(self) -> dict[str, Any]:
        """The arguments of the `baco_gpu.serving.ServedTable` of the table, but for its `encoding`.

        Raises
        ------
        InputError
            When they are not known as yet.
        """
        raise NotImplementedError


def state_of(part: str, state: State) -> dict[str, Tensor]:
    """What a state has of the module of this name, by the names that it has there."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def numpy_of(tensor: Tensor) -> np.ndarray:
    """The values as an array; those of bfloat16, which NumPy lacks, as float32."""
    values = tensor.detach().cpu()
    array: np.ndarray = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def name_of(thing: object) -> str:
    """The kind of a module, or of whatever came in the place of one."""
    return thing._get_name() if isinstance(thing, nn.Module) else type(thing).__name__


def check_model(model: object) -> None:
    """Raise InputError unless it is a module."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def check_device(device: Device) -> None:
    """Raise InputError where it is no device."""
    try:
        torch.empty(0, device="meta" if device is None else torch.device(device))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"device must be one that is here, got {shown(device)}: {brief(error)}") from error


def not_served(module: object) -> InputError:
    """What is raised for a module that is no table to serve from."""
    return InputError(f"a table must be one that can be served, such as a CodebookEmbedding, got {name_of(module)}")


def encode(tables: Iterable[EmbeddingTable], seed: int) -> None:
    """Let the tables of a model find how to store their rows; see `EmbeddingTable.encode_all`."""
    for kind, alike in _by_kind(tables).items():
        kind.encode_all(alike, seed)


def own_optimizers(tables: Iterable[EmbeddingTable], lr: float, seed: int) -> list[torch.optim.Optimizer]:
    """The optimizers that tables bring along, one for all of a kind."""
    made = (kind.own_optimizer(alike, lr, seed) for kind, alike in _by_kind(tables).items())
    return [optimizer for optimizer in made if optimizer is not None]


def _by_kind(tables: Iterable[EmbeddingTable]) -> dict[type[EmbeddingTable], list[EmbeddingTable]]:
    kinds: dict[type[EmbeddingTable], list[EmbeddingTable]] = {}
    for table in tables:
        kinds.setdefault(type(table), []).append(table)
    return kinds
