"""The canonical activation of a layer, from any form in which a configuration may state it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auditor.formats.untrusted import mapping, number, text
from auditor.graph.operators import ACTIVATIONS

ALIASES: Mapping[str, str] = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "exp": "exponential",
    "hardtanh": "hard_tanh",
    "log_softmax_v2": "log_softmax",
    "relu_6": "relu6",
    "softmax_v2": "softmax",
}

#: Activation layers whose function does not hang on their configuration.
_FIXED: Mapping[str, str] = {
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "ELU": "elu",
    "Softmax": "softmax",
    "ThresholdedReLU": "threshold",
}
ACTIVATION_LAYERS = frozenset({"Activation", "ReLU", *_FIXED})


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation: `name` is canonical, None for linear; `note` says what was not understood."""

    name: str | None
    note: str = ""


LINEAR = Activation(name=None)


def activation_of(value: object) -> Activation:
    """The activation a configuration's value states: a name, a function, a layer, or nothing."""
    if isinstance(value, dict):
        kind = text(value.get("class_name")).rsplit(">", 1)[-1]
        if kind in ACTIVATION_LAYERS:
            return layer_activation(kind, mapping(value.get("config")))
        inner = value.get("config")
        return _named(inner if kind == "function" and isinstance(inner, str) else kind)
    return _named(text(value))


def layer_activation(kind: str, config: Mapping[str, Any]) -> Activation:
    """The activation that a layer of one of the `ACTIVATION_LAYERS` is."""
    if kind == "Activation":
        return activation_of(config.get("activation"))
    if kind != "ReLU":
        return Activation(name=_FIXED[kind])
    ceiling = number(config.get("max_value"))
    slope = number(config.get("negative_slope")) or 0.0
    threshold = number(config.get("threshold")) or 0.0
    if not slope and not threshold:
        return Activation(
            name="relu6" if ceiling == 6.0 else "relu",
            note="" if ceiling in (None, 6.0) else f"a ReLU cut off at {ceiling:g}",
        )
    if not threshold:
        return Activation(
            name="leaky_relu",
            note="" if ceiling is None else f"a leaky ReLU cut off at {ceiling:g}",
        )
    return Activation(name="threshold" if not slope else "relu", note="a ReLU with a threshold")


def _named(name: str) -> Activation:
    short = name.rsplit(">", 1)[-1].rsplit(".", 1)[-1]
    if not short or short == "linear":
        return LINEAR
    canonical = ALIASES.get(short, short)
    if canonical in ACTIVATIONS:
        return Activation(name=canonical)
    return Activation(name=name, note=f"custom activation {name!r}: its shape is not known")
