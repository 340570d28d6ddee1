"""Standard output and standard error that may go away, or fill up, under a command's hands.

`geb-audit model.keras | head -1` closes the pipe after a line. That is the reader's choice and no
failure: the rest is dropped, every other report is written, and the exit code is the verdict's.
What the system would not take (a full disk) is a failure, told once, when all else is done.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Guarded(io.RawIOBase):
    """Writes to `raw` until that fails, and drops everything from then on.

    `failure` is what went wrong; None while nothing did, and where a reader closed the pipe.
    """

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self._lost = raw is None
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._raw is not None and bool(self._raw.isatty())

    def fileno(self) -> int:
        """The descriptor behind it. Raises `OSError` where there is none."""
        if self._raw is None:
            raise OSError("closed")
        return int(self._raw.fileno())

    def write(self, data: Any) -> int | None:
        """Write bytes; how many were taken, all of them where they are dropped."""
        if not self._lost:
            try:
                written: int | None = self._raw.write(data)
            except BrokenPipeError:
                self._lost = True
            except OSError as error:
                self._lost, self.failure = True, error
            else:
                return written
        return len(data)


@contextmanager
def guarded_streams() -> Iterator[Guarded]:
    """Guard `sys.stdout` and `sys.stderr` meanwhile; gives the guard of standard output.

    Either may be None, as where it was closed when the process began.
    """
    before = sys.stdout, sys.stderr
    out, err = (Guarded(_raw(stream)) for stream in before)
    sys.stdout, sys.stderr = _text(out, before[0]), _text(err, before[1])
    try:
        yield out
    finally:
        for guarded in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # closed already
                guarded.flush()
        sys.stdout, sys.stderr = before


def reason(error: OSError) -> str:
    """What went wrong, in the system's words."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))


def _raw(stream: Any) -> Any:
    """What takes the bytes of a text stream; None if the stream is None."""
    if stream is None:
        return None
    stream.flush()
    # Python run with -u has no buffer between the two.
    return getattr(stream.buffer, "raw", stream.buffer)


def _text(guard: Guarded, like: Any) -> io.TextIOWrapper:
    errors = getattr(like, "errors", None) or "strict"
    return io.TextIOWrapper(
        io.BufferedWriter(guard),
        encoding=getattr(like, "encoding", None) or "utf-8",
        # It may be ASCII: what it lacks is escaped, not a crash.
        errors="backslashreplace" if errors == "strict" else errors,
        line_buffering=guard.isatty(),
        write_through=bool(getattr(like, "write_through", False)),
    )
