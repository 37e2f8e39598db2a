"""semd: an autonomous operator for scanning electron microscopes."""

import os as _os

# OpenMP reads this once, when torch is loaded. Its threads would otherwise spin while they wait for one whose core is
# busy, and take twenty times as long for a frame. Whoever set it already knows better.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
