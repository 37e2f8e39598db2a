"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from semd.middle_client.settings import MiddleClientSettings


@pytest.fixture
def settings(tmp_path: Path) -> MiddleClientSettings:
    """Settings of a Middle Client whose directories are empty."""
    (tmp_path / "actions").mkdir()
    return MiddleClientSettings(tmp_path / "actions", tmp_path / "state")
