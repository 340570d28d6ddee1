"""Affine maps in a row with nothing between them that would keep them from being one map."""

from __future__ import annotations

from auditor.graph.dimensions import sizes
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import TRAINING_ONLY_OPS, Op
from auditor.graph.paths import only_successor

#: Between two affine maps these leave the composition affine, and the same for every position.
TRANSPARENT_OPS = (TRAINING_ONLY_OPS - {Op.AUGMENTATION}) | {Op.IDENTITY, Op.CAST, Op.ACTIVATION}


def linear_runs(graph: LayerGraph) -> tuple[tuple[LayerCall, ...], ...]:
    """Runs of two or more dense layers or convolutions that compose to one affine map.

    Left out is what is done on purpose: a middle narrower than both sides (a low-rank
    factorization, a linear bottleneck), depthwise and grouped convolutions, kernels factorized
    along one axis, patch embeddings, frozen projections, and whatever has another consumer.
    """
    runs: list[tuple[LayerCall, ...]] = []
    placed: set[str] = set()
    for call in graph.calls:
        if call.id in placed or not _opens(call):
            continue
        run = [call]
        while _opens(run[-1]) and (following := _next(graph, run[-1])) is not None:
            run.append(following)
        placed.update(member.id for member in run)
        if len(run) > 1:
            runs.append(tuple(run))
    return tuple(runs)


def _opens(call: LayerCall) -> bool:
    """Whether the call's output is an affine map of its input that training shapes freely."""
    if call.activation is not None or not call.trainable or call.weight("kernel") is None:
        return False
    return call.op is Op.DENSE or (call.op is Op.CONV and _plain(call) and not _patches(call))


def _next(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    """The affine map that `call` collapses with, if there is one."""
    flattened = False
    step = only_successor(graph, call)
    while step is not None and step.activation is None:
        if step.op is Op.DENSE or step.op is Op.CONV:
            break
        if step.op is Op.FLATTEN and call.op is Op.CONV:
            flattened = True
        elif step.op not in TRANSPARENT_OPS and not (step.op is Op.PAD and call.op is Op.CONV):
            return None
        step = only_successor(graph, step)
    if step is None or not step.trainable or step.weight("kernel") is None:
        return None
    if call.op is Op.CONV and step.op is Op.DENSE:
        matches = flattened and max(_kernel_size(call)) > 1
    else:
        matches = step.op is call.op and not flattened and (step.op is Op.DENSE or _plain(step))
    return step if matches and not _narrows(call, step, flattened) else None


def _narrows(first: LayerCall, second: LayerCall, flattened: bool) -> bool:
    """Whether the values between the maps are fewer than on either side: a factorization."""
    before, middle = _channels(first)
    after = _channels(second)[1]
    return middle < before if flattened else middle < min(before, after)


def _channels(call: LayerCall) -> tuple[int, int]:
    """Input and output channels, by the kernel."""
    kernel = call.weight("kernel")
    assert kernel is not None  # noqa: S101 - callers have looked
    units = 1
    for axis in kernel.unit_axes:
        units *= kernel.shape[axis] if -len(kernel.shape) <= axis < len(kernel.shape) else 1
    positions = 1
    for size in _kernel_size(call) if call.op is Op.CONV else ():
        positions *= size
    return max(kernel.size // max(units * positions, 1), 1), units


def _plain(call: LayerCall) -> bool:
    """Neither grouped nor factorized along one axis."""
    groups = call.config.get("groups", call.config.get("group", 1))
    return groups in (1, None) and len(set(_kernel_size(call))) == 1


def _patches(call: LayerCall) -> bool:
    """Whether the convolution cuts its input into disjoint patches."""
    size = _kernel_size(call)
    strides = sizes(call.config.get("strides", 1))
    strides = strides * len(size) if len(strides) == 1 else strides
    return (
        max(size) > 1
        and len(size) == len(strides)
        and min(s - k for s, k in zip(strides, size, strict=True)) >= 0
    )


def _kernel_size(call: LayerCall) -> tuple[int, ...]:
    return sizes(call.config.get("kernel_size", call.config.get("kernel_shape", 1)))
