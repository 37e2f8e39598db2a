"""The annotated configuration that `semd init` writes."""

from __future__ import annotations

from pathlib import Path

from semd.errors import ConfigError

_TEMPLATE = """# Configuration of semd, for the daemon (`semd run`) and the Middle Client (`semd middle-client`).
# Paths are relative to it. Only what is not commented out is set; the comments show the defaults.

[watch]
directory = "watch"        # where NanoStation saves image and parameter text
layout = "series"          # "series": every frame a new name; "single": ResponseImage overwritten each time
dialect = "coxem"          # coxem | hitachi | jeol | tescan | zeiss | fei
# observer = "native"      # "polling" for network shares
# rescan_s = 1.0           # the scan is the truth; events only make it sooner
# quiet_s = 0.5            # without a close event files must rest this long before they are read
# settle_s = 10.0          # half a frame is quarantined after this
# unreadable_s = 60.0      # and files that nobody lets semd read after this
# width_px = 640           # size of a frame without its info bar
# height_px = 480
# info_bar_px = 0          # rows of the info bar at the bottom of the file
# max_image_mb = 64.0

[actions]
directory = "actions"      # action files; sent, refused, expired and uncertain lie in folders below
# lifetime_s = 60.0        # an action is never sent later than this
# dry_run = false          # true: no link is opened, every action is filed in the folder dry-run
# abort_file = "ABORT"     # while a file of this name lies in the directory nothing is sent; `semd abort` makes it

[state]
directory = "state"        # ledger, archive, quarantine, health.json, metrics, logs

[link]
host = "127.0.0.1"
port = 9025
# allow_remote = false     # true: host may be another computer than this one
# most_commands_per_minute = 600   # more of them wait
dialect = "text"           # "aisem" is Coxem's own link; it moves the working distance alone
# connect_timeout_s = 5.0
# answer_timeout_s = 30.0
# confirm_timeout_s = 120.0
# brightness_command = "BRIGHTNESS,{value}"   # aisem only, if your NanoStation knows such a command
# contrast_command = "CONTRAST,{value}"

[control]
axes = ["wd", "brightness", "contrast"]
accept_score = 9.0         # DONE needs a score above this, and an acceptable exposure
# fit_focus = true         # judge a run's frames together, by the one focus that explains all their scores
# sure_share = 0.97        # DONE needs this probability, by all of them, that the focus passes
# sure_sigmas = 2.0        # without the fit: a score that passes by less than so many of its errors is confirmed
max_steps = 50             # then GIVE-UP, back to the best frame
# patience_steps = 7       # frames without a new best; then the same
# doubt_steps = 2          # without the fit: frames since a best that passes, but not surely; then back to it
# restart_margin = 1.0     # fall of the score after the end that starts a new run
# readback_wd_um = 2.0     # a larger difference of commanded and read value means the operator took over
# readback_percent = 0.6
# max_clipped_percent = 2.0
# min_level = 62.0
# max_level = 193.0
# min_contrast = 105.0

[instrument]
profile = "coxem-em30"     # hard limits that [limits] may not exceed; "generic" for other makers, or "custom" with
                           # file = "profile.toml", which holds name = "...", wd_mm, brightness, contrast = [low, high]

[limits]                   # no action ever leaves these; set them to what is safe on your instrument
wd_mm = [5.0, 20.0]
brightness = [0.0, 100.0]
contrast = [0.0, 100.0]

# [optics]
# aperture_half_angle_mrad = 3.0   # sets how far a step in working distance reaches
# reference_width_mm = 127.0       # field width at x1, used when the text names no PIXEL

# [models]
# directory = "models"     # default: the weights that came with semd

# [scoring]
# runtime = "torch"        # "fp32" or "int8": an exported model, faster; `semd model export` makes it
# threads = 1              # one thread survives a busy core best

# [log]
# directory = "/var/log/semd"      # default: logs in the state directory
# level = "info"
# max_mb = 20.0

# [health]                 # what `semd health` tolerates
# max_silence_s = 10.0     # a process not heard of for this long
# max_scan_age_s = 60.0
# max_unheard_frames = 3   # frames in a row that no event announced
# max_waiting = 1000       # frames; actions: max_pending = 10
# max_queue_growth_s = 180.0
# min_free_mb = 1000.0     # on the disks of state and actions
# metrics_port = 9464      # off by default; http://127.0.0.1:9464/metrics
# end_hung_s = 120.0       # a process that gets no further ends itself, to be started again; 0: never

# [retention]              # what is deleted; without these keys nothing ever is. Frames not yet answered always stay
# archive_days = 30.0      # layout "single": pairs that were taken
# archive_gb = 50.0
# quarantine_days = 90.0
# quarantine_gb = 10.0
# actions_days = 90.0      # each of the folders sent, refused, expired, uncertain and dry-run
# actions_gb = 1.0
# ledger_days = 365.0      # what `semd train control --from-records` learns from; a row stays while its files do
# ledger_gb = 2.0
"""


def write_template(directory: Path) -> Path:
    """Write `semd.toml` and its folders; returns the file's path.

    Raises:
        ConfigError: there is a semd.toml already, or the directory cannot be written.
    """
    path = directory / "semd.toml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(_TEMPLATE)
        for name in ("watch", "actions", "state"):
            (directory / name).mkdir(exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists already and is left as it is") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return path
