"""JSON documents that are bombs or two documents to two readers, and names that steer a display."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .case import Bait, Case
from .keras_configs import h5_file, keras_file, layer, sequential

#: What a terminal or a page would obey: colours, titles, bidi overrides, a lone surrogate, a tag.
STEERING = "a\x1b[31mb\x1b]0;title\x07c\u202ed\u200be\ud800f\x9bg\u2028h<script>i"


def _text(text: str | bytes) -> Callable[[Path, Bait], Path]:
    return lambda folder, _: keras_file(folder, text)


def cases() -> dict[str, Case]:
    """Documents that must be refused, in their order: by a finding, or as unreadable."""
    model = json.dumps(sequential())
    name = '"name": "model"'
    assert name in model
    refused = {
        "nested 500 deep": ("GEB909", '{"a":' * 500 + "1" + "}" * 500),
        "nested 200,000 deep": ("GEB909", "[" * 200_000),
        "of six million values": ("GEB905", "[" + "0," * 6_000_000 + "0]"),
        "with a key twice": ("GEB906", model.replace(name, f'{name}, "name": "other"')),
        "with a class twice": ("GEB906", '{"class_name": "Lambda", ' + model[1:]),
    }
    found = {
        f"a document {what}": Case(build=_text(text), code=code, place="config.json", exit_code=3)
        for what, (code, text) in refused.items()
    }
    unreadable: dict[str, str | bytes] = {
        "a document of a million digits": "9" * 10**6,
        "a document that is no text": b"\xff\xfe\xfa",
        "a document cut short": model[:-1],
        "a document of a number": "1e999999",
        "a document of nothing": "",
    }
    for what, text in unreadable.items():
        found[what] = Case(build=_text(text), code="", exit_code=3)
    return found


def steering(folder: Path) -> tuple[Path, ...]:
    """Files whose names of layers, classes and hazards would steer a display."""
    hostile = sequential(
        layer(f"Gate{STEERING}", "os", name=STEERING),
        layer("StringLookup", vocabulary=f"/{STEERING}", name=f"{STEERING}2"),
        {**layer("Gate", None, name="own"), "registered_name": f"{STEERING}>Gate"},
        name=STEERING,
    )
    (folder / "k").mkdir()
    (folder / "r").mkdir()
    return (
        keras_file(folder / "k", hostile),
        h5_file(folder, hostile),
        # Refused: the name is in the line itself.
        keras_file(folder / "r", _twice()),
    )


def _twice() -> str:
    """A document with a key twice that would steer a display."""
    key = json.dumps(STEERING)
    return json.dumps(sequential())[:-1] + f", {key}: 1, {key}: 2" + "}"
