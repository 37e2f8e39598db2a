"""Generated documents: complete, current, and valid; each setting is defined once."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from semd.config import Config, load_config
from semd.config.catalogue import Setting, sections, toml_value
from semd.config.documents import json_schema, reference_markdown, starter_toml, write_starter
from semd.decision.rules import DEFAULT_LIMITS, RunRules
from semd.middle_client.settings import MiddleClientSettings

ROOT = Path(__file__).parents[3]
SETTINGS = [setting for _, _, settings in sections(Config) for setting in settings]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.section}.{setting.key}")
OTHER_MEANING = {"directory", "file", "level", "layout", "dialect", "runtime", "threads", "width_px", "height_px"}
"""Keys whose name stands for other things as well, such as the input size of a network."""
INSTRUMENT_ROOMS = ["daemon", "inbox", "middle_client", "outbox", "scoring", "control", "service", "pipeline.py"]


def test_the_reference_in_the_repository_is_current() -> None:
    page = (ROOT / "deploy" / "CONFIGURATION.md").read_text("utf-8")
    assert page == reference_markdown(), "run `semd config docs --out deploy/CONFIGURATION.md`"


@each_setting
def test_a_setting_has_a_description_and_a_value_to_show(setting: Setting) -> None:
    assert setting.description.endswith(".")
    assert setting.is_required or setting.default is not None or setting.example is not None
    assert f"`{setting.key}` |" in reference_markdown()


def test_the_starter_file_sets_what_is_marked_and_the_comments_show_the_defaults(tmp_path: Path) -> None:
    written = tomllib.loads(starter_toml())
    assert {(section, key) for section, table in written.items() for key in table} == {
        (setting.section, setting.key) for setting in SETTINGS if setting.starter is not None
    }
    assert all(len(line) <= 120 for line in starter_toml().splitlines())
    for setting in SETTINGS:
        if setting.starter is None:
            shown = setting.default if setting.default is not None else setting.example
            assert f"\n# {setting.key} = {toml_value(shown)} " in starter_toml()


def test_every_comment_of_the_starter_file_is_a_valid_setting(tmp_path: Path) -> None:
    shown = starter_toml().replace("# [", "[").splitlines()
    keys = {setting.key for setting in SETTINGS}
    lines = [line.removeprefix("# ") if line.removeprefix("# ").split(" = ")[0] in keys else line for line in shown]
    path = tmp_path / "semd.toml"
    path.write_text("\n".join(lines).replace('profile = "coxem-em30"', 'profile = "custom"'), "utf-8")
    (tmp_path / "profile.toml").write_text(
        'name = "own"\nwd_mm = [0.0, 50.0]\nbrightness = [0.0, 100.0]\ncontrast = [0.0, 100.0]\n', "utf-8"
    )
    config = load_config(path)
    assert sum(len(table) for table in tomllib.loads(path.read_text("utf-8")).values()) == len(SETTINGS)
    assert config.log.directory == tmp_path / "logs"


def test_init_writes_the_schema_beside_the_configuration(tmp_path: Path) -> None:
    path = write_starter(tmp_path / "lab")
    schema = json.loads(path.with_name("semd.schema.json").read_text("utf-8"))
    assert schema == json.loads(json_schema())
    assert path.read_text("utf-8").startswith("#:schema ./semd.schema.json\n")
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "actions",
        "semd.schema.json",
        "semd.toml",
        "state",
        "watch",
    ]


@each_setting
def test_the_schema_knows_the_setting_and_refuses_others(setting: Setting) -> None:
    schema = json.loads(json_schema())
    section: dict[str, Any] = schema["properties"][setting.section]
    definition = schema["$defs"][section["$ref"].rpartition("/")[2]]
    entry = definition["properties"][setting.key]
    assert entry["description"] == setting.description
    assert definition["additionalProperties"] is False
    if setting.default is not None:
        assert toml_value(entry["default"]) == toml_value(setting.default)


def test_the_configuration_takes_its_defaults_from_the_rules_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "semd.toml"
    path.write_text('watch.directory = "in"\nactions.directory = "out"\nstate.directory = "state"\n', "utf-8")
    config = load_config(path)
    rules = RunRules()
    assert config.rules(rules.n_frames, rules.rho) == rules
    assert config.limits.bounds == DEFAULT_LIMITS


def test_the_middle_client_takes_its_defaults_from_the_configuration() -> None:
    settings = MiddleClientSettings(Path("actions"), Path("state"))
    for setting in SETTINGS:
        if setting.section in ("link", "actions", "health") and hasattr(settings, setting.key):
            assert getattr(settings, setting.key) == setting.default


def test_no_record_of_the_instrument_repeats_a_default() -> None:
    keys = {setting.key for setting in SETTINGS} - OTHER_MEANING
    repeated = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.target.id}"
        for room in INSTRUMENT_ROOMS
        for path in ([ROOT / "semd" / room] if room.endswith(".py") else (ROOT / "semd" / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id in keys
        and isinstance(node.value, ast.Constant)
        and node.value.value is not None
    ]
    assert repeated == []
