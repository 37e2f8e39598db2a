"""The one TOML file that configures the daemon and the Middle Client (protocol, section 4).

Unknown keys are refused, naming the nearest known one. Relative paths are relative to the file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from semd.domain.address import is_loopback
from semd.domain.axes import AXES, Axis
from semd.domain.exposure import ExposureRange
from semd.domain.instrument import BUILT_IN, InstrumentProfile
from semd.domain.limits import AxisLimits, Optics
from semd.domain.pairing import Dialect, Layout
from semd.domain.rules import RunRules
from semd.errors import ConfigError
from semd.instrument import read_profile

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_MAX_CONFIG_BYTES = 1 << 20
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
_NOT_AN_ABORT_FILE = re.compile(
    r"action-.*|sent|refused|expired|uncertain|dry-run|con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE
)
"""Actions and folders of the action directory, and names that Windows keeps for devices."""

Interval = Annotated[tuple[float, float], Field(description="[low, high]")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WatchConfig(_Section):
    """Where frames come from.

    Attributes:
        directory: where NanoStation saves image and parameter text.
        layout: `series` (every frame a new stem) or `single` (one pair, overwritten; semd moves it away).
        dialect: whose parameter text it is.
        observer: `native` events of the system, or `polling` for network shares.
        rescan_s: period of the scan that is the truth; events only make it sooner.
        quiet_s: how long files must not have changed when no event says that they were closed.
        settle_s: how long half a frame may wait for the rest before it is quarantined.
        width_px, height_px: size of a frame without its info bar.
        info_bar_px: rows of the info bar at the bottom of an image file.
        max_image_mb: larger image files are refused undecoded.
    """

    directory: Path
    layout: Layout = Layout.SERIES
    dialect: Dialect = Dialect.COXEM
    observer: Literal["native", "polling"] = "native"
    rescan_s: Seconds = 1.0
    quiet_s: Seconds = 0.5
    settle_s: Seconds = 10.0
    width_px: int = Field(default=640, ge=320, le=8192)
    height_px: int = Field(default=480, ge=240, le=8192)
    info_bar_px: int = Field(default=0, ge=0, le=4096)
    max_image_mb: float = Field(default=64.0, gt=0, le=1024)


class ActionsConfig(_Section):
    """Where actions go.

    Attributes:
        directory: pending action files; sent, refused, expired and uncertain lie in folders below.
        lifetime_s: an action is never sent later than this after it was issued.
        dry_run: the Middle Client opens no link and files every action in `dry-run`.
        abort_file: name in the directory; while such a file is there nothing is sent.
    """

    directory: Path
    lifetime_s: Seconds = 60.0
    dry_run: bool = False
    abort_file: str = Field(default="ABORT", pattern=_FILE_NAME)

    @model_validator(mode="after")
    def _abort_file_has_a_name_of_its_own(self) -> ActionsConfig:
        if _NOT_AN_ABORT_FILE.fullmatch(self.abort_file):
            raise ValueError(f"abort_file = {self.abort_file!r} means something else already; choose another name")
        return self


class StateConfig(_Section):
    """What the daemon keeps: ledger, archive, quarantine, health.json, logs."""

    directory: Path


class LinkConfig(_Section):
    """The socket to the SEM.

    Attributes:
        host, port: where the SEM side listens.
        allow_remote: whether `host` may be another computer than this one.
        dialect: `text` or Coxem's own `aisem`.
        most_commands_per_minute: in any 60 s; more of them wait.
        connect_timeout_s, answer_timeout_s: patience with the socket.
        confirm_timeout_s: `aisem`: how long the next frame may take before a command is in doubt.
        brightness_command, contrast_command: `aisem`: templates with `{value}`; none is publicly known.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9025, ge=1, le=65535)
    allow_remote: bool = False
    most_commands_per_minute: int = Field(default=600, ge=1, le=100_000)
    dialect: Literal["text", "aisem"] = "text"
    connect_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 30.0
    confirm_timeout_s: Seconds = 120.0
    brightness_command: str | None = None
    contrast_command: str | None = None

    @model_validator(mode="after")
    def _host_is_allowed(self) -> LinkConfig:
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"host = {self.host!r} is not this computer: write localhost or 127.0.0.1, or set allow_remote = true "
                "if the microscope's program really runs on another"
            )
        return self

    @model_validator(mode="after")
    def _templates_hold_a_value(self) -> LinkConfig:
        for key in ("brightness_command", "contrast_command"):
            template = getattr(self, key)
            if template is not None and "{value}" not in template:
                raise ValueError(f"{key} = {template!r} has no {{value}} in it")
        return self


