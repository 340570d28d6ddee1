"""Output shapes of Keras' layers, where the file does not record them.

Keras 3 records the shape of every tensor between layers, but not what the last ones give; Keras 2
records none. `infer` knows the layers of keras.layers; None means "not known", never "scalar".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from auditor.formats.keras_execution import CallKey, References, execution
from auditor.formats.keras_identity import identify, wrapped_layer
from auditor.formats.keras_layers import LAYERS, SAME_SHAPE_OPS, WRAPPERS
from auditor.formats.keras_model import LayerConfig, ModelConfig, Node, TensorRef, sublayer
from auditor.formats.keras_shapes_operations import infer_operation
from auditor.formats.keras_shapes_preprocessing import PREPROCESSING
from auditor.formats.keras_shapes_spatial import SPATIAL
from auditor.formats.shape_arithmetic import (
    UNKNOWN,
    Shapes,
    broadcast,
    concatenated,
    elements,
    reshaped,
)
from auditor.formats.untrusted import flag, integer, integers, mapping, sequence, shape, text
from auditor.graph.layer_graph import Shape
from auditor.graph.operators import Op

#: Classes whose configuration holds other layers.
HOLDERS = frozenset({*WRAPPERS, "Pipeline"})
#: Shapes of all outputs from shapes of all inputs.
Rule = Callable[[LayerConfig, Shapes], Shapes]


def infer(layer: LayerConfig, op: Op, inputs: Shapes, node: Node | None) -> Shapes:
    """Shapes of a call's outputs; `(None,)` where they are not known."""
    if not inputs:
        return UNKNOWN
    if layer.operation or layer.listed_operation:
        return infer_operation(layer, op, inputs, node)
    if not layer.standard:
        return UNKNOWN
    rule = RULES.get(layer.kind)
    if rule is not None:
        return UNKNOWN if inputs[0] is None else rule(layer, inputs)
    if LAYERS.get(layer.kind) in SAME_SHAPE_OPS:
        return inputs[:1]
    return UNKNOWN


def _last_axis(key: str) -> Rule:
    def rule(layer: LayerConfig, inputs: Shapes) -> Shapes:
        given, units = inputs[0], integer(layer.config.get(key))
        return (None,) if not given or units is None else ((*given[:-1], units),)

    return rule


