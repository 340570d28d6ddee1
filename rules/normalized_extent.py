"""GEB408: a normalization of single values, of which nothing but a sign is left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, Op
from auditor.graph.dimensions import channels, own_config, spatial
from auditor.graph.paths import reaching_outputs
from auditor.rule import Context, rule

from .wording import ids, names

#: Normalizations that subtract the mean of what they divide.
CENTRED_OPS = frozenset({Op.LAYER_NORM, Op.GROUP_NORM, Op.INSTANCE_NORM})
#: Normalizations that only divide, by a size.
SCALED_OPS = frozenset({Op.RMS_NORM, Op.UNIT_NORM})


@rule("GEB408", "single-value-normalization", severity=Severity.WARNING, since="0.1")
def single_value_normalization(context: Context) -> Iterator[Finding | Skipped]:
    """A layer normalization over an axis of size one, which hands on a constant.

    ## What it does
    Counts the values that each layer, group, instance, RMS or unit normalization takes a mean or a
    size over. Fires where that is a single one.

    ## Why is this bad
    A value minus the mean of itself is zero, and so is its gradient: such a layer gives its offset
    for every input, nothing that comes before it learns through it, and the model is left with
    whatever goes around it. A value divided by its own size is its sign. The usual causes are a
    normalization of the features of a series of one feature, a group for every channel behind a
    pooling of all positions, and an axis meant for another layout.

    ## Evidence
    The sizes of the normalized axes, as configuration and shapes have them.

    ## Example
    ```python
    inputs = keras.Input((128, 1))
    x = keras.layers.LayerNormalization()(inputs)
    x = keras.layers.LSTM(32)(x)
    outputs = keras.layers.Dense(1)(x)
    ```

    ## Use instead
    ```python
    inputs = keras.Input((128, 1))
    x = keras.layers.LayerNormalization(axis=(1, 2))(inputs)
    x = keras.layers.LSTM(32)(x)
    outputs = keras.layers.Dense(1)(x)
    ```

    ## Options
    None.

    ## Known problems
    Where a skip connection goes around the layer the model still trains, without what the layer
    was put there for. Axes of unknown size are not judged; batch normalization is GEB404's.

    ## References
    - Ba, Kiros, Hinton 2016, Layer normalization, https://arxiv.org/abs/1607.06450
    - Wu, He 2018, Group normalization, https://arxiv.org/abs/1803.08494
    """
    graph = context.graph
    used = reaching_outputs(graph)
    single = [call for call in graph.calls if call.id in used and _extent(call) == 1]
    centred = [call for call in single if call.op in CENTRED_OPS]
    if centred:
        gives = "gives its offset" if len(centred) == 1 else "give their offsets"
        yield context.finding(
            f"{names(centred)} {_normalizes(centred)} a single value at a time, which minus its "
            f"own mean is zero: the layer{'' if len(centred) == 1 else 's'} {gives} for every "
            "input, and no gradient passes.",
            layers=ids(centred),
            evidence=_sizes(centred),
            remedy=(
                "Normalize over axes with several values, widen the layer before it, or leave the "
                "normalization out."
            ),
        )
    scaled = [call for call in single if call.op in SCALED_OPS]
    if scaled:
        yield context.finding(
            f"{names(scaled)} {_normalizes(scaled)} a single value at a time, of which only the "
            "sign is left.",
            layers=ids(scaled),
            evidence=_sizes(scaled),
            remedy="Normalize over an axis with several values, or leave the normalization out.",
        )


def _extent(call: LayerCall) -> int | None:
    """Values that the call takes a mean or a size over; None where that is not known."""
    shape, config = call.in_shape, own_config(call)
    if shape is None:
        return None
    if call.op in (Op.GROUP_NORM, Op.INSTANCE_NORM):
        positions, count = spatial(shape, call) if len(shape) > 2 else (), channels(shape, call)
        count = shape[-1] if len(shape) == 2 and isinstance(shape[-1], int) else count
        groups = _groups(call, config, count)
        if positions is None or not count or not groups:
            return None
        return math.prod(positions) * max(count // groups, 1)
    if call.op not in CENTRED_OPS | SCALED_OPS:
        return None
    if len(call.nodes) > 1 and "axis" not in config:
        # Several ONNX nodes were recognized as one layer: its axis stands in none of them.
        return None
    axes = config.get("axis", -1)
    axes = axes if isinstance(axes, (list, tuple)) else (axes,)
    if call.nodes and len(axes) == 1 and isinstance(axes[0], int) and call.op is not Op.UNIT_NORM:
        # An ONNX normalization goes from its axis on to the last.
        axes = tuple(range(axes[0] % len(shape), len(shape)))
    sizes = [
        shape[axis] if isinstance(axis, int) and -len(shape) <= axis < len(shape) else None
        for axis in axes
    ]
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    return math.prod(known) if known and len(known) == len(sizes) else None


def _groups(call: LayerCall, config: Mapping[str, Any], count: int | None) -> int | None:
    if call.op is Op.INSTANCE_NORM:
        return count
    groups = config.get("groups", config.get("num_groups", config.get("group")))
    if not isinstance(groups, int) or isinstance(groups, bool):
        return None
    return count if groups == -1 else groups if groups > 0 else None


def _normalizes(calls: list[LayerCall]) -> str:
    return "normalizes" if len(calls) == 1 else "normalize"


def _sizes(calls: list[LayerCall]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name=f"values that {call.id} normalizes together", value=1, method="shapes")
        for call in calls
    )
