"""The ends of a worker's output pipes: drained whatever it writes, and closed without waiting.

The streams are unbuffered: closing a buffered one waits for the thread that reads it, and that one
waits for a process which may never close its end.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import IO

CHUNK = 2**16
#: A line beyond this is no report: it would be the memory of this process that it takes.
LONGEST_LINE = 2**29


class Lines:
    """Whole lines from an unbuffered stream, as they come."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._drain, args=(stream,), daemon=True).start()

    def next(self, timeout: float) -> bytes | None:
        """The next line, its end left out; None once the stream has ended, or makes no sense.

        What comes after the last line's end is dropped: its writer died over it. Raises
        `queue.Empty` after `timeout` seconds without a line.
        """
        return self._lines.get(timeout=timeout)

    def _drain(self, stream: IO[bytes]) -> None:
        parts: list[bytes] = []
        size = 0
        with suppress(OSError, ValueError):  # closed under our hands
            while size <= LONGEST_LINE and (chunk := stream.read(CHUNK)):
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    self._lines.put(b"".join((*parts, end)))
                    parts, size = [], 0
                parts.append(rest)
                size += len(rest)
        self._lines.put(None)


class Tail:
    """The last bytes of an unbuffered stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._size = size
        self._kept = b""
        self._thread = threading.Thread(target=self._drain, args=(stream,), daemon=True)
        self._thread.start()

    def text(self, timeout: float) -> str:
        """What the stream ended with, or, while someone still has it open, has come to so far.

        Waits at most `timeout` seconds for the stream's end.
        """
        self._thread.join(timeout)
        return self._kept.decode("utf-8", "replace").strip()

    def _drain(self, stream: IO[bytes]) -> None:
        with suppress(OSError, ValueError):  # closed under our hands
            while chunk := stream.read(CHUNK):
                self._kept = (self._kept + chunk)[-self._size :]
