"""What no tensor of a table tells of it, said by further entries of its state: of how many bits its values are, say.

An entry is an int64 tensor of shape (1,). A float is there by its bits, which no conversion of a state rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baco_gpu.checks import shown
from baco_gpu.errors import InputError

# By the name of an entry, the argument that it says, which is an attribute, too.
_ENTRIES = {
    "stored_bits": ("bits", torch.int64),
    "stored_dim": ("embedding_dim", torch.int64),
    "stored_share": ("own_share", torch.float64),
}


def facts_in(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a state says of the arguments that made its table; nothing where it was written before it said any."""
    return {fact: _fact(name, state[name]) for name, (fact, _) in _ENTRIES.items() if name in state}


def without_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a model of tables that say nothing."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in _ENTRIES}


class SaysFacts(nn.Module):
    """A base of modules whose state says what they are, and that load no state of what they are not.

    Attributes
    ----------
    says : tuple of str
        The entries that a state has, as far as there is what they say.
    """

    says: ClassVar[tuple[str, ...]] = ()

    def __getattr__(self, name: str) -> Any:
        if name not in self.says:
            return super().__getattr__(name)
        fact, dtype = _ENTRIES[name]
        device = next(self.parameters()).device
        return torch.tensor([getattr(self, fact)], dtype=dtype, device=device).view(torch.int64)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.says:
            if self._own(name) is not None:
                destination[prefix + name] = getattr(self, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        errors: list[str] = arguments[-1]
        for name in _ENTRIES:
            if prefix + name not in state_dict:
                continue
            try:
                own, got = self._own(name), _fact(prefix + name, state_dict.pop(prefix + name))
            except InputError as error:
                errors.append(str(error))
            else:
                if own != got:
                    errors.append(f"{prefix}{name} must be {own}, as of the module, got {got}")
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _own(self, name: str) -> Any:
        return getattr(self, _ENTRIES[name][0]) if name in self.says else None


def _fact(name: str, entry: Any) -> Any:
    if not isinstance(entry, Tensor) or entry.dtype != torch.int64 or entry.shape != (1,):
        raise InputError(f"{name} of a state must be an int64 tensor of shape (1,), got {shown(entry)}")
    return entry.view(_ENTRIES[name.rpartition(".")[2]][1]).item()
