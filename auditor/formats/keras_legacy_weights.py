"""Weights of a whole-model HDF5 file, given to their layers.

Such a file keeps the weights of each top-level layer under `model_weights/<layer>`, in the order
"trainable first, then the rest", with everything nested in it flattened; `weight_names` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from auditor.formats.hdf5_tree import Hdf5Dataset, Hdf5Group, Hdf5Tree
from auditor.formats.keras_1_weights import joined_gates, turned_kernel
from auditor.formats.keras_model import LayerConfig, ModelConfig
from auditor.formats.keras_variables import fits, plain_weight, weight_of
from auditor.formats.keras_weights import weight_specs
from auditor.formats.stored_tensor import StoredTensor
from auditor.formats.weight_spec import WeightSpec
from auditor.graph.weight import Weight

#: Names of weights that training does not change.
FIXED = ("moving_mean", "moving_variance", "mean", "variance", "count", "vector_u")


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """A layer within a top-level one: its path, its configuration, whether anything freezes it."""

    path: str
    layer: LayerConfig
    trainable: bool


def read_legacy_weights(tree: Hdf5Tree, group: Hdf5Group) -> Mapping[str, tuple[StoredTensor, ...]]:
    """The stored tensors by top-level layer, in the order of the file."""
    found: dict[str, tuple[StoredTensor, ...]] = {}
    for name in group.texts("layer_names"):
        layer = group.find(name)
        if isinstance(layer, Hdf5Group):
            found[name] = joined_gates(tuple(_tensors(tree, layer)))
    return found


def _tensors(tree: Hdf5Tree, group: Hdf5Group) -> Iterator[StoredTensor]:
    for name in group.texts("weight_names"):
        dataset = group.find(name)
        tensor = tree.tensor(dataset, name) if isinstance(dataset, Hdf5Dataset) else None
        if tensor is not None:
            yield tensor


def assign_legacy_weights(
    root: LayerConfig, saved: Mapping[str, tuple[StoredTensor, ...]]
) -> Mapping[str, tuple[Weight, ...]]:
    """Weights by the path of their layer ("encoder/conv1"), for every layer that has any."""
    if root.model is None:
        tensors = tuple(tensor for stored in saved.values() for tensor in stored)
        return {root.name: tuple(_named(tensor) for tensor in tensors)}
    found: dict[str, tuple[Weight, ...]] = {}
    for layer in root.model.layers:
        tensors = saved.get(layer.name, ())
        if not tensors:
            continue
        leaves = list(_leaves(layer, "", trainable=True))
        ordered = _by_order(leaves, tensors)
        found.update(_by_name(leaves, tensors) if ordered is None else ordered)
    return found


def _leaves(layer: LayerConfig, prefix: str, *, trainable: bool) -> Iterator[_Leaf]:
    path, trainable = f"{prefix}{layer.name}", trainable and layer.trainable
    if layer.model is None:
        yield _Leaf(path=path, layer=layer, trainable=trainable)
        return
    model: ModelConfig = layer.model
    for inner in model.layers:
        yield from _leaves(inner, f"{path}/", trainable=trainable and model.trainable)


def _by_order(
    leaves: list[_Leaf], tensors: tuple[StoredTensor, ...]
) -> Mapping[str, tuple[Weight, ...]] | None:
    """Weights by their place in the list; None where number or shapes are not those expected."""
    expected: list[tuple[_Leaf, WeightSpec]] = []
    for leaf in leaves:
        specs = weight_specs(leaf.layer)
        if specs is None:
            return None
        expected.extend((leaf, spec) for spec in specs)
    if len(expected) != len(tensors):
        return None
    order = sorted(
        range(len(expected)),
        key=lambda index: not (expected[index][0].trainable and expected[index][1].trainable),
    )
    placed = dict(zip(order, tensors, strict=True))
    found: dict[str, tuple[Weight, ...]] = {}
    for index, (leaf, spec) in enumerate(expected):
        tensor = turned_kernel(leaf.layer, placed[index])
        if not fits(spec, tensor.shape):
            return None
        found[leaf.path] = (*found.get(leaf.path, ()), weight_of(spec, tensor))
    return found


def _by_name(
    leaves: list[_Leaf], tensors: tuple[StoredTensor, ...]
) -> Mapping[str, tuple[Weight, ...]]:
    """Weights by the layer that their name names; what names none goes to the first layer."""
    found: dict[str, tuple[Weight, ...]] = {}
    by_name = {leaf.layer.name: leaf for leaf in leaves}
    for tensor in tensors:
        segments = tensor.name.split("/")
        leaf = next((by_name[s] for s in reversed(segments[:-1]) if s in by_name), leaves[0])
        kind = segments[-1].split(":")[0]
        specs = weight_specs(leaf.layer) or ()
        alike = [s for s in specs if kind in (s.name, s.role) and fits(s, tensor.shape)]
        weight = weight_of(alike[0], tensor) if len(alike) == 1 else _named(tensor)
        found[leaf.path] = (*found.get(leaf.path, ()), weight)
    return found


def _named(tensor: StoredTensor) -> Weight:
    fixed = tensor.name.rsplit("/", 1)[-1].split(":")[0] in FIXED
    return plain_weight(tensor.name, tensor, trainable=False if fixed else None)
