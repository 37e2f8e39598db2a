"""`semd simulate`: the virtual NanoStation as a process of its own."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

from semd.config import Config
from semd.errors import ConfigError, LinkError
from semd.service.stop_signals import stopping_on_signals
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import RECOVERED_FAULTS
from semd.simulator.faulty_writer import ANSWERED_FAULTS, FaultyWriter
from semd.simulator.field import Sample
from semd.simulator.frame_writer import ImageFormat, Manner
from semd.simulator.microscope import KnobLimits, VirtualMicroscope
from semd.simulator.nanostation import NanoStation, ScannedFrame


@dataclass(frozen=True, slots=True)
class SimulateSpec:
    """Settings of `semd simulate`.

    Attributes:
        sample: kind of sample.
        magnification: magnification.
        seed: seed of the field, the instrument, the noise and the faults.
        manner: way in which the writer saves a pair.
        image_format: format of the image files.
        encoding: encoding of the parameter texts.
        pause_s: pause between the pieces that the writer writes.
        link_faults: share of the commands that meet a fault on the link, 0..1.
        writer_faults: share of the pairs that are saved with a fault, 0..1.
    """

    sample: Sample
    magnification: float
    seed: int
    manner: Manner
    image_format: ImageFormat
    encoding: str
    pause_s: float
    link_faults: float = 0.0
    writer_faults: float = 0.0

    @classmethod
    def checked(
        cls,
        *,
        sample: str,
        magnification: float,
        seed: int,
        manner: str,
        image_format: str,
        encoding: str,
        pause_s: float,
        link_faults: float = 0.0,
        writer_faults: float = 0.0,
    ) -> SimulateSpec:
        """Build the settings from command-line values.

        Raises:
            ConfigError: a sample, manner, format or encoding is unknown, or a share lies outside 0..1;
                the message lists the known values.
        """
        if not (0.0 <= link_faults <= 1.0 and 0.0 <= writer_faults <= 1.0):
            raise ConfigError("the shares of faults must lie between 0 and 1")
        try:
            "µ".encode(encoding)
            writing = Manner(manner), ImageFormat(image_format)
        except (ValueError, LookupError) as error:
            raise ConfigError(f"{error}; manners: {', '.join(Manner)}; formats: {', '.join(ImageFormat)}") from error
        return cls(checked_sample(sample), magnification, seed, *writing, encoding, pause_s, link_faults, writer_faults)


def checked_sample(word: str) -> Sample:
    """Return the sample of this name.

    Raises:
        ConfigError: the name is unknown.
    """
    if word not in get_args(Sample):
        raise ConfigError(f"unknown sample {word!r}, known are: {', '.join(get_args(Sample))}")
    return cast("Sample", word)


def serve_microscope(config: Config, spec: SimulateSpec, show: Callable[[str], None]) -> None:
    """Write frames into the watch directory and execute commands of the link until SIGINT or SIGTERM.

    Args:
        config: configuration of the daemon: watch directory, link and limits.
        spec: settings of the simulation.
        show: receives one line for each frame and each applied action.

    Raises:
        LinkError: the address cannot be bound.
    """
    limits = KnobLimits(config.limits.wd_mm, config.limits.brightness, config.limits.contrast)
    microscope = VirtualMicroscope(spec.sample, spec.magnification, spec.seed, limits=limits)
    writer = FaultyWriter(
        config.watch.directory,
        config.watch.layout,
        manner=spec.manner,
        image_format=spec.image_format,
        encoding=spec.encoding,
        pause_s=spec.pause_s,
        plan=FaultPlan(share=spec.writer_faults, kinds=ANSWERED_FAULTS, rng=random.Random(spec.seed)),  # noqa: S311
    )
    link_faults = FaultPlan(
        share=spec.link_faults,
        kinds=RECOVERED_FAULTS[config.link.dialect],
        rng=random.Random(spec.seed),  # noqa: S311
    )

    def report(frame: ScannedFrame) -> None:
        truth = frame.scan.truth
        show(f"{frame.stem}: true score {truth.true_score:.2f}, WD error {truth.wd_error_mm * 1e3:+.1f} um")

    station = NanoStation(
        microscope,
        writer,
        config.link.dialect,
        on_frame=report,
        link_faults=link_faults,
        on_applied=lambda action: show(f"{action.frame}: {action.status} applied"),
    )
    address = (config.link.host, config.link.port)
    try:
        listener = socket.create_server(address)
    except OSError as error:
        raise LinkError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    with listener, stopping_on_signals(station.stopping.set):
        station.run(listener)
