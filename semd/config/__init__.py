"""The one TOML file that configures the daemon and the Middle Client (protocol, section 4).

Unknown keys are refused, naming the nearest known one. Relative paths are relative to the file.
"""

from semd.config.loading import Config, load_config
from semd.config.sections import HealthConfig, InstrumentConfig, LimitsConfig, LinkConfig, RetentionConfig

__all__ = ["Config", "HealthConfig", "InstrumentConfig", "LimitsConfig", "LinkConfig", "RetentionConfig", "load_config"]
