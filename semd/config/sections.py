"""The sections of the configuration: every key with its meaning, default and bounds (protocol, section 4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from semd.config.instrument_file import Interval, KnobBounds, read_profile
from semd.domain.axes import AXES, Axis
from semd.protocol.address import is_loopback
from semd.protocol.instrument_profile import BUILT_IN, InstrumentProfile
from semd.protocol.pairing import Dialect, Layout

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float | None, Field(ge=1, allow_inf_nan=False)]
Gigabytes = Annotated[float | None, Field(gt=0, allow_inf_nan=False)]
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
_NOT_AN_ABORT_FILE = re.compile(
    r"action-.*|sent|refused|expired|uncertain|dry-run|con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE
)
"""Actions and folders of the action directory, and names that Windows keeps for devices."""


class Section(BaseModel):
    """Knows its keys, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WatchConfig(Section):
    """Source of the frames.

    Attributes:
        directory: where NanoStation saves image and parameter text.
        layout: `series` (every frame a new stem) or `single` (one pair, overwritten; semd moves it away).
        dialect: whose parameter text it is.
        observer: `native` events of the system, or `polling` for network shares.
        rescan_s: period of the scan that is the truth; events only make it sooner.
        quiet_s: how long files must not have changed when no event says that they were closed.
        settle_s: how long half a frame may wait for the rest before it is quarantined.
        unreadable_s: how long files that cannot be read are tried again before they are quarantined.
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
    unreadable_s: Seconds = 60.0
    width_px: int = Field(default=640, ge=320, le=8192)
    height_px: int = Field(default=480, ge=240, le=8192)
    info_bar_px: int = Field(default=0, ge=0, le=4096)
    max_image_mb: float = Field(default=64.0, gt=0, le=1024)


class ActionsConfig(Section):
    """Directory of the action files.

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


class StateConfig(Section):
    """Directory of the daemon's state: ledger, archive, quarantine, health.json, logs."""

    directory: Path


class LinkConfig(Section):
    """The socket to the SEM.

    Attributes:
        host, port: where the SEM side listens.
        allow_remote: True where `host` may be another computer than this one.
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


class ControlConfig(Section):
    """Axes, thresholds and budgets of the control machine.

    Attributes:
        axes: what it moves.
        accept_score: omega; DONE needs a score above it.
        fit_focus: judge the frames of a run together, by the one focus that explains all their scores; DONE then needs
            `sure_share` instead of `sure_sigmas`.
        sure_share: probability, by all frames of the run, that the focus passes.
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
    fit_focus: bool = True
    sure_share: float = Field(default=0.97, ge=0, lt=1)
    sure_sigmas: float = Field(default=2.0, ge=0, le=10)
    max_steps: int = Field(default=50, ge=1, le=10_000)
    patience_steps: int = Field(default=7, ge=1, le=10_000)
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


class LimitsConfig(KnobBounds):
    """[low, high] of each knob: equation (4) never leaves them."""

    wd_mm: Interval = (2.0, 40.0)
    brightness: Interval = (0.0, 100.0)
    contrast: Interval = (0.0, 100.0)


class InstrumentConfig(Section):
    """Hard limits of the instrument; `[limits]` may not go beyond them.

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


class OpticsConfig(Section):
    """Optical assumptions about the column (see `semd.domain.limits.Optics`)."""

    aperture_half_angle_mrad: float = Field(default=3.0, gt=0, le=100)
    reference_width_mm: float = Field(default=127.0, gt=0)


class ModelsConfig(Section):
    """Directory of the weights; by default those that came with semd.

    Attributes:
        directory: holds manifest.json and the weights it names.
    """

    directory: Path | None = None


class ScoringConfig(Section):
    """Runtime and threads of the scoring machine.

    Attributes:
        runtime: `torch`, or an exported model in its place: `fp32`, `int8` (`semd model export` makes them).
        threads: of the convolutions. One survives a busy core best.
    """

    runtime: Literal["torch", "fp32", "int8"] = "torch"
    threads: int = Field(default=1, ge=1, le=64)


class LogConfig(Section):
    """Logs: JSON lines in files and on standard output.

    Attributes:
        directory: of the files; by default `logs` in the state directory.
        level: least severe level written.
        max_mb: size at which a log file is rotated; three old ones are kept.
    """

    directory: Path | None = None
    level: Literal["debug", "info", "warning", "error"] = "info"
    max_mb: float = Field(default=20.0, gt=0)


class HealthConfig(Section):
    """Tolerances of `semd health`, the metrics endpoint, and the time after which a process that hangs is ended.

    Attributes:
        max_silence_s: how long a process may not have been heard of.
        max_scan_age_s: how long ago the watch directory may have been scanned.
        max_unheard_frames: so many frames in a row without any event mean that events no longer come.
        max_waiting: frames that may wait to be answered.
        max_queue_growth_s: how long their number may rise.
        max_pending: actions that may wait for the microscope.
        min_free_mb: room on the disks of state and action directory.
        metrics_port: serve the metrics on 127.0.0.1 at this port; off by default.
        end_hung_s: a process whose main loop completes no round for so long ends itself, to be started again by its
            service manager; 0 never. More than systemd's watchdog in the units, which comes first where there is one.
    """

    max_silence_s: Seconds = 10.0
    max_scan_age_s: Seconds = 60.0
    max_unheard_frames: int = Field(default=3, ge=1)
    max_waiting: int = Field(default=1000, ge=1)
    max_queue_growth_s: Seconds = 180.0
    max_pending: int = Field(default=10, ge=1)
    min_free_mb: float = Field(default=1000.0, ge=0)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    end_hung_s: float = Field(default=120.0, ge=0)


class RetentionConfig(Section):
    """Ages and amounts beyond which files are deleted; nothing, unless set (see `semd.daemon.retention`).

    Attributes:
        archive_days, archive_gb: of the archive of consumed frames.
        quarantine_days, quarantine_gb: of the quarantine.
        actions_days, actions_gb: of each folder of filed actions: sent, refused, expired, uncertain, dry-run.
        ledger_days, ledger_gb: of the ledger's rows, which are also what `--from-records` learns from.
    """

    archive_days: Days = None
    archive_gb: Gigabytes = None
    quarantine_days: Days = None
    quarantine_gb: Gigabytes = None
    actions_days: Days = None
    actions_gb: Gigabytes = None
    ledger_days: Days = None
    ledger_gb: Gigabytes = None
