"""Every layer of Keras, and the operations and custom layers a model may hold, ready to be called.

Cases are small enough for their whole Jacobian to be written out; the batch is BATCH.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from auditor.probe.backends import load_backend
from auditor.probe.recording import RecordedCall, record
from auditor.probe.state import ModelState

BATCH = 3
ALL = ("tensorflow", "jax", "torch")

#: What keras.layers holds besides layers that can be called.
ABSTRACT = frozenset({"InputLayer", "InputSpec", "Layer", "Wrapper"})
#: Layers that need a package none of the backends brings.
FOREIGN = frozenset({"FlaxLayer"})


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer, or a functional model whose calls are wanted, and what it is called with.

    inputs: shapes of a sample, drawn from a normal distribution, or functions that draw an array.
    packed: the inputs go in as one list. random: outputs depend on the backend's generator.
    skipped: part of the reason that its Jacobian is not measured, "" where it is; skipped_on: the
    backends it is so on.
    close: how near float32 comes to float64, where that is less than usual.
    """

    name: str
    build: Callable[[], Any]
    inputs: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    packed: bool = False
    random: bool = False
    skipped: str = ""
    skipped_on: tuple[str, ...] = ALL
    close: float = 2e-4
    backends: tuple[str, ...] = ALL


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The calls of a case as recorded, and the model that made them."""

    case: Case
    model: Any
    calls: tuple[RecordedCall, ...]


class Holder(keras.Model):
    """A model of one layer, called in whatever way it wants."""

    def __init__(self, case: Case, operation: Any) -> None:
        super().__init__()
        self.case = case
        self.operation = operation

    def build(self, input_shape: Any) -> None:
        """Layers build themselves as they are called."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        # Layers have the mode from the call around them.
        del training
        args = (inputs,) if self.case.packed else tuple(inputs)
        return self.operation(*args, **self.case.kwargs)


class _Inputs:
    """Hands the tensors of a case over."""

    def pack(self, tensors: Sequence[Any]) -> Any:
        return list(tensors)


class _OneInput:
    def pack(self, tensors: Sequence[Any]) -> Any:
        return tensors[0] if len(tensors) == 1 else list(tensors)


def arrays(case: Case, dtype: str = "float32") -> list[Any]:
    """What the case is called with: the same for every backend and precision."""
    rng = np.random.default_rng([7, len(case.name)])
    made = []
    for wanted in case.inputs:
        array = wanted(rng) if callable(wanted) else rng.normal(size=(BATCH, *wanted))
        array = np.asarray(array)
        if array.dtype.kind == "f":
            # Values of single precision in both, so that the same Jacobian is meant.
            array = array.astype("float32").astype(dtype)
        made.append(array)
    return made


def recorded(case: Case, dtype: str = "float32") -> Recorded:
    """Build a case and record its calls, their ids under the case's name."""
    keras.utils.set_random_seed(len(case.name))
    operation = case.build()
    functional = isinstance(operation, keras.Function)
    model = operation if functional else Holder(case, operation)
    x = arrays(case, dtype)
    model_inputs: Any = _OneInput() if functional else _Inputs()
    if not functional:
        # Built before it is recorded, so that its weights can be set.
        _build(case, operation, model, x)
    _randomize(model)
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            layer.reset_state()
    state = ModelState(model)
    calls = record(model, model_inputs, x, backend=load_backend(keras.backend.backend()))
    # A pass moves variables on some backends alone.
    state.restore()
    kept = [c for c in calls if not isinstance(c.operation, layers.InputLayer)]
    # By place: Keras numbers the operations of a kind through a whole process.
    named = tuple(
        replace(call, id=case.name if len(kept) == 1 else f"{case.name}/{place}")
        for place, call in enumerate(kept)
    )
    return Recorded(case=case, model=model, calls=named)


def _build(case: Case, operation: Any, model: Any, x: Sequence[Any]) -> None:
    """By a symbolic call, where there is such: on JAX a real one compiles each operation."""
    try:
        symbols = [keras.KerasTensor(array.shape, str(array.dtype)) for array in x]
        operation(*([symbols] if case.packed else symbols), **case.kwargs)
    except Exception:  # of a layer that looks at values
        model([ops.convert_to_tensor(array) for array in x], training=True)


def _randomize(model: Any) -> None:
    """Weights that no initializer gives the same on every backend; no zero among them."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "float" not in str(weight.dtype) or "seed" in weight.name:
            continue
        shape = tuple(weight.shape)
        scale = 1.0 / np.sqrt(max(1.0, np.prod(shape[:-1]))) if len(shape) > 1 else 0.3
        drawn = rng.normal(size=shape) * scale
        if "variance" in weight.name or "gamma" in weight.name:
            drawn = 1.0 + 0.3 * np.abs(drawn)
        weight.assign(drawn.astype("float32"))


def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Callable[..., Any]:
    """Draws floats between two bounds."""
    return lambda rng: rng.uniform(low, high, (BATCH, *shape))


def integers(high: int, *shape: int) -> Callable[..., Any]:
    """Draws integers from 0 up to below `high`."""
    return lambda rng: rng.integers(0, high, (BATCH, *shape)).astype("int32")


def _words(rng: np.random.Generator) -> Any:
    return rng.choice(["a", "b", "c d"], (BATCH, 1)).astype(object)


def _padded(rng: np.random.Generator) -> Any:
    """A sequence whose last steps are empty."""
    sequence = rng.normal(size=(BATCH, 5, 3))
    sequence[0, 3:] = 0.0
    sequence[1, 2:] = 0.0
    return sequence


@keras.saving.register_keras_serializable("zoo")
class MixesSamples(layers.Layer):
    """Takes the mean over the batch from every sample."""

    def call(self, x: Any) -> Any:
        return ops.tanh(x) - 0.5 * ops.mean(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable("zoo")
class SumsEarlierSamples(layers.Layer):
    """Hands a sample on to later ones: the first depends on itself alone."""

    def call(self, x: Any) -> Any:
        return ops.cumsum(ops.sin(x), axis=0)


@keras.saving.register_keras_serializable("zoo")
class SwapsLastSamples(layers.Layer):
    """Leaves the first sample alone."""

    def call(self, x: Any) -> Any:
        return ops.concatenate([x[:1], x[2:] * 2.0, x[1:2]], axis=0)


@keras.saving.register_keras_serializable("zoo")
class Residual(layers.Layer):
    """A custom layer of layers, sample by sample, with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(4, activation="tanh")

    def call(self, x: Any) -> Any:
        return {"sum": x + self.inner(x), "square": ops.square(x)[:, :2]}


