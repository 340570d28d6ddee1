"""Writes down what the HDF5 process does that it has no business to; as `watch`, but within it.

Put into that process as its `sitecustomize`. The file written to is opened before the hook is set.
"""

import os
import sys

LOG = os.environ.get("GEB_CHILD_LOG", "")
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.", "subprocess.", "socket.",
    "urllib.", "pickle.find_class", "os.remove", "os.rename", "os.mkdir", "os.link", "os.symlink",
    "shutil.", "tempfile.",
)  # fmt: skip

if LOG and any(argument.endswith("hdf5_child.py") for argument in sys.orig_argv):
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        said = event.startswith(FORBIDDEN)
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path, _, flags = os.fsdecode(arguments[0]), arguments[1], int(str(arguments[2]))
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            said = path != os.devnull and (bool(writes) or "/bait/" in path)
        if event == "import":
            said = str(arguments[0]).partition(".")[0] in ("geb_bait", "keras", "tensorflow")
        # Python's own `platform` asks this when libraries are imported.
        if said and "uname" not in repr(arguments):
            os.write(log, f"{event} {arguments!r:.200}\n".encode())

    sys.addaudithook(hook)
    os.write(log, b"watched\n")
