"""The alert rules: well-formed, and about metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from semd.config import HealthConfig
from semd.daemon.daemon_metrics import daemon_metrics
from semd.daemon.health import DaemonHealth
from semd.middle_client.client_metrics import client_metrics
from semd.service.metrics import Metric

RULES = Path(__file__).parents[3] / "deploy" / "semd-alerts.yml"
OPERATIONS = RULES.with_name("OPERATIONS.md")
DURATION = re.compile(r"[1-9][0-9]*[smhd]")
SELECTOR = re.compile(r"(semd_\w+)(?:\{([^}]*)\})?")
FUNCTIONS = {"absent", "changes", "increase", "time"}


def all_metrics() -> dict[str, Metric]:
    health = DaemonHealth(
        written_at=1.0, started_at=0.0, pid=1, watching=True, unheard_frames=0, directory_ok=True, scan_age_s=0.0,
        storage_ok=True, waiting=0, queue_growing_s=0.0, answered=0, quarantined=0, last_frame=None, last_status=None,
        memory_mb=1.0, models="", models_unchanged=True, disk_free_mb={"state": 1.0, "actions": 1.0},
    )  # fmt: skip
    client = client_metrics(
        written_at=1.0, started_at=0.0, link_up=True, connections=0, pending=0, storage_ok=True, aborted=False,
        dry_run=False, outcomes={},
    )  # fmt: skip
    return {metric.name: metric for metric in [*daemon_metrics(health), *client]}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text("utf-8"))
    assert set(document) == {"groups"}
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
    return [rule for group in document["groups"] for rule in group["rules"]]


def faults(expression: str) -> list[str]:
    """Names in an expression that neither Prometheus nor our own metrics know."""
    known = all_metrics()
    found: list[str] = []
    for name, labels in SELECTOR.findall(expression):
        if name not in known:
            found.append(f"no metric {name}")
            continue
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            if not any(sample.get(label) == value for sample, _ in known[name].samples):
                found.append(f"{name} never has {label}={value}")
        if known[name].kind == "counter" and not re.search(rf"increase\({name}", expression):
            found.append(f"{name} is a counter: its level means nothing")
    words = set(re.findall(r"[a-z]\w*(?=\()", expression))
    found += [f"no function {word}" for word in words - FUNCTIONS]
    if expression.count("(") != expression.count(")"):
        found.append("brackets")
    return found


def test_every_rule_is_whole_and_names_metrics_that_exist() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 10
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Semd[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert "for" not in rule or DURATION.fullmatch(rule["for"])
        assert SELECTOR.search(rule["expr"])
        assert faults(rule["expr"]) == [], rule["alert"]


@pytest.mark.parametrize(
    "expression",
    [
        "semd_link_upp == 0",
        'increase(semd_actions_total{outcome="lost"}[1h]) > 0',
        "semd_frames_answered_total > 3",
        "median(semd_link_up)",
        "absent(semd_link_up",
    ],
)
def test_a_rule_that_could_never_fire_would_be_noticed(expression: str) -> None:
    assert faults(expression)


def test_everything_that_can_be_false_has_an_alert() -> None:
    expressions = " ".join(rule["expr"] for rule in rules())
    states = {name for name in all_metrics() if name.endswith(("_ok", "_up", "_unchanged", "_watching"))}
    assert len(states) == 6
    for name in states:
        assert f"{name} == 0" in expressions


def test_thresholds_are_those_of_semd_health() -> None:
    expressions = " ".join(rule["expr"] for rule in rules())
    health = HealthConfig()
    for condition in (
        f"semd_unheard_frames >= {health.max_unheard_frames}",
        f"semd_scan_age_seconds > {health.max_scan_age_s:g}",
        f"semd_frames_waiting > {health.max_waiting}",
        f"semd_queue_growing_seconds > {health.max_queue_growth_s:g}",
        f"semd_actions_pending > {health.max_pending}",
        f"semd_disk_free_bytes < {health.min_free_mb:g}e6",
    ):
        assert condition in expressions


def test_the_operations_guide_names_every_metric_and_no_other() -> None:
    guide = set(re.findall(r"`(semd_\w+)`", OPERATIONS.read_text("utf-8")))
    assert guide == set(all_metrics())
