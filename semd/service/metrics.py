"""Metrics in Prometheus' text format (0.0.4), as node_exporter's textfile collector reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

DAEMON_METRICS_FILE = "semd.prom"
CLIENT_METRICS_FILE = "semd-middle-client.prom"
"""Both lie in the state directory, each written by its own process."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples.

    Attributes:
        name: `semd_...`, with the unit at its end; counters end in `_total`.
        kind: `gauge` goes up and down, `counter` only up while the process lives.
        help: one line.
        samples: (labels, value) each.
    """

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def gauge(name: str, value: float, help_text: str) -> Metric:
    """A gauge of one sample without labels."""
    return Metric(name, "gauge", help_text, (({}, value),))


def counter(name: str, value: float, help_text: str) -> Metric:
    """A counter of one sample without labels."""
    return Metric(name, "counter", help_text, (({}, value),))


def render(metrics: Iterable[Metric]) -> bytes:
    """The text, UTF-8, every line ended."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escape(metric.help, quotes=False)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escape(text, quotes=True)}"' for key, text in labels.items()) + "}"


def _escape(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
