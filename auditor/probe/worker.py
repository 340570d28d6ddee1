"""Probing a model file in a process of its own, within bounds of time and memory."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from auditor.errors import ProbeFailed, UsageError
from auditor.measurement import ProbeResult
from auditor.probe.codec import ProbeRequest, Report, decode_report, encode, is_partial
from auditor.probe.environment import process_environment
from auditor.probe.incomplete import incomplete
from auditor.probe.pipes import Lines, Tail
from auditor.probe.process_tree import ProcessTree
from auditor.probe.settings import ProbeSettings

#: How often the bounds are looked at. A process fills about a GiB of memory a second.
POLL_S = 0.05
#: How long a worker that has closed its standard output, or was killed, may take to end.
ENDING_S = 5.0
#: How long the end of its standard error is waited for, which what it started may keep open.
LAST_WORDS_S = 1.0
#: How much of the worker's standard error goes into an error's detail.
STDERR_TAIL = 8192
WORKER_MODULE = "auditor.probe.worker_main"
SMALLER_BATCHES = "or probe smaller batches with --batch-size"


def probe_file(
    path: Path,
    settings: ProbeSettings,
    progress: Callable[[str], None],
    *,
    module: str = WORKER_MODULE,
) -> ProbeResult:
    """Probe a Keras model file in a worker process.

    The worker runs in an empty folder and in a session of its own, takes no module from the
    current folder, and ends with this process. Beyond `settings.timeout_s` or
    `settings.max_memory_mib` (resident memory of the worker and what it started) it is killed;
    with it ends whatever it started. `module` is what the worker runs.

    Where the worker comes to an early end, for whatever reason, what it had measured until then is
    the result, and its `incomplete` says why.

    Raises:
        ProbeFailed: the same without anything measured; `detail` has the end of what the worker
            wrote to standard error.
        UsageError: the data file or an option is wrong.
    """
    data = None if settings.data is None else settings.data.resolve()
    request = ProbeRequest(path=path.resolve(), settings=replace(settings, data=data))
    with (
        tempfile.TemporaryDirectory(prefix="geb-audit-", ignore_cleanup_errors=True) as folder,
        _running(module, settings, Path(folder)) as worker,
    ):
        worker.send(request)
        ending = worker.follow(settings, progress)
        worker.end()
        if isinstance(ending, ProbeResult):
            return ending
        detail = "\n".join(part for part in (ending.detail, worker.last_words()) if part)
        if ending.wrong_usage:
            raise UsageError(ending.wrong_usage, detail=ending.detail)
        if (partial := worker.measured()) is None:
            raise ProbeFailed(ending.failed, detail=detail)
        return incomplete(partial, replace(ending, detail=detail))


def _start(module: str, settings: ProbeSettings, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=folder,
        env=process_environment(settings.backend, settings.device),
        # Its group can be killed as one, and a Ctrl-C at the terminal is for this process alone.
        start_new_session=True,
    )


@contextmanager
def _running(module: str, settings: ProbeSettings, folder: Path) -> Iterator[_Worker]:
    """A worker, which is gone afterwards, and everything it started with it."""
    process = _start(module, settings, folder)
    worker = _Worker(process)
    try:
        yield worker
    finally:
        worker.end()
        # Not Popen's own way out, which waits without end for a process that cannot be killed.
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _Worker:
    """A worker process, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None or process.stderr is None:
            raise TypeError("the worker's output is not piped")
        self._process = process
        self._tree = ProcessTree(process.pid)
        self._lines = Lines(process.stdout)
        self._errors = Tail(process.stderr, STDERR_TAIL)
        self._started = time.monotonic()
        self._phase = ""
        self._partial = b""

    def send(self, request: ProbeRequest) -> None:
        """Hand over the request. The pipe stays open: its end tells the worker we are gone."""
        if self._process.stdin is None:
            raise TypeError("the worker has no standard input")
        with suppress(BrokenPipeError):  # it crashed at once; its exit status tells more
            self._process.stdin.write(f"{encode(request)}\n".encode())

    def follow(
        self, settings: ProbeSettings, progress: Callable[[str], None]
    ) -> ProbeResult | Report:
        """The result, or a report of why there is none; as soon as a bound is reached."""
        deadline = self._started + settings.timeout_s
        sampled = 0.0
        while True:
            line = self._next()
            if line is None:
                return self._ended()
            if line and (last := self._take(line, progress)) is not None:
                return last
            now = time.monotonic()
            if now > deadline:
                return self._early(
                    f"time limit of {settings.timeout_s:g} s reached",
                    f"raise --timeout, {SMALLER_BATCHES}",
                    "time limit",
                )
            if now - sampled >= POLL_S:
                sampled = now
                if self._tree.resident_mib() > settings.max_memory_mib:
                    return self._early(
                        f"memory limit of {settings.max_memory_mib} MiB exceeded",
                        f"raise --max-memory, {SMALLER_BATCHES}",
                        "memory limit",
                    )

    def end(self) -> None:
        """End it, if it has not ended by itself, and whatever it started."""
        if self._process.returncode is None:
            self._tree.kill()
            with suppress(subprocess.TimeoutExpired):  # a driver may hold it: leave it to that
                self._process.wait(timeout=ENDING_S)

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        return self._errors.text(LAST_WORDS_S)

    def measured(self) -> ProbeResult | None:
        """The last partial result, if there is one."""
        return _decoded(self._partial).partial if self._partial else None

    def _next(self) -> bytes | None:
        """The next line; empty if there is none yet, None if there will be none."""
        with suppress(queue.Empty):
            return self._lines.next(POLL_S)
        if self._process.poll() is None:
            return b""
        self._tree.kill()  # a child of its keeps the pipe open
        with suppress(queue.Empty):
            return self._lines.next(ENDING_S)
        return None

    def _take(self, line: bytes, progress: Callable[[str], None]) -> ProbeResult | Report | None:
        """Note what a line says; it is given back if it is the last."""
        if is_partial(line):
            self._partial = line
            return None
        report = _decoded(line)
        if report.progress:
            self._phase = report.progress
            progress(report.progress)
            return None
        if report.failed and self._partial:
            return replace(report, failed=f"in {self._phase}: {report.failed}")
        return report.result or report

    def _ended(self) -> Report:
        """How a worker whose reports have come to their end without a last one has ended."""
        with suppress(subprocess.TimeoutExpired):  # its status tells
            self._process.wait(timeout=ENDING_S)
        status = self._process.returncode
        self._tree.kill()
        why = "has closed its output" if status is None else _how_it_ended(status)
        return self._early(f"the probe's process {why}", "", "crash")

    def _early(self, what: str, remedy: str, brief: str) -> Report:
        where = f" in: {self._phase}" if self._phase else " before it had begun"
        return Report(failed="; ".join(filter(None, (f"{what}{where}", remedy))), brief=brief)


def _decoded(line: bytes) -> Report:
    """A line as a report; one that is none, as the report that says so."""
    try:
        return decode_report(line)
    except Exception:  # whatever JSON, the text's encoding and the structure have to object
        return Report(failed="the probe's process wrote what is no report", brief="crash")


def _how_it_ended(status: int) -> str:
    """What the exit status of a worker without a result says."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        memory = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return f"was ended by {name}{memory}"
    return f"ended without a result (exit status {status})"
