"""Sections of the configuration (protocol, section 4): the only definition of every setting.

Each field carries its meaning, default and bounds. The unit is the ending of its name (`_s`, `_mm`, `_percent`, ...).
The annotated `semd.toml`, the reference and the JSON Schema are generated from these models. A default that belongs to
a record of the decision is read from that record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from semd.config.instrument_file import Interval, KnobBounds, read_profile
from semd.decision.rules import DEFAULT_LIMITS, RunRules
from semd.domain.axes import AXES, Axis
from semd.domain.limits import FRAME_WIDTH_PX, Optics
from semd.protocol.address import is_loopback
from semd.protocol.instrument_profile import BUILT_IN, InstrumentProfile
from semd.protocol.pairing import Dialect, Layout
from semd.service.logs import DEFAULT_LEVEL, DEFAULT_MAX_MB, Level

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float | None, Field(ge=1, allow_inf_nan=False)]
Gigabytes = Annotated[float | None, Field(gt=0, allow_inf_nan=False)]
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
_NOT_AN_ABORT_FILE = re.compile(
    r"action-.*|sent|refused|expired|uncertain|dry-run|con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE
)
"""Actions and folders of the action directory, and names that Windows keeps for devices."""
_RULES, _OPTICS = RunRules(), Optics()


@dataclass(frozen=True, slots=True)
class Starter:
    """Marks a setting that `semd init` writes uncommented.

    Attributes:
        value: written value; None writes the default.
    """

    value: object = None


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def default(section: type[BaseModel], key: str) -> Any:
    """Return the default of a setting, for records that hold the same value outside the configuration."""
    return section.model_fields[key].default


class WatchConfig(Section):
    """Source of the frames."""

    directory: Annotated[Path, Starter("watch")] = Field(
        description="Directory where the program of the SEM saves each image and its parameter text."
    )
    layout: Annotated[Layout, Starter()] = Field(
        default=Layout.SERIES,
        description='"series": every frame has a new name. "single": one pair is overwritten; semd moves it away.',
    )
    dialect: Annotated[Dialect, Starter()] = Field(
        default=Dialect.COXEM, description="Manufacturer whose parameter text is read."
    )
    observer: Literal["native", "polling"] = Field(
        default="native", description='Source of file events; "polling" for network shares.'
    )
    rescan_s: Seconds = Field(
        default=1.0, description="Period of the full scan. Events only bring a frame to notice sooner."
    )
    quiet_s: Seconds = Field(
        default=0.5, description="Time for which files must not change before they are read, without a close event."
    )
    settle_s: Seconds = Field(
        default=10.0, description="Time after which an incomplete frame is moved to the quarantine."
    )
    unreadable_s: Seconds = Field(
        default=60.0, description="Time after which a frame whose files cannot be read is moved to the quarantine."
    )
    width_px: int = Field(
        default=FRAME_WIDTH_PX, ge=320, le=8192, description="Width of a frame; a wider image file is scaled down."
    )
    height_px: int = Field(default=480, ge=240, le=8192, description="Height of a frame without its info bar.")
    info_bar_px: int = Field(
        default=0, ge=0, le=4096, description="Rows of the info bar at the bottom of an image file."
    )
    max_image_mb: float = Field(
        default=64.0, gt=0, le=1024, description="Largest image file that is decoded; a larger one is refused."
    )


class ActionsConfig(Section):
    """Directory of the action files."""

    directory: Annotated[Path, Starter("actions")] = Field(
        description="Directory of pending actions; sent, refused, expired and uncertain ones are filed in its folders."
    )
    lifetime_s: Seconds = Field(default=60.0, description="Age beyond which an action is never sent.")
    dry_run: bool = Field(
        default=False, description="Open no link; the Middle Client files every action in the folder dry-run."
    )
    abort_file: str = Field(
        default="ABORT",
        pattern=_FILE_NAME,
        description="File name: nothing is sent while the directory holds such a file. `semd abort` makes it.",
    )

    @model_validator(mode="after")
    def _abort_file_has_a_name_of_its_own(self) -> ActionsConfig:
        if _NOT_AN_ABORT_FILE.fullmatch(self.abort_file):
            raise ValueError(f"abort_file = {self.abort_file!r} means something else already; choose another name")
        return self


class StateConfig(Section):
    """Directory of the daemon's state."""

    directory: Annotated[Path, Starter("state")] = Field(
        description="Directory of ledger, archive, quarantine, health.json, metrics and, by default, logs."
    )


