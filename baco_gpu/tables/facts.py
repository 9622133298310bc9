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

_STORED = "stored_"  # an entry is named so, and as the attribute that it says
_DTYPES = {int: torch.int64, float: torch.float64}

Facts = Mapping[str, type[int] | type[float]]


def without_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a model of tables that say nothing."""
    return {name: value for name, value in state.items() if not name.rpartition(".")[2].startswith(_STORED)}


class SaysFacts(nn.Module):
    """A base of modules whose state says what they are, and that load no state of what they are not.

    Attributes
    ----------
    says : dict of str to int or float
        What a state says: attributes, which are arguments of the class, too, and the types of those that are not None.
    """

    says: ClassVar[Facts] = {}

    @classmethod
    def said_in(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """What a state says of these arguments; nothing where it was written before it said any."""
        names = {fact: _STORED + fact for fact in cls.says}
        return {fact: cls._fact(name, state[name]) for fact, name in names.items() if name in state}

    def __getattr__(self, name: str) -> Any:
        fact = name.removeprefix(_STORED)
        if fact == name or fact not in self.says:
            return super().__getattr__(name)
        device = next(self.parameters()).device
        return torch.tensor([getattr(self, fact)], dtype=_DTYPES[self.says[fact]], device=device).view(torch.int64)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for fact in self.says:
            if getattr(self, fact) is not None:
                destination[f"{prefix}{_STORED}{fact}"] = getattr(self, _STORED + fact)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        errors: list[str] = arguments[-1]
        for name in [name for name in state_dict if name.startswith(prefix + _STORED)]:
            fact = name.removeprefix(prefix + _STORED)
            try:
                own, got = getattr(self, fact) if fact in self.says else None, self._fact(name, state_dict.pop(name))
            except InputError as error:
                errors.append(str(error))
            else:
                if own != got:
                    errors.append(f"{name} must be {own}, as of the module, got {got}")
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    @classmethod
    def _fact(cls, name: str, entry: Any) -> Any:
        if not isinstance(entry, Tensor) or entry.dtype != torch.int64 or entry.shape != (1,):
            raise InputError(f"{name} of a state must be an int64 tensor of shape (1,), got {shown(entry)}")
        return entry.view(_DTYPES[cls.says.get(name.rpartition(_STORED)[2], int)]).item()
