"""One layer call of the static graph as a Keras layer, which holds the call's weights."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np

from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schedule import Step
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.interpreter.value import all_known
from auditor.onnx_import.layer_run import LayerRun


class OnnxLayer(keras.layers.Layer):  # type: ignore[misc]
    """The nodes of one layer call.

    It takes the tensors that come into the nodes, in the order of their first use, and gives those
    that go out: one tensor, or a list. What comes in known (a shape) is part of the `run`, that of
    the model's latest call where none is given.
    """

    def __init__(self, name: str, runner: Interpreter) -> None:
        # The graph itself says in which precision it computes.
        super().__init__(name=_scope(name), dtype="float32", autocast=False)
        self._id = name
        self._runner = runner
        self._latest: LayerRun | None = None
        self.built = True

    def take_id(self) -> None:
        """Go by the id of the call from now on: a path, which Keras takes for no weight's scope."""
        self.name = self._id

    def _open_name_scope(self) -> Any:
        return keras.name_scope(_scope(self._id))

    def hold(self, name: str, values: Any, *, trainable: bool) -> Any:
        """A new weight with these values: a NumPy array, or a shape and dtype to be loaded."""
        return self.add_weight(
            shape=values.shape,
            dtype=values.dtype.name,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(
                np.ascontiguousarray(values).reshape(shape), dtype
            ),
            trainable=trainable,
            name=name,
        )

    def run(self, step: Step, scope: Scope) -> None:
        """Run a call's nodes through `__call__`, so that whoever watches layers sees it."""
        held = {name: scope.held(name) for name in step.inputs}
        tensors = {name: value for name, value in held.items() if _is_tensor(value)}
        lists = any(isinstance(value, (list, tuple)) for value in held.values())
        if not tensors or (lists and not all_known(v for v in held.values() if _is_value(v))):
            self._runner.run_nodes(step, scope)
            return
        run = self._latest = LayerRun(
            step=step,
            tensors=tuple(tensors),
            known={name: value for name, value in held.items() if name not in tensors},
            runner=self._runner,
        )
        given = list(tensors.values())
        outputs = self(given[0] if len(given) == 1 else given, run=run)
        made = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        scope.own.update(run.left)
        scope.own.update((name, made[place]) for name, place in run.places.items())

    def call(self, inputs: Any, run: LayerRun | None = None) -> Any:
        """The nodes' outputs that are tensors, each once: a cast may hand on what it is given."""
        run = run or self._latest
        if run is None:
            raise ValueError(f"layer {self.name!r} runs within its model; call the model once")
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        scope = Scope(resolve=self._runner.constant, own=dict(run.known))
        scope.own.update(zip(run.tensors, given, strict=True))
        self._runner.run_nodes(run.step, scope)
        run.saw(scope)
        outputs = {name: scope[name] for name in run.step.outputs}
        run.left = {name: value for name, value in outputs.items() if not _is_tensor(value)}
        named = {name: value for name, value in outputs.items() if _is_tensor(value)}
        distinct = {id(value): value for value in named.values()}
        places = {identity: place for place, identity in enumerate(distinct)}
        run.places = {name: places[id(value)] for name, value in named.items()}
        tensors = list(distinct.values())
        return tensors[0] if len(tensors) == 1 else tensors


def _scope(name: str) -> str:
    """A name as TensorFlow takes it for a scope: "/" would make it several."""
    return "call." + re.sub(r"[^A-Za-z0-9_.>-]", ".", name)


def _is_value(value: Any) -> bool:
    return not isinstance(value, StoredTensor)


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor of the backend, and nothing known or made of several."""
    return _is_value(value) and not isinstance(value, (list, tuple)) and not all_known([value])
