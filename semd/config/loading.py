"""The configuration as a whole: reading the file, what must agree between sections, and the rules of a run it makes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from semd.config.catalogue import sections
from semd.config.instrument_file import KEYS, read_toml
from semd.config.sections import (
    ActionsConfig,
    ControlConfig,
    HealthConfig,
    InstrumentConfig,
    LimitsConfig,
    LinkConfig,
    LogConfig,
    ModelsConfig,
    OpticsConfig,
    RetentionConfig,
    ScoringConfig,
    Section,
    StateConfig,
    WatchConfig,
)
from semd.decision.rules import RunRules
from semd.domain.axes import AXES, Axis
from semd.domain.exposure import ExposureRange
from semd.domain.limits import Optics
from semd.errors import ConfigError

_MAX_CONFIG_BYTES = 1 << 20
_ROUND_IN_CONNECTIONS = 4
"""Longest round of the Middle Client, in connection timeouts: a name looked up, a connection, a send, a goodbye."""


class Config(Section):
    """The whole file."""

    watch: WatchConfig
    actions: ActionsConfig
    state: StateConfig
    link: LinkConfig = LinkConfig()
    control: ControlConfig = ControlConfig()
    instrument: InstrumentConfig = InstrumentConfig()
    limits: LimitsConfig = LimitsConfig()
    optics: OpticsConfig = OpticsConfig()
    models: ModelsConfig = ModelsConfig()
    scoring: ScoringConfig = ScoringConfig()
    log: LogConfig = LogConfig()
    health: HealthConfig = HealthConfig()
    retention: RetentionConfig = RetentionConfig()

    @property
    def log_directory(self) -> Path:
        """Directory of the log files."""
        return self.log.directory or self.state.directory / "logs"

    @model_validator(mode="after")
    def _directories_do_not_overlap(self) -> Config:
        named = {
            "[watch] directory": self.watch.directory,
            "[actions] directory": self.actions.directory,
            "[state] directory": self.state.directory,
        }
        resolved = {key: path.resolve() for key, path in named.items()}
        for first, first_path in resolved.items():
            for second, second_path in resolved.items():
                if first < second and (
                    first_path.is_relative_to(second_path) or second_path.is_relative_to(first_path)
                ):
                    raise ValueError(f"{first} and {second} overlap: {first_path} and {second_path}")
        logs = self.log_directory.resolve()
        for key in ("[watch] directory", "[actions] directory"):
            if logs.is_relative_to(resolved[key]):
                raise ValueError(f"[log] directory must not lie in {key}: {logs}")
        return self

    @model_validator(mode="after")
    def _waiting_for_the_link_is_no_hang(self) -> Config:
        least_s = _ROUND_IN_CONNECTIONS * self.link.connect_timeout_s
        if 0.0 < self.health.end_hung_s < least_s:
            raise ValueError(
                f"[health] end_hung_s = {self.health.end_hung_s:g}: a round of the Middle Client may well take "
                f"{least_s:g} s, {_ROUND_IN_CONNECTIONS} times [link] connect_timeout_s; make it at least that, or 0"
            )
        return self

    @model_validator(mode="after")
    def _aisem_can_move_the_axes(self) -> Config:
        if self.link.dialect == "aisem":
            for axis in (Axis.BRIGHTNESS, Axis.CONTRAST):
                if axis in self.control.axes and getattr(self.link, f"{axis}_command") is None:
                    raise ValueError(
                        f"the aisem link knows no command for {axis}: take it out of [control] axes "
                        f"or set [link] {axis}_command"
                    )
        return self

    @model_validator(mode="after")
    def _limits_lie_within_the_profile(self) -> Config:
        profile = self.instrument.read()
        for axis, limits in self.limits.bounds.items():
            bounds = profile.bounds[axis]
            if limits.low < bounds.low or limits.high > bounds.high:
                raise ValueError(
                    f"[limits] {KEYS[axis]} = [{limits.low:g}, {limits.high:g}] goes beyond the instrument profile "
                    f"{profile.name!r}, [{bounds.low:g}, {bounds.high:g}]: correct it, or [instrument] profile if "
                    "that is the wrong one"
                )
        return self

    def rules(self, n_frames: int, rho: float) -> RunRules:
        """Build the rules of a run; N and rho belong to the actor that was trained with them."""
        control = self.control
        return RunRules(
            axes=tuple(axis for axis in AXES if axis in control.axes),
            limits=self.limits.bounds,
            optics=Optics(self.optics.aperture_half_angle_mrad, self.optics.reference_width_mm),
            n_frames=n_frames,
            rho=rho,
            accept_score=control.accept_score,
            fits_focus=control.fit_focus,
            sure_share=control.sure_share,
            sure_sigmas=control.sure_sigmas,
            exposure=ExposureRange(
                max_clipped=control.max_clipped_percent / 100.0,
                min_level=control.min_level,
                max_level=control.max_level,
                min_contrast=control.min_contrast,
            ),
            max_steps=control.max_steps,
            patience_steps=control.patience_steps,
            doubt_steps=control.doubt_steps,
            restart_margin=control.restart_margin,
            readback_wd_mm=control.readback_wd_um * 1e-3,
            readback_fraction=control.readback_percent / 100.0,
        )


def load_config(path: Path) -> Config:
    """Read and check the configuration.

    Raises:
        ConfigError: the file is missing, is not TOML, or says something that cannot be; one line with
            what, where and what to do.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
        if len(data) > _MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: more than {_MAX_CONFIG_BYTES} bytes; not a configuration of semd")
        raw = read_toml(data)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; `semd init DIR` writes one") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for section, key in _path_keys():
        table = raw.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            try:
                table[key] = str(path.resolve().parent / Path(table[key]).expanduser())
            except (RuntimeError, ValueError) as error:  # the home of nobody; a name that cannot be one
                raise ConfigError(f"{path}: [{section}] {key}: {error}") from error
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        details = "; ".join(_explain(detail) for detail in error.errors()[:3])
        raise ConfigError(f"{path}: {details}") from error


def _path_keys() -> list[tuple[str, str]]:
    """Return section and key of every setting that is a path."""
    return [(name, setting.key) for name, _, settings in sections(Config) for setting in settings if setting.is_path]


def _explain(detail: ErrorDetails) -> str:
    where = _where(detail["loc"])
    if detail["loc"] == ("models", "threads"):
        return f"{where} has moved: write [scoring] threads"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(detail["loc"][:-1])
        nearest = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.0)
        return f"{where} is not known; did you mean {nearest[0]!r}?"
    if detail["type"] == "missing":
        return f"{where} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _where(loc: tuple[int | str, ...]) -> str:
    if not loc:
        return ""
    return " ".join([f"[{loc[0]}]", *(str(part) for part in loc[1:])])


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in loc:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
