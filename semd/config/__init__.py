"""The one TOML file that configures the daemon and the Middle Client (protocol, section 4).

Unknown keys are refused, naming the nearest known one. Relative paths are relative to the file.
"""

from semd.config.loading import Config, load_config
from semd.config.sections import (
    ActionsConfig,
    ControlConfig,
    HealthConfig,
    InstrumentConfig,
    LimitsConfig,
    LinkConfig,
    LogConfig,
    RetentionConfig,
    WatchConfig,
    default,
)

__all__ = [
    "ActionsConfig",
    "Config",
    "ControlConfig",
    "HealthConfig",
    "InstrumentConfig",
    "LimitsConfig",
    "LinkConfig",
    "LogConfig",
    "RetentionConfig",
    "WatchConfig",
    "default",
    "load_config",
]
