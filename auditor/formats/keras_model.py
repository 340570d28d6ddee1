"""A Keras model's configuration as a tree of layers and nodes, for every dialect of it.

Keras 3 writes a node's arguments as they were given, tensors marked as `__keras_tensor__`; Keras 2
(and 1) writes lists `[layer, node, tensor, keyword arguments]`. Sequential models have no nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from auditor.errors import UnreadableModel
from auditor.formats.keras_initializer import snake_case
from auditor.formats.keras_layers import LAYERS, is_keras_module, is_operation_module
from auditor.formats.keras_operations import is_operation
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.refusal import refusal
from auditor.formats.untrusted import flag, integer, mapping, plain, sequence, shape, summary, text
from auditor.graph.layer_graph import Shape


@dataclass(frozen=True, kw_only=True)
class TensorRef:
    """Output `slot` of call `node` of a layer, with its shape and type where they are recorded."""

    layer: str
    node: int
    slot: int
    shape: Shape | None = None
    dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One call of a layer, as recorded.

    `tensors` stand in order of arguments (positional first, then by keyword as written);
    `traversal` are the same in the order in which Keras walks them (keywords sorted); `leading`
    has one entry for each leaf of the first argument, None where it is no tensor; `arguments` and
    `keywords` are what was given beside tensors, with None in their places; `positional` tells of
    each argument whether it holds a tensor; `listed` that the node is written as Keras 2 does.
    """

    tensors: tuple[TensorRef, ...]
    traversal: tuple[TensorRef, ...]
    leading: tuple[TensorRef | None, ...]
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[bool, ...] = ()
    listed: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """One layer. `kind` is the class name without its package; `model` is set for a nested model.

    `standard` tells whether the class is Keras' own; `operation` whether it is a `keras.ops` node
    and no layer; `build` holds the shapes that the layer was built with.
    """

    name: str
    kind: str
    module: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    model: ModelConfig | None = None
    trainable: bool = True
    standard: bool = True
    operation: bool = False
    shared_id: int | None = None

    @property
    def listed_operation(self) -> bool:
        """Whether this is an operation of TensorFlow, as Keras 2 wrote them: as layers."""
        return self.kind in ("TFOpLambda", "SlicingOpLambda")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A sequential or functional model. `inputs` and `outputs` are in Keras' flattened order.

    `output_keys` are the outputs' where the model gives a dictionary of them.

    A sequential model has none of the two: its layers follow one another, `input_shape` goes in.
    """

    name: str
    kind: str
    layers: tuple[LayerConfig, ...]
    inputs: tuple[TensorRef, ...] = ()
    outputs: tuple[TensorRef, ...] = ()
    output_keys: tuple[str, ...] = ()
    sequential: bool = False
    trainable: bool = True
    input_shape: Shape | None = None


def parse_model(data: object, limits: Limits = DEFAULT_LIMITS) -> LayerConfig:
    """The model a configuration describes, as its outermost layer.

    Its `model` is None for a subclassed model, whose configuration does not tell its layers.
    Raises `UnreadableModel` for a malformed configuration.
    """
    if not isinstance(data, dict) or not isinstance(data.get("class_name"), str):
        raise UnreadableModel(
            "the configuration is not that of a Keras model: it has no class name; "
            'save the whole model with model.save("model.keras")'
        )
    root = parse_layer(plain(data), "model", limits, 0)
    if root.model is None and root.kind in LAYERS and root.standard:
        raise UnreadableModel(
            f"the configuration describes a single {root.kind} layer, not a model; "
            'save the whole model with model.save("model.keras")'
        )
    return root if root.name else replace(root, name=root.kind)


def parse_layer(data: object, place: str, limits: Limits, depth: int) -> LayerConfig:
    """One layer's configuration object, its nodes and what is nested in it."""
    if depth > limits.nesting:
        raise refusal("GEB909", place, f"models are nested more than {limits.nesting} deep")
    entry = mapping(data)
    registered = text(entry.get("class_name"))
    if not registered:
        raise UnreadableModel(f"{place} has no class name: the configuration is malformed")
    kind = registered.rsplit(">", 1)[-1]
    module = text(entry.get("module"))
    config = mapping(entry.get("config"))
    # A module that is written as none is one that the class could not be found in again.
    standard = is_keras_module(module) if module else "module" not in entry
    standard = standard and ">" not in registered + text(entry.get("registered_name"))
    name = text(entry.get("name")) or text(config.get("name"))
    if not name and not standard:
        # A custom layer without `get_config` has a configuration of its arguments alone.
        name = _unnamed(place, kind)
    for what, given in (("a name", name), ("a class name", registered), ("a module", module)):
        _check_length(what, given, place, limits)
    model = _parse_nested(kind, entry.get("config"), standard, name, place, limits, depth)
    # HDF5 files carry no modules; there a node of keras.ops lacks what every layer's config has.
    bare = not module and standard and model is None and "trainable" not in config
    return LayerConfig(
        name=name or (model.name if model else ""),
        kind=kind,
        module=module,
        config=config,
        build=mapping(entry.get("build_config")),
        nodes=_parse_nodes(entry.get("inbound_nodes"), f"{place} ({summary(name)})"),
        model=model,
        trainable=flag(config.get("trainable"), True),
        standard=standard,
        operation=is_operation_module(module) or (bare and is_operation(kind)),
        shared_id=integer(entry.get("shared_object_id")),
    )


