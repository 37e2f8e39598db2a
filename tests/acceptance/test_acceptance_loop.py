"""The closed loop of the real processes on a SEM they were not built on: it ends in focus, exposed, DONE."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from isem_bench import Bench
from isem_manners import GENTLE, MANNERS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("sample", "magnification", "discs_off", "brightness", "contrast"),
    [("pollen", 2000.0, 12.0, 66.0, 38.0), ("crystals", 1000.0, -9.0, 38.0, 62.0)],
)
def test_series_text_three_axes_reaches_done(
    make_bench: Callable[..., Bench],
    sample: str,
    magnification: float,
    discs_off: float,
    brightness: float,
    contrast: float,
) -> None:
    bench = make_bench(
        sample=sample,
        magnification=magnification,
        discs_off=discs_off,
        brightness=brightness,
        contrast=contrast,
        manners=[GENTLE, MANNERS["renamed"]],
        korean_stems=True,
    )
    assert not bench.sem.column.in_focus()
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("DONE or GIVE-UP", bench.sem.finished, timeout_s=38.0)
    bench.settle()
    assert bench.audit.last_status() == "DONE", bench.report()
    assert bench.sem.column.in_focus(), bench.report()
    assert bench.sem.frames[-1].exposed, bench.report()
    received = bench.sem.text_link.order.receipts
    assert set(received.values()) == {1}


def test_single_aisem_working_distance_reaches_done(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(sample="fibres", discs_off=-8.0, layout="single", dialect="aisem", axes=("wd",))
    bench.start("run", "middle-client")
    bench.sem.scan()

    def over() -> bool:
        return bench.audit.last_status() in ("DONE", "GIVE-UP")

    bench.wait_for("DONE or GIVE-UP", over, timeout_s=38.0)
    bench.settle()
    assert bench.audit.last_status() == "DONE", bench.report()
    assert bench.sem.column.in_focus(), bench.report()
