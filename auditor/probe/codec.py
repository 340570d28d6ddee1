"""Settings and results as JSON, for the pipe between the probe's two processes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattrs import Converter

from auditor.measurement import ProbeResult
from auditor.probe.settings import ProbeSettings


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """What the worker is asked: a model file, by its absolute path, and the settings."""

    path: Path
    settings: ProbeSettings


@dataclass(frozen=True, kw_only=True)
class Report:
    """One line from the worker; exactly one of the fields says something.

    `progress` a phase that has begun; `result` the end; `failed` a reason why there is no result,
    `wrong_usage` one that is the caller's. `detail` goes with the latter two.
    """

    progress: str = ""
    result: ProbeResult | None = None
    failed: str = ""
    wrong_usage: str = ""
    detail: str = ""


def encode(value: ProbeRequest | Report) -> str:
    """One line of JSON. NaN and the infinities are written as Python's json writes them."""
    return json.dumps(_CONVERTER.unstructure(value))


def decode_request(line: str) -> ProbeRequest:
    """The request of a line that `encode` wrote."""
    return _CONVERTER.structure(json.loads(line), ProbeRequest)


def decode_report(line: str) -> Report:
    """The report of a line that `encode` wrote."""
    return _CONVERTER.structure(json.loads(line), Report)


def _converter() -> Converter:
    converter = Converter()
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, _path)
    return converter


def _path(value: Any, _: type[Path]) -> Path:
    return Path(value)


_CONVERTER = _converter()
