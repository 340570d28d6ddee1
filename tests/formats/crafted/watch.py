"""Audits files in this process and writes down what it touched that it had no business to.

Run as a script: `python watch.py BAIT_FOLDER`, with one path a line on standard input; answers with
one JSON line a path. What cannot be heard by an audit hook, because native code does it, is caught
by pipes that block whatever opens them.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

BAIT = Path(sys.argv[1])
#: Where Python and the packages it imports lie.
LIBRARIES = tuple(
    {
        str(Path(place).resolve())
        for place in (
            *sysconfig.get_paths().values(),
            sys.prefix,
            sys.base_prefix,
            Path(__file__).parents[3] / "auditor",
            Path(__file__).parents[3] / "rules",
            Path(__file__).parents[3] / "reports",
        )
    }
)
#: What runs something, wherever it comes from.
RUNS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn", "ctypes.",
    "marshal.load", "pickle.find_class", "code.", "cpython.run_", "exec", "compile",
)  # fmt: skip
#: What reaches for the network.
FETCHES = ("socket.", "urllib.", "ftplib.", "http.", "smtplib.", "telnetlib.", "webbrowser.")
#: What changes the file system.
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
    "os.chown", "os.truncate", "os.utime", "shutil.", "tempfile.",
)  # fmt: skip
#: Modules that no audit of a file may import, whoever names them.
FORBIDDEN = ("geb_bait", "keras", "tensorflow", "torch", "jax", "runpy", "keras_hub", "own")
#: The one process that an audit may start.
CHILD = "hdf5_child.py"

heard: list[str] = []
armed = False
folder = ""
#: Set once every module that an audit needs is imported.
strict = False


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not armed:
        return
    said = ""
    if event == "open":
        said = _opened(*arguments)
    elif event == "import":
        named = str(arguments[0]).partition(".")[0]
        said = f"imports {named}" if named in FORBIDDEN else ""
    elif event == "subprocess.Popen":
        started = [Path(str(word)).name for word in arguments[1]]
        said = "" if CHILD in started else f"starts {arguments[1]}"
    elif (
        event.startswith(FETCHES)
        or event.startswith(CHANGES)
        or (event.startswith(RUNS) and strict)
    ):
        said = f"{event} {arguments!r:.200}"
    elif event in ("os.listdir", "os.scandir"):
        said = _outside(arguments[0])
    if said:
        heard.append(said)


def _opened(path: Any, mode: str | None, flags: int) -> str:
    if isinstance(path, int):
        return ""
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
    if str(path) == os.devnull:
        return ""
    if writes or set(mode or "") & set("wax+"):
        return f"opens {path} for writing"
    if flags & os.O_NOFOLLOW and Path(os.fsdecode(path)).name == os.fsdecode(path) != os.pardir:
        return ""  # below a folder that was opened before, and heard then
    return _outside(path)


def _outside(path: Any) -> str:
    place = os.path.abspath(os.fsdecode(path or "."))  # noqa: PTH100 - links are not followed
    for allowed in filter(None, (folder, *LIBRARIES)):
        if place == allowed or place.startswith(allowed + os.sep):
            return ""
    if place.startswith(("/proc/self", "/dev/null")) or os.path.realpath(place).startswith(
        LIBRARIES
    ):
        return ""
    return f"opens {place}"


def audit_one(path: Path) -> list[str]:
    """What an audit of this file touches; in a first run only what is forbidden to importing too.

    The first run may have to import modules of the audit's own, which compiles and executes.
    """
    global armed, folder, strict
    folder = str(path.parent)
    heard.clear()
    for again in (False, True):
        strict, armed = again, True
        try:
            audit_file(path, OPTIONS)
        except UnreadableModel:
            pass
        finally:
            armed = False
    return list(dict.fromkeys(heard))


sys.path.insert(0, str(BAIT / "modules"))
sys.addaudithook(hook)

from auditor.errors import UnreadableModel  # noqa: E402
from auditor.pipeline import AuditOptions, audit_file  # noqa: E402

OPTIONS = AuditOptions(probe=False)

if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(audit_one(Path(line.rstrip("\n")))) + "\n")
        sys.stdout.flush()
