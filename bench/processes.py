"""Fresh processes that are timed, with the memory they and their children take."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(kw_only=True)
class Case:
    """One command, and what its runs took.

    Memory is looked at every `poll_s` seconds; looking at that of large children takes their time.
    """

    name: str
    command: list[str]
    poll_s: float = 0.01
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def run(self, folder: Path) -> None:
        """Run it once, in `folder`."""
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        begun = time.perf_counter()
        process = psutil.Popen(
            self.command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            self.peak_mib = max(self.peak_mib, _resident(process) / 2**20)
            time.sleep(self.poll_s)
        self.seconds.append(time.perf_counter() - begun)
        if process.returncode not in (0, 1):
            raise SystemExit(f"{self.name}: exit status {process.returncode}")


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            # What a fork shares with its parent is counted once.
            memory = member.memory_full_info() if member is not process else member.memory_info()
            total += getattr(memory, "uss", memory.rss)
    except psutil.Error:
        pass
    return total