@keras.saving.register_keras_serializable("zoo")
class OwnCell(layers.Layer):
    """A recurrent cell of one's own."""

    state_size = 3
    output_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def build(self, shape: Any) -> None:
        self.dense.build((None, shape[-1] + 3))

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(self.dense(ops.concatenate([x, states[0]], axis=-1)))
        return h, [h]


class WeightedCount(layers.Layer):
    """Counts of categories by weights, which are what it has a derivative for."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding = layers.CategoryEncoding(4, output_mode="count")

    def call(self, x: Any, weights: Any) -> Any:
        return self.encoding(x, count_weights=weights)


class Stopped(layers.Layer):
    """Lets no gradient through."""

    def call(self, x: Any) -> Any:
        return ops.stop_gradient(x) * 2.0


class Total(layers.Layer):
    """The output is a scalar of the whole batch."""

    def call(self, x: Any) -> Any:
        return ops.sum(ops.square(x))


class WeightOnly(layers.Layer):
    """The output does not depend on the input."""

    def call(self, x: Any) -> Any:
        return ops.ones_like(x)


def functional(function: Callable[..., Any], *shapes: Sequence[int]) -> Callable[[], Any]:
    """Builds a functional model of a function of symbolic inputs."""

    def build() -> Any:
        inputs = [keras.Input(tuple(shape)) for shape in shapes]
        return keras.Model(inputs, function(*inputs))

    return build


def _case(name: str, build: Callable[[], Any], *inputs: Any, **options: Any) -> Case:
    return Case(name=name, build=build, inputs=inputs, **options)


def _node(name: str, function: Callable[..., Any], *shapes: Sequence[int], **options: Any) -> Case:
    if name == "argmax":
        options["skipped"] = "no floating"
    if name == "norm":
        # On JAX this operation of Keras 3.15 does not run as a node of a model.
        options["backends"] = ("tensorflow", "torch")
    inputs = options.pop("inputs", shapes)
    return Case(name=f"ops/{name}", build=functional(function, *shapes), inputs=inputs, **options)


def _core() -> list[Case]:
    image, line, sequence = (6, 5, 2), (9,), (5, 3)
    return [
        _case("Dense", lambda: layers.Dense(7), line),
        _case("Dense/relu", lambda: layers.Dense(7, activation="relu"), line),
        _case("Dense/wide", lambda: layers.Dense(90), (80,)),
        _case("Dense/wide tanh", lambda: layers.Dense(90, activation="tanh"), (80,)),
        _case("Dense/sequence", lambda: layers.Dense(4, use_bias=False), sequence),
        _case("Dense/long sequence", lambda: layers.Dense(8), (20, 4)),
        _case("Dense/softmax", lambda: layers.Dense(6, activation="softmax"), line),
        _case("Dense/lora", lambda: layers.Dense(7, lora_rank=2), line),
        _case("EinsumDense", lambda: layers.EinsumDense("abc,cd->abd", (None, 4)), sequence),
        _case(
            "EinsumDense/heads",
            lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
            sequence,
        ),
        _case(
            "EinsumDense/gelu",
            lambda: layers.EinsumDense("...x,xy->...y", 4, activation="gelu"),
            sequence,
        ),
        _case("Embedding", lambda: layers.Embedding(5, 3), integers(5, 4), skipped="no floating"),
        _case(
            "ReversibleEmbedding",
            lambda: layers.ReversibleEmbedding(5, 3),
            integers(5, 4),
            skipped="no floating",
        ),
        _case(
            "ReversibleEmbedding/reverse",
            lambda: layers.ReversibleEmbedding(5, 3),
            (4, 3),
            kwargs={"reverse": True},
        ),
        _case("Identity", layers.Identity, line),
        _case("Lambda", lambda: layers.Lambda(lambda x: x * 3.0 + ops.sin(x)), line),
        _case("Lambda/batch", lambda: layers.Lambda(lambda x: x - ops.mean(x, axis=0)), line),
        _case("Masking", layers.Masking, _padded),
        _case("ActivityRegularization", lambda: layers.ActivityRegularization(0.1), line),
        _case("Rescaling", lambda: layers.Rescaling(1 / 255.0, offset=-1.0), image),
        _case(
            "Rescaling/int", lambda: layers.Rescaling(2.0), integers(9, 4), skipped="no floating"
        ),
        _case("SpectralNormalization", lambda: layers.SpectralNormalization(layers.Dense(4)), line),
        _case("Softmax", layers.Softmax, line),
        _case("Softmax/axis", lambda: layers.Softmax(axis=(1, 2)), sequence),
        _case("Softmax/batch", lambda: layers.Softmax(axis=0), line),
        _case("ReLU", lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), line),
        _case("LeakyReLU", lambda: layers.LeakyReLU(0.2), line),
        _case("ELU", layers.ELU, line),
        _case("PReLU", layers.PReLU, image),
        _case("PReLU/shared", lambda: layers.PReLU(shared_axes=(1, 2)), image),
        _case("Activation/own", lambda: layers.Activation(lambda x: x * ops.sum(x)), line),
        _case("Pipeline", lambda: layers.Pipeline([layers.Dense(4), layers.ReLU()]), line),
        _case("custom/mixes", MixesSamples, line),
        _case("custom/cumulative", SumsEarlierSamples, line),
        _case("custom/swaps", SwapsLastSamples, line),
        _case("custom/residual", Residual, (4,)),
        _case("custom/stopped", Stopped, line),
        _case("custom/total", Total, line),
        _case("custom/constant", WeightOnly, line),
        _case("custom/wide mixes", MixesSamples, (40,)),
    ]


def _convolutions() -> list[Case]:
    made = []
    for rank, space in ((1, (8,)), (2, (5, 6)), (3, (4, 3, 4))):
        conv = getattr(layers, f"Conv{rank}D")
        back = getattr(layers, f"Conv{rank}DTranspose")
        name = f"Conv{rank}D"
        options: dict[str, dict[str, Any]] = {
            "valid": {},
            "same": {"padding": "same"},
            "stride same": {"padding": "same", "strides": 2},
            "even": {"padding": "same", "kernel_size": 2},
            "dilated": {"padding": "same", "dilation_rate": 2, "kernel_size": 2},
            "relu": {"padding": "same", "activation": "relu"},
            "groups": {"groups": 2, "padding": "same"},
        }
        if rank == 1:
            options["causal"] = {"padding": "causal", "dilation_rate": 2}
            options["causal stride"] = {"padding": "causal", "strides": 2}
        else:
            options["channels_first"] = {"data_format": "channels_first"}
        for what, given in options.items():
            if rank == 3 and what not in ("valid", "stride same", "channels_first", "dilated"):
                continue
            config = {"filters": 4, "kernel_size": 3, **given}
            first = what == "channels_first"
            backends = ("jax", "torch") if first else ALL
            made.append(
                _case(
                    f"{name}/{what}",
                    lambda conv=conv, config=config: conv(**config),
                    (2, *space) if first else (*space, 2),
                    backends=backends,
                )
            )
        transposed: dict[str, dict[str, Any]] = {
            "valid": {"strides": 2},
            "same": {"padding": "same"},
            "stride same": {"padding": "same", "strides": 2},
            "stride over kernel": {"strides": 3, "kernel_size": 2},
            "output padding": {"padding": "same", "strides": 2, "output_padding": 1},
            "dilated": {"dilation_rate": 2, "kernel_size": 2},
            "gelu": {"activation": "gelu"},
        }
        for what, given in transposed.items():
            if rank == 3 and what not in ("valid", "stride same"):
                continue
            config = {"filters": 2, "kernel_size": 3, **given}
            made.append(
                _case(
                    f"{name}Transpose/{what}",
                    lambda back=back, config=config: back(**config),
                    (*(2 if rank == 3 else 4 for _ in space), 2),
                )
            )
    for rank, space in ((1, (8,)), (2, (5, 6))):
        for kind in ("DepthwiseConv", "SeparableConv"):
            layer = getattr(layers, f"{kind}{rank}D")
            options = {
                "valid": {},
                "same": {"padding": "same", "depth_multiplier": 2},
                "stride": {"padding": "same", "strides": 2},
                "dilated": {"padding": "same", "dilation_rate": 2},
                "swish": {"activation": "swish"},
            }
            for what, given in options.items():
                config = {"kernel_size": 3, **given}
                if kind == "SeparableConv":
                    config["filters"] = 3
                made.append(
                    _case(
                        f"{kind}{rank}D/{what}",
                        lambda layer=layer, config=config: layer(**config),
                        (*space, 2),
                    )
                )
    return made


def _pooling() -> list[Case]:
    made = []
    for rank, space in ((1, (7,)), (2, (5, 6)), (3, (4, 3, 4))):
        shape = (*space, 2)
        for kind in ("MaxPooling", "AveragePooling"):
            layer = getattr(layers, f"{kind}{rank}D")
            for what, config in {
                "": {"pool_size": 2},
                "/same": {"pool_size": 2, "padding": "same"},
                "/overlap": {"pool_size": 3, "strides": 1, "padding": "same"},
            }.items():
                made.append(
                    _case(
                        f"{kind}{rank}D{what}",
                        lambda layer=layer, config=config: layer(**config),
                        shape,
                    )
                )
        for kind in ("GlobalMaxPooling", "GlobalAveragePooling"):
            layer = getattr(layers, f"{kind}{rank}D")
            made.append(_case(f"{kind}{rank}D", layer, shape))
            made.append(
                _case(f"{kind}{rank}D/keepdims", lambda layer=layer: layer(keepdims=True), shape)
            )
        for kind in ("AdaptiveAveragePooling", "AdaptiveMaxPooling"):
            layer = getattr(layers, f"{kind}{rank}D")
            made.append(_case(f"{kind}{rank}D", lambda layer=layer: layer(2), shape))
    made.append(
        _case(
            "GlobalAveragePooling1D/masked",
            lambda: keras.Sequential(
                [keras.Input((5, 3)), layers.Masking(), layers.GlobalAveragePooling1D()]
            ),
            _padded,
        )
    )
    return made


def _shapes() -> list[Case]:
    made = [
        _case("Flatten", layers.Flatten, (3, 4)),
        _case("Reshape", lambda: layers.Reshape((2, -1)), (3, 4)),
        _case("Permute", lambda: layers.Permute((2, 1)), (3, 4)),
        _case("RepeatVector", lambda: layers.RepeatVector(5), (4,)),
        _case(
            "UpSampling2D/bilinear",
            lambda: layers.UpSampling2D(interpolation="bilinear"),
            (3, 3, 2),
        ),
        _case("Cropping2D/uneven", lambda: layers.Cropping2D(((1, 0), (0, 2))), (5, 6, 2)),
        _case("ZeroPadding2D/uneven", lambda: layers.ZeroPadding2D(((1, 0), (0, 2))), (3, 3, 2)),
        _case("Resizing", lambda: layers.Resizing(4, 7), (3, 5, 2)),
        _case(
            "Resizing/nearest", lambda: layers.Resizing(4, 7, interpolation="nearest"), (3, 5, 2)
        ),
        _case("CenterCrop", lambda: layers.CenterCrop(3, 3), (5, 6, 2)),
    ]
    for rank, space in ((1, (5,)), (2, (4, 5)), (3, (3, 4, 3))):
        for kind, config in (
            ("Cropping", {"cropping": 1}),
            ("ZeroPadding", {"padding": 1}),
            ("UpSampling", {"size": 2}),
        ):
            layer = getattr(layers, f"{kind}{rank}D")
            made.append(
                _case(
                    f"{kind}{rank}D",
                    lambda layer=layer, config=config: layer(**config),
                    (*space, 2),
                )
            )
    return made


def _merges() -> list[Case]:
    made = []
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
        layer = getattr(layers, kind)
        made.append(_case(kind, layer, (3, 4), (3, 4), packed=True))
        made.append(_case(f"{kind}/broadcast", layer, (3, 4), (1, 4), packed=True))
    made += [
        _case("Add/three", layers.Add, (4,), (4,), (4,), packed=True),
        _case("Add/wide broadcast", layers.Add, (20, 4), (4,), packed=True),
        _case("Multiply/wide broadcast", layers.Multiply, (9, 10), (9, 10), (1, 10), packed=True),
        _case("Concatenate", layers.Concatenate, (3, 4), (3, 2), packed=True),
        _case("Concatenate/batch", lambda: layers.Concatenate(axis=0), (4,), (4,), packed=True),
        _case("Dot", lambda: layers.Dot(axes=1), (5,), (5,), packed=True),
        _case("Dot/matrices", lambda: layers.Dot(axes=(2, 1)), (3, 4), (4, 5), packed=True),
        _case(
            "Dot/cosine", lambda: layers.Dot(axes=(1, 1), normalize=True), (5,), (5,), packed=True
        ),
        _case("Dot/wide", lambda: layers.Dot(axes=(2, 1)), (9, 4), (4, 10), packed=True),
    ]
    return made


def _normalizations() -> list[Case]:
    def normalization() -> Any:
        return layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 0.5, 1.0])

    def frozen() -> Any:
        layer = layers.BatchNormalization()
        layer.trainable = False
        return layer

    return [
        _case("BatchNormalization", layers.BatchNormalization, (4, 3)),
        _case("BatchNormalization/image", layers.BatchNormalization, (3, 4, 2)),
        _case("BatchNormalization/axis", lambda: layers.BatchNormalization(axis=1), (3, 4)),
        _case(
            "BatchNormalization/plain",
            lambda: layers.BatchNormalization(scale=False, center=False, epsilon=0.5),
            (5,),
        ),
        _case(
            "BatchNormalization/inference",
            layers.BatchNormalization,
            (4, 3),
            kwargs={"training": False},
        ),
        _case("BatchNormalization/frozen", frozen, (4, 3)),
        _case(
            "BatchNormalization/masked",
            lambda: keras.Sequential(
                [keras.Input((5, 3)), layers.Masking(), layers.BatchNormalization()]
            ),
            _padded,
        ),
        _case("LayerNormalization", layers.LayerNormalization, (4, 5)),
        _case("LayerNormalization/axes", lambda: layers.LayerNormalization(axis=(1, 2)), (4, 5)),
        _case("LayerNormalization/long", layers.LayerNormalization, (90,)),
        _case("RMSNormalization", layers.RMSNormalization, (4, 5)),
        _case("RMSNormalization/long", layers.RMSNormalization, (90,)),
        _case("GroupNormalization", lambda: layers.GroupNormalization(2), (3, 3, 4)),
        _case("GroupNormalization/instance", lambda: layers.GroupNormalization(-1), (5, 5, 4)),
        _case("UnitNormalization", layers.UnitNormalization, (4, 5)),
        _case("UnitNormalization/batch", lambda: layers.UnitNormalization(axis=0), (5,)),
        _case("Normalization", normalization, (4, 3)),
        _case(
            "Normalization/invert",
            lambda: layers.Normalization(mean=1.0, variance=4.0, invert=True),
            (4,),
        ),
    ]


def _regularizers() -> list[Case]:
    shapes: dict[str, Sequence[int]] = {
        "Dropout": (4, 5),
        "AlphaDropout": (4, 5),
        "GaussianDropout": (4, 5),
        "SpatialDropout1D": (4, 5),
        "SpatialDropout2D": (2, 3, 4),
        "SpatialDropout3D": (2, 2, 2, 3),
    }
    made = []
    for kind, shape in shapes.items():
        layer = getattr(layers, kind)
        made.append(_case(kind, lambda layer=layer: layer(0.4, seed=5), shape, random=True))
    made += [
        _case("GaussianNoise", lambda: layers.GaussianNoise(0.4, seed=5), (4, 5), random=True),
        _case("Dropout/zero", lambda: layers.Dropout(0.0), (4,)),
        _case(
            "Dropout/noise shape",
            lambda: layers.Dropout(0.4, noise_shape=(None, 1, 5), seed=1),
            (4, 5),
            random=True,
        ),
        _case("Dropout/inference", lambda: layers.Dropout(0.4), (4, 5), kwargs={"training": False}),
        _case(
            "Dropout/unseeded in a layer",
            lambda: layers.TimeDistributed(layers.Dropout(0.5)),
            (4, 5),
            random=True,
        ),
    ]
    return made


def _recurrent() -> list[Case]:
    made = []
    for kind in ("SimpleRNN", "GRU", "LSTM"):
        layer = getattr(layers, kind)
        for what, config in {
            "": {},
            "/sequences": {"return_sequences": True},
            "/state": {"return_state": True, "return_sequences": True},
            "/backwards": {"go_backwards": True},
            "/unrolled": {"unroll": True},
        }.items():
            made.append(
                _case(
                    f"{kind}{what}", lambda layer=layer, config=config: layer(4, **config), (5, 3)
                )
            )
        made.append(
            _case(f"{kind}/wide", lambda layer=layer: layer(12, return_sequences=True), (6, 15))
        )
        made.append(
            _case(
                f"{kind}/dropout",
                lambda layer=layer: layer(4, dropout=0.3, recurrent_dropout=0.2, seed=3),
                (5, 3),
                random=True,
            )
        )
        made.append(_case(f"{kind}/stateful", lambda layer=layer: layer(4, stateful=True), (5, 3)))
        made.append(
            _case(
                f"{kind}/masked",
                lambda layer=layer: keras.Sequential(
                    [keras.Input((5, 3)), layers.Masking(), layer(4, return_sequences=True)]
                ),
                _padded,
            )
        )
        cell = getattr(layers, f"{kind}Cell")
        states = 2 if kind == "LSTM" else 1
        made.append(
            _case(
                f"{kind}Cell",
                lambda cell=cell: CalledCell(cell(4)),
                (3,),
                *[(4,)] * states,
            )
        )
    made += [
        _case("GRU/reset before", lambda: layers.GRU(4, reset_after=False), (5, 3)),
        _case(
            "LSTM/initial state",
            lambda: keras.Model(
                inputs := [keras.Input((5, 3)), keras.Input((4,)), keras.Input((4,))],
                layers.LSTM(4)(inputs[0], initial_state=inputs[1:]),
            ),
            (5, 3),
            (4,),
            (4,),
        ),
        _case("RNN", lambda: layers.RNN(OwnCell(), return_sequences=True), (5, 3)),
        _case(
            "StackedRNNCells",
            lambda: layers.RNN(
                layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)]),
                return_sequences=True,
            ),
            (5, 3),
        ),
        _case("TimeDistributed", lambda: layers.TimeDistributed(layers.Dense(4)), (5, 3)),
        _case(
            "TimeDistributed/conv",
            lambda: layers.TimeDistributed(layers.Conv2D(2, 2, activation="relu")),
            (2, 4, 3, 2),
        ),
        _case(
            "TimeDistributed/batch norm",
            lambda: layers.TimeDistributed(layers.BatchNormalization()),
            (4, 3),
        ),
    ]
    for mode in ("concat", "sum", "mul", "ave", None):
        made.append(
            _case(
                f"Bidirectional/{mode}",
                lambda mode=mode: layers.Bidirectional(
                    layers.GRU(3, return_sequences=True), merge_mode=mode
                ),
                (4, 3),
            )
        )
    for rank, space in ((1, (4,)), (2, (3, 3)), (3, (2, 2, 2))):
        layer = getattr(layers, f"ConvLSTM{rank}D")
        made.append(
            _case(
                f"ConvLSTM{rank}D",
                lambda layer=layer: layer(2, 2, padding="same", return_sequences=True),
                (3, *space, 2),
            )
        )
    return made


class CalledCell(layers.Layer):
    """A recurrent cell outside a recurrent layer, states as plain arguments."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def build(self, *_: Any) -> None:
        """The cell builds itself."""

    def call(self, x: Any, *states: Any) -> Any:
        return self.cell(x, list(states))


