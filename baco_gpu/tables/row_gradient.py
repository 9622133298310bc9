"""The gradient of a table without floats, as the `grad` of the parameter that stands for it and has no values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from baco_gpu.errors import InputError
from baco_gpu.ops.segments import add_by_row_

_Part = tuple[Tensor | None, Tensor]
_ATEN = torch.ops.aten
_ZEROES = (_ATEN.zero_.default, _ATEN._foreach_zero_.default)
# What lays gradients out for others, who would not see which rows they are of.
_LAYS_OUT = (_ATEN.view.default, _ATEN._unsafe_view.default, _ATEN.cat.default)
# What optimizers make of a gradient before it meets their own state.
_AS_EMPTY = (_ATEN.clone.default, _ATEN.neg.default)


class RowGradient(Tensor):
    """What backward passes leave of the rows of a table, whose `anchor` has it for its `grad`.

    Whoever goes through the gradients of a model, to forget, measure, clip or scale them, reads and writes the sums of
    these rows, (rows, dim) floats; what is made of them one by one is a `RowGradient`, too. In company of tensors of
    the anchor's shape, such as the state that an optimizer of other parameters keeps for it, it is as empty as these.
    What does not see of which rows it is gets an InputError: `torch.distributed.all_reduce`, or `torch.cat`, say.

    Parameters
    ----------
    anchor : floating tensor of shape (0,)
    dim : int
        Of a row.
    padding_idx : int or None
        The row that has no gradient.
    parts : list of pair of (rows, int64 tensor, or None for all of them) and (their gradients, float32 tensor)
    """

    _parts: list[_Part]
    _dim: int
    _padding_idx: int | None

    @staticmethod
    def __new__(cls, anchor: Tensor, dim: int, padding_idx: int | None, parts: list[_Part]) -> RowGradient:
        out: RowGradient = Tensor._make_wrapper_subclass(cls, (0,), dtype=anchor.dtype, device=anchor.device)
        out._dim, out._padding_idx, out._parts = dim, padding_idx, parts
        return out

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"RowGradient({self.waiting} rows of {self._dim} values)"

    def __deepcopy__(self, memo: dict[int, Any]) -> RowGradient:
        return self._of([(rows, gradient.clone()) for rows, gradient in self._parts])

    @property
    def waiting(self) -> int:
        """How many gradients of rows there are, before those of one row are summed."""
        return sum(len(part) for _, part in self._parts)

    def leave(self, rows: Tensor | None, gradient: Tensor, most: int) -> None:
        """Add the gradients of further rows; those of one row are summed as soon as more than `most` wait."""
        self._parts.append((rows, gradient))
        if len(self._parts) > 1 and self.waiting > most:
            self.sums()

    @torch.no_grad()
    def sums(self) -> tuple[Tensor, Tensor]:
        """The rows that have a gradient, int64 and ascending, and the sum for each of them.

        Of a gradient of the whole table, rows where it is zero have none.
        """
        whole = [gradient for rows, gradient in self._parts if rows is None]
        parts = [(rows, gradient) for rows, gradient in self._parts if rows is not None]
        if whole:
            total = whole[0] if len(self._parts) == 1 else torch.stack(whole).sum(dim=0)
            for rows, gradient in parts:
                add_by_row_(total, gradient, rows)
            touched = total.any(dim=1).nonzero().squeeze(1)
            total = total if len(touched) == len(total) else total[touched]
        elif parts:
            rows, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
            touched, places = torch.unique(rows, return_inverse=True)
            total = add_by_row_(gradient.new_zeros((len(touched), self._dim)), gradient, places)
        else:
            touched = torch.empty(0, dtype=torch.int64, device=self.device)
            total = torch.empty(0, self._dim, device=self.device)
        if self._padding_idx is not None:
            real = touched != self._padding_idx
            touched, total = touched[real], total[real]
        self._parts[:] = [(touched.long(), total)]
        return touched.long(), total

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func.namespace not in ("aten", "prims") or func in _LAYS_OUT:
            raise InputError(
                f"gradients of a QuantizedEmbedding are rows that stay with it, which {func} does not see: leave its "
                "anchor out"
            )
        if func in (_ATEN.detach.default, _ATEN.alias.default):
            return args[0]._of(args[0]._parts)
        if func is _ATEN._to_copy.default:
            return args[0]._moved(options)
        tensors = [each for each in tree_leaves((args, options)) if isinstance(each, Tensor)]
        if func in _ZEROES:
            for each in tensors:
                each._parts.clear() if isinstance(each, RowGradient) else each.zero_()
            return args[0] if func is _ZEROES[0] else None
        empty = func in _AS_EMPTY or any(each.shape == (0,) for each in tensors if not isinstance(each, RowGradient))
        if not empty:
            _check_rows([each for each in args if isinstance(each, RowGradient)])
        read = RowGradient._empty if empty else RowGradient._values
        out = func(*tree_map_only(RowGradient, read, args), **tree_map_only(RowGradient, read, options))
        if func._schema.is_mutable:
            return args[0] if isinstance(args[0], RowGradient) else out
        if isinstance(out, list) and isinstance(args[0], list):
            return [_made(one, of) for one, of in zip(out, args[0], strict=True)]
        return _made(out, next(each for each in tensors if isinstance(each, RowGradient)))

    def _values(self) -> Tensor:
        """The sums, to be read and written; where there are none, a row of zeros, which has a norm."""
        sums = self.sums()[1]
        return sums if len(sums) else sums.new_zeros((1, self._dim))

    def _empty(self) -> Tensor:
        return torch.empty(0, dtype=self.dtype, device=self.device)

    def _of(self, parts: list[_Part], anchor: Tensor | None = None) -> RowGradient:
        return RowGradient(self._empty() if anchor is None else anchor, self._dim, self._padding_idx, parts)

    def _moved(self, options: dict[str, Any]) -> RowGradient:
        told = {name: options[name] for name in ("dtype", "device") if options.get(name) is not None}
        anchor = self._empty().to(**told)
        rows, values = (each.to(anchor.device) for each in self.sums())
        return self._of([(rows, values)], anchor)


def _check_rows(gradients: list[RowGradient]) -> None:
    """Raise InputError where gradients of other rows are to meet, value by value."""
    rows = [each.sums()[0] for each in gradients]
    if not all(torch.equal(rows[0], each) for each in rows[1:]):
        raise InputError("gradients of a QuantizedEmbedding must be of the same rows to be taken together, got others")


def _made(out: Any, of: Any) -> Any:
    """What is made of a gradient, value by value, is one of the same rows."""
    if not isinstance(of, RowGradient) or not isinstance(out, Tensor) or not out.is_floating_point():
        return out
    rows, values = of.sums()
    if out.shape != of._values().shape:
        return out
    return of._of([(rows, out)] if len(values) else [])
