"""The process host: one instance, logs only once the lock is held, the lock released at the end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from semd.errors import ConfigError, StorageError
from semd.service.notify import ServiceManager
from semd.service.process_host import hosted_process


def host(
    directory: Path, calls: list[str] | None = None, manager: ServiceManager | None = None
) -> AbstractContextManager[ServiceManager]:
    return hosted_process(
        directory,
        lock_file="a.lock",
        hung_file="a-hung.txt",
        end_hung_s=0.0,
        stop=lambda: None,
        manager=manager,
        configure=lambda: calls.append("configured") if calls is not None else None,
    )


def test_a_second_process_is_refused_before_it_touches_the_logs(tmp_path: Path) -> None:
    calls: list[str] = []
    with host(tmp_path), pytest.raises(StorageError), host(tmp_path, calls):
        pytest.fail("two processes hold one lock")
    assert calls == []


def test_the_lock_is_free_after_a_process_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), host(tmp_path):
        raise RuntimeError
    calls: list[str] = []
    with host(tmp_path, calls):
        assert calls == ["configured"]


def test_the_given_manager_is_the_one_that_is_watched(tmp_path: Path) -> None:
    manager = ServiceManager()
    with host(tmp_path, manager=manager) as reported:
        assert reported is manager


def test_a_failpoint_outside_a_test_is_refused_before_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMD_FAILPOINT", "claimed=1")
    calls: list[str] = []
    with pytest.raises(ConfigError), host(tmp_path, calls):
        pytest.fail("a failpoint was armed")
    assert calls == []
