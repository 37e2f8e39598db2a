"""`python -m semd` is `semd`."""

from __future__ import annotations

from semd.cli import main

if __name__ == "__main__":
    main()