class LinkConfig(Section):
    """Socket to the SEM."""

    host: Annotated[str, Starter()] = Field(default="127.0.0.1", description="Host on which the SEM listens.")
    port: Annotated[int, Starter()] = Field(default=9025, ge=1, le=65535, description="TCP port of the SEM.")
    allow_remote: bool = Field(default=False, description="Allow a host other than this computer.")
    most_commands_per_minute: int = Field(
        default=600, ge=1, le=100_000, description="Largest number of commands in any 60 s; further ones wait."
    )
    dialect: Annotated[Literal["text", "aisem"], Starter()] = Field(
        default="text",
        description='"aisem" is Coxem\'s own protocol; without the commands below it moves the working distance alone.',
    )
    connect_timeout_s: Seconds = Field(default=5.0, description="Timeout of one attempt to connect.")
    answer_timeout_s: Seconds = Field(default=30.0, description="Silence after a command that counts as a broken link.")
    confirm_timeout_s: Seconds = Field(
        default=120.0,
        description="aisem only: time within which the next frame must confirm a command; then its delivery is "
        "unknown.",
    )
    brightness_command: str | None = Field(
        default=None,
        examples=["BRIGHTNESS,{value}"],
        description="aisem only: command that sets the brightness, with {value} in it.",
    )
    contrast_command: str | None = Field(
        default=None,
        examples=["CONTRAST,{value}"],
        description="aisem only: command that sets the contrast, with {value} in it.",
    )

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
    """Axes, thresholds and budgets of a run."""

    axes: Annotated[tuple[Axis, ...], Starter()] = Field(
        default=AXES, min_length=1, description="Axes that semd may move."
    )
    accept_score: Annotated[float, Starter()] = Field(
        default=_RULES.accept_score,
        ge=0,
        lt=10,
        description="Score that a frame must exceed for DONE, with an acceptable exposure.",
    )
    fit_focus: bool = Field(
        default=_RULES.fits_focus,
        description="Judge the frames of a run together: fit one focus to all their scores. DONE then needs "
        "sure_share, otherwise sure_sigmas.",
    )
    sure_share: float = Field(
        default=_RULES.sure_share,
        ge=0,
        lt=1,
        description="With fit_focus: least probability, given all frames of the run, that the focus passes.",
    )
    sure_sigmas: float = Field(
        default=_RULES.sure_sigmas,
        ge=0,
        le=10,
        description="Without fit_focus: a score that passes by fewer of its standard deviations is confirmed by "
        "another scan.",
    )
    max_steps: Annotated[int, Starter()] = Field(
        default=_RULES.max_steps,
        ge=1,
        le=10_000,
        description="Largest number of frames in a run; then GIVE-UP, back at the best frame.",
    )
    patience_steps: int = Field(
        default=_RULES.patience_steps,
        ge=1,
        le=10_000,
        description="Number of frames without a new best after which a run ends in GIVE-UP.",
    )
    doubt_steps: int = Field(
        default=_RULES.doubt_steps,
        ge=0,
        le=10_000,
        description="The same, without fit_focus, once the best frame passes but is not yet confirmed.",
    )
    restart_margin: float = Field(
        default=_RULES.restart_margin,
        ge=0,
        le=10,
        description="Points below accept_score to which a score must fall after the end to start a new run.",
    )
    readback_wd_um: float = Field(
        default=_RULES.readback_wd_mm * 1e3,
        gt=0,
        description="Largest difference of commanded and read working distance; beyond it the operator has taken over.",
    )
    readback_percent: float = Field(
        default=_RULES.readback_fraction * 100.0,
        gt=0,
        le=100,
        description="The same for brightness and contrast, of their limits' range.",
    )
    max_clipped_percent: float = Field(
        default=_RULES.exposure.max_clipped * 100.0,
        ge=0,
        le=100,
        description="Exposure that DONE requires: largest share of black and white pixels.",
    )
    min_level: float = Field(
        default=_RULES.exposure.min_level,
        ge=0,
        le=255,
        description="Exposure that DONE requires: lowest mean grey value.",
    )
    max_level: float = Field(
        default=_RULES.exposure.max_level,
        ge=0,
        le=255,
        description="Exposure that DONE requires: highest mean grey value.",
    )
    min_contrast: float = Field(
        default=_RULES.exposure.min_contrast,
        ge=0,
        le=255,
        description="Exposure that DONE requires: least distance of the 2nd and 98th percentile in grey values.",
    )

    @model_validator(mode="after")
    def _axes_are_distinct(self) -> ControlConfig:
        if len(set(self.axes)) != len(self.axes):
            raise ValueError("axes names one axis twice")
        if self.min_level >= self.max_level:
            raise ValueError("min_level must be below max_level")
        return self


class InstrumentConfig(Section):
    """Hard limits of the instrument, which [limits] may not exceed."""

    profile: Annotated[Literal["generic", "coxem-em30", "custom"], Starter("coxem-em30")] = Field(
        default="generic", description='"generic" for other manufacturers; "custom" reads the profile from file.'
    )
    file: Path | None = Field(
        default=None,
        examples=["profile.toml"],
        description='With "custom": TOML file with name = "...", and wd_mm, brightness and contrast = [low, high].',
    )

    @model_validator(mode="after")
    def _custom_has_a_file(self) -> InstrumentConfig:
        if (self.profile == "custom") != (self.file is not None):
            raise ValueError('profile = "custom" and file go together')
        return self

    def read(self) -> InstrumentProfile:
        """Read the profile.

        Raises:
            ConfigError: the file of a custom profile cannot be used.
        """
        return BUILT_IN[self.profile] if self.file is None else read_profile(self.file)


