"""Configurations of Keras 1 in the words of Keras 2.

Keras 1 named its classes and arguments otherwise (`Convolution2D`, `nb_filter`, `border_mode`),
merged by one class with a mode, and let a Sequential begin with the merge of others. Keras 2 reads
such configurations by renaming (`keras.legacy.interfaces` of 2.0 to 2.3); the same is done here,
so that nothing behind the reader has to know two vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from auditor.formats.keras_layers import LAYERS, WRAPPERS
from auditor.formats.untrusted import flag, integer, integers, mapping, sequence, text

Config = dict[str, Any]

#: Arguments that mean the same in every layer that has them.
COMMON: Mapping[str, str] = {
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "stride": "strides",
    "pool_length": "pool_size",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_UNITS = {"output_dim": "units"}
_RATE = {"p": "rate"}
#: Arguments that mean something in one class only.
OWN: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("Dense", "TimeDistributedDense", "SimpleRNN", "LSTM", "GRU"), _UNITS),
    **dict.fromkeys(
        ("Dropout", "GaussianDropout", *(f"SpatialDropout{rank}D" for rank in (1, 2, 3))), _RATE
    ),
    "Embedding": {
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "BatchNormalization": {"gamma_init": "gamma_initializer", "beta_init": "beta_initializer"},
    "GaussianNoise": {"sigma": "stddev"},
    "InputLayer": {"input_dtype": "dtype"},
    "PReLU": {"init": "alpha_initializer"},
    "UpSampling1D": {"length": "size"},
}
#: What Keras 1 began weights with that its configurations do not mention.
BEGINNINGS: Mapping[str, Mapping[str, str]] = {
    "": {"bias_initializer": "zeros"},
    "Embedding": {},
    "BatchNormalization": {
        "gamma_initializer": "ones",
        "beta_initializer": "zeros",
        "moving_mean_initializer": "zeros",
        "moving_variance_initializer": "ones",
    },
}
#: The places of kernel sizes, which stood one by one.
SIZES = (("filter_length",), ("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
CLASSES: Mapping[str, str] = {
    **{f"Convolution{rank}D": f"Conv{rank}D" for rank in (1, 2, 3)},
    **{f"AtrousConvolution{rank}D": f"Conv{rank}D" for rank in (1, 2)},
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}
MERGES: Mapping[str, str] = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
    "cos": "Dot",
}
ORDERINGS: Mapping[str, str] = {"th": "channels_first", "tf": "channels_last"}
#: Classes that Keras 1 wrote without the ordering of axes they were made with.
UNORDERED = frozenset(
    f"{stem}{rank}D" for stem in ("UpSampling", "ZeroPadding", "Cropping") for rank in (2, 3)
)
#: What `name` says of regularizers and constraints, and how Keras 2 calls their arguments.
NAMED_OBJECTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "L1L2Regularizer": ("L1L2", {}),
    "WeightRegularizer": ("L1L2", {}),
    "ActivityRegularizer": ("L1L2", {}),
    "MaxNorm": ("MaxNorm", {"m": "max_value"}),
    "NonNeg": ("NonNeg", {}),
    "UnitNorm": ("UnitNorm", {}),
    "MinMaxNorm": ("MinMaxNorm", {"low": "min_value", "high": "max_value"}),
}


#: Arguments by which the dialect is told where the file does not say which version wrote it.
MARKS = frozenset({"W_regularizer", "border_mode", "dim_ordering", "inner_activation"})


def is_keras_1(config: object, writer: str) -> bool:
    """Whether a configuration is of this dialect: by what wrote it, else by what stands in it.

    `writer` is "keras 1.2.2", or "keras" where the file does not tell.
    """
    _, _, version = writer.partition(" ")
    if version:
        return version.startswith(("0.", "1."))
    return any(not MARKS.isdisjoint(value) for value in _objects(config))


def modern(config: object) -> object:
    """A model's configuration as Keras 2 would write it.

    `config` is a JSON value whose depth is bounded. What is not understood stays as it is.
    """
    return _entry(config, _ordering(config))


def _entry(value: object, ordering: str) -> object:
    if not isinstance(value, dict):
        return value
    kind, config = text(value.get("class_name")), value.get("config")
    if kind == "Sequential" and isinstance(config, list):
        return _sequential(value, config, ordering)
    if isinstance(config, dict) and isinstance(config.get("layers"), list) and kind != "Merge":
        layers = [_entry(layer, ordering) for layer in config["layers"]]
        return {**value, "config": {**config, "layers": layers}}
    if not isinstance(config, dict):
        return value
    if kind == "Merge":
        return _merge(value, config)
    if kind not in LAYERS and kind not in WRAPPERS and kind not in CLASSES:
        return value
    changed = _layer(kind, config, ordering)
    return {**value, "class_name": CLASSES.get(kind, kind), "config": changed}


def _ordering(config: object) -> str:
    """The ordering of axes that the first layer to say one says; "tf" when none does."""
    stated = (ORDERINGS.get(text(value.get("dim_ordering"))) for value in _objects(config))
    return next((ordering for ordering in stated if ordering), ORDERINGS["tf"])


def _objects(config: object) -> Iterator[Mapping[str, Any]]:
    """All JSON objects in a configuration, in the order of the file."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(reversed(value.values()))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _layer(kind: str, config: Mapping[str, Any], ordering: str) -> Config:
    names = {**COMMON, **OWN.get(kind, {})}
    changed: Config = {}
    for key, value in config.items():
        changed[names.get(key, key)] = _object(value) if key.endswith(_OBJECTS) else value
    # Of any other layer it is the type of what comes in, which need not be what it computes in.
    changed.pop("input_dtype", None)
    for sizes in SIZES:
        if sizes[0] in changed:
            changed["kernel_size"] = [changed.pop(size, None) for size in sizes]
    stated = ORDERINGS.get(text(changed.pop("dim_ordering", None)))
    if stated or kind in UNORDERED:
        changed["data_format"] = stated or ordering
    if "kernel_initializer" in changed or kind in BEGINNINGS:
        changed = {**BEGINNINGS.get(kind, BEGINNINGS[""]), **changed}
    if "layer" in changed:
        changed["layer"] = _entry(changed["layer"], ordering)
    if kind in SPECIAL:
        SPECIAL[kind](changed)
    return changed


