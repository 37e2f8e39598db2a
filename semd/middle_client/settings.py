"""Settings of the Middle Client, which runs without a configuration file as well. Defaults are the configuration's."""

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
        action_directory: where the daemon publishes.
        state_directory: where journal, heartbeat and lock are kept.
        host: where the SEM side listens.
        port: likewise.
        allow_remote: True where that may be another computer.
        dialect: of the link.
        connect_timeout_s: patience with one attempt to connect.
        answer_timeout_s: silence after a send that counts as a broken link.
        confirm_timeout_s: `aisem`: how long the frame that confirms a command may take.
        brightness_command: `aisem`: template with `{value}`, or None.
        contrast_command: likewise.
        readback_wd_mm: `aisem`: largest difference of commanded and read working distance.
        readback_scale: `aisem`: the same for brightness and contrast, on the instrument's scale.
        poll_s: period of the look into the action directory.
        profile: what the instrument's knobs can do; an action beyond it is refused.
        most_commands_per_minute: more of them wait.
        abort_file: name in the action directory; nothing is sent while it is there.
        dry_run: file every action in `dry-run` and open no link.
        end_hung_s: the process ends itself when its loop completes no round for so long; 0 never.
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
