"""Values by name: those of a graph, and behind them those of the graphs around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from auditor.formats.onnx_tensors import StoredTensor
from auditor.onnx_import.operators.table import Unsupported, Value


@dataclass
class Scope:
    """The values of one graph while it runs; what is not its own is looked up around it.

    A stored tensor stands for its value at the moment it is used, which `resolve` gives.
    """

    resolve: Callable[[StoredTensor], Value]
    own: dict[str, Value | StoredTensor] = field(default_factory=dict)
    around: Scope | None = None

    def __getitem__(self, name: str) -> Value:
        value = self.held(name)
        return self.resolve(value) if isinstance(value, StoredTensor) else value

    def held(self, name: str) -> Value | StoredTensor:
        """What is held under a name, stored tensors as they are."""
        if not name:
            return None
        scope: Scope | None = self
        while scope is not None:
            if name in scope.own:
                return scope.own[name]
            scope = scope.around
        raise Unsupported(f"it takes {name!r}, which nothing gives")

    def inner(self, values: Mapping[str, Value]) -> Scope:
        """A scope within this one."""
        return Scope(resolve=self.resolve, own=dict(values), around=self)
