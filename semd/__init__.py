"""semd: an autonomous operator for scanning electron microscopes."""

__version__ = "0.1.0"
