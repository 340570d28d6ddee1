"""Which backends are installed, found out without importing one."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from auditor.errors import UsageError

#: In order of preference.
BACKENDS = ("tensorflow", "jax", "torch")
#: First releases of the Keras lines without the known ways to run code from a model file.
PATCHED_KERAS = ((3, 12, 4), (3, 15, 1))
UPGRADE_KERAS = "pip install -U keras"


def available_backends() -> tuple[str, ...]:
    """Backends the probe can run on here: the framework and Keras are both installed."""
    if find_spec("keras") is None:
        return ()
    return tuple(name for name in BACKENDS if find_spec(name) is not None)


def choose_backend(asked: str | None) -> str | None:
    """The asked backend, else KERAS_BACKEND, else the first installed; None if there is none.

    Raises `UsageError` when the asked one is unknown or not installed.
    """
    installed = available_backends()
    if asked is not None:
        check_backend(asked)
        if asked not in installed:
            raise UsageError(f"backend {asked} is not installed; get it with {install_hint(asked)}")
        return asked
    preferred = os.environ.get("KERAS_BACKEND", "")
    if preferred in installed:
        return preferred
    return installed[0] if installed else None


def check_backend(asked: object) -> None:
    """Raise `UsageError` for what is the name of no backend that the probe knows."""
    if asked not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise UsageError(f"no probe backend is called {asked!r}; there is {known}")


def unpatched_keras() -> str | None:
    """The installed Keras release, if it loads code from model files in known ways; else None."""
    try:
        installed = version("keras")
    except PackageNotFoundError:
        return None
    return None if patched(installed) else installed


def patched(keras: str) -> bool:
    """Whether this Keras release has the known ways to run code from a model file closed."""
    digits = [int(part) if part.isdigit() else 0 for part in keras.split(".")[:3]]
    release = (*digits, 0, 0, 0)[:3]
    if release[:2] == PATCHED_KERAS[0][:2]:
        return release >= PATCHED_KERAS[0]
    return release >= PATCHED_KERAS[1]


def install_hint(backend: str = BACKENDS[0]) -> str:
    """The command that installs a backend."""
    return f"pip install 'geb-audit[{backend}]'"
