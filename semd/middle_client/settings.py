"""Settings of the Middle Client, with the defaults of the configuration; no configuration file is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semd.config import ActionsConfig, ControlConfig, HealthConfig, LinkConfig, default
from semd.protocol.instrument_profile import GENERIC, InstrumentProfile


@dataclass(frozen=True, slots=True)
class MiddleClientSettings:
    """Settings of the Middle Client.

    Attributes:
        action_directory: directory to which the daemon publishes.
        state_directory: directory of journal, heartbeat and lock.
        host: host on which the SEM listens.
        port: its TCP port.
        allow_remote: True if the host may be another computer.
        dialect: dialect of the link.
        connect_timeout_s: timeout of one connection attempt, in seconds.
        answer_timeout_s: time without an answer after which the link counts as broken, in seconds.
        confirm_timeout_s: `aisem`: longest wait for the frame that confirms a command, in seconds.
        brightness_command: `aisem`: template with `{value}`, or None.
        contrast_command: `aisem`: template with `{value}`, or None.
        readback_wd_mm: `aisem`: largest accepted difference of commanded and read working distance, in mm.
        readback_scale: `aisem`: the same for brightness and contrast, on the scale of the instrument.
        poll_s: interval at which the action directory is read, in seconds.
        profile: range of each setting of the instrument; an action outside it is refused.
        most_commands_per_minute: rate limit; commands beyond it wait.
        abort_file: name of the abort file in the action directory; nothing is sent while it exists.
        dry_run: True to file every action in `dry-run` and open no connection.
        end_hung_s: time without a completed round of the loop after which the process ends itself, in seconds; 0 for
            never.
    """

    action_directory: Path
    state_directory: Path
    host: str = default(LinkConfig, "host")
    port: int = default(LinkConfig, "port")
    allow_remote: bool = default(LinkConfig, "allow_remote")
    dialect: Literal["text", "aisem"] = default(LinkConfig, "dialect")
    connect_timeout_s: float = default(LinkConfig, "connect_timeout_s")
    answer_timeout_s: float = default(LinkConfig, "answer_timeout_s")
    confirm_timeout_s: float = default(LinkConfig, "confirm_timeout_s")
    brightness_command: str | None = None
    contrast_command: str | None = None
    readback_wd_mm: float = default(ControlConfig, "readback_wd_um") * 1e-3
    readback_scale: float = default(ControlConfig, "readback_percent")
    poll_s: float = 0.02
    profile: InstrumentProfile = GENERIC
    most_commands_per_minute: int = default(LinkConfig, "most_commands_per_minute")
    abort_file: str = default(ActionsConfig, "abort_file")
    dry_run: bool = default(ActionsConfig, "dry_run")
    end_hung_s: float = default(HealthConfig, "end_hung_s")