class ControlConfig(_Section):
    """What the control machine may do and when it stops.

    Attributes:
        axes: what it moves.
        accept_score: omega; DONE needs a score above it.
        sure_sigmas: a score that passes by less than so many of its standard deviations is bettered, or confirmed by
            another scan.
        max_steps: frames a run may take before GIVE-UP.
        patience_steps: frames without a new best after which the run goes back to the best.
        doubt_steps: the same once the best passes, but not surely.
        restart_margin: fall of the score after the end that starts a new run.
        readback_wd_um: largest difference of commanded and read working distance.
        readback_percent: the same for brightness and contrast, of their range.
        max_clipped_percent, min_level, max_level, min_contrast: the exposure that DONE asks for, in grey
            values of 0..255 (contrast: 2nd to 98th percentile).
    """

    axes: tuple[Axis, ...] = Field(default=AXES, min_length=1)
    accept_score: float = Field(default=9.0, ge=0, lt=10)
    sure_sigmas: float = Field(default=1.0, ge=0, le=10)
    max_steps: int = Field(default=50, ge=1, le=10_000)
    patience_steps: int = Field(default=8, ge=1, le=10_000)
    doubt_steps: int = Field(default=2, ge=0, le=10_000)
    restart_margin: float = Field(default=1.0, ge=0, le=10)
    readback_wd_um: float = Field(default=2.0, gt=0)
    readback_percent: float = Field(default=0.6, gt=0, le=100)
    max_clipped_percent: float = Field(default=2.0, ge=0, le=100)
    min_level: float = Field(default=62.0, ge=0, le=255)
    max_level: float = Field(default=193.0, ge=0, le=255)
    min_contrast: float = Field(default=105.0, ge=0, le=255)

    @model_validator(mode="after")
    def _axes_are_distinct(self) -> ControlConfig:
        if len(set(self.axes)) != len(self.axes):
            raise ValueError("axes names one axis twice")
        if self.min_level >= self.max_level:
            raise ValueError("min_level must be below max_level")
        return self


class LimitsConfig(_Section):
    """[low, high] of each knob: equation (4) never leaves them."""

    wd_mm: Interval = (2.0, 40.0)
    brightness: Interval = (0.0, 100.0)
    contrast: Interval = (0.0, 100.0)

    @model_validator(mode="after")
    def _low_is_below_high(self) -> LimitsConfig:
        for key in ("wd_mm", "brightness", "contrast"):
            low, high = getattr(self, key)
            if not low < high:
                raise ValueError(f"{key} = [{low:g}, {high:g}]: the first must be below the second")
        if self.wd_mm[0] < 0:
            raise ValueError(f"wd_mm = [{self.wd_mm[0]:g}, ...]: a working distance is not negative")
        return self


class InstrumentConfig(_Section):
    """What the instrument can do at all; `[limits]` may not go beyond it.

    Attributes:
        profile: `generic`, `coxem-em30`, or `custom`.
        file: of the custom profile, a TOML file.
    """

    profile: Literal["generic", "coxem-em30", "custom"] = "generic"
    file: Path | None = None

    @model_validator(mode="after")
    def _custom_has_a_file(self) -> InstrumentConfig:
        if (self.profile == "custom") != (self.file is not None):
            raise ValueError('profile = "custom" and file go together')
        return self

    def read(self) -> InstrumentProfile:
        """The profile.

        Raises:
            ConfigError: the file of a custom one cannot be used.
        """
        return BUILT_IN[self.profile] if self.file is None else read_profile(self.file)


