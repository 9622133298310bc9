"""Groups of options: a dataclass whose fields are options, shared by all commands with a parameter of its type.

@dataclass(frozen=True)
class Run:
    panel: ClassVar[str] = "Run"  # the heading in --help
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0

@app.command()
@expanded
def compress(data: Data, run: Run) -> None: ...  # takes --seed, and reads it as run.seed
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from copy import copy
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import ParameterInfo


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which every parameter of a group's type is replaced by the fields of the group.

    Typer sees the fields, each an option under the heading of its group; the command gets the groups.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _fields(kind)
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        grouped = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**values, **grouped)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_under(group.panel, hints[field.name]),
        )
        for field in dataclasses.fields(group)
    ]


def _under(panel: str, annotation: Any) -> Any:
    """The annotation of an option, with the heading it stands under in --help."""
    kind, *extras = get_args(annotation)
    infos = [copy(extra) for extra in extras if isinstance(extra, ParameterInfo)]
    for info in infos:
        info.rich_help_panel = panel
    return Annotated[kind, *infos]
