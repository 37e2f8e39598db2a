"""The configuration: keys of the protocol keep their meaning, mistakes get one line that says what and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from semd.config import load_config
from semd.config.documents import write_starter
from semd.domain.axes import AXES, Axis
from semd.errors import ConfigError

MINIMAL = """
[watch]
directory = "in"
[actions]
directory = "out"
[state]
directory = "state"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "semd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_three_directories_are_enough_and_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.watch.directory == tmp_path / "in"
    assert config.actions.directory == tmp_path / "out"
    assert (config.watch.layout, config.watch.dialect, config.link.dialect) == ("series", "coxem", "text")
    assert (config.control.axes, config.control.accept_score, config.control.max_steps) == (AXES, 9.0, 50)


def test_all_keys_of_the_protocol(tmp_path: Path) -> None:
    text = """
[watch]
directory = "in"
layout = "single"
dialect = "zeiss"
[actions]
directory = "out"
[state]
directory = "state"
[link]
host = "10.0.0.5"
allow_remote = true
port = 9000
dialect = "aisem"
[control]
axes = ["wd"]
accept_score = 8.5
max_steps = 30
[limits]
wd_mm = [5.0, 12.0]
brightness = [-3, 7]
contrast = [0, 1000]
"""
    config = load_config(write(tmp_path, text))
    rules = config.rules(n_frames=4, rho=0.1)
    assert rules.axes == (Axis.WD,)
    assert (rules.limits[Axis.WD].low, rules.limits[Axis.WD].high) == (5.0, 12.0)
    assert (rules.limits[Axis.BRIGHTNESS].low, rules.limits[Axis.CONTRAST].high) == (-3.0, 1000.0)
    assert (rules.accept_score, rules.max_steps, rules.n_frames, rules.rho) == (8.5, 30, 4, 0.1)
    assert (config.link.host, config.link.port) == ("10.0.0.5", 9000)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[contrl]\naxes = ['wd']", ["[contrl]", "'control'"]),
        ("[control]\naccept_scor = 9", ["[control] accept_scor", "'accept_score'"]),
        ("[link]\nprt = 1", ["[link] prt", "'port'"]),
        ("[link]\nport = 'x'", ["[link] port"]),
        ("[link]\nport = 70000", ["[link] port"]),
        ("[limits]\nwd_mm = [9.0, 5.0]", ["[limits]", "wd_mm"]),
        ("[limits]\nwd_mm = [nan, 5.0]", ["[limits] wd_mm"]),
        ("[limits]\nwd_mm = 5.0", ["[limits] wd_mm"]),
        ("[control]\naxes = ['wd', 'wd']", ["[control]", "twice"]),
        ("[control]\naxes = []", ["[control] axes"]),
        ("[control]\naxes = ['focus']", ["[control] axes"]),
        ("[control]\naccept_score = 11", ["[control] accept_score"]),
        ("[link]\ndialect = 'aisem'", ["aisem", "brightness"]),
        ("[log]\ndirectory = 'in/logs'", ["[log] directory", "[watch] directory"]),
        ("[health]\nmetrics_port = 0", ["[health] metrics_port"]),
        ("[health]\nmin_free = 10", ["[health] min_free", "'min_free_mb'"]),
        ("[control\n", ["not TOML", "line"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, extra: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, MINIMAL + extra))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"SEMD-C01: {tmp_path / 'semd.toml'}")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL.replace('"out"', '"in"'),
        MINIMAL.replace('"out"', '"in/actions"'),
        MINIMAL.replace('"state"', '"out/../in/state"'),
        MINIMAL.replace('"state"', '"."'),
    ],
)
def test_overlapping_directories_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        load_config(write(tmp_path, text))


def test_a_missing_directory_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[state\] is missing"):
        load_config(write(tmp_path, MINIMAL.replace('[state]\ndirectory = "state"\n', "")))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="semd init"):
        load_config(tmp_path / "none.toml")


def test_the_template_is_valid_and_never_overwritten(tmp_path: Path) -> None:
    path = write_starter(tmp_path / "lab")
    config = load_config(path)
    assert all(directory.is_dir() for directory in (config.watch.directory, config.actions.directory))
    with pytest.raises(ConfigError, match="exists already"):
        write_starter(tmp_path / "lab")


def test_the_scoring_machine_runs_in_torch_unless_told_otherwise(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL)).scoring.runtime == "torch"
    config = load_config(write(tmp_path, MINIMAL + '[scoring]\nruntime = "int8"\nthreads = 2\n'))
    assert (config.scoring.runtime, config.scoring.threads) == ("int8", 2)
    with pytest.raises(ConfigError, match=r"\[scoring\] runtime"):
        load_config(write(tmp_path, MINIMAL + '[scoring]\nruntime = "fp16"\n'))


def test_the_old_place_of_threads_names_the_new_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[models\] threads has moved: write \[scoring\] threads"):
        load_config(write(tmp_path, MINIMAL + "[models]\nthreads = 2\n"))


def test_logs_go_to_the_state_directory_unless_told_otherwise(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL)).log_directory == tmp_path / "state" / "logs"
    assert load_config(write(tmp_path, MINIMAL + "[log]\ndirectory = 'logs'")).log_directory == tmp_path / "logs"


def test_no_port_listens_unless_told_otherwise(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL)).health.metrics_port is None


def test_the_directories_of_the_systemd_units_fit_together(tmp_path: Path) -> None:
    text = """
[watch]
directory = "/srv/sem/watch"
[actions]
directory = "/var/lib/semd/actions"
[state]
directory = "/var/lib/semd/state"
[log]
directory = "/var/log/semd"
"""
    assert load_config(write(tmp_path, text)).log_directory == Path("/var/log/semd")


@pytest.mark.parametrize(("limit_s", "is_fine"), [(0.0, True), (19.9, False), (20.0, True)])
def test_waiting_for_the_link_is_never_taken_for_a_hang(tmp_path: Path, limit_s: float, is_fine: bool) -> None:
    text = f"{MINIMAL}[link]\nconnect_timeout_s = 5.0\n[health]\nend_hung_s = {limit_s}\n"
    if is_fine:
        assert load_config(write(tmp_path, text)).health.end_hung_s == limit_s
    else:
        with pytest.raises(ConfigError, match=r"end_hung_s = 19\.9: .* 20 s"):
            load_config(write(tmp_path, text))
