"""A model's inputs and outputs as flat lists, whatever structure it takes and gives."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import InputSpec, LayerGraph
from auditor.onnx_import.model import OnnxModel
from auditor.probe.onnx_inputs import sampled_inputs


class Layout(enum.Enum):
    """How an input declares that its tensors are stored. The probe hands all over dense."""

    DENSE = "dense"
    SPARSE = "sparse"
    RAGGED = "ragged"

    @property
    def remark(self) -> str:
        """What handing it over dense means, to end a sentence with."""
        return ", in rows of one length though it is ragged" if self is Layout.RAGGED else ""


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """The inputs of a model in flattened order, and the structure they are handed over in.

    specs: with the samples first. axes: where the model has them; 0 for all where it is empty.
    layouts: of each; dense where it is empty. vocabularies: the whole numbers that each
    IntegerLookup knows, by its name, where it is the only one of that name.
    """

    specs: tuple[InputSpec, ...]
    structure: Any
    axes: tuple[int, ...] = ()
    layouts: tuple[Layout, ...] = ()
    vocabularies: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def layout(self, position: int) -> Layout:
        """The layout of one input."""
        return self.layouts[position] if self.layouts else Layout.DENSE

    def pack(self, tensors: Sequence[Any]) -> Any:
        """The tensors, samples first, in the structure and order that the model's `call` takes."""
        placed = [
            keras.ops.moveaxis(tensor, 0, axis) if axis else tensor
            for tensor, axis in zip(tensors, self.axes or (0,) * len(tensors), strict=True)
        ]
        if self.structure is None:
            return placed[0] if len(placed) == 1 else placed
        return keras.tree.pack_sequence_as(self.structure, placed)


def model_inputs(model: Any, graph: LayerGraph) -> ModelInputs:
    """The inputs of a built model.

    Raises `ProbeFailed` where they are not known: a model that was never built, or a subclassed
    one that was built with arguments other than tensors.
    """
    if not getattr(model, "built", True):
        raise ProbeFailed("the model is not built yet; call it once or give it an Input")
    if isinstance(model, OnnxModel):
        found = sampled_inputs(model, graph)
        return ModelInputs(
            specs=tuple(one.spec for one in found),
            structure=None,
            axes=tuple(one.axis for one in found),
        )
    functional = getattr(model, "_functional", None) or model
    structure = getattr(functional, "_inputs_struct", None)
    if structure is None:
        return ModelInputs(
            specs=_subclassed(model, graph), structure=None, vocabularies=_vocabularies(model)
        )
    known = {spec.name: spec for spec in graph.inputs}
    flat = keras.tree.flatten(structure)
    specs = []
    for position, tensor in enumerate(flat):
        fallback = graph.inputs[position] if len(graph.inputs) == len(flat) else None
        spec = known.get(tensor.name, fallback)
        specs.append(
            InputSpec(
                name=spec.name if spec else tensor.name,
                call=spec.call if spec else tensor.name,
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype),
            )
        )
    return ModelInputs(
        specs=tuple(specs),
        structure=None if len(flat) == 1 else structure,
        layouts=tuple(map(_layout, flat)),
        vocabularies=_vocabularies(model),
    )


def in_mode(model: Any, *, training: bool) -> dict[str, bool]:
    """The keyword that runs a model in this mode, as Keras' own steps do; not every `call` has it.

    There is no public way to ask.
    """
    return {"training": training} if getattr(model, "_call_has_training_arg", True) else {}


def output_specs(
    model: Any, inputs: ModelInputs, shapes: Sequence[tuple[int, ...]]
) -> dict[str, keras.KerasTensor]:
    """Shapes and dtypes of the flattened outputs by name, for inputs of `shapes`.

    The number of samples, which `shapes` are without, is None in them. Raises whatever Keras raises
    where the shapes do not fit.
    """
    tensors = [
        keras.KerasTensor((spec.shape[0] if spec.shape else None, *shape), dtype=spec.dtype)
        for spec, shape in zip(inputs.specs, shapes, strict=True)
    ]
    outputs = model.compute_output_spec(inputs.pack(tensors))
    flat = keras.tree.flatten(outputs)
    names = _output_names(model, outputs, len(flat))
    return dict(zip(names, flat, strict=True))


def output_call(model: Any, graph: LayerGraph, position: int) -> str | None:
    """The id of the call that gives the flattened output at `position`, if the graph has it.

    Found by the layer's name: a dict of outputs is flattened by its keys, the graph keeps the
    order of the file.
    """
    ids = [call_id for call_id, _ in graph.outputs]
    functional = getattr(model, "_functional", None) or model
    outputs = getattr(functional, "outputs", None) or ()
    if position < len(outputs):
        name = outputs[position]._keras_history.operation.name  # noqa: SLF001
        named = [call_id for call_id in ids if graph.by_id[call_id].path[0] == name]
        if len(named) == 1:
            return named[0]
    return ids[position] if position < len(ids) else None


def _output_names(model: Any, outputs: Any, count: int) -> list[str]:
    """Names as `compile(loss={...})` has them: keys of a dict of outputs, else layer names."""
    if isinstance(outputs, Mapping) and len(outputs) == count:
        return sorted(outputs)  # the order keras.tree flattens in
    functional = getattr(model, "_functional", None) or model
    own = model.onnx_outputs if isinstance(model, OnnxModel) else ()
    names = list(getattr(functional, "output_names", None) or own)
    if len(names) == count and len(set(names)) == count:
        return names
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _layout(tensor: keras.KerasTensor) -> Layout:
    if tensor.sparse:
        return Layout.SPARSE
    return Layout.RAGGED if getattr(tensor, "ragged", False) else Layout.DENSE


def _vocabularies(model: Any) -> dict[str, tuple[int, ...]]:
    """What each IntegerLookup was given or learned."""
    lookups = [
        layer
        for layer in model._flatten_layers(include_self=False)  # noqa: SLF001
        if isinstance(layer, keras.layers.IntegerLookup) and layer.vocabulary_size() > 0
    ]
    names = [layer.name for layer in lookups]
    return {
        layer.name: tuple(map(int, layer.get_vocabulary(include_special_tokens=False)))
        for layer in lookups
        if names.count(layer.name) == 1
    }


def _subclassed(model: Any, graph: LayerGraph) -> tuple[InputSpec, ...]:
    """Inputs of a model without a graph: from the shape it was built with."""
    known = [(spec, spec.shape) for spec in graph.inputs if spec.shape]
    if known and len(known) == len(graph.inputs):
        # The batch it was built with is not one it asks for.
        return tuple(replace(spec, shape=(None, *shape[1:])) for spec, shape in known)
    built = model.get_build_config() or {}
    shape = built.get("input_shape")
    if isinstance(shape, (list, tuple)) and shape and all(map(_is_dimension, shape)):
        shapes = [tuple(shape)]
    elif isinstance(shape, (list, tuple)) and shape and all(map(_is_shape, shape)):
        shapes = [tuple(one) for one in shape]
    else:
        raise ProbeFailed(
            "the shapes of the model's inputs are not known: call it once on a tensor or a list "
            "of tensors, and save or audit it then"
        )
    return tuple(
        InputSpec(name=f"x_{index}", call="", shape=(None, *one[1:]), dtype="float32")
        for index, one in enumerate(shapes)
    )


def _is_dimension(value: Any) -> bool:
    return value is None or isinstance(value, int)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_dimension, value))
