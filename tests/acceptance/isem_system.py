"""The acceptance system: one virtual SEM, one configuration file, the real `semd` processes, and deadlines.

Deadlines are multiplied by the environment variable SEMD_ACCEPTANCE_PATIENCE (default 1) for slow machines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from independent_sem import WIDE_LIMITS, VirtualSem
from isem_audit import Audit
from isem_column import disc_unit_mm

Role = Literal["run", "middle-client"]

_POLL_S: Final = 0.05
_END_TIMEOUT_S: Final = 10.0
_LOG_TAIL_LINES: Final = 25
# A slow processor: start-up takes 25 times as long as the scoring of a frame.
_SLOWLY: Final = """
import sys, time
from semd.scoring.scorer import Scorer
time.sleep({delay_s} * 25.0)
judge = Scorer.judge
def slowly(self, image, magnification):
    time.sleep({delay_s})
    return judge(self, image, magnification)
Scorer.judge = slowly
from semd.cli import main
sys.exit(main())
"""


def patience() -> float:
    """Return the factor by which every deadline is stretched."""
    return float(os.environ.get("SEMD_ACCEPTANCE_PATIENCE", "1"))


def config_text(root: Path, sem: VirtualSem, *, max_steps: int = 50) -> str:
    """Return a configuration with the keys of the contract's section 4 and no others."""
    axes = ", ".join(f'"{axis}"' for axis in sem.axes)
    limits = "\n".join(
        f"{key} = [{WIDE_LIMITS[axis][0]}, {WIDE_LIMITS[axis][1]}]"
        for key, axis in (("wd_mm", "wd"), ("brightness", "brightness"), ("contrast", "contrast"))
    )
    return (
        f'[watch]\ndirectory = "{root / "watch"}"\nlayout = "{sem.layout}"\ndialect = "coxem"\n\n'
        f'[actions]\ndirectory = "{root / "actions"}"\n\n'
        f'[state]\ndirectory = "{root / "state"}"\n\n'
        f'[link]\nhost = "127.0.0.1"\nport = {sem.server.port}\ndialect = "{sem.dialect}"\n\n'
        f"[control]\naxes = [{axes}]\naccept_score = 9.0\nmax_steps = {max_steps}\n\n"
        f"[limits]\n{limits}\n"
    )


