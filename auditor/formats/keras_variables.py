"""Weights of a `.keras` archive: the variables in model.weights.h5, given to their layers.

Keras saves every layer's own variables as `…/vars/0`, `…/vars/1`, …, in groups named by class and
number ("layers/dense_1") or by attribute ("forward_layer/cell"); newer versions also note the
layer's name on the group. See `keras.src.saving.saving_lib`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from auditor.formats.hdf5_tree import Hdf5Dataset, Hdf5Group, Hdf5Tree
from auditor.formats.keras_fans import Fans
from auditor.formats.keras_layers import LAYERS
from auditor.formats.keras_model import LayerConfig, ModelConfig
from auditor.formats.keras_weights import container_names, weight_specs
from auditor.formats.stored_tensor import StoredTensor
from auditor.formats.weight_spec import WeightSpec
from auditor.graph.operators import Op
from auditor.graph.weight import Weight

#: Groups that hold no weights of the model: what training keeps beside them.
NOT_WEIGHTS = frozenset(
    {
        "optimizer",
        "_optimizer",
        "metrics",
        "_metrics",
        "_loss_tracker",
        "loss_tracker",
        "_compile_metrics",
        "_compile_loss",
        "seed_generator",
    }
)
#: What Keras 2.12 and 2.13 called a model's `layers`.
FORMER_CONTAINER = "_layer_checkpoint_dependencies"


@dataclass(frozen=True, kw_only=True)
class VariableGroup:
    """One saved object: the layer's name where noted, its own variables, the objects below it."""

    name: str = ""
    own: tuple[StoredTensor, ...] = ()
    below: Mapping[str, VariableGroup] = field(default_factory=dict)

    def at(self, path: str) -> VariableGroup | None:
        """The object at a path below this one; the object itself for an empty path."""
        group: VariableGroup | None = self
        for segment in path.split("/") if path else ():
            group = group.below.get(segment) if group is not None else None
        return group

    def walk(self, path: str = "") -> Iterator[tuple[str, VariableGroup]]:
        """This object and all below it, with their paths."""
        yield path, self
        for name, group in self.below.items():
            if not name.startswith("seed_generator"):
                yield from group.walk(f"{path}/{name}" if path else name)


def read_variables(tree: Hdf5Tree) -> VariableGroup:
    """The saved objects of a model.weights.h5, with their layers' names if those were read."""
    return _read_group(tree, tree.root, root=True)


def _read_group(tree: Hdf5Tree, group: Hdf5Group, *, root: bool = False) -> VariableGroup:
    name = ""
    own: tuple[StoredTensor, ...] = ()
    below: dict[str, VariableGroup] = {}
    for key, member in group.members.items():
        if not isinstance(member, Hdf5Group) or (root and key in NOT_WEIGHTS):
            continue
        if key == "vars":
            own = _read_own(tree, member)
            name = next(iter(member.texts("name")), "")
        else:
            below[key] = _read_group(tree, member)
    return VariableGroup(name=name, own=own, below=below)


def _read_own(tree: Hdf5Tree, group: Hdf5Group) -> tuple[StoredTensor, ...]:
    tensors: list[tuple[int, str, StoredTensor]] = []
    for key, member in group.members.items():
        tensor = tree.tensor(member, key) if isinstance(member, Hdf5Dataset) else None
        if tensor is not None:
            index = int(key) if key.isascii() and key.isdigit() and len(key) < 7 else 10**7
            tensors.append((index, key, tensor))
    return tuple(tensor for _, _, tensor in sorted(tensors, key=lambda item: item[:2]))


def assign_variables(root: LayerConfig, saved: VariableGroup) -> Mapping[str, tuple[Weight, ...]]:
    """Weights by the path of their layer ("encoder/conv1"), for every layer that has any."""
    if root.model is None:
        return {root.name: tuple(_unclaimed(saved, "", frozenset()))}
    found: dict[str, tuple[Weight, ...]] = {}
    _assign_model(root.model, saved, "", found)
    return found


def without_weights(
    root: LayerConfig, found: Mapping[str, tuple[Weight, ...]]
) -> Iterator[LayerConfig]:
    """Layers that are expected to have weights, and were given none."""

    def below(layer: LayerConfig, path: str) -> Iterator[LayerConfig]:
        if layer.model is not None:
            for inner in layer.model.layers:
                yield from below(inner, f"{path}/{inner.name}" if path else inner.name)
        elif weight_specs(layer) and not found.get(path):
            yield layer

    return below(root, "")


