"""A process and whatever it starts: its memory, and its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import psutil

#: How long a list of descendants serves: making one reads the table of all processes.
REFRESH_S = 0.5


class ProcessTree:
    """A process that leads a session of its own, and its descendants.

    One that has left the session is known once it was seen beneath its parents: what both leaves
    and loses them between two looks escapes.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._descendants: set[psutil.Process] = set()
        self._refreshed = -REFRESH_S
        self._root: psutil.Process | None = None
        with suppress(psutil.Error):
            self._root = psutil.Process(pid)

    def resident_mib(self) -> float:
        """Resident memory of all of them, in MiB; what they share counts for each."""
        if time.monotonic() - self._refreshed > REFRESH_S:
            self._refresh()
        total = 0
        for process in (self._root, *self._descendants):
            if process is not None:
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        return total / 2**20

    def kill(self) -> None:
        """End all of them at once, without a chance to object."""
        self._refresh()
        if sys.platform != "win32":
            # Whoever was started after the list was made. The leader's number stays taken for as
            # long as one of its group lives.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        for process in (self._root, *self._descendants):
            if process is not None:
                with suppress(psutil.Error):
                    process.kill()

    def _refresh(self) -> None:
        self._descendants = {process for process in self._descendants if process.is_running()}
        if self._root is not None:
            with suppress(psutil.Error):
                self._descendants.update(self._root.children(recursive=True))
        self._refreshed = time.monotonic()
