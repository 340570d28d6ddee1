"""The worker process of the probe: reads one request, loads the model, probes, reports."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from auditor.errors import ProbeFailed
from auditor.measurement import ProbeResult
from auditor.probe.codec import ProbeRequest, Report, decode_request, encode
from auditor.probe.environment import numbers_environment
from auditor.probe.incomplete import failure
from auditor.probe.settings import ProbeSettings

#: How long after its time a worker that nobody has ended ends itself.
GRACE_S = 60.0
#: The timer's own limit is the platform's; a year is as good as none.
LONGEST_TIMER_S = 365 * 86400.0
MISSING_OBJECT = re.compile(
    r"(?:Could not (?:locate|resolve)|Unknown) \w+:? '([^']+)'|cannot import name '([^']+)'"
)


def main() -> None:
    """Serve one request from standard input; reports go to standard output, line by line."""
    faulthandler.enable()  # a crash leaves the Python stack on standard error
    requests, reports = _own_streams()
    line = requests.readline()
    threading.Thread(target=_end_with_parent, args=(requests,), daemon=True).start()

    def tell(report: Report) -> None:
        reports.write(f"{encode(report)}\n")
        reports.flush()

    try:
        request = decode_request(line)
        _end_in_any_case(request.settings.timeout_s)
        result = probe(
            request,
            progress=lambda phase: tell(Report(progress=phase)),
            partial=lambda result: tell(Report(partial=result)),
        )
    except BaseException as error:  # code of the model raises SystemExit or KeyboardInterrupt too
        tell(failure(error))
    else:
        tell(Report(result=result))


def probe(
    request: ProbeRequest,
    *,
    progress: Callable[[str], None],
    partial: Callable[[ProbeResult], None],
) -> ProbeResult:
    """Load the request's file and measure it. Raises `ProbeFailed` or `UsageError`."""
    from auditor.formats import read_model
    from auditor.probe.data_file import read_data

    settings = request.settings
    if settings.data is not None:
        # A wrong file is told before seconds go into a framework.
        read_data(settings.data, given=settings.given)
    graph = read_model(request.path).graph
    progress(f"starting {settings.backend}")
    os.environ.update(numbers_environment(settings.backend, graph))
    import keras

    from auditor.probe.backends import load_backend
    from auditor.probe.measure import measure

    keras.utils.set_random_seed(settings.seed)
    backend = load_backend(settings.backend)
    progress("loading the model")
    if graph.format == "onnx":
        from auditor.probe.onnx_probe import probe_onnx

        return probe_onnx(request.path, graph, settings, backend, progress, partial)
    model, assumptions = load(request.path, settings)
    return measure(
        model, graph, settings, backend, progress, partial=partial, assumptions=assumptions
    )


def load(path: Path, settings: ProbeSettings) -> tuple[Any, tuple[str, ...]]:
    """The model of a file, compiled if that can be had, and what had to be assumed for it.

    Raises `ProbeFailed`.
    """
    import keras

    safe = not settings.unsafe
    try:
        return keras.saving.load_model(path, safe_mode=safe), ()
    except Exception:  # it may be the loss, the optimizer or a metric alone
        compiled = traceback.format_exc()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=safe)
    except Exception as error:
        raise _not_loaded(path, error) from error
    reason = compiled.strip().rpartition("\n")[2]
    return model, (f"the file's compile settings could not be restored by Keras ({reason})",)


def _not_loaded(path: Path, error: Exception) -> ProbeFailed:
    words = str(error).strip()
    missing = MISSING_OBJECT.search(words)
    if "safe_mode" in words or "unsafe" in words:
        message = (
            f"{path.name}: loading it would run code that the file carries; --unsafe allows that, "
            "for a file you trust"
        )
    elif missing and _is_keras_operation(missing.group(1) or ""):
        message = (
            f"{path.name}: Keras cannot load its own operation {missing.group(1)} from this "
            "format; save the model as .keras"
        )
    elif missing:
        name = missing.group(1) or missing.group(2)
        message = (
            f"{path.name}: needs the custom object {name}, which only your code has; "
            "audit the live model with auditor.audit(model)"
        )
    else:
        message = f"{path.name}: Keras cannot load it: {words.partition(chr(10))[0]}"
    return ProbeFailed(message, detail=traceback.format_exc())


def _is_keras_operation(name: str) -> bool:
    """Whether it is the class of a `keras.ops` node: HDF5 files hold them, Keras loads none."""
    import keras

    own = (
        kind for kind in keras.Operation.__subclasses__() if kind.__module__.startswith("keras.")
    )
    return any(kind.__name__ == name for kind in own)


def _own_streams() -> tuple[IO[str], IO[str]]:
    """Standard input and output for requests and reports alone.

    What frameworks and models print goes to standard error; what they want to read is empty.
    """
    sys.stdout.flush()
    requests, reports = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(requests, encoding="utf-8"), os.fdopen(reports, "w", encoding="utf-8")


def _end_with_parent(requests: IO[str]) -> None:
    """End this process, and whatever it has started, when its input closes: who asked is gone."""
    requests.read()
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_in_any_case(timeout_s: float) -> None:
    """End this process long after its time is up, should whoever asked not be there to do it.

    The thread that waits for their end needs the interpreter, which code may hold without end.
    """
    faulthandler.dump_traceback_later(min(timeout_s + GRACE_S, LONGEST_TIMER_S), exit=True)


if __name__ == "__main__":
    main()