def _attention() -> list[Case]:
    return [
        _case("Attention", layers.Attention, (3, 4), (5, 4), packed=True),
        _case(
            "Attention/scaled",
            lambda: layers.Attention(use_scale=True),
            (3, 4),
            (5, 4),
            packed=True,
        ),
        _case(
            "Attention/concat dropout",
            lambda: layers.Attention(score_mode="concat", dropout=0.3, seed=2),
            (3, 4),
            (5, 4),
            packed=True,
            random=True,
        ),
        _case("AdditiveAttention", layers.AdditiveAttention, (3, 4), (5, 4), packed=True),
        _case("MultiHeadAttention", lambda: layers.MultiHeadAttention(2, 3), (4, 5), (4, 5)),
        _case("MultiHeadAttention/cross", lambda: layers.MultiHeadAttention(2, 3), (3, 4), (6, 4)),
        _case(
            "MultiHeadAttention/causal",
            lambda: layers.MultiHeadAttention(2, 3),
            (4, 5),
            (4, 5),
            kwargs={"use_causal_mask": True},
        ),
        _case(
            "MultiHeadAttention/dropout",
            lambda: layers.MultiHeadAttention(2, 3, dropout=0.2, seed=4),
            (4, 5),
            (4, 5),
            random=True,
        ),
        _case(
            "MultiHeadAttention/scores",
            lambda: layers.MultiHeadAttention(2, 3),
            (4, 5),
            (4, 5),
            kwargs={"return_attention_scores": True},
        ),
        _case("MultiHeadAttention/wide", lambda: layers.MultiHeadAttention(3, 4), (10, 9), (10, 9)),
        _case(
            "MultiHeadAttention/masked",
            lambda: keras.Model(
                x := keras.Input((5, 3)),
                layers.MultiHeadAttention(2, 3)(m := layers.Masking()(x), m),
            ),
            _padded,
        ),
        _case("GroupQueryAttention", lambda: layers.GroupQueryAttention(3, 4, 2), (4, 5), (4, 5)),
    ]