class SystemUnderTest:
    """Runs the daemon and the Middle Client against a virtual SEM below one directory.

    Args:
        root: Test directory; holds `watch`, `actions`, `state`, `semd.toml` and the processes' logs.
        sem: The virtual SEM, whose watch directory is `root/watch`.
        scoring_delay_s: Added to the scoring of each frame, as on a slow processor.
    """

    def __init__(self, root: Path, sem: VirtualSem, *, scoring_delay_s: float = 0.0) -> None:
        self.root = root
        self.sem = sem
        self._scoring_delay_s = scoring_delay_s
        self.actions_dir = root / "actions"
        self.state_dir = root / "state"
        for folder in (self.actions_dir, self.state_dir):
            folder.mkdir(exist_ok=True)
        self.config = root / "semd.toml"
        self.config.write_text(config_text(root, sem), encoding="utf-8")
        self.audit = Audit(sem, self.actions_dir, self.state_dir)
        self._running: dict[Role, subprocess.Popen[bytes]] = {}
        self._side = 1.0
        self._stubborn: list[str] = []

    def __enter__(self) -> Self:
        """Start the SEM; processes are started one by one by `start`."""
        self.sem.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process and the SEM."""
        self.end()
        self.sem.__exit__(kind, error, trace)

    def start(self, *roles: Role) -> None:
        """Start `semd run` and/or `semd middle-client`; output is appended to `<role>.log`."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
        }
        for role in roles:
            with self._log(role).open("ab") as log:
                self._running[role] = subprocess.Popen(
                    [*self._program(role), role, "--config", str(self.config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.root,
                    env=environment,
                    start_new_session=True,
                )

    def _program(self, role: Role) -> list[str]:
        if role == "run" and self._scoring_delay_s:
            return [sys.executable, "-c", _SLOWLY.format(delay_s=self._scoring_delay_s)]
        return [sys.executable, "-m", "semd"]

    def kill(self, role: Role) -> None:
        """SIGKILL the process and all its children, and reap it."""
        process = self._running.pop(role)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if role == "middle-client":
            self.audit.kills += 1

    def end(self) -> None:
        """SIGTERM every process; one that outlives ten seconds is killed and reported by `settle`."""
        for process in self._running.values():
            process.terminate()
        for role, process in self._running.items():
            try:
                process.wait(_END_TIMEOUT_S * patience())
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._stubborn.append(f"semd {role} did not end on SIGTERM")
        self._running.clear()

    def wait_for(
        self, what: str, condition: Callable[[], bool], *, timeout_s: float = 30.0, keep_busy: bool = False
    ) -> None:
        """Poll until `condition` holds.

        Args:
            what: Said in the failure.
            condition: Polled every 50 ms.
            timeout_s: Deadline before stretching by `patience`.
            keep_busy: When a run has ended, have the operator defocus by 12 discs and scan again.

        Raises:
            AssertionError: The deadline passed, or a process ended by itself.
        """
        deadline = time.monotonic() + timeout_s * patience()
        while not condition():
            ended = {role: p.returncode for role, p in self._running.items() if p.poll() is not None}
            if ended:
                raise AssertionError(f"ended by itself while waiting for {what}: {ended}\n{self.report()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {timeout_s:g} s: {what}\n{self.report()}")
            if keep_busy and self.sem.finished() and not self.sem.scanning():
                self.operator_defocuses()
            time.sleep(_POLL_S)

    def operator_defocuses(self, discs: float = 12.0) -> None:
        """Turn the working distance `discs` tolerable discs off focus, alternating sides, and scan."""
        self._side = -self._side
        column = self.sem.column
        shift_mm = self._side * discs * disc_unit_mm(column.knobs.magnification)
        self.sem.operator_turns(wd_mm=round(column.focus_mm + shift_mm, 4))
        self.sem.scan()

    def frames_written(self, count: int) -> Callable[[], bool]:
        """Return a condition: so many frames are completely written."""
        return lambda: len(self.sem.frames) >= count

    def actions_filed(self, count: int) -> Callable[[], bool]:
        """Return a condition: so many action files exist."""
        return lambda: len(self.audit.actions()) >= count

    def settle(self, *, timeout_s: float = 20.0) -> None:
        """Wait until every frame is answered and delivered, end the processes and take the accounts.

        Raises:
            AssertionError: Something stayed open, or the accounts show a deviation from the contract.
        """

        def closed() -> bool:
            return not self.sem.scanning() and not self.audit.unanswered()

        self.wait_for("every frame answered and delivered", closed, timeout_s=timeout_s)
        self.end()
        problems = self.audit.problems() + self._stubborn
        if problems:
            raise AssertionError("\n".join(["deviations:", *problems, self.report()]))

    def report(self) -> str:
        """Return frames, actions, open items and the tails of the logs."""
        lines = ["--- frames"]
        lines += [f"{f.number} {f.stem} {f.kind} wd={f.knobs.wd_mm:.4f} b={f.knobs.brightness:.2f} "
                  f"c={f.knobs.contrast:.2f} disc={f.disc_px:.1f}px exposed={f.exposed}"
                  for f in list(self.sem.frames)]  # fmt: skip
        lines.append("--- actions")
        lines += [f"{a.seq} {a.frame} {a.status} {a.targets} score={a.score}" for a in self.audit.actions()]
        lines += ["--- open", *self.audit.unanswered(), *self.sem.troubles, *self.sem.server.violations]
        for path in sorted(self.root.glob("*.log")):
            tail = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            lines += [f"--- {path.name}", *tail]
        return "\n".join(lines)

    def _log(self, role: Role) -> Path:
        return self.root / f"{role}.log"
