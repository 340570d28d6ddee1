"""What a `keras.ops` node was called with: tensors, constants and settings in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from auditor.formats.keras_model import LayerConfig, Node
from auditor.formats.shape_arithmetic import Shapes
from auditor.formats.untrusted import flag, integer, integers, mapping, text
from auditor.graph.layer_graph import Shape

#: How Keras marks arrays that stand among the arguments.
ARRAYS = ("__numpy__", "__tensor__")


@dataclass(frozen=True, kw_only=True)
class Operands:
    """One call of an operation. `inputs` are shapes of its tensors, in order of arguments."""

    kind: str
    inputs: Shapes
    settings: Mapping[str, Any]
    arguments: tuple[Any, ...] = ()
    positional: tuple[bool, ...] = ()

    @classmethod
    def of(cls, layer: LayerConfig, inputs: Shapes, node: Node | None) -> Operands:
        """The call that a node records; in a sequential model there is none."""
        if node is None:
            return cls(kind=layer.kind, inputs=inputs, settings=layer.config, positional=(True,))
        return cls(
            kind=layer.kind,
            inputs=inputs,
            settings={**layer.config, **node.keywords},
            arguments=node.arguments,
            positional=node.positional,
        )

    @property
    def first(self) -> Shape:
        """Shape of the first tensor, which has to be known."""
        return self.inputs[0] or ()

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes of the leading arguments, tensors and constants alike; of lists, of each in it."""
        given = iter(self.inputs)
        found: list[Shape | None] = []
        for argument, holds_tensor in zip(self.arguments, self.positional, strict=False):
            if not holds_tensor:
                if argument is not None:
                    found.append(constant_shape(argument))
            elif isinstance(argument, list):
                found.extend(
                    next(given, None) if item is None else constant_shape(item) for item in argument
                )
            else:
                found.append(next(given, None))
        return (*found, *given)

    def setting(self, key: str, place: int | None = None) -> Any:
        """A setting by its name, or else the argument at this place."""
        if key in self.settings:
            return self.settings[key]
        if place is not None and place < len(self.arguments):
            return self.arguments[place]
        return None

    def integer(self, key: str, place: int | None = None) -> int | None:
        """A setting that is a whole number."""
        return integer(self.setting(key, place))

    def integers(self, key: str, place: int | None = None) -> tuple[int, ...] | None:
        """A setting that is a list of whole numbers, or one."""
        return integers(self.setting(key, place))

    def flag(self, key: str, default: bool = False) -> bool:
        """A setting that is true or false."""
        return flag(self.settings.get(key), default)

    @property
    def channels_last(self) -> bool:
        """Where the channels of an image stand; last is Keras' default."""
        return text(self.settings.get("data_format"), "channels_last") != "channels_first"


def constant_shape(value: object) -> Shape:
    """The shape of a constant argument: a number, nested lists, or an array that Keras marked."""
    if mapping(value).get("class_name") in ARRAYS:
        value = mapping(mapping(value).get("config")).get("value")
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return tuple(sizes)