def _assign_model(
    model: ModelConfig, saved: VariableGroup, prefix: str, found: dict[str, tuple[Weight, ...]]
) -> None:
    former = "layers" not in saved.below and FORMER_CONTAINER in saved.below
    container = saved.below.get(FORMER_CONTAINER if former else "layers") or VariableGroup()
    named: dict[str, list[str]] = {}
    for place, below in container.below.items():
        named.setdefault(below.name, []).append(place)
    keys = container_names(model.layers, sequential=model.sequential, former=former)
    for layer, key in zip(model.layers, keys, strict=True):
        if key is None:
            continue
        group = container.below.get(key)
        noted = named.get(layer.name, [])
        # A class may be saved under another name than the configuration gives it.
        if (group is None or group.name not in ("", layer.name)) and len(noted) == 1:
            group = container.below[noted[0]]
        if group is None:
            continue
        path = f"{prefix}{layer.name}"
        if layer.model is not None:
            _assign_model(layer.model, group, f"{path}/", found)
        else:
            found[path] = tuple(_layer_weights(layer, group))


def _layer_weights(layer: LayerConfig, saved: VariableGroup) -> Iterator[Weight]:
    specs = weight_specs(layer)
    if specs == () and LAYERS.get(layer.kind) is Op.PREPROCESSING:
        return  # what a lookup keeps (inverse document frequencies) are no variables
    claimed: set[tuple[str, int]] = set()
    for spec in specs or ():
        child, owner = _owner(saved, spec.child)
        if owner is None or spec.index >= len(owner.own):
            if owner is not None and owner.own and spec.low_rank is not None:
                yield merged_weight(spec, owner.own[0])
            continue
        # What stands before a claimed variable is the same variable, kept twice by a wrapper.
        claimed.update((child, index) for index in range(spec.index + 1))
        yield weight_of(spec, owner.own[spec.index])
    for weight in _unclaimed(saved, "", frozenset(claimed)):
        # What a class of Keras' keeps beyond its weights are scales of a quantization.
        yield weight if specs is None else replace(weight, trainable=False)


def _owner(saved: VariableGroup, child: str) -> tuple[str, VariableGroup | None]:
    """The sublayer at a path, which Keras 2 kept under a name with an underscore before it."""
    above, _, last = child.rpartition("/")
    private = f"{above}/_{last}" if above else f"_{last}"
    owner = saved.at(child)
    if owner is None and child and (former := saved.at(private)) is not None:
        return private, former
    return child, owner


def _unclaimed(
    saved: VariableGroup, path: str, claimed: frozenset[tuple[str, int]]
) -> Iterator[Weight]:
    for place, group in saved.walk(path):
        for index, tensor in enumerate(group.own):
            if (place, index) not in claimed:
                name = f"{place}/{tensor.name}" if place else tensor.name
                yield plain_weight(name, tensor)


def weight_of(spec: WeightSpec, tensor: StoredTensor) -> Weight:
    """A stored tensor as the weight that was expected; a plain one if its shape is another's."""
    if not fits(spec, tensor.shape):
        return plain_weight(spec.name, tensor)
    fans = spec.fans.fans(tensor.shape)
    return Weight(
        name=spec.name,
        role=spec.role,
        shape=tensor.shape,
        dtype=tensor.dtype,
        trainable=spec.trainable and is_floating(tensor),
        fan_in=fans.fan_in,
        fan_out=fans.fan_out,
        unit_axes=fans.unit_axes,
        initializer=spec.initializer,
        read=tensor.read,
    )


def merged_weight(spec: WeightSpec, kernel: StoredTensor) -> Weight:
    """A low-rank matrix that was merged into its kernel: the file holds no values of it."""
    rank = spec.low_rank or 0
    shape = (*kernel.shape[:-1], rank) if spec.name.endswith("_a") else (rank, kernel.shape[-1])
    dtype = kernel.dtype if is_floating(kernel) else "float32"
    return Weight(
        name=spec.name, role=spec.role, shape=shape, dtype=dtype, trainable=spec.trainable
    )


def plain_weight(name: str, tensor: StoredTensor, *, trainable: bool | None = None) -> Weight:
    """A stored tensor of which no more is known. Whole numbers are never trained."""
    return Weight(
        name=name,
        role="other",
        shape=tensor.shape,
        dtype=tensor.dtype,
        trainable=is_floating(tensor) if trainable is None else trainable,
        unit_axes=Fans().unit_axes,
        read=tensor.read,
    )


def is_floating(tensor: StoredTensor) -> bool:
    """Whether the values are such as training could change: no whole numbers."""
    return tensor.dtype.startswith(("float", "bfloat", "complex"))


def fits(spec: WeightSpec, shape: tuple[int, ...]) -> bool:
    """Whether a shape is one that the expected weight may have."""
    return spec.pattern is None or (
        len(spec.pattern) == len(shape)
        and all(
            want is None or want == size for want, size in zip(spec.pattern, shape, strict=True)
        )
    )
