"""The options that models have of their own (`Model.Options`), on the commands that train one.

They are found when such a command is read, completed or explained, and not before: models load PyTorch.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from baco_gpu.cli.option_checks import is_given
from baco_gpu.cli.plain_help import PlainCommand, without_types
from baco_gpu.errors import InputError


class ModelCommand(PlainCommand):
    """A command that takes the options of all models; `own_options` says which of them were given."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [*super().get_params(ctx), *without_types([*_parameters()])]

    def invoke(self, ctx: Any) -> Any:
        """Run the command, which takes no such options: they are the context's object."""
        ctx.obj = {name: ctx.params.pop(name) for name in _fields()}
        return super().invoke(ctx)


def own_options(context: typer.Context, models: Sequence[str]) -> dict[str, Any]:
    """The options of these models that were given, by name, all checked; the context gets those that were not, too.

    Raises
    ------
    InputError
        For a value out of range, and for an option on the command line that none of these models has. A file of
        settings may have what it likes.
    """
    from baco_gpu.models import model_options

    given = {name: value for name, value in context.obj.items() if value is not None}
    having = {name: [model for model, _ in owners] for name, owners in _fields().items()}
    for name in given:
        if is_given(context, name) and not set(having[name]) & set(models):
            raise InputError(
                f"{_flag(name)} has no effect on model {', '.join(map(repr, models))}: leave it out, or --model "
                f"{' or '.join(having[name])}"
            )
    used: dict[str, set[Any]] = {}
    for model in models:
        own = {name: value for name, value in given.items() if model in having[name]}
        for name, value in dataclasses.asdict(model_options(model, own)).items():
            used.setdefault(name, set()).add(value)
    # What several models have by one name, each with a default of its own, stays theirs.
    context.obj = {name: values.pop() for name, values in used.items() if len(values) == 1}
    return {name: value for name, value in given.items() if name in used}


def _fields() -> dict[str, list[tuple[str, dataclasses.Field[Any]]]]:
    """The fields of every option, with the models that have one of that name."""
    from baco_gpu.models import MODELS

    found: dict[str, list[tuple[str, dataclasses.Field[Any]]]] = {}
    for model, kind in MODELS.items():
        for field in dataclasses.fields(kind.Options):
            found.setdefault(field.name, []).append((model, field))
    return found


def _parameters() -> Iterable[Any]:
    """The options as Typer makes them of a function's parameters."""

    def command(**_: Any) -> None:
        """Stands for a function with these parameters."""

    parameters = []
    for name, owners in _fields().items():
        text = " ".join(f"{model}: {field.metadata['help']}" for model, field in owners)
        default = ", ".join(str(field.default) for _, field in owners)
        info = typer.Option(_flag(name), help=text, show_default=default, rich_help_panel="Of one model")
        kind: Any = type(owners[0][1].default) | None
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, keyword, default=None, annotation=Annotated[kind, info]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    scratch = typer.Typer(add_completion=False)
    scratch.command()(command)
    return typer.main.get_command(scratch).params


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