def _models() -> list[Case]:
    def shared() -> Any:
        x = keras.Input((6,))
        dense = layers.Dense(6, activation="tanh")
        return keras.Model(x, dense(dense(x) + x))

    def nested() -> Any:
        x = keras.Input((4, 4, 2))
        inner = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(3, 3), layers.ReLU()])
        return keras.Model(x, layers.Flatten()(inner(x)))

    def mixed(dtype: str) -> Callable[[], Any]:
        return lambda: layers.Dense(6, activation="tanh", dtype=f"mixed_{dtype}")

    return [
        _case("model/shared", shared, (6,)),
        _case("model/nested", nested, (4, 4, 2)),
        _case("mixed/float16", mixed("float16"), (5,), close=5e-3),
        _case("mixed/bfloat16", mixed("bfloat16"), (5,), close=4e-2),
        _case(
            "mixed/float16 conv",
            lambda: layers.Conv2D(4, 3, padding="same", activation="relu", dtype="mixed_float16"),
            (5, 5, 3),
            close=5e-3,
        ),
        _case(
            "mixed/bfloat16 norm",
            lambda: layers.LayerNormalization(dtype="mixed_bfloat16"),
            (80,),
            close=4e-2,
        ),
        _case(
            "mixed/float64",
            lambda: layers.Dense(6, dtype="float64"),
            (5,),
            backends=("tensorflow", "torch"),
        ),
    ]


