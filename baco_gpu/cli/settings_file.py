"""Settings of a command in a YAML file: read by --config, and written beside every result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

import baco_gpu
from baco_gpu.atomic import replacing
from baco_gpu.checks import shown, suggestion
from baco_gpu.errors import DAMAGE, InputError, brief
from baco_gpu.visible import visible

_LARGEST = 1 << 16
_DEEPEST = 8
_MOST_DIGITS = 100
# Anything that YAML takes for a number: with points, exponents, underscores, or in base 2, 8, 16 or 60.
_LONG_NUMBER = re.compile(rf"[-+]?[.0-9][0-9a-fA-FxobXOB_:.+-]{{{_MOST_DIGITS},}}")
_OTHER_BASE = re.compile(r"[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)")  # eights, or sixties
_BY_SIDE = ("budget", "budget-rows")  # a mapping of users and items is one value
# What says where to and how to print or wait, and not what comes out.
_NOT_OF_THE_RESULT = ("config", "help", "out", "labels", "plot", "quiet", "json", "rank-timeout")


def load_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Make the settings of the file the defaults of this command: what the command line says comes first.

    The file is a mapping of option names, with dashes or underscores, to values; `data` stands for DATA.

    Raises
    ------
    InputError
        If the file cannot be read, is no mapping, or has a key or a value that the command does not take.
    """
    if path is None or context.resilient_parsing:
        return path
    parameters = {
        _plain(name): parameter
        for parameter in context.command.get_params(context)
        if parameter.name not in ("config", "help")
        for name in (*parameter.opts, str(parameter.name))
    }
    settings: dict[str, Any] = {}
    given: set[str] = set()
    for key, value in _read(path).items():
        parameter = parameters.get(_plain(str(key)))
        if parameter is None:
            known = ", ".join(sorted(name for name in parameters if len(name) > 1))
            hint = suggestion(_plain(str(key)), parameters) or f"; the command takes {known}"
            raise InputError(f"{path}: {context.command.name} has no setting {key!r}{hint}")
        if str(parameter.name) in given:
            raise InputError(f"{path}: expected every setting once, got {key!r} again")
        given.add(str(parameter.name))
        if value is not None:
            settings[str(parameter.name)] = _value(context, path, str(key), parameter, value)
    context.default_map = {**(context.default_map or {}), **settings}
    return path


def write_settings(context: typer.Context, path: Path) -> Path:
    """Write all that made a result, defaults included, beside its file as NAME.settings.yml; returns that path.

    `--config` on the same command repeats the run.
    """
    target = path.with_suffix(".settings.yml")
    names = {str(parameter.name): _plain(parameter.opts[0]) for parameter in context.command.get_params(context)}
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in ((names[key], value) for key, value in (context.params | (context.obj or {})).items())
        if value is not None and name not in _NOT_OF_THE_RESULT
    }
    command = context.command.name
    with replacing(target) as temporary:
        temporary.write_text(
            f"# baco_gpu {baco_gpu.__version__}; again: baco {command} --config {visible(target.name)}\n"
            + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
    return target


def _read(path: Path) -> Mapping[object, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        _check_size(path, len(content))
        text = content.decode()
        _check_expansion(path, text)
        _check_keys(path, yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: expected a YAML file of settings, but it cannot be read ({error.strerror})"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a YAML file of settings in UTF-8, got other bytes") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise InputError(f"{path}: expected a YAML file of settings, but{line} {problem}") from error
    except DAMAGE as error:  # a value that its own tag does not fit, such as a date of a 13th month
        raise InputError(f"{path}: expected a YAML file of settings, but {brief(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected lines such as 'budget: 0.25', got {shown(content)}")
    return content


def _check_size(path: Path, size: int) -> None:
    if size > _LARGEST:
        raise InputError(f"{path}: expected settings of at most {_LARGEST:,} letters, aliases written out, got more")


def _check_expansion(path: Path, text: str) -> None:
    """Raise InputError for what would grow beyond every settings: before anything is built of it."""
    size = 0
    open_nodes: list[tuple[str | None, int]] = []  # the anchor of every list and mapping around, and where it begins
    anchors: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise InputError(f"{path}: expected settings, and in line {line} {event.anchor!r} holds itself")
            size += anchors.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            if _LONG_NUMBER.fullmatch(event.value):
                raise InputError(
                    f"{path}: expected numbers of at most {_MOST_DIGITS} digits, line {line} has one of "
                    f"{len(event.value):,} letters"
                )
            if event.implicit[0] and _OTHER_BASE.fullmatch(event.value):
                raise InputError(
                    f"{path}: expected numbers in tens, line {line} has {event.value!r}, another one in YAML"
                )
            size += 1 + len(event.value)
            anchors |= {event.anchor: 1 + len(event.value)} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, size))
            if len(open_nodes) > _DEEPEST:
                raise InputError(f"{path}: expected settings at most {_DEEPEST} levels deep, line {line} goes deeper")
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_nodes.pop()
            anchors |= {anchor: size - start} if anchor else {}
        _check_size(path, size)


def _check_keys(path: Path, node: yaml.Node | None) -> None:
    """Raise InputError where a mapping has a key twice, of which YAML takes the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    for key, times in keys.items():
        if times > 1:
            raise InputError(f"{path}: expected every setting once, got {key!r} {times} times")
    for _, value in node.value:
        _check_keys(path, value)


def _value(context: typer.Context, path: Path, key: str, parameter: Any, value: Any) -> Any:
    """The value as the option takes it; InputError where the option does not."""
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    if isinstance(value, dict) and _plain(parameter.opts[0]) in _BY_SIDE:
        value = ",".join(f"{name}={part}" for name, part in value.items())
    if isinstance(value, (dict, list)) or isinstance(value, bool) != bool(getattr(parameter, "is_flag", False)):
        expected = "true or false" if getattr(parameter, "is_flag", False) else "one value"
        raise InputError(f"{path}: {key} must be {expected}, got {shown(value)}")
    try:
        return parameter.process_value(context, value)
    except typer.BadParameter as error:
        raise InputError(f"{path}: {key}: {error.message.rstrip('.')}, got {shown(value)}") from error


def _plain(name: str) -> str:
    """An option's name as a key: without leading dashes, and with dashes inside."""
    return name.lstrip("-").replace("_", "-")
