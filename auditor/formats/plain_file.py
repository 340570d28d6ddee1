"""What a path leads to, where that is no file: to be told before anything waits to open it."""

from __future__ import annotations

import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def other_kind(path: Path) -> str:
    """What `path` is, links followed, in words; empty for a plain file and where nothing is.

    Opening a named pipe waits for whoever writes to it, and reading a device may never end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # opening it says what is wrong
        return ""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no plain file")
