"""Which backends are installed, found out without importing one."""

from __future__ import annotations

import os
from importlib.util import find_spec

from auditor.errors import UsageError

#: In order of preference.
BACKENDS = ("tensorflow",)


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
        if asked not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise UsageError(f"no probe backend is called {asked!r}; there is {known}")
        if asked not in installed:
            raise UsageError(f"backend {asked} is not installed; get it with {install_hint(asked)}")
        return asked
    preferred = os.environ.get("KERAS_BACKEND", "")
    if preferred in installed:
        return preferred
    return installed[0] if installed else None


def install_hint(backend: str = BACKENDS[0]) -> str:
    """The command that installs a backend."""
    return f"pip install 'geb-audit[{backend}]'"
