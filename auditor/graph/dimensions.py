"""Sizes in shapes and configurations, read with the suspicion that untrusted files deserve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from auditor.graph.layer_graph import LayerCall, Shape
from auditor.graph.operators import Op


def window(call: LayerCall) -> float | None:
    """Positions a pooling call reduces to one."""
    if call.op in (Op.GLOBAL_AVERAGE_POOL, Op.GLOBAL_MAX_POOL):
        positions = spatial(call.in_shape, call)
        return float(math.prod(positions)) if positions else None
    config = own_config(call)
    for key in ("pool_size", "kernel_shape"):
        if key in config:
            rank = len(call.in_shape) - 2 if call.in_shape else 1
            taps = sizes(config[key])
            return float(math.prod(taps * rank if len(taps) == 1 else taps))
    return None


def own_config(call: LayerCall) -> Mapping[str, Any]:
    """The configuration of what the call computes: of the layer that wrappers are around."""
    config = call.config
    while isinstance(config.get("layer"), Mapping):
        inner = config["layer"].get("config")
        if not isinstance(inner, Mapping):
            break
        config = inner
    return config


def reversed_embedding(call: LayerCall) -> bool:
    """Whether an embedding is called the other way around: from vectors to logits of tokens."""
    if call.kind != "ReversibleEmbedding" or call.in_shape is None or call.out_shape is None:
        return False
    return len(call.in_shape) == len(call.out_shape)


def spatial(shape: Shape | None, call: LayerCall) -> tuple[int, ...] | None:
    """Sizes of the dimensions that are neither batch nor channels, if all are known."""
    if shape is None or len(shape) < 3:
        return None
    first = channels_first(call)
    found = tuple(
        size for size in (shape[2:] if first else shape[1:-1]) if isinstance(size, int) and size > 0
    )
    return found if len(found) == len(shape) - 2 else None


def channels_first(call: LayerCall) -> bool:
    """Whether channels come before positions: as configured, and where nothing is, in ONNX."""
    configured = own_config(call).get("data_format")
    return configured == "channels_first" if isinstance(configured, str) else bool(call.nodes)


def channels(shape: Shape | None, call: LayerCall) -> int | None:
    """Channels of a tensor with spatial dimensions."""
    if shape is None or len(shape) < 3:
        return None
    size = shape[1] if channels_first(call) else shape[-1]
    return size if isinstance(size, int) and size > 0 else None


def dimension(shape: Shape | None, axis: int) -> int | None:
    """Size along an axis, if it is known."""
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) and size > 0 else None


def sizes(value: object) -> tuple[int, ...]:
    """A size or a tuple of sizes, as a tuple of positive integers."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(v if isinstance(v, int) and v > 0 else 1 for v in values) or (1,)


def number(value: object) -> float | None:
    """A finite number, if it is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
