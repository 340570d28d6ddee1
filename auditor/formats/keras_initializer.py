"""Initializers as configurations state them, under their snake_case Keras names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from auditor.formats.untrusted import mapping, text
from auditor.graph.weight import Initializer

ALIASES: Mapping[str, str] = {
    "zero": "zeros",
    "one": "ones",
    "uniform": "random_uniform",
    "normal": "random_normal",
    "identity_initializer": "identity",
    "orthogonal_initializer": "orthogonal",
    "variance_scaling_v2": "variance_scaling",
    "random_normal_v2": "random_normal",
    "random_uniform_v2": "random_uniform",
    "truncated_normal_v2": "truncated_normal",
    "zeros_v2": "zeros",
    "ones_v2": "ones",
    "constant_v2": "constant",
}

#: Keras' own defaults, filled in so that nobody else has to know them.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "random_normal": {"mean": 0.0, "stddev": 0.05},
    "truncated_normal": {"mean": 0.0, "stddev": 0.05},
    "random_uniform": {"minval": -0.05, "maxval": 0.05},
    "variance_scaling": {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"},
    "orthogonal": {"gain": 1.0},
    "identity": {"gain": 1.0},
    "constant": {"value": 0.0},
}


def initializer_of(value: object) -> Initializer | None:
    """The initializer a configuration's value states: a name or an object; None when neither."""
    given: Mapping[str, Any] = {}
    if isinstance(value, dict):
        name = text(value.get("class_name")).rsplit(">", 1)[-1]
        given = mapping(value.get("config"))
        if name == "function":
            name, given = text(value.get("config")), {}
    else:
        name = text(value)
    if not name:
        return None
    name = snake_case(name)
    name = ALIASES.get(name, name)
    return Initializer(name=name, config={**DEFAULTS.get(name, {}), **given})


def snake_case(name: str) -> str:
    """A class name as Keras turns it into a name: `GlorotUniform` → `glorot_uniform`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
