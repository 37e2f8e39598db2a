"""The instrument profile: no slip in [limits] gets past it, and the link leads to this computer alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from semd.config import InstrumentConfig, LimitsConfig, load_config
from semd.config.documents import write_starter
from semd.config.instrument_file import MAX_PROFILE_BYTES
from semd.domain.axes import AXES, Axis
from semd.errors import ConfigError
from semd.protocol.address import is_loopback
from semd.protocol.instrument_profile import BUILT_IN

MINIMAL = '[watch]\ndirectory = "in"\n[actions]\ndirectory = "out"\n[state]\ndirectory = "state"\n'
PROFILE = 'name = "lab 3"\nwd_mm = [5.0, 15.0]\nbrightness = [-3, 7]\ncontrast = [0, 4095]\n'
CUSTOM = '[instrument]\nprofile = "custom"\nfile = "profile.toml"\n'
FITTING = "[limits]\nwd_mm = [5.0, 15.0]\nbrightness = [-3, 7]\ncontrast = [0, 4095]\n"


def write(tmp_path: Path, extra: str) -> Path:
    path = tmp_path / "semd.toml"
    path.write_text(MINIMAL + extra)
    return path


def test_every_built_in_profile_can_be_named_and_bounds_every_axis() -> None:
    names = set(get_args(InstrumentConfig.model_fields["profile"].annotation))
    assert names == {*BUILT_IN, "custom"}
    for name, profile in BUILT_IN.items():
        assert profile.name == name
        assert set(profile.bounds) == set(AXES)
        assert all(bounds.low < bounds.high for bounds in profile.bounds.values())


def test_the_default_limits_fit_every_built_in_profile(tmp_path: Path) -> None:
    for name in BUILT_IN:
        config = load_config(write(tmp_path, f'[instrument]\nprofile = "{name}"\n'))
        assert config.limits == LimitsConfig()
    assert load_config(write(tmp_path, "")).instrument.read().name == "generic"
    assert load_config(write_starter(tmp_path / "lab")).instrument.read().name == "coxem-em30"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("wd_mm = [5.0, 200.0]", ["wd_mm = [5, 200]", "'coxem-em30'", "[2, 40]"]),
        ("wd_mm = [0.5, 20.0]", ["wd_mm = [0.5, 20]"]),
        ("brightness = [0, 1000]", ["brightness = [0, 1000]", "[0, 100]"]),
        ("contrast = [-1, 100]", ["contrast = [-1, 100]"]),
    ],
)
def test_limits_beyond_the_profile_are_refused(tmp_path: Path, limits: str, words: list[str]) -> None:
    path = write(tmp_path, f'[instrument]\nprofile = "coxem-em30"\n[limits]\n{limits}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    for word in (str(path), "[limits]", "[instrument] profile", *words):
        assert word in str(caught.value)


def test_a_custom_profile_is_read_beside_the_configuration_and_holds(tmp_path: Path) -> None:
    (tmp_path / "profile.toml").write_text(PROFILE)
    profile = load_config(write(tmp_path, CUSTOM + FITTING)).instrument.read()
    assert profile.name == "lab 3"
    assert (profile.bounds[Axis.WD].high, profile.bounds[Axis.BRIGHTNESS].low) == (15.0, -3.0)
    with pytest.raises(ConfigError, match=r"\[limits\] wd_mm = \[5, 15.001\] goes beyond .* 'lab 3'"):
        load_config(write(tmp_path, CUSTOM + FITTING.replace("15.0", "15.001")))
    with pytest.raises(ConfigError, match="goes beyond"):
        load_config(write(tmp_path, CUSTOM))  # the default limits are wider than this instrument


@pytest.mark.parametrize(
    ("profile", "word"),
    [
        (None, "cannot be read"),
        ("", "name"),
        (PROFILE + "hv = [1, 30]\n", "hv"),
        (PROFILE.replace("[5.0, 15.0]", "[15.0, 5.0]"), "the first must be below the second"),
        (PROFILE.replace("[5.0, 15.0]", "[-1.0, 5.0]"), "not negative"),
        (PROFILE.replace("15.0", "inf"), "wd_mm"),
        (PROFILE.replace("15.0", "nan"), "wd_mm"),
        (PROFILE.replace("15.0", '"x"'), "wd_mm"),
        ("name =", "not TOML"),
        ("# \udcff", "not TOML"),
        ("#" * (MAX_PROFILE_BYTES + 1), "more than"),
    ],
)
def test_a_custom_profile_that_cannot_be_is_named(tmp_path: Path, profile: str | None, word: str) -> None:
    if profile is not None:
        (tmp_path / "profile.toml").write_bytes(profile.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, CUSTOM + FITTING))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "profile.toml") in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "instrument",
    ['profile = "custom"', 'file = "profile.toml"', 'profile = "coxem-em30"\nfile = "profile.toml"', 'profile = "x"'],
)
def test_a_profile_is_named_in_one_way(tmp_path: Path, instrument: str) -> None:
    (tmp_path / "profile.toml").write_text(PROFILE)
    with pytest.raises(ConfigError, match=r"\[instrument\]"):
        load_config(write(tmp_path, f"[instrument]\n{instrument}\n{FITTING}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "localhost", "LocalHost"])
def test_this_computer_is_allowed(tmp_path: Path, host: str) -> None:
    assert load_config(write(tmp_path, f'[link]\nhost = "{host}"\n')).link.host == host


@pytest.mark.parametrize(
    "host",
    ["10.0.0.5", "0.0.0.0", "::", "128.0.0.1", "", "sem-pc", "localhost.example", "127.0.0.1.example", "127.1", " ::1"],
)
def test_another_computer_must_be_allowed(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=r"\[link\]: host = .*allow_remote = true"):
        load_config(write(tmp_path, f'[link]\nhost = "{host}"\n'))
    assert load_config(write(tmp_path, f'[link]\nhost = "{host}"\nallow_remote = true\n')).link.host == host


@pytest.mark.parametrize(
    "name", ["sent", "Dry-Run", "NUL", "com1", "action-1", "../ABORT", "a/b", "", ".x", "a\\b", "x" * 65]
)
def test_the_abort_file_has_a_plain_name_of_its_own(tmp_path: Path, name: str) -> None:
    text = MINIMAL.replace('directory = "out"', f"directory = \"out\"\nabort_file = '{name}'")
    path = tmp_path / "semd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"\[actions\].*abort_file"):
        load_config(path)


@pytest.mark.parametrize("value", ["0", "-1", "100001", "1.5"])
def test_the_rate_limit_is_a_whole_number_above_nothing(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"\[link\] most_commands_per_minute"):
        load_config(write(tmp_path, f"[link]\nmost_commands_per_minute = {value}\n"))


def test_a_configuration_without_end_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load_config(write(tmp_path, "#" * (1 << 20)))