def _activations() -> list[Case]:
    outside = {"get", "serialize", "deserialize"}
    names = [n for n in dir(keras.activations) if not n.startswith("_") and n not in outside]
    names.remove("threshold")  # wants arguments that the layer cannot give
    return [
        _case(
            f"Activation/{name}",
            lambda name=name: layers.Activation(getattr(keras.activations, name)),
            (4, 6),
        )
        for name in names
    ]


def _nodes() -> list[Case]:
    index = np.array([2, 0, 2], "int32")
    unary: dict[str, Callable[[Any], Any]] = {
        "reshape": lambda x: ops.reshape(x, (-1, 12)),
        "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
        "transpose batch": lambda x: ops.transpose(x, (1, 0, 2)),
        "softmax": lambda x: ops.softmax(x, axis=-1),
        "getitem": lambda x: x[:, 1:, ::2],
        "take": lambda x: ops.take(x, index, axis=1),
        "take batch": lambda x: ops.take(x, index, axis=0),
        "take along axis": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1),
        "repeat": lambda x: ops.repeat(x, 3, axis=2),
        "tile": lambda x: ops.tile(x, (1, 2, 3)),
        "expand": lambda x: ops.expand_dims(x, 1),
        "squeeze": lambda x: ops.squeeze(x[:, :1], 1),
        "flip": lambda x: ops.flip(x, axis=1),
        "roll": lambda x: ops.roll(x, 1, axis=0),
        "pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 2))),
        "pad reflect": lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 2)), mode="reflect"),
        "moveaxis": lambda x: ops.moveaxis(x, 1, 2),
        "swapaxes": lambda x: ops.swapaxes(x, 1, 2),
        "tril": lambda x: ops.tril(x),
        "triu": lambda x: ops.triu(x, 1),
        "broadcast": lambda x: ops.broadcast_to(x[:, None], (BATCH, 2, 3, 4)),
        "split": lambda x: ops.split(x, 2, axis=2),
        "sum": lambda x: ops.sum(x, axis=1),
        "mean": lambda x: ops.mean(x, axis=(1, 2)),
        "mean batch": lambda x: x - ops.mean(x, axis=0, keepdims=True),
        "max": lambda x: ops.max(x, axis=1),
        "cumsum": lambda x: ops.cumsum(x, axis=1),
        "prod": lambda x: ops.prod(x, axis=2),
        "norm": lambda x: ops.norm(x, axis=-1),
        "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
        "sort": lambda x: ops.sort(x, axis=1),
        "where": lambda x: ops.where(x > 0.0, x, 0.3 * x),
        "abs": lambda x: ops.abs(x),
        "square": lambda x: ops.square(x),
        "sqrt": lambda x: ops.sqrt(ops.square(x) + 1.0),
        "power": lambda x: ops.power(ops.abs(x) + 0.5, 1.7),
        "clip": lambda x: ops.clip(x, -0.5, 0.5),
        "trigonometric": lambda x: ops.sin(x) * ops.cos(x) - ops.arctan(x),
        "exponential": lambda x: ops.log1p(ops.exp(x)) + ops.expm1(x) / 3.0,
        "erf": lambda x: ops.erf(x),
        "scalar": lambda x: 2.0 - x / 3.0,
        "reciprocal": lambda x: 1.0 / (2.0 + ops.tanh(x)),
        "cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
        "threshold": lambda x: ops.threshold(x, 0.2, -1.0),
        "round": lambda x: ops.round(x),
        "argmax": lambda x: ops.argmax(x, axis=-1),
        "one hot": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 4),
        "stop gradient": lambda x: ops.stop_gradient(x),
        "einsum": lambda x: ops.einsum("bij,bkj->bik", x, x),
        "top_k": lambda x: ops.top_k(x, 2)[0],
        "fft": lambda x: ops.rfft(x)[0],
        "glu": lambda x: ops.glu(x),
        "normalize": lambda x: ops.normalize(x, axis=-1),
        "diff": lambda x: ops.diff(x, axis=1),
        "unstack": lambda x: ops.unstack(x, axis=1),
    }
    made = [_node(name, function, (3, 4)) for name, function in unary.items()]
    made += [
        _node("add", lambda x, y: x + y, (3, 4), (3, 4)),
        _node("add broadcast", lambda x, y: x + y, (3, 4), (1, 4)),
        _node("subtract", lambda x, y: x - y, (3, 4), (3, 1)),
        _node("multiply", lambda x, y: x * y, (3, 4), (3, 4)),
        _node("multiply itself", lambda x: x * x, (3, 4)),
        _node("divide", lambda x, y: x / (2.0 + ops.sigmoid(y)), (3, 4), (3, 4)),
        _node("maximum", lambda x, y: ops.maximum(x, y), (3, 4), (3, 4)),
        _node("minimum scalar", lambda x: ops.minimum(x, 0.3), (3, 4)),
        _node("arctan2", lambda x, y: ops.arctan2(x, y), (3, 4), (3, 4)),
        _node("logaddexp", lambda x, y: ops.logaddexp(x, y), (3, 4), (3, 4)),
        _node("matmul", lambda x, y: ops.matmul(x, y), (3, 4), (4, 5)),
        _node("matmul wide", lambda x, y: ops.matmul(x, y), (9, 8), (8, 9)),
        _node("dot samples", lambda x: ops.matmul(x, ops.transpose(x)), (5,)),
        _node("concatenate", lambda x, y: ops.concatenate([x, y], axis=1), (3, 4), (2, 4)),
        _node("stack", lambda x, y: ops.stack([x, y], axis=1), (3, 4), (3, 4)),
        _node("stack batch", lambda x, y: ops.stack([x, y], axis=0), (3, 4), (3, 4)),
        _node("max pool", lambda x: ops.max_pool(x, 2), (4, 4, 2)),
        _node("average pool", lambda x: ops.average_pool(x, 2), (4, 4, 2)),
        _node("gelu exact", lambda x: ops.gelu(x, approximate=False), (3, 4)),
        _node("leaky", lambda x: ops.leaky_relu(x, 0.3), (3, 4)),
        _node("batch normalization", lambda x: (x - ops.mean(x, 0)) / ops.std(x, 0), (4,)),
        _node("image resize", lambda x: ops.image.resize(x, (4, 6)), (3, 4, 2)),
    ]
    return made