def _embedding(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, width = inputs[0], integer(layer.config.get("output_dim"))
    return (None,) if given is None or width is None else ((*given, width),)


def _einsum_dense(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    left, _, output = text(layer.config.get("equation")).replace(" ", "").partition("->")
    labels = left.partition(",")[0]
    target = layer.config.get("output_shape")
    tail = [target] if isinstance(target, int) else sequence(target)
    if given is None or not output:
        return UNKNOWN
    rank_in, rank_out = len(labels.replace("...", "")), len(output.replace("...", ""))
    dots = given[: len(given) - rank_in] if "..." in labels and labels.startswith("...") else ()
    sizes = dict(zip(labels.replace("...", ""), given[len(given) - rank_in :], strict=False))
    known = list(output.replace("...", ""))
    settled: list[int | str | None] = [sizes.get(label) for label in known]
    for place, size in zip(range(rank_out - len(tail), rank_out), tail, strict=False):
        if place >= 0:
            settled[place] = integer(size)
    return ((*dots, *settled),)


def _flatten(_: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    if not given:
        return UNKNOWN
    return ((given[0], elements(given[1:])),)


def _reshape(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, target = inputs[0], integers(layer.config.get("target_shape"))
    if not given or target is None:
        return UNKNOWN
    return ((given[0], *reshaped(given[1:], target)),)


def _permute(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, dims = inputs[0], integers(layer.config.get("dims"))
    if given is None or dims is None or not all(0 < axis < len(given) for axis in dims):
        return UNKNOWN
    return ((given[0], *(given[axis] for axis in dims)),)


def _repeat(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, count = inputs[0], integer(layer.config.get("n"))
    return UNKNOWN if given is None or len(given) != 2 else ((given[0], count, given[1]),)


def _recurrent(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    cell = wrapped_layer(layer)
    sizes = _state_sizes(cell)
    if given is None or len(given) != 3 or not sizes:
        return UNKNOWN
    output = _output_size(cell)
    sequences = flag(layer.config.get("return_sequences"), False)
    result: Shape = (given[0], given[1], output) if sequences else (given[0], output)
    if not flag(layer.config.get("return_state"), False):
        return (result,)
    return (result, *((given[0], size) for size in sizes))


def _state_sizes(cell: LayerConfig) -> list[int | None]:
    if cell.kind == "StackedRNNCells":
        cells = [sublayer({"cell": entry}, "cell") for entry in sequence(cell.config.get("cells"))]
        return [size for inner in cells if inner is not None for size in _state_sizes(inner)]
    units = integer(cell.config.get("units"))
    if units is None:
        return []
    return [units] * (2 if "LSTM" in cell.kind else 1)


def _output_size(cell: LayerConfig) -> int | None:
    if cell.kind == "StackedRNNCells":
        last = sequence(cell.config.get("cells"))[-1:]
        inner = sublayer({"cell": last[0]}, "cell") if last else None
        return None if inner is None else _output_size(inner)
    return integer(cell.config.get("units"))


def _bidirectional(layer: LayerConfig, inputs: Shapes) -> Shapes:
    inner = sublayer(layer.config, "layer")
    if inner is None:
        return UNKNOWN
    forward = infer(inner, Op.RECURRENT, inputs[:1], None)
    head, mode = forward[0], layer.config.get("merge_mode", "concat")
    if not head:
        return UNKNOWN
    states = (*forward[1:], *forward[1:])
    if mode is None:
        return (head, head, *states)
    if mode == "concat":
        width = head[-1]
        head = (*head[:-1], 2 * width if isinstance(width, int) else None)
    return (head, *states)


def _time_distributed(layer: LayerConfig, inputs: Shapes) -> Shapes:
    inner, given = sublayer(layer.config, "layer"), inputs[0]
    if inner is None or given is None or len(given) < 3:
        return UNKNOWN
    step = _in_turn([inner], ((given[0], *given[2:]),))[0]
    return UNKNOWN if step is None else ((step[0], given[1], *step[1:]),)


def _spectral(layer: LayerConfig, inputs: Shapes) -> Shapes:
    inner = sublayer(layer.config, "layer")
    if inner is None:
        return UNKNOWN
    return infer(inner, LAYERS.get(inner.kind, Op.OPAQUE), inputs, None)


def _multi_head(layer: LayerConfig, inputs: Shapes) -> Shapes:
    query, target = inputs[0], layer.config.get("output_shape")
    if query is None:
        return UNKNOWN
    sizes = shape(target) if isinstance(target, list) else None
    single = integer(target)
    if sizes is not None:
        return ((*query[:-1], *sizes),)
    return ((*query[:-1], single),) if single is not None else (query,)


def _attention(_: LayerConfig, inputs: Shapes) -> Shapes:
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else None
    return UNKNOWN if not query or not value else ((*query[:-1], value[-1]),)


def _merge(_: LayerConfig, inputs: Shapes) -> Shapes:
    return (broadcast(inputs),)


def _concatenate(layer: LayerConfig, inputs: Shapes) -> Shapes:
    axis = integer(layer.config.get("axis"))
    return (concatenated(inputs, -1 if axis is None else axis),)


def _dot(layer: LayerConfig, inputs: Shapes) -> Shapes:
    axes = integers(layer.config.get("axes"), 2)
    if len(inputs) != 2 or axes is None or inputs[0] is None or inputs[1] is None:
        return UNKNOWN
    left, right = list(inputs[0]), list(inputs[1])
    if not -len(left) <= axes[0] < len(left) or not -len(right) <= axes[1] < len(right):
        return UNKNOWN
    del left[axes[0]], right[axes[1]]
    result = (*left, *right[1:])
    return ((*result, 1) if len(result) == 1 else result,)


def _pipeline(layer: LayerConfig, inputs: Shapes) -> Shapes:
    entries = sequence(layer.config.get("layers"))
    inner = [sublayer({"layer": entry}, "layer") for entry in entries]
    known = [member for member in inner if member is not None]
    return _in_turn(known, inputs) if len(known) == len(inner) else UNKNOWN


def _in_turn(layers: Iterable[LayerConfig], inputs: Shapes) -> Shapes:
    """What comes out of layers called one after the other; models among them are entered."""
    shapes = inputs
    for layer in layers:
        if layer.kind != "InputLayer":
            shapes = _inside(layer, shapes, None)
    return shapes


def _inside(layer: LayerConfig, inputs: Shapes, node: Node | None) -> Shapes:
    """What a layer gives that stands in a wrapper, where nothing else is known of its calls."""
    if layer.model is None:
        return infer(layer, identify(layer, node).op, inputs, node)
    if layer.model.sequential:
        return _in_turn(layer.model.layers, inputs)
    return _through(layer.model, inputs)


def _through(model: ModelConfig, inputs: Shapes) -> Shapes:
    """What comes out of a functional model that is given other shapes than it was built with."""
    if len(inputs) != len(model.inputs):
        return UNKNOWN * len(model.outputs)
    references = References(model)
    shapes: dict[CallKey, Shapes] = {
        references.call(reference): (given,)
        for reference, given in zip(model.inputs, inputs, strict=True)
    }

    def of(reference: TensorRef, *, output: bool = False) -> Shape | None:
        known = shapes[references.call(reference, output=output)]
        return known[reference.slot] if reference.slot < len(known) else None

    for key in execution(model, references).calls:
        layer = references.layer(key[0])
        node = layer.nodes[key[1]]
        # Models in models, each called twice, would be entered 2ⁿ times.
        if len(layer.nodes) > 1 and (layer.model is not None or layer.kind in HOLDERS):
            shapes[key] = UNKNOWN
            continue
        shapes[key] = _inside(layer, tuple(of(reference) for reference in node.tensors), node)
    return tuple(of(reference, output=True) for reference in model.outputs)


def _lambda(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, target = inputs[0], shape(layer.config.get("output_shape"))
    return UNKNOWN if not given or target is None else ((given[0], *target),)


def recorded(layer: LayerConfig) -> Shapes:
    """The input shapes a layer notes that it was built with; empty where it notes none."""
    build: Mapping[str, Any] = layer.build
    single = shape(build.get("input_shape"))
    if single is not None:
        return (single,)
    many = sequence(build.get("input_shape")) or list(mapping(build.get("shapes_dict")).values())
    return tuple(given for item in many if (given := shape(item)) is not None)


RULES: Mapping[str, Rule] = {
    "Dense": _last_axis("units"),
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "ReversibleEmbedding": _embedding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    **dict.fromkeys(("SimpleRNN", "LSTM", "GRU", "RNN", "CuDNNLSTM", "CuDNNGRU"), _recurrent),
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "SpectralNormalization": _spectral,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": lambda _, inputs: inputs[:1],
    "GroupedQueryAttention": lambda _, inputs: inputs[:1],
    "Attention": _attention,
    "AdditiveAttention": _attention,
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merge),
    "CustomScaleLayer": _merge,
    "Concatenate": _concatenate,
    "Dot": _dot,
    "Pipeline": _pipeline,
    "Lambda": _lambda,
    **PREPROCESSING,
    **SPATIAL,
}