_OBJECTS = ("_regularizer", "_constraint")


def _object(value: object) -> object:
    """A regularizer or constraint, which Keras 1 wrote flat, its class as `name`."""
    known = NAMED_OBJECTS.get(text(mapping(value).get("name")))
    if known is None:
        return value
    kind, renamed = known
    given = {renamed.get(k, k): v for k, v in mapping(value).items() if k != "name"}
    return {"class_name": kind, "config": given}


def _forget_bias(config: Config) -> None:
    if "forget_bias_init" in config:
        config["unit_forget_bias"] = text(config.pop("forget_bias_init")) in ("one", "ones")


def _reset_before(config: Config) -> None:
    config.setdefault("reset_after", False)


def _pad(config: Config) -> None:
    """Padding of four numbers, or named by side, as pairs."""
    padding = config.get("padding")
    sides = integers(padding, 4) if isinstance(padding, list) else None
    if isinstance(padding, dict):
        named = ("top_pad", "bottom_pad", "left_pad", "right_pad")
        sides = tuple(integer(padding.get(side)) or 0 for side in named)
    if sides is not None:
        config["padding"] = [list(sides[:2]), list(sides[2:])]


def _pad_row(config: Config) -> None:
    padding = config.get("padding")
    if isinstance(padding, dict):
        config["padding"] = [integer(padding.get(side)) or 0 for side in ("left_pad", "right_pad")]


def _transposed(config: Config) -> None:
    # The output's shape, which Keras 2 calculates itself.
    config.pop("output_shape", None)


SPECIAL: Mapping[str, Callable[[Config], None]] = {
    "LSTM": _forget_bias,
    "ConvLSTM2D": _forget_bias,
    "GRU": _reset_before,
    "ZeroPadding1D": _pad_row,
    "ZeroPadding2D": _pad,
    "Deconvolution2D": _transposed,
}


def _merge(value: Mapping[str, Any], config: Mapping[str, Any]) -> Config:
    """A merge as the layer its mode names; one by a function of its own is a Lambda."""
    mode = text(config.get("mode"))
    kind = MERGES.get(mode)
    kept: Config = {"name": config.get("name"), "trainable": flag(config.get("trainable"), True)}
    if kind is None or text(config.get("mode_type"), "raw") != "raw":
        function = {"function": config.get("mode"), "function_type": config.get("mode_type")}
        return {**value, "class_name": "Lambda", "config": {**kept, **function}}
    if kind == "Concatenate":
        kept["axis"] = config.get("concat_axis", -1)
    if kind == "Dot":
        axes = config.get("dot_axes")
        # [[axes of the one], [axes of the other]] where it is no single number.
        single = [integers(axis) or (None,) for axis in sequence(axes)]
        kept["axes"] = [axis[0] for axis in single] or axes
        kept["normalize"] = mode == "cos"
    return {**value, "class_name": kind, "config": kept}


def _sequential(value: Mapping[str, Any], layers: list[Any], ordering: str) -> Config:
    first = mapping(layers[0]) if layers else {}
    branches = sequence(mapping(first.get("config")).get("layers"))
    if text(first.get("class_name")) != "Merge" or not branches:
        return {**value, "config": [_entry(layer, ordering) for layer in layers]}
    found: list[Config] = []
    ends = list(_chain(layers, found, ordering))
    inputs = [[layer["name"], 0, 0] for layer in found if layer["class_name"] == "InputLayer"]
    joined = {"layers": found, "input_layers": inputs, "output_layers": ends}
    return {**value, "class_name": "Model", "config": {"name": value.get("name"), **joined}}


def _chain(layers: list[Any], found: list[Config], ordering: str) -> Iterator[list[Any]]:
    """Put a Sequential's layers, each with its inbound node, into `found`; its last tensor.

    One that begins with a merge of others is saved with all their layers side by side.
    """
    tensors: list[list[Any]] = []
    for index, layer in enumerate(layers):
        given = mapping(layer)
        config = mapping(given.get("config"))
        branches = sequence(config.get("layers"))
        if index == 0 and text(given.get("class_name")) == "Merge" and branches:
            for branch in branches:
                tensors.extend(_chain(sequence(mapping(branch).get("config")), found, ordering))
        elif index == 0:
            tensors = [_input(config, found)]
        changed = mapping(_entry(given, ordering))
        name = text(mapping(changed.get("config")).get("name")) or text(changed.get("name"))
        found.append({**changed, "name": name, "inbound_nodes": [tensors]})
        tensors = [[name, 0, 0]]
    yield from tensors


def _input(config: Mapping[str, Any], found: list[Config]) -> list[Any]:
    """An input before a branch's first layer, of the shape that layer states."""
    name = f"{text(config.get('name'))}_input"
    given = {
        "name": name,
        "batch_input_shape": config.get("batch_input_shape"),
        "dtype": config.get("input_dtype"),
    }
    found.append({"class_name": "InputLayer", "name": name, "config": given, "inbound_nodes": []})
    return [name, 0, 0]
