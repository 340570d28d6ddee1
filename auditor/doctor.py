"""`geb-audit doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from auditor.probe.availability import available_backends, choose_backend, install_hint

PACKAGES = ("keras", "tensorflow", "jax", "torch", "onnx", "h5py", "numpy", "networkx", "rich")
#: First releases of the Keras lines without the known ways to run code from a model file.
PATCHED_KERAS = ((3, 12, 4), (3, 15, 1))


def examine() -> list[str]:
    """Lines of name and state, one a thing examined. Imports no framework."""
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
        if asked and asked != chosen:
            lines.append(f"            KERAS_BACKEND={asked} is not one the probe runs on")
    keras = installed("keras")
    if keras is not None and not patched(keras):
        lines.append(
            f"warning     keras {keras} loads code from model files in known ways; "
            "upgrade with pip install -U keras"
        )
    return lines


def installed(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def patched(keras: str) -> bool:
    """Whether this Keras release has the known ways to run code from a model file closed."""
    digits = [int(part) if part.isdigit() else 0 for part in keras.split(".")[:3]]
    release = (*digits, 0, 0, 0)[:3]
    if release[:2] == PATCHED_KERAS[0][:2]:
        return release >= PATCHED_KERAS[0]
    return release >= PATCHED_KERAS[1]
