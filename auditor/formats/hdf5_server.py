"""The process that the HDF5 library runs in, seen from this side: started, kept, killed."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

SCRIPT = Path(__file__).with_name("hdf5_child.py")
ENVIRONMENT = {
    # Compression filters are code that HDF5 would load from wherever its environment says.
    "HDF5_PLUGIN_PRELOAD": "::",
    # Nothing is written, and a lock cannot be had on every file system that is read from.
    "HDF5_USE_FILE_LOCKING": "FALSE",
    # Idle threads of the linear algebra library reserve memory that the bound would count.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class Hdf5Server:
    """One process. Answers are JSON lines; see `hdf5_child`."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
            # A group of its own: what it forked is killed with it.
            start_new_session=True,
        )

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a request and wait for its answer; None when the process is gone."""
        with suppress(OSError, ValueError):
            _pipe(self._process.stdin).write(json.dumps(message).encode() + b"\n")
            _pipe(self._process.stdin).flush()
            line = _pipe(self._process.stdout).readline()
            return json.loads(line) if line else None
        return None

    def read(self, count: int) -> bytes:
        """That many bytes that follow an answer; fewer when the process is gone."""
        with suppress(OSError, ValueError):
            return _pipe(self._process.stdout).read(count)
        return b""

    @contextmanager
    def killed_after(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process if the block takes longer; the event tells whether that happened."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._end()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and whatever it forked, and close the pipes."""
        self._end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()

    def _end(self) -> None:
        with suppress(OSError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


def warm_up() -> None:
    """Have a server start while something else is done, if none is kept."""
    if not _idle:
        give_back(Hdf5Server())


def take() -> Hdf5Server:
    """A server that serves nobody: a kept one, or a new one."""
    while True:
        with _lock:
            server = _idle.pop() if _idle else None
        if server is None:
            return Hdf5Server()
        # A fork of this process must not talk over its parent's pipes.
        if server.owner == os.getpid():
            if server.alive:
                return server
            server.kill()


def give_back(server: Hdf5Server) -> None:
    """Keep a server for the next file; one is enough."""
    with _lock:
        if not _idle and server.owner == os.getpid():
            _idle.append(server)
            return
    server.kill()


@atexit.register
def _end() -> None:
    while _idle:
        server = _idle.pop()
        if server.owner == os.getpid():
            server.kill()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("no pipe")
    return stream


_idle: list[Hdf5Server] = []
_lock = threading.Lock()
