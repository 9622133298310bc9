"""Encoding tables of product codes: rotated alike, centroids for all of them, and floats of a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from baco_gpu.errors import InputError
from baco_gpu.ops.product_quantization import RowsByNumber, balanced_rotation, read
from baco_gpu.precision import ProductFormat


class Encodable(Protocol):
    """What encoding asks of a table of product codes (`ProductCodebookEmbedding`)."""

    embedding_dim: int
    centroids: nn.Parameter
    codebook: nn.Parameter
    latent_weight: Any
    codes: Tensor
    form: ProductFormat
    fake_quantization: bool

    @property
    def num_rows(self) -> int: ...
    @property
    def encoded(self) -> bool: ...
    def blocks(self) -> Iterable[Tensor]: ...
    def latent_rows(self, rows: Tensor) -> Tensor: ...
    def set_latent_rows(self, rows: Tensor, values: Tensor) -> None: ...
    def fit(self, rows: RowsByNumber, seed: int) -> Tensor: ...
    def reassign(self) -> None: ...
    def check_latent_weight(self) -> None: ...


@torch.no_grad()
def encode_together(modules: Sequence[Encodable], seed: int = 0) -> None:
    """Encode modules of one `centroids`, which are found for the rows of all of them; see `encode`.

    Tables share them when one is given those of another: `items.centroids = users.centroids`.

    Raises
    ------
    InputError
        When they have not the same centroids and form, floats have been dropped, or one is not finite.
    """
    centroids, form = modules[0].centroids, modules[0].form
    for module in modules:
        module.check_latent_weight()
        if module.centroids is not centroids:
            raise InputError("modules must have the same centroids to be encoded together, got several")
        if module.form != form:
            raise InputError(f"modules must have the same form to be encoded together, got {form} and {module.form}")
        if not all(module.latent_rows(rows).isfinite().all() for rows in module.blocks()):
            raise InputError("rows must be finite to be encoded, got NaN or infinity")
    centroids.copy_(modules[0].fit(_Joined(modules), seed))
    for module in modules:
        module.reassign()
        module.fake_quantization = True


def encode_all(modules: Sequence[Encodable], seed: int) -> None:
    """Encode those that are floats as yet, each with those of its centroids.

    Two of one form are rotated first, both alike, so that subspaces are balanced: no inner product of rows changes,
    nor of what LightGCN propagates, and so nothing need be rotated back, or stored.
    """
    left = [module for module in modules if not module.encoded]
    if len(left) == 2 and left[0].form[:2] == left[1].form[:2]:
        rotate_together(left)
    for centroids in dict.fromkeys(module.centroids for module in left):
        encode_together([module for module in left if module.centroids is centroids], seed)


@torch.no_grad()
def rotate_together(modules: Sequence[Encodable]) -> None:
    """Turn the floats of modules of one form alike, so that their pieces are; see `balanced_rotation`.

    No inner product of two rows changes. Raises InputError when forms differ, or floats have been dropped.
    """
    for module in modules:
        module.check_latent_weight()
        if module.form[:2] != modules[0].form[:2]:
            raise InputError(
                f"modules must have the same form to be rotated together, got {modules[0].form} and {module.form}"
            )
    rotation = balanced_rotation([_products(module) for module in modules], modules[0].form.subspaces)
    holders = {
        module.codebook if module.latent_weight is None else module.latent_weight.anchor: module for module in modules
    }
    for module in holders.values():
        for rows in module.blocks():
            floats = module.latent_rows(rows)
            module.set_latent_rows(rows, floats @ rotation.to(floats))


def _products(module: Encodable) -> Tensor:
    """The inner products of its columns, (dim, dim)."""
    total = torch.zeros((module.embedding_dim, module.embedding_dim), dtype=torch.float64)
    for rows in module.blocks():
        floats = module.latent_rows(rows)
        total += (floats.T @ floats).cpu()
    return total


def wrong_codes(name: str, codes: Any, like: Tensor, form: ProductFormat) -> Iterator[str]:
    """What is wrong with codes of a state, which are looked up unchecked."""
    if not isinstance(codes, Tensor):
        return
    if codes.dtype != like.dtype:
        yield f"{name} must be {like.dtype}, got {codes.dtype}"
    elif codes.numel() and (most := int(read(codes).max())) >= form.codewords:
        yield f"{name} must be from 0 to {form.codewords - 1}, got up to {most}"


class _Joined:
    """The floats of several modules, one after another."""

    def __init__(self, modules: Sequence[Encodable]) -> None:
        self.modules = modules
        self.device = modules[0].codes.device

    def __len__(self) -> int:
        return sum(module.num_rows for module in self.modules)

    def __getitem__(self, places: Tensor) -> Tensor:
        out = self.modules[0].centroids.new_empty((len(places), self.modules[0].embedding_dim))
        first = 0
        for module in self.modules:
            here = ((places >= first) & (places < first + module.num_rows)).nonzero().squeeze(1)
            out[here] = module.latent_rows(places[here] - first).to(out)
            first += module.num_rows
        return out
