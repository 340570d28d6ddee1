"""Where `geb-audit` and `python -m auditor` begin: ready to be interrupted before anything else.

The imports behind the command take a good part of a second, and Ctrl-C is nowhere more likely.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """End the process at Ctrl-C without a word meanwhile.

    A KeyboardInterrupt would surface wherever an import happens to be, as whatever the importing
    library makes of it. A Ctrl-C that whoever started this wants ignored stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def main() -> int:
    """Run the command line of this process; the exit code."""
    with _leaving_at_once():
        from auditor.cli import run
    try:
        return run()
    except KeyboardInterrupt:  # a second one, while the first was being told
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
