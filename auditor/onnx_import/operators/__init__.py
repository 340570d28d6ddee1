"""Implementations of ONNX operators on `keras.ops`, one family a file."""

from __future__ import annotations

import importlib
import pkgutil


def load_operators() -> None:
    """Import every family, which enters its operators in the table."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
