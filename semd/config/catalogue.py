"""Catalogue of all settings, read from the models of the sections; the generated documents are made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from semd.config.sections import Starter

_UNITS = {
    "s": "s",
    "px": "px",
    "mm": "mm",
    "um": "µm",
    "mrad": "mrad",
    "mb": "MB",
    "gb": "GB",
    "days": "days",
    "percent": "%",
}
"""Unit by the ending of a key."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration.

    Attributes:
        section, key: its place in the file.
        kind: the values it takes, in words.
        unit: unit of a number; empty without one.
        bounds: bounds of a number, such as `>= 1, <= 64`; empty without any.
        is_required: True where there is no default.
        default: default value; None where there is none, or where the setting is off.
        example: value shown where the default is none.
        starter: mark of a key that `semd init` writes uncommented, or None.
        is_path: True for a path, which is relative to the configuration file.
        description: meaning, in sentences.
    """

    section: str
    key: str
    kind: str
    unit: str
    bounds: str
    is_required: bool
    default: object
    example: object
    starter: Starter | None
    is_path: bool
    description: str


def sections(config: type[BaseModel]) -> Iterator[tuple[str, str, list[Setting]]]:
    """Yield the name, the description and the settings of every section, in the order of the models."""
    for name, field in config.model_fields.items():
        section: type[BaseModel] = field.annotation  # type: ignore[assignment]
        settings = [_setting(name, key, entry) for key, entry in section.model_fields.items()]
        yield name, " ".join(cleandoc(section.__doc__ or "").split()), settings


def toml_value(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(part) for part in value)}]"
    if isinstance(value, str | Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def _setting(section: str, key: str, field: FieldInfo) -> Setting:
    starter = next((mark for mark in field.metadata if isinstance(mark, Starter)), None)
    members = _members(field.annotation)
    examples = field.examples or [None]
    return Setting(
        section=section,
        key=key,
        kind=" or ".join(filter(None, (_kind(member) for member in members))),
        unit=_UNITS.get(key.rpartition("_")[2], "") if "_" in key else "",
        bounds=", ".join(filter(None, (_bound(mark) for mark in _marks(field)))),
        is_required=field.is_required(),
        default=None if field.default is PydanticUndefined else field.default,
        example=examples[0],
        starter=starter,
        is_path=Path in members,
        description=field.description or "",
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _marks(field: FieldInfo) -> Iterator[object]:
    """Yield the bounds of a field, those of the members of a union included."""
    for mark in field.metadata:
        yield from getattr(mark, "metadata", [mark])


def _kind(annotation: Any) -> str:
    if annotation is NoneType:
        return ""
    if get_origin(annotation) is Literal:
        return _words(get_args(annotation))
    if get_origin(annotation) is tuple:
        part, *rest = get_args(annotation)
        return "[low, high]" if rest == [float] else f"list of {_kind(part)}"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _words(str(word) for word in annotation)
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _words(words: Iterable[object]) -> str:
    return ", ".join(f"`{toml_value(word)}`" for word in words)


def _bound(mark: object) -> str:
    match mark:
        case Ge(ge=value):
            return f">= {value:g}"
        case Gt(gt=value):
            return f"> {value:g}"
        case Le(le=value):
            return f"<= {value:g}"
        case Lt(lt=value):
            return f"< {value:g}"
    return ""
