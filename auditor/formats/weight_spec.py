"""`WeightSpec`: a weight that a layer is expected to have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from auditor.formats.keras_fans import FanRule
from auditor.graph.weight import Initializer

#: What of a shape is known: None for an unknown dimension; None altogether for nothing.
Pattern = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """One weight that a layer is expected to have.

    `child` is the path of the sublayer that owns it ("cell", "forward_layer/cell"), empty for the
    layer itself; `index` its place among that owner's own variables. `low_rank` is the rank of a
    matrix of LoRA, which the file may not hold.
    """

    name: str
    role: str
    child: str = ""
    index: int = 0
    trainable: bool = True
    initializer: Initializer | None = None
    pattern: Pattern | None = None
    fans: FanRule = field(default_factory=FanRule)
    low_rank: int | None = None


#: The weights of a layer, in order; None when they are not known.
Specs = tuple[WeightSpec, ...] | None


def below(child: str, specs: tuple[WeightSpec, ...], name: str = "") -> tuple[WeightSpec, ...]:
    """A sublayer's weights as its owner's, `child` being where the owner keeps it."""
    return tuple(
        replace(
            spec,
            child=f"{child}/{spec.child}" if spec.child else child,
            name=f"{name}/{spec.name}" if name else spec.name,
        )
        for spec in specs
    )
