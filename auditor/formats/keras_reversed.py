"""ReversibleEmbedding called backwards: from vectors to one logit a token."""

from __future__ import annotations

from dataclasses import replace

from auditor.formats.keras_identity import Identity
from auditor.formats.keras_model import LayerConfig, Node
from auditor.formats.untrusted import integer
from auditor.graph.layer_graph import Shape
from auditor.graph.operators import Op
from auditor.graph.weight import Weight

#: What such a call is: a product with the table, transposed.
REVERSED = Identity(op=Op.DENSE)


def is_reversed(layer: LayerConfig, node: Node | None) -> bool:
    """Whether a call is that of a ReversibleEmbedding with `reverse=True`."""
    if layer.kind != "ReversibleEmbedding" or not layer.standard or node is None:
        return False
    return node.keywords.get("reverse") is True or True in node.arguments[1:2]


def reversed_shape(layer: LayerConfig, given: Shape | None) -> Shape | None:
    """One logit a token in the place of the vector."""
    return None if not given else (*given[:-1], integer(layer.config.get("input_dim")))


def reversed_weights(weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """The weights in this direction: the table, of shape (tokens, width), is the kernel.

    Where it is not tied, a kernel of its own is among the weights, and the table is not used.
    """
    if any(weight.role == "kernel" for weight in weights):
        return weights
    return tuple(
        replace(
            weight,
            role="kernel",
            fan_in=weight.shape[1],
            fan_out=weight.shape[0],
            unit_axes=(0,),
        )
        if weight.role == "embeddings" and len(weight.shape) == 2
        else weight
        for weight in weights
    )