def _images() -> list[Case]:
    picture = uniform(8, 8, 3, high=255.0)
    made = []
    configs: dict[str, dict[str, Any]] = {
        # Few steps each: XLA takes a minute for the chains they have by default. The one step of
        # AugMix is drawn by the call's name, and is no projective transform.
        "AugMix": {"num_chains": 1, "chain_depth": 1},
        "AutoContrast": {},
        "ContrastLimitedAdaptiveHistogramEqualization": {"tile_grid_size": (2, 2)},
        "CutMix": {},
        # On JAX it counts its bins one by one, for each channel, and XLA compiles each count.
        "Equalization": {"bins": FEW_BINS},
        "MixUp": {},
        "RandomBrightness": {"factor": 0.2},
        "RandomColorDegeneration": {"factor": 0.5},
        "RandomColorJitter": {"brightness_factor": 0.2, "contrast_factor": 0.2},
        "RandomContrast": {"factor": 0.2},
        "RandomCrop": {"height": 6, "width": 6},
        "RandomElasticTransform": {},
        "RandomErasing": {},
        "RandomFlip": {},
        "RandomGaussianBlur": {},
        "RandomGrayscale": {},
        "RandomHue": {"factor": 0.2},
        "RandomInvert": {},
        "RandomPerspective": {},
        "RandomPosterization": {"factor": 4},
        "RandomRotation": {"factor": 0.1},
        "RandomSaturation": {"factor": 0.5},
        "RandomSharpness": {"factor": 0.5},
        "RandomShear": {"x_factor": 0.2, "y_factor": 0.1},
        "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
        "RandomZoom": {"height_factor": 0.1},
        "Solarization": {},
    }
    for kind, config in configs.items():
        layer = getattr(layers, kind)
        seeded = {} if kind in _SEEDLESS else {"seed": 3}
        inputs: tuple[Any, ...] = (picture,)
        if kind in ("CutMix", "MixUp"):
            continue
        # What TensorFlow propagates through a projective transform is the inverse one.
        skipped, skipped_on = (NOT_ADJOINT, ["tensorflow"]) if kind in _PROJECTED else ("", [])
        if kind in _UNTRACED:
            skipped, skipped_on = "no derivative", ["jax"]
        made.append(
            _case(
                kind,
                lambda layer=layer, config={**config, **seeded}: layer(**config),
                *inputs,
                random=True,
                close=2e-3,
                skipped=skipped,
                skipped_on=tuple(skipped_on),
            )
        )
    made += [
        _case("RandAugment", _rand_augment, picture, random=True, close=2e-3),
        _case("CutMix", lambda: Labelled(layers.CutMix(seed=3)), picture, random=True),
        _case("MixUp", lambda: Labelled(layers.MixUp(seed=3)), picture, random=True),
        _case(
            "MelSpectrogram",
            lambda: layers.MelSpectrogram(
                fft_length=16, sequence_stride=8, num_mel_bins=4, sampling_rate=800
            ),
            (40,),
            close=2e-3,
        ),
        _case(
            "STFTSpectrogram",
            lambda: layers.STFTSpectrogram(frame_length=16, frame_step=8, mode="magnitude"),
            (40, 1),
        ),
        _case(
            "MaxNumBoundingBoxes", lambda: layers.MaxNumBoundingBoxes(2), uniform(3, 4), skipped=""
        ),
    ]
    return made


