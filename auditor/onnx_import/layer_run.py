"""One run of a layer call's nodes: what they take besides tensors, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.interpreter.convex import uses
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schedule import Step
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.interpreter.value import shape_of
from auditor.onnx_import.operators.table import Value, is_known

Sizes = tuple[int | None, ...]


@dataclass(eq=False, repr=False, kw_only=True)
class LayerRun:
    """What a layer call runs on, beside its tensors: handed to the layer with them.

    So a call can be run again with other tensors, whatever else the layer has run in between.

    step: the nodes. tensors: the names of the values given as tensors, in order. known: all other
    values that the nodes take. runner: what runs them. left: outputs of the latest run that are no
    tensors. places: where a value is among the tensors that came out. shapes: of all values of the
    first run.
    """

    step: Step
    tensors: tuple[str, ...]
    known: Mapping[str, Value | StoredTensor]
    runner: Interpreter
    left: dict[str, Value] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, Sizes | None] = field(default_factory=dict)
    _values: dict[str, Value] = field(default_factory=dict)

    def saw(self, scope: Scope) -> None:
        """Keep the shapes of a run's values, and those that no tensor enters."""
        if not self.shapes:
            self.shapes = {name: shape_of(value) for name, value in scope.own.items()}
            self._values = {name: value for name, value in scope.own.items() if is_known(value)}

    @property
    def outputs(self) -> tuple[str, ...]:
        """A name for each tensor that came out."""
        names = {place: name for name, place in reversed(self.places.items())}
        return tuple(names[place] for place in sorted(names))

    def value(self, name: str) -> Value:
        """A value that is known in all runs; None for any other."""
        held = self.known.get(name, self._values.get(name))
        held = self.runner.constant(held) if isinstance(held, StoredTensor) else held
        return held if is_known(held) else None

    def weights(self, name: str) -> Value:
        """The present value of what no tensor of the call enters; None where one does."""
        scope = Scope(resolve=self.runner.constant, own=dict(self.known))
        for node in self.step.nodes:
            if all(used in scope.own for used in uses(node)):
                self.runner.run_node(node, scope)
        return scope[name] if name in scope.own else None
