"""Probing a model file in a process of its own, within bounds of time and memory."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import psutil

from auditor.errors import ProbeFailed, UsageError
from auditor.measurement import ProbeResult
from auditor.probe.codec import ProbeRequest, Report, decode_report, encode
from auditor.probe.settings import ProbeSettings

POLL_S = 0.2
#: How long a worker that has closed its standard output may take to end.
ENDING_S = 5.0
#: How much of the worker's standard error goes into an error's detail.
STDERR_TAIL = 8192
WORKER_MODULE = "auditor.probe.worker_main"


def probe_file(
    path: Path,
    settings: ProbeSettings,
    progress: Callable[[str], None],
    *,
    module: str = WORKER_MODULE,
) -> ProbeResult:
    """Probe a Keras model file in a worker process.

    The worker runs in an empty folder, takes no module from the current one, and ends with this
    process. Beyond `settings.timeout_s` or `settings.max_memory_mib` (resident memory of the
    worker and its children) it is killed. `module` is what the worker runs.

    Raises:
        ProbeFailed: the file could not be loaded or probed, or the worker crashed or went beyond
            a bound; `detail` has the end of what it wrote to standard error.
        UsageError: the data file or an option is wrong.
    """
    data = None if settings.data is None else settings.data.resolve()
    request = ProbeRequest(path=path.resolve(), settings=replace(settings, data=data))
    with (
        tempfile.TemporaryDirectory(prefix="geb-audit-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as errors,
    ):
        with _start(module, settings, Path(folder), errors) as process:
            try:
                report = _follow(process, request, progress)
            except ProbeFailed as failure:
                raise ProbeFailed(str(failure), detail=failure.detail or _tail(errors)) from None
            finally:
                _kill(process)
        return _result(report, process, errors)


def _start(
    module: str, settings: ProbeSettings, folder: Path, errors: IO[bytes]
) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": settings.backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Sets of strings are walked in the same order in every run.
        "PYTHONHASHSEED": "0",
    }
    if settings.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=folder,
        env=environment,
        text=True,
        encoding="utf-8",
    )


def _follow(
    process: subprocess.Popen[str], request: ProbeRequest, progress: Callable[[str], None]
) -> Report | None:
    """The worker's last report, or None if it ended without one."""
    settings = request.settings
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    _send(process, encode(request))
    deadline = time.monotonic() + settings.timeout_s
    while True:
        try:
            line = lines.get(timeout=POLL_S)
        except queue.Empty:
            line = ""
        if line is None:
            with suppress(subprocess.TimeoutExpired):  # its status tells how it ended
                process.wait(timeout=ENDING_S)
            return None
        if line:
            report = decode_report(line)
            if not report.progress:
                return report
            progress(report.progress)
        if time.monotonic() > deadline:
            raise ProbeFailed(
                f"the probe took longer than {settings.timeout_s:g} s; raise --timeout, "
                "or probe smaller batches with --batch-size"
            )
        if _resident_mib(process.pid) > settings.max_memory_mib:
            raise ProbeFailed(
                f"the probe took more than {settings.max_memory_mib} MiB of memory; raise "
                "--max-memory, or probe smaller batches with --batch-size"
            )


def _send(process: subprocess.Popen[str], line: str) -> None:
    """Hand over the request. The pipe stays open: its end tells the worker that we are gone."""
    if process.stdin is None:
        raise TypeError("the worker has no standard input")
    with suppress(BrokenPipeError):  # it crashed at once; its exit status tells more
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    with suppress(ValueError):  # closed under our hands when the worker is killed
        for line in process.stdout or ():
            lines.put(line)
    lines.put(None)


def _result(
    report: Report | None, process: subprocess.Popen[str], errors: IO[bytes]
) -> ProbeResult:
    if report is None:
        raise ProbeFailed(_how_it_ended(process.returncode), detail=_tail(errors))
    if report.wrong_usage:
        raise UsageError(report.wrong_usage, detail=report.detail)
    if report.result is None:
        detail = "\n".join(part for part in (report.detail, _tail(errors)) if part)
        raise ProbeFailed(report.failed, detail=detail)
    return report.result


def _how_it_ended(status: int) -> str:
    """What the exit status of a worker without a result says."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        memory = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return f"the probe's process was ended by {name}{memory}"
    return f"the probe's process ended without a result (exit status {status})"


def _resident_mib(pid: int) -> float:
    total = 0
    with suppress(psutil.Error):
        worker = psutil.Process(pid)
        for process in (worker, *worker.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total / 2**20


def _kill(process: subprocess.Popen[str]) -> None:
    """End the worker, if it has not ended by itself, and whatever it started."""
    if process.poll() is not None:
        return
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    process.kill()
    process.wait()


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - STDERR_TAIL))
    return errors.read().decode("utf-8", "replace").strip()
