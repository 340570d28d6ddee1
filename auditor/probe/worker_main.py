"""The worker process of the probe: reads one request, loads the model, probes, reports."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from auditor.errors import GebAuditError, ProbeFailed, UsageError
from auditor.measurement import ProbeResult
from auditor.probe.codec import ProbeRequest, Report, decode_request, encode
from auditor.probe.settings import ProbeSettings

MISSING_OBJECT = re.compile(
    r"(?:Could not (?:locate|resolve)|Unknown) \w+:? '([^']+)'|cannot import name '([^']+)'"
)


def main() -> None:
    """Serve one request from standard input; reports go to standard output, line by line."""
    reports = _own_standard_output()
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(report: Report) -> None:
        reports.write(f"{encode(report)}\n")
        reports.flush()

    try:
        request = decode_request(line)
        result = probe(request, lambda phase: tell(Report(progress=phase)))
    except UsageError as error:
        tell(Report(wrong_usage=str(error), detail=error.detail))
    except GebAuditError as error:
        tell(Report(failed=str(error), detail=error.detail))
    except MemoryError:
        tell(Report(failed="the probe ran out of memory; try a smaller --batch-size"))
    except Exception as error:
        words = str(error).strip().partition("\n")[0]
        tell(
            Report(
                failed=f"the probe failed: {type(error).__name__}: {words}",
                detail=traceback.format_exc(),
            )
        )
    else:
        tell(Report(result=result))


def probe(request: ProbeRequest, progress: Callable[[str], None]) -> ProbeResult:
    """Load the request's file and measure it. Raises `ProbeFailed` or `UsageError`."""
    from auditor.formats import read_model
    from auditor.probe.data_file import read_data

    settings = request.settings
    if settings.data is not None:
        # A wrong file is told before seconds go into a framework.
        read_data(settings.data, given=settings.given)
    graph = read_model(request.path).graph
    progress(f"starting {settings.backend}")
    import keras

    from auditor.probe.backends import load_backend
    from auditor.probe.measure import measure

    keras.utils.set_random_seed(settings.seed)
    backend = load_backend(settings.backend)
    progress("loading the model")
    model, assumptions = load(request.path, settings)
    return measure(model, graph, settings, backend, progress, assumptions=assumptions)


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


def _own_standard_output() -> IO[str]:
    """Standard output for the reports alone; what frameworks print goes to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _end_with_parent() -> None:
    """End this process when standard input closes: whoever asked is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