def _interval(axis: Axis) -> tuple[float, float]:
    return DEFAULT_LIMITS[axis].low, DEFAULT_LIMITS[axis].high


class LimitsConfig(KnobBounds):
    """Limits that no action ever leaves, equation (4); set them to what is safe on your instrument."""

    wd_mm: Annotated[Interval, Starter([5.0, 20.0])] = Field(
        default=_interval(Axis.WD), description="Lowest and highest working distance."
    )
    brightness: Annotated[Interval, Starter()] = Field(
        default=_interval(Axis.BRIGHTNESS), description="Lowest and highest brightness, on the instrument's scale."
    )
    contrast: Annotated[Interval, Starter()] = Field(
        default=_interval(Axis.CONTRAST), description="Lowest and highest contrast, on the instrument's scale."
    )


class OpticsConfig(Section):
    """Optical assumptions about the column."""

    aperture_half_angle_mrad: float = Field(
        default=_OPTICS.aperture_half_angle_mrad,
        gt=0,
        le=100,
        description="Half angle of the beam; it relates a step of the working distance to a blur.",
    )
    reference_width_mm: float = Field(
        default=_OPTICS.reference_width_mm,
        gt=0,
        description="Field width at x1, used where the parameter text names no PIXEL.",
    )


class ModelsConfig(Section):
    """Weights of the networks."""

    directory: Path | None = Field(
        default=None,
        examples=["models"],
        description="Directory of manifest.json and the weights it names; by default those that came with semd.",
    )


class ScoringConfig(Section):
    """Runtime of the scoring machine."""

    runtime: Literal["torch", "fp32", "int8"] = Field(
        default="torch",
        description='"fp32" and "int8" are exported models and faster; `semd model export` makes them.',
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="Number of threads; one keeps its speed best beside a busy core."
    )


class LogConfig(Section):
    """Logs: JSON lines in files and on standard output."""

    directory: Path | None = Field(
        default=None, examples=["logs"], description="Directory of the log files; by default logs in [state] directory."
    )
    level: Level = Field(default=DEFAULT_LEVEL, description="Least severe level that is written.")
    max_mb: float = Field(
        default=DEFAULT_MAX_MB, gt=0, description="Size at which a log file is rotated; three old ones are kept."
    )


class HealthConfig(Section):
    """Tolerances of `semd health`, the metrics endpoint, and the end of a process that hangs."""

    max_silence_s: Seconds = Field(default=10.0, description="Largest age of a process's last sign of life.")
    max_scan_age_s: Seconds = Field(default=60.0, description="Largest age of the last scan of the watch directory.")
    max_unheard_frames: int = Field(
        default=3, ge=1, description="Number of frames in a row without any event that means events no longer arrive."
    )
    max_waiting: int = Field(default=1000, ge=1, description="Largest number of frames that wait for an answer.")
    max_queue_growth_s: Seconds = Field(default=180.0, description="Longest time for which that number may rise.")
    max_pending: int = Field(default=10, ge=1, description="Largest number of actions that wait for the microscope.")
    min_free_mb: float = Field(
        default=1000.0, ge=0, description="Least free space on the disks of the state and action directories."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        examples=[9464],
        description="Serve the metrics at http://127.0.0.1:PORT/metrics; off by default.",
    )
    end_hung_s: float = Field(
        default=120.0,
        ge=0,
        description="A process whose main loop completes no round for this long ends itself, to be started again by "
        "its service manager; 0: never. It exceeds the watchdog of the systemd units, which acts first.",
    )


class RetentionConfig(Section):
    """Age and size beyond which files are deleted. Without these keys nothing is; unanswered frames always stay."""

    archive_days: Days = Field(
        default=None, examples=[30.0], description="Largest age in the archive of consumed frames (layout single)."
    )
    archive_gb: Gigabytes = Field(default=None, examples=[50.0], description="Largest size of that archive.")
    quarantine_days: Days = Field(default=None, examples=[90.0], description="Largest age in the quarantine.")
    quarantine_gb: Gigabytes = Field(default=None, examples=[10.0], description="Largest size of the quarantine.")
    actions_days: Days = Field(
        default=None,
        examples=[90.0],
        description="Largest age in each folder of filed actions: sent, refused, expired, uncertain and dry-run.",
    )
    actions_gb: Gigabytes = Field(default=None, examples=[1.0], description="Largest size of each of these folders.")
    ledger_days: Days = Field(
        default=None,
        examples=[365.0],
        description="Largest age of the ledger's rows, from which `semd train control --from-records` learns; a row "
        "stays while its files do.",
    )
    ledger_gb: Gigabytes = Field(default=None, examples=[2.0], description="Largest size of the ledger.")
