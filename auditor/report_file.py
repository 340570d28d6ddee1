"""Writing a report so that it appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from auditor.errors import UsageError
from auditor.formats.plain_file import other_kind


def write_whole(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` through a temporary file beside it.

    A link is followed, and stays one. What is no file (/dev/stdout, a pipe) is written to as it is.

    Raises `UsageError` when the place cannot be written; nothing is left behind then, and a report
    that was there before is still there.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        if other_kind(path):
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except BrokenPipeError:
        # As on standard output: whoever reads has read enough.
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot write the report: {told}") from error


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".geb-audit-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