def _unnamed(place: str, kind: str) -> str:
    """A name for a layer whose configuration has none: Keras gives it one when it is loaded."""
    number = "".join(filter(str.isdigit, place.rpartition("[")[2]))
    return f"{snake_case(kind)}_{number}" if number else ""


def sublayer(
    config: Mapping[str, Any], key: str, limits: Limits = DEFAULT_LIMITS
) -> LayerConfig | None:
    """The layer that a wrapper keeps under `key` of its configuration; None when there is none."""
    inner = config.get(key)
    if not isinstance(inner, dict) or not isinstance(inner.get("class_name"), str):
        return None
    return parse_layer(inner, key, limits, 0)


def _parse_nested(
    kind: str,
    config: object,
    standard: bool,
    name: str,
    place: str,
    limits: Limits,
    depth: int,
) -> ModelConfig | None:
    # Keras 2.0 to 2.2 wrote a Sequential's configuration as the bare list of its layers.
    listed = kind == "Sequential" and standard
    entries = config if listed and isinstance(config, list) else mapping(config).get("layers")
    fields = mapping(config)
    functional = "input_layers" in fields and "output_layers" in fields and "layers" in fields
    if not listed and not functional:
        if standard and kind in ("Functional", "Model") and "layers" in fields:
            raise UnreadableModel(f"{place} is a functional model without inputs or outputs")
        return None
    if not isinstance(entries, list):
        raise UnreadableModel(f"{place} has no list of layers: the configuration is malformed")
    layers = tuple(
        parse_layer(entry, f"{place}.layers[{index}]", limits, depth + 1)
        for index, entry in enumerate(entries)
    )
    title = text(fields.get("name")) or name or kind.lower()
    _check_length("a name", title, place, limits)
    _check_layers(layers, f"{place} ({summary(title)})")
    common: dict[str, Any] = {
        "name": title,
        "kind": kind,
        "layers": layers,
        "trainable": flag(fields.get("trainable"), True),
    }
    if listed:
        return ModelConfig(
            **common,
            sequential=True,
            input_shape=shape(fields.get("build_input_shape")),
        )
    model = ModelConfig(
        **common,
        inputs=tuple(_references(fields["input_layers"])),
        outputs=tuple(_references(fields["output_layers"])),
        output_keys=_keys(fields["output_layers"]),
    )
    for what, references in (("inputs", model.inputs), ("outputs", model.outputs)):
        if not references:
            raise UnreadableModel(
                f"{place} ({summary(title)}) is a functional model without {what}"
            )
    return model


def _check_length(what: str, given: str, place: str, limits: Limits) -> None:
    """Refuse a name that is repeated in the id of every call below it, and long."""
    if len(given) > limits.name_length:
        length = f"{what} of {len(given):,} characters, above the {limits.name_length:,} allowed"
        raise refusal("GEB905", place, f"it has {length}")


def _check_layers(layers: tuple[LayerConfig, ...], place: str) -> None:
    if not layers:
        raise UnreadableModel(f"{place} has no layers: there is nothing to audit")
    seen: set[str] = set()
    for index, layer in enumerate(layers):
        if not layer.name:
            raise UnreadableModel(f"{place}.layers[{index}] has no name")
        if layer.name in seen:
            raise UnreadableModel(f"{place} has two layers named {summary(layer.name)!r}")
        seen.add(layer.name)


