"""What laying out graphs and expanding functions may add up to: counted before it is built."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_model import OnnxNode
from auditor.formats.refusal import refusal


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Nodes, and characters of the names in them: what a flat model of them takes to hold."""

    nodes: int = 0
    characters: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(nodes=self.nodes + other.nodes, characters=self.characters + other.characters)


def cost(node: OnnxNode, prefix: int = 0) -> Cost:
    """One node, each of whose names gets `prefix` more characters."""
    names = (node.name, *node.inputs, *node.outputs, *node.attributes, *node.scope)
    return Cost(nodes=1, characters=sum(map(len, names)) + len(names) * prefix)


@dataclass(kw_only=True)
class Budget:
    """The room there is for a model's nodes, all graphs within it and all calls of its functions.

    `limits.calls` bounds the nodes, `limits.json_bytes` the names, which are the configuration of
    an ONNX model.
    """

    limits: Limits
    source: str

    def check(self, stored: Cost) -> None:
        """Raise `UnreadableModel` for a file that stores more than is allowed."""
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
        if spent.characters > self.limits.json_bytes:
            return (
                f"{spent.characters} characters of names, more than the "
                f"{self.limits.json_bytes} allowed"
            )
        return ""

    def _bomb(self, what: str, over: str) -> UnsafeModel:
        return refusal("GEB905", f"{self.source}: {what}", f"expanded, they are {over}")
