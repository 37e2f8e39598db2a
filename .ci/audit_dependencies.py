"""Looks for known weaknesses of the installed packages with pip-audit; skipped, and said so, where it has no network.

A weakness that a newer version mends fails the run. One that nobody has mended yet is printed and fails nothing: no
change of ours could make it pass.
"""

from __future__ import annotations

import json
import subprocess
import sys

_PATIENCE_S = 300


def main() -> int:
    """Run it; 0 when nothing that can be mended was found, or nothing could be asked."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format", "json"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        print(f"dependency audit SKIPPED: no answer within {_PATIENCE_S} s")  # noqa: T201
        return 0
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        print(f"dependency audit SKIPPED: pip-audit could not ask: {last[:200]}")  # noqa: T201
        return 0
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):  # a mirror without the database answers, but knows nothing
        print("dependency audit SKIPPED: the index that was reached knows none of the packages")  # noqa: T201
        return 0
    mendable = 0
    for package in packages:
        for weakness in package.get("vulns", []):
            mendable += bool(weakness["fix_versions"])
            mended = ", ".join(weakness["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {weakness['id']}, mended in {mended}")  # noqa: T201
    print(  # noqa: T201
        f"dependency audit: {len(packages) - len(unknown)} packages looked up, {mendable} weaknesses to mend; "
        f"unknown there: {', '.join(unknown) or 'none'}"
    )
    return 1 if mendable else 0


if __name__ == "__main__":
    raise SystemExit(main())
