"""Settings of the Middle Client, apart from the configuration file, so that it can run on its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semd.middle_client.abort import DEFAULT_NAME
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
    host: str = "127.0.0.1"
    port: int = 9025
    allow_remote: bool = False
    dialect: Literal["text", "aisem"] = "text"
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0
    confirm_timeout_s: float = 120.0
    brightness_command: str | None = None
    contrast_command: str | None = None
    readback_wd_mm: float = 0.002
    readback_scale: float = 0.6
    poll_s: float = 0.02
    profile: InstrumentProfile = GENERIC
    most_commands_per_minute: int = 600
    abort_file: str = DEFAULT_NAME
    dry_run: bool = False
    end_hung_s: float = 0.0
