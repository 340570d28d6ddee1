"""`geb-audit doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from auditor.probe.availability import (
    UPGRADE_KERAS,
    available_backends,
    choose_backend,
    install_hint,
    unpatched_keras,
)
from auditor.probe.environment import process_environment

#: How long a framework may take to start.
STARTING_S = 120.0
ASK_DEVICE = (
    "import sys; from auditor.probe.backends import load_backend; "
    "print(load_backend(sys.argv[1]).device())"
)
PACKAGES = ("keras", "tensorflow", "jax", "torch", "onnx", "h5py", "numpy", "networkx", "rich")


def examine() -> list[str]:
    """Lines of name and state, one a thing examined. Imports no framework into this process."""
    lines = [
        f"geb-audit   {version('geb-audit')}",
        f"python      {platform.python_version()} ({sys.executable})",
    ]
    lines += [f"{name:<11} {installed(name) or 'not installed'}" for name in PACKAGES]
    import h5py

    lines.append(f"hdf5        {h5py.version.hdf5_version}")
    chosen = choose_backend(None)
    asked = os.environ.get("KERAS_BACKEND")
    if chosen is None:
        lines.append(f"probe       not available; get it with {install_hint()}")
    else:
        lines.append(f"probe       runs on {chosen} (of {', '.join(available_backends())})")
        lines.append(f"device      {device_of(chosen)}")
        if asked and asked != chosen:
            lines.append(f"            KERAS_BACKEND={asked} is not one the probe runs on")
    keras = unpatched_keras()
    if keras is not None:
        lines.append(
            f"warning     keras {keras} loads code from model files in known ways; "
            f"upgrade with {UPGRADE_KERAS}"
        )
    return lines


def device_of(backend: str) -> str:
    """The device that a backend runs on when left to itself, asked of it in its own process."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-c", ASK_DEVICE, backend],
            capture_output=True,
            check=True,
            env=process_environment(backend),
            text=True,
            timeout=STARTING_S,
        )
    except subprocess.TimeoutExpired:
        return f"unknown: {backend} did not start within {STARTING_S:g} s"
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().rpartition("\n")[2] or f"exit status {error.returncode}"
        return f"none: {backend} does not start here ({words})"
    return done.stdout.strip().rpartition("\n")[2]


def installed(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
