"""The trials of a grid: which runs there are, and the name that each of them is known by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from baco_gpu.budget import SIDES, budget_of
from baco_gpu.checks import check_integer
from baco_gpu.data.interactions import SplitInteractions
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.experiment.run import check_names
from baco_gpu.methods.registry import find_method, former_names
from baco_gpu.models.model import find_model, model_options
from baco_gpu.training.settings import TrainingSettings

_LARGEST_SEED = 2**63 - 2


@dataclass(frozen=True)
class Trial:
    """One run of a grid.

    Attributes
    ----------
    data : str, how tables call the interaction set
    data_checksum : str, of its three parts
    method, model : str
    budget : float (a share of the full table), int (codebook rows), dict (one of these for "users" and one for
        "items"), or None for methods that take none
    seed : int, of clustering and training
    options : dict, those of the model
    clustering : dict, the parameters of the estimator that do not change over the grid
    training : dict, those of the training settings
    """

    data: str
    data_checksum: str
    method: str
    model: str
    budget: Any
    seed: int
    options: dict[str, Any]
    clustering: dict[str, Any]
    training: dict[str, Any]

    @property
    def name(self) -> str:
        """A readable slug and a hash of all settings: another setting is another run."""
        words = [self.data, self.model, self.method, budget_label(self.budget), f"seed{self.seed}"]
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        slug = "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-") for word in words if word)
        return f"{slug}-{digest[:10]}"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the run depends on, ready for JSON."""
        return asdict(self)

    @property
    def former(self) -> list[Trial]:
        """The trial as it was known while its method had another name."""
        return [replace(self, method=name) for name in former_names(self.method)]

    @property
    def title(self) -> str:
        """The run in a few words."""
        return " ".join(
            word for word in (self.model, self.method, budget_label(self.budget), f"seed {self.seed}") if word
        )

    def estimator(self) -> BalancedCoclustering:
        """What says the budget and the seed to every method, and clusters for ours."""
        return BalancedCoclustering(budget=self.budget, random_state=self.seed, **self.clustering)

    def training_settings(self) -> TrainingSettings:
        return TrainingSettings(**{**self.training, "ks": tuple(self.training["ks"])}, seed=self.seed)


def budget_label(budget: Any) -> str:
    """A budget in a few characters: "25%", "7980 rows", "users 20%, items 50%", or nothing."""
    if budget is None:
        return ""
    if isinstance(budget, Mapping):
        return ", ".join(f"{side} {budget_label(budget[side]) or 'as they come'}" for side in SIDES)
    return f"{budget} rows" if isinstance(budget, int) else f"{100 * budget:.4g}%"


def plan(
    data: str,
    split: SplitInteractions,
    *,
    methods: Sequence[str],
    budgets: Sequence[Any],
    models: Sequence[str],
    seeds: Sequence[int],
    clustering: BalancedCoclustering,
    training: TrainingSettings,
    options: Mapping[str, Any] | None = None,
) -> list[Trial]:
    """Every run of the grid, seed by seed, so that a whole table is there after the first seed.

    A method that takes no budget (the full table, and those that choose their own size) is run once for each model and
    seed. The budget and the seeds that `clustering` and `training` hold are not used; `options` are those of models,
    each of which takes its own.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or a budget or seed is out of its range.
    MissingExtraError
        If a method needs a package that is not installed.
    """
    check_grid(methods, budgets, models, seeds)
    parameters = {
        name: value for name, value in clustering.get_params().items() if name not in ("budget", "random_state")
    }
    common = asdict(replace(training, seed=0))
    del common["seed"]
    common["ks"] = list(common["ks"])  # as JSON gives it back
    checksum = _checksum(split)
    own = {model: asdict(_own_options(model, options or {})) for model in models}
    trials: dict[str, Trial] = {}
    for seed in seeds:
        for budget in budgets:
            for method in map(find_method, methods):
                for model in models:
                    spent = budget if method.takes_budget else None
                    trial = Trial(data, checksum, method.name, model, spent, seed, own[model], parameters, common)
                    trials.setdefault(trial.name, trial)
    return list(trials.values())


def check_grid(methods: Sequence[str], budgets: Sequence[Any], models: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise what `plan` would for these names and numbers, before any data is read."""
    chosen = [find_method(method) for method in methods]
    names = [method.name for method in chosen]
    for what, values in (("methods", names), ("budgets", budgets), ("models", models), ("seeds", seeds)):
        if not values or len(set(map(str, values))) < len(values):
            raise InputError(
                f"{what} must be different values, at least one, got {', '.join(map(str, values)) or 'none'}"
            )
    for model in models:
        find_model(model)
        for method in methods:
            check_names(method=method, model=model)
    for budget in budgets:
        budget_of(budget)
    for seed in seeds:
        check_integer("seed", seed, minimum=0, maximum=_LARGEST_SEED)


def _own_options(model: str, options: Mapping[str, Any]) -> Any:
    own = {each.name for each in fields(find_model(model).Options)}
    return model_options(model, {name: value for name, value in options.items() if name in own})


def _checksum(split: SplitInteractions) -> str:
    """SHA-256 of the sizes and pairs of the three parts, in order."""
    digest = hashlib.sha256(np.array([split.num_users, split.num_items], dtype="<i8").tobytes())
    for part in (split.train, split.validation, split.test):
        for ids in (part.users, part.items):
            digest.update(np.ascontiguousarray(ids, dtype="<i8").data)
    return digest.hexdigest()
