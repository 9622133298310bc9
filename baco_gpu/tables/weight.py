"""The whole table of a kind that holds no such matrix: read as `weight`, and never written to without effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baco_gpu.errors import InputError
from baco_gpu.ops.reference import transformed
from baco_gpu.tables.assignments import padding_index
from baco_gpu.tables.derived import normal_tensors
from baco_gpu.tables.embedding_table import EmbeddingTable


class ExpandedTable(EmbeddingTable):
    """A table whose `weight` is made of what it stores, every time that it is read.

    Whoever writes to `weight` in place (`nn.init`, `copy_`, `weight.data[3] = ...`) writes to the table: where there
    are rows that make it so, such as those that one id alone has, they are written, and anything else is an InputError.
    The padding row stays zero: what is written to it beside other rows is left out, and to it alone is refused.
    """

    max_norm: float | None = None  # which adapters and wrappers read of any `nn.Embedding`
    norm_type = 2.0
    scale_grad_by_freq = False
    sparse: bool = False

    @property
    def weight(self) -> Tensor:
        """The expanded table, (num_embeddings, embedding_dim), through which gradients reach what is trained."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or transformed():
            return self._expanded()
        with normal_tensors():
            out = self._expanded()
        return _Weight.of(out, self) if type(out) is Tensor else out

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise InputError(
                f"weight of a {self._get_name()} must not be replaced, which is made of what it stores: write to it in "
                "place, or replace the table"
            )
        if name == "padding_idx":
            value = padding_index(value, self.num_embeddings)
        super().__setattr__(name, value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Without `strict` the table would stay as it is, and nobody would know.
        if f"{prefix}weight" in state_dict and not any(f"{prefix}{name}" in state_dict for name in self.state_dict()):
            rest[-1].append(f"{prefix}weight is that of another table: baco_gpu.rebuild_module makes the one it is of")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _expanded(self) -> Tensor:
        """The whole table."""
        raise NotImplementedError

    def _try_rows(self, ids: Tensor, values: Tensor) -> None:
        """Store rows that give these ids these values, where there are any."""
        raise NotImplementedError

    def _latent(self) -> Tensor:
        """The whole table as it is trained, before it is rounded."""
        raise NotImplementedError

    @torch.no_grad()
    def write_weight(self, values: Tensor) -> None:
        """Take values for the whole table, (num_embeddings, embedding_dim); InputError where no rows give them."""
        before, latent = self._expanded(), self._latent().clone()
        changed = ~((values == before) | (values.isnan() & before.isnan())).all(dim=1)
        if self.padding_idx is not None and changed[self.padding_idx]:
            if int(changed.sum()) == 1:
                raise InputError(f"weight of the padding index {self.padding_idx} must stay zero")
            changed[self.padding_idx] = False
        ids = changed.nonzero().squeeze(1)
        if not len(ids):
            return
        kept = {name: tensor.detach().clone() for name, tensor in self.state_dict(keep_vars=True).items()}
        self._try_rows(ids, values[ids])
        wanted = torch.where(changed.unsqueeze(1), values.to(latent), latent)
        now = self._latent()
        wrong = (~self._close(now, wanted)).any(dim=1).nonzero().squeeze(1)
        if len(wrong):
            for name, tensor in self.state_dict(keep_vars=True).items():
                tensor.detach().copy_(kept[name])
            raise InputError(
                f"weight of id {int(wrong[0])} cannot be as written, since rows are shared: write to `codebook`, of "
                "which every id has a row"
            )

    def _close(self, now: Tensor, wanted: Tensor) -> Tensor:
        return (now == wanted) | (now.isnan() & wanted.isnan())


class _Weight(Tensor):
    """A whole table as it was when it was read, and its views, which pass on what is written to them."""

    _table: EmbeddingTable
    _whole: Tensor

    @staticmethod
    def of(whole: Tensor, table: ExpandedTable) -> Tensor:
        out = whole.as_subclass(_Weight)
        out._table, out._whole = table, out
        return out

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            own = [each for each in _tensors((*args, *options.values())) if isinstance(each, _Weight)]
            if func in _COPIES:
                return func(args[0].as_subclass(Tensor), *args[1:], **options)
            first = own[0]
            if func in _FLAGS:
                first._table.requires_grad_(args[1] if len(args) > 1 else options.get("requires_grad", True))
                return first
            if func in _LOST:
                raise InputError(
                    f"weight of a {first._table._get_name()} is made anew every time that it is read, and {_LOST[func]}"
                )
            before = [each._version for each in own]
            if func != _SET_DATA:
                out = func(*args, **options)
            else:
                out = first.detach().copy_(args[1])
                before = [-1] * len(own)
            # Autograd records what is neither an initialiser's nor of `.data`, which is detached.
            records = torch.is_grad_enabled() and func != _SET_DATA and getattr(func, "__module__", "") != _INIT
            for each, version in zip(own, before, strict=True):
                if each._version != version:
                    _pass_on(each, recorded=records and each.requires_grad)
            if isinstance(out, np.ndarray):
                out.flags.writeable = False  # for what is written there, nobody hears of
                return out
            if type(out) is Tensor and _is_view(out, first._whole):
                return _view(out, first)
            if isinstance(out, tuple | list) and any(
                type(one) is Tensor and _is_view(one, first._whole) for one in out
            ):
                made = [_view(one, first) for one in out]
                return tuple(made) if isinstance(out, tuple) else made
            return out


def _view(out: Tensor, of: _Weight) -> _Weight:
    view = out.as_subclass(_Weight)
    view._table, view._whole = of._table, of._whole
    return view


def _is_view(out: Tensor, whole: Tensor) -> bool:
    return out.layout == torch.strided and out.untyped_storage()._cdata == whole.untyped_storage()._cdata


def _pass_on(written: _Weight, *, recorded: bool) -> None:
    table, whole = written._table, written._whole
    assert isinstance(table, ExpandedTable)
    if recorded:
        raise InputError("weight must be written to under torch.no_grad(), or through `weight.data`")
    table.write_weight(whole.detach().as_subclass(Tensor))


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
# What nn.Embedding's weight keeps, or hands on, and a weight that is made anew cannot.
_SET_GRAD = vars(torch._C.TensorBase)["grad"].__set__
_NO_HOOK = "no hook of it is called: register hooks with the parameters of the table"
_LOST = {
    Tensor.register_hook: _NO_HOOK,
    Tensor.register_post_accumulate_grad_hook: _NO_HOOK,
    _SET_GRAD: "no optimizer reads its gradient: set those of the parameters of the table",
    Tensor.__dlpack__: "what is written through DLPack would be lost: hand out weight.detach().clone()",
}
_INIT = torch.nn.init.__name__
_COPIES = (Tensor.__reduce_ex__, Tensor.__deepcopy__, Tensor.__repr__)
_FLAGS = (Tensor.requires_grad_, Tensor.requires_grad.__set__)  # type: ignore[attr-defined]
