"""The closed loop of the real processes on a SEM they were not built on: it ends in focus, exposed, DONE."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from isem_manners import GENTLE, MANNERS
from isem_system import SystemUnderTest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("sample", "magnification", "discs_off", "brightness", "contrast"),
    [("pollen", 2000.0, 12.0, 66.0, 38.0), ("crystals", 1000.0, -9.0, 38.0, 62.0)],
)
def test_series_text_three_axes_reaches_done(
    make_system: Callable[..., SystemUnderTest],
    sample: str,
    magnification: float,
    discs_off: float,
    brightness: float,
    contrast: float,
) -> None:
    system = make_system(
        sample=sample,
        magnification=magnification,
        discs_off=discs_off,
        brightness=brightness,
        contrast=contrast,
        manners=[GENTLE, MANNERS["renamed"]],
        korean_stems=True,
    )
    assert not system.sem.column.in_focus()
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("DONE or GIVE-UP", system.sem.finished, timeout_s=38.0)
    system.settle()
    assert system.audit.last_status() == "DONE", system.report()
    assert system.sem.column.in_focus(), system.report()
    assert system.sem.frames[-1].exposed, system.report()
    received = system.sem.text_link.order.receipts
    assert set(received.values()) == {1}


def test_single_aisem_working_distance_reaches_done(make_system: Callable[..., SystemUnderTest]) -> None:
    system = make_system(sample="fibres", discs_off=-8.0, layout="single", dialect="aisem", axes=("wd",))
    system.start("run", "middle-client")
    system.sem.scan()

    def over() -> bool:
        return system.audit.last_status() in ("DONE", "GIVE-UP")

    system.wait_for("DONE or GIVE-UP", over, timeout_s=38.0)
    system.settle()
    assert system.audit.last_status() == "DONE", system.report()
    assert system.sem.column.in_focus(), system.report()