def _references(value: object) -> Iterator[TensorRef]:
    """The tensors of an `input_layers` or `output_layers` structure, flattened as Keras does."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _references(value[key])
    elif isinstance(value, list):
        reference = _listed_reference(value)
        if reference is not None:
            yield reference
        else:
            for item in value:
                yield from _references(item)


def _keys(value: object) -> tuple[str, ...]:
    """Keys of a dictionary of single tensors, in flattened order; none of another structure."""
    if not isinstance(value, dict) or any(
        _listed_reference(item) is None for item in value.values()
    ):
        return ()
    return tuple(sorted(value))


def _listed_reference(value: object) -> TensorRef | None:
    if not isinstance(value, list) or len(value) not in (3, 4) or not isinstance(value[0], str):
        return None
    node, slot = integer(value[1]), integer(value[2])
    if node is None or slot is None or node < 0 or slot < 0:
        return None
    return TensorRef(layer=value[0], node=node, slot=slot)


def _marked_reference(value: Mapping[str, Any]) -> TensorRef | None:
    if value.get("class_name") != "__keras_tensor__":
        return None
    config = mapping(value.get("config"))
    history = _listed_reference(config.get("keras_history"))
    if history is None:
        return None
    return TensorRef(
        layer=history.layer,
        node=history.node,
        slot=history.slot,
        shape=shape(config.get("shape")),
        dtype=text(config.get("dtype")),
    )


def _parse_nodes(value: object, place: str) -> tuple[Node, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnreadableModel(
            f"{place}: inbound_nodes is not a list: the configuration is malformed"
        )
    return tuple(_parse_node(node, place) for node in value)


def _parse_node(value: object, place: str) -> Node:
    if isinstance(value, dict) and ("args" in value or "kwargs" in value):
        arguments, keywords = sequence(value.get("args")), mapping(value.get("kwargs"))
        node = _node(arguments, keywords, listed=False)
    elif isinstance(value, (list, dict)):
        node = _listed_node(value)
    else:
        node = _node([], {}, listed=False)
    if not node.tensors:
        raise UnreadableModel(
            f"{place}: a call without any input tensor: the configuration is malformed"
        )
    return node


def _listed_node(value: list[Any] | dict[str, Any]) -> Node:
    """A node of Keras 2: a structure of `[layer, node, tensor, keyword arguments]`."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = [value]
    keywords: dict[str, Any] = {}
    for item in value if isinstance(value, list) else value.values():
        if isinstance(item, list) and len(item) == 4:
            keywords.update(mapping(item[3]))
    return _node([value], keywords, listed=True)


def _node(arguments: list[Any], keywords: Mapping[str, Any], *, listed: bool) -> Node:
    leaves = [list(_leaves(argument, listed)) for argument in arguments]
    named = {key: list(_leaves(item, listed)) for key, item in keywords.items()}
    first = leaves[0] if leaves else named.get("inputs", [])
    positional = [leaf for group in leaves for leaf in group if leaf is not None]
    return Node(
        tensors=(*positional, *(leaf for group in named.values() for leaf in group if leaf)),
        traversal=(*positional, *(leaf for key in sorted(named) for leaf in named[key] if leaf)),
        leading=tuple(first),
        arguments=tuple(_without_tensors(argument, listed) for argument in arguments),
        keywords={key: _without_tensors(item, listed) for key, item in keywords.items()},
        positional=tuple(any(group) for group in [*leaves, *named.values()]),
        listed=listed,
    )


def _leaves(value: object, listed: bool) -> Iterator[TensorRef | None]:
    """Leaves of an argument's structure: tensors, and None for whatever else stands in it."""
    if isinstance(value, dict):
        reference = _marked_reference(value)
        if reference is not None:
            yield reference
        elif "class_name" in value:
            yield None
        else:
            for key in sorted(value):
                yield from _leaves(value[key], listed)
    elif isinstance(value, list):
        reference = _listed_reference(value) if listed else None
        if reference is not None:
            yield reference
        elif listed and value[:1] == ["_CONSTANT_VALUE"]:
            yield None
        else:
            for item in value:
                yield from _leaves(item, listed)
    else:
        yield None


def _without_tensors(value: Any, listed: bool) -> Any:
    if isinstance(value, dict):
        if _marked_reference(value) is not None:
            return None
        return {key: _without_tensors(item, listed) for key, item in value.items()}
    if isinstance(value, list):
        if listed and _listed_reference(value) is not None:
            return None
        return [_without_tensors(item, listed) for item in value]
    return value
