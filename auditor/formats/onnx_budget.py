"""What laying out graphs and expanding functions may add up to: counted before it is built."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.refusal import refusal


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Nodes, their inputs, and characters of names in them: what a flat model takes to hold."""

    nodes: int = 0
    inputs: int = 0
    characters: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            nodes=self.nodes + other.nodes,
            inputs=self.inputs + other.inputs,
            characters=self.characters + other.characters,
        )


def cost(node: OnnxNode, prefix: int = 0) -> Cost:
    """One node, each of whose names gets `prefix` more characters."""
    names = (node.name, *node.inputs, *node.outputs, *node.attributes, *node.scope)
    return Cost(
        nodes=1,
        inputs=len(node.inputs),
        characters=sum(map(len, names)) + len(names) * prefix,
    )


@dataclass(kw_only=True)
class Budget:
    """The room there is for a model's nodes, all graphs within it and all calls of its functions.

    `limits.calls` bounds the nodes, `limits.edges` their inputs, `limits.json_bytes` the names,
    which are the configuration of an ONNX model.
    """

    limits: Limits
    source: str

    def check(self, stored: Cost) -> None:
        """Raise `UnreadableModel` for a file that stores more than is allowed.

        It is an `UnsafeModel` for more inputs: what a node is given a million times is no model.
        """
        if stored.inputs > self.limits.edges:
            raise refusal("GEB905", self.source, f"its nodes take {self._inputs(stored)}")
        over = self._over(stored)
        if over:
            raise UnreadableModel(f"{self.source}: {over}")

    def check_expanded(self, expanded: Cost, what: str) -> None:
        """Raise `UnsafeModel` for a model that is allowed as stored, and not as expanded."""
        over = self._over(expanded)
        if over:
            raise self._bomb(what, over)

    def _over(self, spent: Cost) -> str:
        if spent.nodes > self.limits.calls:
            return f"{spent.nodes} nodes, more than the {self.limits.calls} allowed"
        if spent.inputs > self.limits.edges:
            return self._inputs(spent)
        if spent.characters > self.limits.json_bytes:
            return (
                f"{spent.characters} characters of names, more than the "
                f"{self.limits.json_bytes} allowed"
            )
        return ""

    def _inputs(self, spent: Cost) -> str:
        return f"{spent.inputs:,} inputs, more than the {self.limits.edges:,} allowed"

    def _bomb(self, what: str, over: str) -> UnsafeModel:
        return refusal("GEB905", f"{self.source}: {what}", f"expanded, they are {over}")
