"""`geb-audit doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from auditor.probe.availability import (
    UPGRADE_KERAS,
    available_backends,
    choose_backend,
    install_hint,
    unpatched_keras,
)

PACKAGES = ("keras", "tensorflow", "jax", "torch", "onnx", "h5py", "numpy", "networkx", "rich")


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
    keras = unpatched_keras()
    if keras is not None:
        lines.append(
            f"warning     keras {keras} loads code from model files in known ways; "
            f"upgrade with {UPGRADE_KERAS}"
        )
    return lines


def installed(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
