"""Former spellings of commands and options, which go on working without being shown in the help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from semd.errors import ConfigError

OPTIONS = {"--rival": "--baseline", "--aside": "--validation", "--passes-scale": "--epochs-scale"}


class FormerSpellings(TyperGroup):
    """A group of commands that also takes the former spellings."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, as click does, after the spellings are replaced."""
        return super().resolve_command(ctx, present_spelling(args))


def present_spelling(arguments: Sequence[str]) -> list[str]:
    """Replace former spellings in the arguments of a group: `control --images` is `images` today.

    Raises:
        ConfigError: `train control` is given options of two of its former modes, or of one that it no longer has.
    """
    command, *rest = arguments
    words = []
    for word in rest:
        name, equals, value = word.partition("=")
        words.append(f"{OPTIONS.get(name, name)}{equals}{value}")
    names = {word.partition("=")[0] for word in words}
    if command != "control":
        return [command, *words]
    if "--images" in names:
        if "--from-records" in names:
            raise ConfigError("--images and --from-records do not go together")
        return ["images", *(word for word in words if word != "--images")]
    if "--from-records" in names:
        return ["records", *words]
    if names & {"--start", "--config"}:
        raise ConfigError("--start and --config go with --from-records: call `semd train records`")
    return [command, *words]
