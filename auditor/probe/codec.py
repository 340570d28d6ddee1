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
    """One line from the worker.

    progress: a phase that has begun, or a layer within it. partial: all that has been measured so
    far; more may follow. The others come last: `result` is the whole, `failed` a reason why there
    is none, `wrong_usage` one that is the caller's. With these two goes `detail`, and with the
    former `brief`: the reason in two or three words, for each thing that was left undone.
    """

    progress: str = ""
    partial: ProbeResult | None = None
    result: ProbeResult | None = None
    failed: str = ""
    brief: str = ""
    wrong_usage: str = ""
    detail: str = ""


def encode(value: ProbeRequest | Report) -> str:
    """One line of JSON. NaN and the infinities are written as Python's json writes them.

    Fields that have their default are left out.
    """
    return json.dumps(_CONVERTER.unstructure(value))


def is_partial(line: bytes) -> bool:
    """Whether a line that `encode` wrote is a partial result, found out without decoding it.

    Partial results are large, and only the last one is of use.
    """
    return line.startswith(b'{"partial":')


def decode_request(line: str) -> ProbeRequest:
    """The request of a line that `encode` wrote."""
    return _CONVERTER.structure(json.loads(line), ProbeRequest)


def decode_report(line: str | bytes) -> Report:
    """The report of a line that `encode` wrote."""
    return _CONVERTER.structure(json.loads(line), Report)


def _converter() -> Converter:
    converter = Converter(omit_if_default=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, _path)
    return converter


def _path(value: Any, _: type[Path]) -> Path:
    return Path(value)


_CONVERTER = _converter()
