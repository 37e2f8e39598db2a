"""Documents generated from the models: the annotated `semd.toml`, its JSON Schema, and the reference in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap

from semd.config.catalogue import Setting, sections, toml_value
from semd.config.loading import Config
from semd.errors import ConfigError

CONFIG_NAME = "semd.toml"
SCHEMA_NAME = "semd.schema.json"
_LINE_WIDTH = 120
_COMMENT_COLUMN = 44


def starter_toml() -> str:
    """Return the annotated configuration that `semd init` writes: every key, the defaults commented out."""
    lines = [
        f"#:schema ./{SCHEMA_NAME}",
        "# Configuration of semd, for the daemon (`semd run`) and the Middle Client (`semd middle-client`).",
        "# Paths are relative to this file. Only what is not commented out is set; the comments show the defaults",
        "# (examples, where a setting is off by default).",
    ]
    for name, description, settings in sections(Config):
        is_written = any(setting.starter is not None for setting in settings)
        lines += ["", *_commented(f"[{name}]" if is_written else f"# [{name}]", description)]
        for setting in settings:
            lines += _commented(_line(setting), _comment(setting))
    return "\n".join(lines) + "\n"


def json_schema() -> str:
    """Return the JSON Schema of the configuration, for editors that check and complete TOML."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "semd.toml",
        **{key: value for key, value in Config.model_json_schema().items() if key != "title"},
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def reference_markdown() -> str:
    """Return the reference of all settings in Markdown: deploy/CONFIGURATION.md."""
    parts = [
        "# Configuration",
        "",
        f"Every key of `{CONFIG_NAME}`, the one file that configures the daemon and the Middle Client.",
        "`semd init DIR` writes one with comments. Paths are relative to the file. An unknown key is refused, with the",
        "nearest known one. This page is generated from the models in `semd/config/sections.py` by",
        "`semd config docs --out deploy/CONFIGURATION.md`; do not edit it by hand. `semd config schema` prints the",
        "JSON Schema of the file.",
    ]
    for name, description, settings in sections(Config):
        parts += [
            "",
            f"## [{name}]",
            "",
            description,
            "",
            "| key | value | unit | default | meaning |",
            "|---|---|---|---|---|",
        ]
        parts += [_row(setting) for setting in settings]
    return "\n".join(parts) + "\n"


def write_starter(directory: Path) -> Path:
    """Write `semd.toml`, its schema and the folders it names; return the path of the configuration.

    Raises:
        ConfigError: there is a semd.toml already, or the directory cannot be written.
    """
    path = directory / CONFIG_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(starter_toml())
        (directory / SCHEMA_NAME).write_text(json_schema(), encoding="utf-8", newline="\n")
        for name, _, settings in sections(Config):
            for setting in settings:
                if setting.is_path and setting.starter is not None:
                    (directory / str(setting.starter.value or name)).mkdir(exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists already and is left as it is") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return path


def _line(setting: Setting) -> str:
    shown = setting.default if setting.default is not None else setting.example
    if setting.starter is None:
        return f"# {setting.key} = {toml_value(shown)}"
    return f"{setting.key} = {toml_value(setting.starter.value if setting.starter.value is not None else shown)}"


def _comment(setting: Setting) -> str:
    if setting.kind.startswith("`"):
        return f"{setting.description} One of {setting.kind.replace('`', '')}."
    return setting.description


def _commented(line: str, comment: str) -> list[str]:
    """Put a comment beside a line, and go on below it where it is long."""
    width = _LINE_WIDTH - _COMMENT_COLUMN - 2
    first, *rest = wrap(comment, width)
    padded = f"{line:<{_COMMENT_COLUMN - 1}} " if len(line) < _COMMENT_COLUMN else f"{line}  "
    return [f"{padded}# {first}", *(f"{'':{_COMMENT_COLUMN}}# {more}" for more in rest)]


def _row(setting: Setting) -> str:
    if setting.is_required:
        default = "required"
    elif setting.default is not None:
        default = f"`{toml_value(setting.default)}`"
    else:
        default = f"none; e.g. `{toml_value(setting.example)}`"
    values = f"{setting.kind} {setting.bounds}".strip().replace("|", "\\|")
    return f"| `{setting.key}` | {values} | {setting.unit} | {default} | {setting.description} |"
