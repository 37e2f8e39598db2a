"""The metrics over HTTP, for who cannot collect text files: on the loopback address alone, off unless asked for.

It serves the files that both processes write, so that it needs nothing of the loop and cannot hold it up.
"""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import structlog

from semd.service.metrics import CLIENT_METRICS_FILE, DAEMON_METRICS_FILE

HOST = "127.0.0.1"
_REQUEST_TIMEOUT_S = 5.0


@contextmanager
def metrics_endpoint(state_directory: Path, port: int | None) -> Iterator[int | None]:
    """Serve `GET /metrics` on the loopback address.

    A port that is taken is logged and nothing else: the microscope is worth more than its metrics.

    Args:
        state_directory: where the metrics files are.
        port: where to listen; 0 for any free one, None for no endpoint.

    Yields:
        The port, or None when nothing is served.
    """
    server = None if port is None else _open(state_directory, port)
    if server is None:
        yield None
        return
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _open(state_directory: Path, port: int) -> _Server | None:
    try:
        return _Server(state_directory, port)
    except OSError as error:
        structlog.get_logger().error(
            "metrics.unserved", port=port, reason=f"{error}; take another [health] metrics_port"
        )
        return None


class _Server(socketserver.TCPServer):
    """One request after the other. Not `HTTPServer`: that asks a name server for its own name."""

    allow_reuse_address = os.name == "posix"  # elsewhere it lets two processes share a port

    def __init__(self, state_directory: Path, port: int) -> None:
        self.state_directory = state_directory
        super().__init__((HOST, port), _RequestHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closed the connection before the answer."""


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "there is /metrics alone")
            return
        body = b"".join(self._read(name) for name in (DAEMON_METRICS_FILE, CLIENT_METRICS_FILE))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Keep standard error to what matters."""

    def _read(self, name: str) -> bytes:
        try:
            return (self.server.state_directory / name).read_bytes()
        except OSError:
            return b""  # a process that has never run here has none
