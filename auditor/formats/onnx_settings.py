"""The configuration of a call: attributes, defaults included, and small constant inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import onnx.defs
import onnx.helper

from auditor.formats.onnx_model import Attribute, OnnxNode
from auditor.formats.onnx_operators import OPERATORS
from auditor.formats.onnx_tensors import HeldTensor, StoredTensor
from auditor.formats.onnx_values import Values

#: Values up to which a constant is told as a setting of the call, and not as a weight.
MAX_SETTING = 64
#: What an absent input of a Dropout stands for.
DROPOUT_RATIO = 0.5
#: Keras' name of a setting, where a rule may look for it under that name.
KERAS_NAMES: Mapping[tuple[str, str], str] = {
    ("Dropout", "ratio"): "rate",
    ("LeakyRelu", "alpha"): "negative_slope",
    ("LSTM", "hidden_size"): "units",
    ("GRU", "hidden_size"): "units",
    ("RNN", "hidden_size"): "units",
}


def settings(node: OnnxNode, values: Values, as_weight: set[int]) -> dict[str, Any]:
    """Attributes and constants of a node under their names in ONNX, some in Keras' also.

    `as_weight` are positions of inputs that are weights of the call instead.
    """
    config: dict[str, Any] = {}
    names: tuple[str, ...] = ()
    if (node.domain, node.op_type) in OPERATORS:
        names, defaults = _schema(node.domain, node.op_type, values.opset)
        config.update(defaults)
    config.update({name: _plain(value) for name, value in node.attributes.items()})
    for position, name in enumerate(node.own_inputs):
        if name in values.fixed and position not in as_weight and name in values.known:
            value = values.known[name]
            if value.size <= MAX_SETTING:
                last = names[-1] if names else "input"
                label = names[position] if position < len(names) else f"{last}_{position}"
                config[label] = value.tolist()
    if node.op_type == "Dropout" and not node.domain:
        config.setdefault("ratio", DROPOUT_RATIO)  # an optional input since opset 12
    for given, keras in KERAS_NAMES.items():
        if given[0] == node.op_type and given[1] in config:
            config[keras] = config[given[1]]
    return config


@lru_cache(maxsize=1024)
def _schema(domain: str, op_type: str, opset: int) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Names of an operator's inputs, and its attributes' defaults, at an opset version."""
    try:
        if domain == "" and opset > 0:
            schema = onnx.defs.get_schema(op_type, max_inclusive_version=opset, domain=domain)
        else:
            schema = onnx.defs.get_schema(op_type, domain=domain)
    except onnx.defs.SchemaError:
        return (), {}
    defaults = {
        name: onnx.helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }
    plain = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in defaults.items()
        if isinstance(value, (int, float, bytes))
    }
    return tuple(formal.name for formal in schema.inputs), plain


def _plain(value: Attribute) -> Any:
    """An attribute as JSON-like data; tensors and graphs are told in words."""
    if isinstance(value, StoredTensor):
        if value.size <= MAX_SETTING and isinstance(value.read, HeldTensor):
            return value.read().tolist()
        return f"<{value.dtype} tensor of shape {value.shape}>"
    if isinstance(value, tuple):
        return [_plain(item) for item in value[:MAX_SETTING]]
    return value
