"""What a crafted file is: how it is made, and what an audit of it must say."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: A module that the audit's process could import, and that leaves a mark if it is.
BAIT_MODULE = "geb_bait"


@dataclass(frozen=True, kw_only=True)
class Bait:
    """Things outside of a model's folder that a hostile file may name.

    `secret` is a file; `pipe` a named pipe that nobody writes to: whatever opens it, native code
    included, waits until a bound is hit.
    """

    secret: Path
    pipe: Path

    @classmethod
    def at(cls, folder: Path) -> Bait:
        folder.mkdir()
        secret, pipe = folder / "secret", folder / "pipe"
        secret.write_bytes(bytes(256))
        os.mkfifo(pipe)
        return cls(secret=secret, pipe=pipe)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One crafted file.

    `build` makes the model file in an empty folder. `code` and `identifier` are the finding's,
    `place` stands in its place. `exit_code` is 1 where the file is audited all the same, 3 where
    it is not opened any further; `severity` is that of the finding.
    """

    build: Callable[[Path, Bait], Path]
    code: str
    identifier: str = ""
    place: str = ""
    exit_code: int = 1
    severity: str = "error"
