"""The penalties on weights and activations that a model's layers add to its loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.graph.dimensions import number, own_config
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op

SUFFIX = "_regularizer"
#: What Keras takes for a regularizer that is given by its name alone.
DEFAULT = 0.01
#: Kernels that have a regularizer of their own, of all that are called one.
OWN_KERNELS = ("recurrent_kernel", "depthwise_kernel", "pointwise_kernel")


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """l1·Σ|v| + l2·Σv² over the values v of what it is on.

    target: what is penalized, as the layer's argument calls it: kernel, bias, recurrent, activity.
    weights: indices in the layer's weights; none for a penalty on activations.
    """

    call: LayerCall
    target: str
    l1: float
    l2: float
    weights: tuple[int, ...]


def penalties(graph: LayerGraph) -> tuple[Penalty, ...]:
    """The L1 and L2 penalties of all layers, each layer once, in order.

    Regularizers of other kinds (orthogonality, custom ones) are left out, and so are penalties on
    weights that are frozen.
    """
    return tuple(penalty for call in graph.layers() for penalty in _of(call))


def _of(call: LayerCall) -> Iterator[Penalty]:
    config = own_config(call)
    if call.op is Op.REGULARIZATION:
        l1, l2 = number(config.get("l1")) or 0.0, number(config.get("l2")) or 0.0
        if l1 or l2:
            yield Penalty(call=call, target="activity", l1=l1, l2=l2, weights=())
        return
    for key, value in config.items():
        if not key.endswith(SUFFIX):
            continue
        l1, l2 = _coefficients(value)
        if not l1 and not l2:
            continue
        target = key.removesuffix(SUFFIX)
        weights = tuple(
            index
            for index, weight in enumerate(call.weights)
            if call.trainable and weight.trainable and _is_on(target, weight.role)
        )
        if weights or target == "activity":
            yield Penalty(call=call, target=target, l1=l1, l2=l2, weights=weights)


def _coefficients(value: object) -> tuple[float, float]:
    """L1 and L2 of a regularizer as a file has it; zero for one that is neither."""
    if isinstance(value, str):
        name = value.lower().replace("_", "")
        return (DEFAULT * (name in ("l1", "l1l2")), DEFAULT * (name in ("l2", "l1l2")))
    if not isinstance(value, Mapping):
        return 0.0, 0.0
    name = str(value.get("class_name", "")).rsplit(">", 1)[-1].lower().replace("_", "")
    if name not in ("l1", "l2", "l1l2"):
        return 0.0, 0.0
    config: Any = value.get("config")
    fields: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
    return number(fields.get("l1")) or 0.0, number(fields.get("l2")) or 0.0


def _is_on(target: str, role: str) -> bool:
    if target == "kernel":
        return "kernel" in role and role not in OWN_KERNELS
    return role in (target, f"{target}_kernel")
