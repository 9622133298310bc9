"""The files of a folder of the package: what is found in them need stand in no list."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules_of(package: str) -> list[ModuleType]:
    """All modules in a package, imported, in the order of their names."""
    path = importlib.import_module(package).__path__
    return [importlib.import_module(f"{package}.{file.name}") for file in pkgutil.iter_modules(path)]