def _rand_augment() -> Any:
    """One operation of the eleven, all of which are computed; its Equalization with few bins."""
    layer = layers.RandAugment(num_ops=1, seed=3)
    layer.equalization.bins = FEW_BINS
    return layer


#: Bins of a histogram, where the layer would have 256.
FEW_BINS = 8
#: Part of the reason where J and Jᵀ are not of one matrix.
NOT_ADJOINT = "do not belong together"
_PROJECTED = frozenset(
    {
        "RandomPerspective",
        "RandomRotation",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
    }
)
#: Their shapes depend on values on JAX, which traces none such.
_UNTRACED = frozenset({"RandomCrop", "RandomElasticTransform"})
_SEEDLESS = frozenset(
    {"AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization"}
)


class Labelled(layers.Layer):
    """An augmentation of images with their labels, of which the image goes on."""

    def __init__(self, augmentation: Any) -> None:
        super().__init__()
        self.augmentation = augmentation

    def build(self, *_: Any) -> None:
        """There is nothing to build."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        labels = ops.one_hot(ops.arange(BATCH), 4)
        given = {"images": x, "labels": labels}
        return self.augmentation(given, training=training)["images"]


def _lookups() -> list[Case]:
    tensorflow = ("tensorflow",)
    return [
        _case(
            "CategoryEncoding",
            lambda: layers.CategoryEncoding(4, output_mode="one_hot"),
            integers(4, 1),
            skipped="no floating",
        ),
        _case(
            "CategoryEncoding/weights",
            WeightedCount,
            integers(4, 3),
            uniform(3),
            skipped="DenseBincount",
            skipped_on=tensorflow,
        ),
        _case(
            "Discretization",
            lambda: layers.Discretization([-1.0, 0.0, 1.0]),
            (4,),
            skipped="no floating",
        ),
        _case(
            "Discretization/one hot",
            lambda: layers.Discretization([0.0], output_mode="one_hot"),
            (1,),
        ),
        _case(
            "Hashing",
            lambda: layers.Hashing(5),
            integers(9, 2),
            skipped="no floating",
            backends=tensorflow,
        ),
        _case(
            "HashedCrossing",
            lambda: layers.HashedCrossing(5),
            integers(9, 1),
            integers(9, 1),
            packed=True,
            skipped="no floating",
            backends=tensorflow,
        ),
        _case(
            "IntegerLookup",
            lambda: layers.IntegerLookup(vocabulary=[1, 2, 3]),
            integers(5, 2),
            skipped="no floating",
            backends=tensorflow,
        ),
        _case(
            "StringLookup",
            lambda: layers.StringLookup(vocabulary=["a", "b"]),
            _words,
            skipped="no floating",
            backends=tensorflow,
        ),
        _case(
            "TextVectorization",
            lambda: layers.TextVectorization(vocabulary=["a", "b"]),
            _words,
            skipped="no floating",
            backends=tensorflow,
        ),
    ]


def _foreign() -> list[Case]:
    def jax_layer() -> Any:
        import jax.numpy as jnp

        return layers.JaxLayer(
            lambda params, inputs: jnp.tanh(inputs @ params["w"]),
            params={"w": np.ones((4, 3), "float32")},
        )

    def torch_module() -> Any:
        import torch

        return layers.TorchModuleWrapper(
            torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
        )

    def saved_model() -> Any:
        import tempfile

        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh")])
        folder = tempfile.mkdtemp()
        model.export(folder, verbose=False)
        return layers.TFSMLayer(folder, call_endpoint="serve")

    return [
        _case("JaxLayer", jax_layer, (4,), backends=("jax",)),
        _case("TorchModuleWrapper", torch_module, (4,), backends=("torch",)),
        _case("TFSMLayer", saved_model, (4,), backends=("tensorflow",), random=True),
    ]


CASES: tuple[Case, ...] = (
    *_core(),
    *_convolutions(),
    *_pooling(),
    *_shapes(),
    *_merges(),
    *_normalizations(),
    *_regularizers(),
    *_recurrent(),
    *_attention(),
    *_models(),
    *_activations(),
    *_nodes(),
    *_images(),
    *_lookups(),
    *_foreign(),
)

#: Kinds of which each case is another function or trap, with how many to keep of them.
_MANY = {"Activation": 8, "ops": 24, "custom": 9, "mixed": 5}


def of_each(kind: int) -> tuple[Case, ...]:
    """A part of the cases: of every class up to so many, spread over its configurations.

    Those of which only some backends are capable stay beside one that all are.
    """
    by_kind: dict[tuple[str, bool], list[Case]] = {}
    for case in CASES:
        by_kind.setdefault((case.name.split("/")[0], case.backends == ALL), []).append(case)
    kept: list[Case] = []
    for (name, _), cases in by_kind.items():
        count = min(_MANY.get(name, kind), len(cases))
        kept += [cases[index * len(cases) // count] for index in range(count)]
    return tuple(kept)