class OpticsConfig(_Section):
    """What is assumed of the column (see `semd.domain.limits.Optics`)."""

    aperture_half_angle_mrad: float = Field(default=3.0, gt=0, le=100)
    reference_width_mm: float = Field(default=127.0, gt=0)


class ModelsConfig(_Section):
    """Where the weights are; by default those that came with semd.

    Attributes:
        directory: holds manifest.json and the weights it names.
    """

    directory: Path | None = None


class ScoringConfig(_Section):
    """How the scoring machine computes.

    Attributes:
        runtime: `torch`, or an exported model in its place: `fp32`, `int8` (`semd model export` makes them).
        threads: of the convolutions. One survives a busy core best.
    """

    runtime: Literal["torch", "fp32", "int8"] = "torch"
    threads: int = Field(default=1, ge=1, le=64)


class LogConfig(_Section):
    """Logs: JSON lines in files and on standard output.

    Attributes:
        directory: of the files; by default `logs` in the state directory.
        level: least severe level written.
        max_mb: size at which a log file is rotated; three old ones are kept.
    """

    directory: Path | None = None
    level: Literal["debug", "info", "warning", "error"] = "info"
    max_mb: float = Field(default=20.0, gt=0)


class HealthConfig(_Section):
    """What `semd health` tolerates, and where metrics are served.

    Attributes:
        max_silence_s: how long a process may not have been heard of.
        max_scan_age_s: how long ago the watch directory may have been scanned.
        max_unheard_frames: so many frames in a row without any event mean that events no longer come.
        max_waiting: frames that may wait to be answered.
        max_queue_growth_s: how long their number may rise.
        max_pending: actions that may wait for the microscope.
        min_free_mb: room on the disks of state and action directory.
        metrics_port: serve the metrics on 127.0.0.1 at this port; off by default.
    """

    max_silence_s: Seconds = 10.0
    max_scan_age_s: Seconds = 60.0
    max_unheard_frames: int = Field(default=3, ge=1)
    max_waiting: int = Field(default=1000, ge=1)
    max_queue_growth_s: Seconds = 180.0
    max_pending: int = Field(default=10, ge=1)
    min_free_mb: float = Field(default=1000.0, ge=0)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)


class Config(_Section):
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

    @property
    def log_directory(self) -> Path:
        """Where the log files go."""
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
        for axis, key in ((Axis.WD, "wd_mm"), (Axis.BRIGHTNESS, "brightness"), (Axis.CONTRAST, "contrast")):
            low, high = getattr(self.limits, key)
            bounds = profile.bounds[axis]
            if low < bounds.low or high > bounds.high:
                raise ValueError(
                    f"[limits] {key} = [{low:g}, {high:g}] goes beyond the instrument profile {profile.name!r}, "
                    f"[{bounds.low:g}, {bounds.high:g}]: correct it, or [instrument] profile if that is the wrong one"
                )
        return self

    def rules(self, n_frames: int, rho: float) -> RunRules:
        """Build the rules of a run; N and rho belong to the actor that was trained with them."""
        control = self.control
        return RunRules(
            axes=tuple(axis for axis in AXES if axis in control.axes),
            limits={
                Axis.WD: AxisLimits(*self.limits.wd_mm),
                Axis.BRIGHTNESS: AxisLimits(*self.limits.brightness),
                Axis.CONTRAST: AxisLimits(*self.limits.contrast),
            },
            optics=Optics(self.optics.aperture_half_angle_mrad, self.optics.reference_width_mm),
            n_frames=n_frames,
            rho=rho,
            accept_score=control.accept_score,
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
        raw = tomllib.loads(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; `semd init DIR` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for section in ("watch", "actions", "state", "models", "log", "instrument"):
        table, key = raw.get(section), "file" if section == "instrument" else "directory"
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(path.resolve().parent / Path(table[key]).expanduser())
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        details = "; ".join(_explain(detail) for detail in error.errors()[:3])
        raise ConfigError(f"{path}: {details}") from error


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
