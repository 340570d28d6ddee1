"""An ONNX graph as a `keras.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import keras
import ml_dtypes
import numpy as np
import onnx

from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_model import TensorType
from auditor.formats.onnx_tensors import StoredTensor
from auditor.graph.layer_graph import LayerGraph
from auditor.onnx_import.blueprint import COMPUTED, Blueprint, WeightPlan, inlined, walk
from auditor.onnx_import.compared_constants import compared_constants
from auditor.onnx_import.constant_folding import folded
from auditor.onnx_import.current_graph import current_graph
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schedule import Step
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.interpreter.value import tensor
from auditor.onnx_import.layer import OnnxLayer
from auditor.onnx_import.operators.table import Value, is_known
from auditor.onnx_import.refused import NotImportable
from auditor.onnx_import.stored_form import as_text, from_text
from auditor.onnx_import.tensor_places import decoded_places

#: Batch sizes a shape with an open batch is tried with: what differs is the batch.
TRIED = (2, 3)


@dataclass(frozen=True, kw_only=True)
class _Empty:
    """Shape and dtype of a weight whose values are yet to be loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.zeros(self.shape, dtype or self.dtype)


@keras.saving.register_keras_serializable(package="geb_audit")
class OnnxModel(keras.Model):  # type: ignore[misc]
    """A model that computes what an ONNX graph does, on the running Keras backend.

    Its inputs are those of the graph, in its order: one tensor, or a list (or a dict by name).
    Its outputs are one tensor, or a list. Every layer call of the graph is a child layer under
    the id that an audit gives it.

    Made by `auditor.onnx_import.to_keras`, or by loading a `.keras` file that one was saved to.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        stored: onnx.ModelProto,
        *,
        source: str,
        name: str | None = None,
        loading: bool = False,
    ) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self._stored = stored
        self._blueprint = blueprint
        self._source = source
        places = decoded_places(blueprint.model)
        model = inlined(blueprint.model, DEFAULT_LIMITS, source)
        numbers = list(walk(model.graph.nodes))
        of_node = {
            id(numbers[number]): call
            for call, found in blueprint.calls.items()
            for number in found
            if number < len(numbers)
        }
        planned = [plan for plan in blueprint.weights if plan.place in places]
        kept = {id(places[plan.place]) for plan in planned}
        model = folded(model, kept, source)
        computed = [
            plan
            for plan in blueprint.weights
            if plan.place[0] == COMPUTED and plan.place[1] in model.graph.tensors
        ]
        self._held: dict[int, Any] = {}
        self._by_reader: dict[int, Any] = {}
        self._fixed: dict[str, np.ndarray[Any, Any]] = {}
        self._runner = Interpreter(
            model=model, source=source, calls=of_node, run_call=self._run_call, held=self._weight
        )
        self._by_layer: dict[str, Any] = {}
        self.onnx_layers: list[Any] = []
        for layer_name in dict.fromkeys(blueprint.layers.get(c, c) for c in blueprint.calls):
            self._add(layer_name)
        for plan in (*planned, *computed):
            if plan.place[0] == COMPUTED:
                stored_tensor = model.graph.tensors[str(plan.place[1])]
            else:
                stored_tensor = places[plan.place]
            self._hold(plan, stored_tensor, loading=loading)
        for layer in self.onnx_layers:
            layer.take_id()
        self.built = True

    def _add(self, name: str) -> None:
        layer = OnnxLayer(name, self._runner)
        self._by_layer[name] = layer
        self.onnx_layers.append(layer)

    def _hold(self, plan: WeightPlan, stored: StoredTensor, *, loading: bool) -> None:
        if plan.layer not in self._by_layer or id(stored) in self._held:
            return
        values: Any
        if stored.read is None:
            if not loading:
                raise NotImportable(
                    f"{self._source}: tensor {stored.name!r}: {stored.why}", reason=stored.why
                )
            values = _Empty(shape=stored.shape, dtype=_dtype(stored.dtype))
        else:
            values = stored.read()
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
        layer = self._by_layer[plan.layer]
        taken = sum(1 for weight in layer.weights if weight.name.split("-")[0] == plan.name)
        name = f"{plan.name}-{taken + 1}" if taken else plan.name
        variable = layer.hold(name, values, trainable=plan.trainable)
        self._held[id(stored)] = self._by_reader[id(stored.read)] = variable

    @property
    def hosted(self) -> Mapping[str, str]:
        """Nodes that have run as constants so far, through which no gradient passes, and why."""
        return dict(self._runner.hosted)

    @property
    def graph(self) -> LayerGraph | None:
        """The graph that an audit judges, with the weights as they are now.

        None for a model that was loaded from a `.keras` file.
        """
        found = self._blueprint.graph
        return None if found is None else current_graph(found, self._by_reader)

    @property
    def onnx_inputs(self) -> tuple[tuple[str, TensorType], ...]:
        """Names, dtypes and shapes of the inputs it takes, as the graph declares them."""
        inputs = self._runner.model.graph.inputs
        return tuple((name, kind) for name, kind in inputs if name not in self._fixed)

    @property
    def onnx_outputs(self) -> tuple[str, ...]:
        """Names of the outputs, as the graph has them."""
        return self._runner.model.graph.outputs

    def hold(self, **values: Any) -> None:
        """Give inputs a value for good: the model takes them no more.

        What depends on nothing else is computed once, as a sampling rate that chooses a branch.

        Raises `NotImportable` for a name that is no input.
        """
        taken = dict(self._runner.model.graph.inputs)
        for name, value in values.items():
            if name not in taken:
                raise NotImportable(f"{self._source}: no input is called {name!r}")
            self._fixed[name] = np.asarray(value, _dtype(taken[name].dtype or "float32"))

    @property
    def held(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Inputs that were given a value for good."""
        return dict(self._fixed)

    def compared(self, name: str) -> tuple[float, ...]:
        """Numbers that the graph compares an input with, in the order of its nodes."""
        return compared_constants(self._runner.model.graph, name)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The graph's outputs. Raises `NotImportable` for what cannot be run."""
        del training  # the graph says what it does in inference, and nothing of training
        names = [name for name, _ in self.onnx_inputs]
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            listed = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            if len(listed) != len(names):
                raise NotImportable(
                    f"{self._source}: {len(listed)} inputs given, and it takes {len(names)}: "
                    f"{', '.join(names)}"
                )
            given = dict(zip(names, listed, strict=True))
        given.update(self._fixed)
        outputs = [
            tensor(np.asarray(value)) if is_known(value) else value
            for value in self._runner.run(given)
        ]
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_call(self, step: Step, scope: Scope) -> None:
        layer = self._by_layer.get(self._blueprint.layers.get(step.call, step.call))
        if layer is None:
            self._runner.run_nodes(step, scope)
        else:
            layer.run(step, scope)

    def _weight(self, stored: StoredTensor) -> Value | None:
        variable = self._held.get(id(stored))
        return None if variable is None else keras.ops.convert_to_tensor(variable)

    @property
    def run_eagerly(self) -> bool:
        """Whether steps of `fit`, `evaluate` and `predict` run eagerly; on TensorFlow, always.

        Keras compiles them there for batches of any size, and the shapes that an ONNX graph
        computes with have to be known.
        """
        return keras.backend.backend() == "tensorflow" or bool(self._run_eagerly)

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._run_eagerly = value

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """Shapes and dtypes of the outputs, None for the batch where the inputs leave it open."""
        flat = keras.tree.flatten(inputs)
        if all(None not in tensor.shape for tensor in flat):
            return self._output_spec(inputs)
        firsts = [kind.shape[0] for _, kind in self.onnx_inputs if kind.shape]
        fixed = [size for size in firsts if isinstance(size, int)]
        takes_one = bool(fixed) and len(fixed) == len(firsts)
        # Keras asks with an open batch even of a graph that fixes it.
        in_front = any(tensor.shape[:1] == (None,) for tensor in flat)
        sizes = fixed[:1] if takes_one and in_front else TRIED
        found = [
            self._output_spec(keras.tree.map_structure(partial(_filled, size=size), inputs))
            for size in sizes
        ]
        return keras.tree.map_structure(_opened, *found)

    def _output_spec(self, inputs: Any) -> Any:
        try:
            return super().compute_output_spec(inputs)
        except NotImportable as error:
            # Keras says besides that `call` may be wrong.
            cause = error.__cause__ or error.__context__
            raise cause if isinstance(cause, NotImportable) else error from None

    def get_config(self) -> dict[str, Any]:
        """The graph without its weights' values, which Keras saves."""
        weights = {plan.place for plan in self._blueprint.weights}
        return {
            "name": self.name,
            "source": self._source,
            "onnx": as_text(self._stored, self._blueprint.model, weights, self._source),
            "calls": {call: list(found) for call, found in self._blueprint.calls.items()},
            "layers": dict(self._blueprint.layers),
            "weights": [
                [list(plan.place), plan.layer, plan.name, plan.trainable]
                for plan in self._blueprint.weights
            ],
            "held": {
                name: [value.dtype.name, list(value.shape), value.ravel().tolist()]
                for name, value in self._fixed.items()
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Self:
        """The model of a saved configuration; its weights are yet to be loaded.

        Raises `UnreadableModel` for a damaged one.
        """
        del custom_objects
        source = str(config["source"])
        proto = from_text(str(config["onnx"]), DEFAULT_LIMITS, source)
        model = Decoder(source=source).model(proto)
        blueprint = Blueprint(
            model=model,
            calls={str(call): tuple(found) for call, found in config["calls"].items()},
            layers=dict(config["layers"]),
            weights=tuple(
                WeightPlan(place=tuple(place), layer=layer, name=name, trainable=trainable)
                for place, layer, name, trainable in config["weights"]
            ),
        )
        model = cls(blueprint, proto, source=source, name=config["name"], loading=True)
        for name, (dtype, shape, numbers) in config.get("held", {}).items():
            model.hold(**{name: np.asarray(numbers, _dtype(dtype)).reshape(shape)})
        return model


def _filled(symbolic: Any, *, size: int) -> Any:
    """A symbolic tensor with a size for each open dimension."""
    shape = tuple(size if dim is None else dim for dim in symbolic.shape)
    return keras.KerasTensor(shape, dtype=symbolic.dtype)


def _opened(*specs: Any) -> Any:
    """One spec of several, with None where their shapes differ."""
    first = specs[0]
    if not isinstance(first, keras.KerasTensor):
        return first
    shapes = zip(*(spec.shape for spec in specs), strict=True)
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]
    return keras.KerasTensor(shape, dtype=first.dtype)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)
