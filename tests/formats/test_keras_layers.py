"""Tables: every class of Keras has its operator; weights, fans, initializers, activations."""

import inspect
import json
from typing import Any

import keras
import pytest

from auditor.formats.keras_activation import activation_of, layer_activation
from auditor.formats.keras_compile import compile_settings, optimizer_settings
from auditor.formats.keras_fans import FanRule, einsum_axes
from auditor.formats.keras_identity import compute_dtype, identify
from auditor.formats.keras_initializer import initializer_of
from auditor.formats.keras_layers import LAYERS, OPAQUE_LAYERS, WRAPPERS
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_operations import OPERATION_ACTIVATIONS, operation
from auditor.formats.keras_shapes import infer
from auditor.formats.known_names import KERAS_FUNCTION_NAMES
from auditor.graph.operators import ACTIVATIONS, Op


def test_every_class_of_keras_layers_is_in_the_table() -> None:
    classes = {name for name, value in vars(keras.layers).items() if inspect.isclass(value)}
    unknown = classes - set(LAYERS) - set(OPAQUE_LAYERS) - set(WRAPPERS)
    assert unknown == {"InputSpec", "Layer"}


def test_activation_names_are_those_of_the_graph() -> None:
    assert set(OPERATION_ACTIVATIONS.values()) <= ACTIVATIONS
    for name in ACTIVATIONS - {"prelu"}:
        assert activation_of(name).name == name
        assert activation_of(name).note == ""


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, None),
        ("linear", None),
        ("swish", "silu"),
        ({"class_name": "LeakyReLU", "config": {}}, "leaky_relu"),
        ({"class_name": "ReLU", "config": {"max_value": 6.0}}, "relu6"),
        ({"class_name": "function", "config": "gelu", "module": "builtins"}, "gelu"),
        ({"class_name": "Activation", "config": {"activation": "tanh"}}, "tanh"),
        ({"class_name": "function", "config": "mine"}, "mine"),
        ([], None),
    ],
)
def test_forms_of_activations(value: object, name: str | None) -> None:
    assert activation_of(value).name == name


def test_relu_layers() -> None:
    assert layer_activation("ReLU", {}).name == "relu"
    assert layer_activation("ReLU", {"negative_slope": 0.2}).name == "leaky_relu"
    assert layer_activation("ReLU", {"threshold": 1.0}).name == "threshold"
    assert layer_activation("ReLU", {"max_value": 3}).note == "a ReLU cut off at 3"


@pytest.mark.parametrize(
    ("value", "name", "setting"),
    [
        ("he_normal", "he_normal", {}),
        ("zero", "zeros", {}),
        ({"class_name": "GlorotUniform", "config": {"seed": 1}}, "glorot_uniform", {"seed": 1}),
        (
            {"class_name": "RandomNormal", "config": {"stddev": 0.2}},
            "random_normal",
            {"stddev": 0.2},
        ),
        ({"class_name": "RandomNormal", "config": {"stddev": 2}}, "random_normal", {"stddev": 2}),
        ({"class_name": "VarianceScaling", "config": {"scale": 2.0}}, "variance_scaling",
         {"scale": 2.0, "mode": "fan_in"}),
        ({"class_name": "pkg>Mine", "config": {}}, "mine", {}),
    ],
)  # fmt: skip
def test_forms_of_initializers(value: object, name: str, setting: dict[str, Any]) -> None:
    initializer = initializer_of(value)
    assert initializer is not None
    assert initializer.name == name
    assert setting.items() <= initializer.config.items()


def test_random_normal_defaults_are_those_of_keras() -> None:
    for name in ("random_normal", "truncated_normal", "random_uniform", "variance_scaling"):
        own = keras.initializers.get(name).get_config()
        read = initializer_of(name)
        assert read is not None
        assert {key: own[key] for key in read.config} == read.config


@pytest.mark.parametrize(
    ("rule", "shape", "expected"),
    [
        (FanRule(kind="dense"), (8, 3), (8, 3, (1,))),
        (FanRule(kind="conv"), (3, 3, 8, 16), (72, 144, (3,))),
        (FanRule(kind="conv", groups=2), (3, 3, 4, 16), (36, 72, (3,))),
        (FanRule(kind="conv-transpose", strides=4), (2, 2, 16, 8), (8, 64, (2,))),
        (FanRule(kind="depthwise"), (3, 3, 8, 2), (9, 18, (2, 3))),
        (FanRule(kind="embedding"), (100, 16), (1, 16, (1,))),
        (FanRule(kind="axes", inward=(0, 1), outward=(2,)), (2, 3, 5), (6, 5, (2,))),
        (FanRule(kind="axes", inward=(0,), outward=(4,)), (2, 3), (None, None, ())),
        (FanRule(kind="dense"), (3,), (None, None, ())),
        (FanRule(), (3, 3), (None, None, ())),
    ],
)
def test_fans(rule: FanRule, shape: tuple[int, ...], expected: tuple[Any, ...]) -> None:
    fans = rule.fans(shape)
    assert (fans.fan_in, fans.fan_out, fans.unit_axes) == expected


def test_einsum_axes() -> None:
    assert einsum_axes("abc,cde->abde") == ((0,), (1, 2))
    assert einsum_axes("...x,xy->...y") == ((0,), (1,))
    assert einsum_axes("nonsense") is None


def test_constants_make_a_scale_of_a_product() -> None:
    assert operation("Multiply", (True, True))[0] is Op.MULTIPLY
    assert operation("Multiply", (True, False))[0] is Op.SCALE
    assert operation("Divide", (True, False))[0] is Op.SCALE
    assert operation("Divide", (False, True))[0] is Op.ELEMENTWISE
    assert operation("Unheard", (True,))[0] is Op.OPAQUE


@pytest.mark.parametrize("spelled", ["adam", "SGD", "RMSprop", "AdamW"])
def test_optimizers_by_name_have_the_rates_of_keras(spelled: str) -> None:
    settings = optimizer_settings(spelled)
    assert settings is not None
    own = keras.optimizers.get(spelled)
    assert settings.name == type(own).__name__.lower()
    assert settings.learning_rate == pytest.approx(float(own.learning_rate), rel=1e-6)


def test_schedules_and_scaled_losses() -> None:
    rate = {"class_name": "CosineDecay", "config": {"initial_learning_rate": 0.3, "alpha": 0.1}}
    inner = {"class_name": "Adam", "config": {"learning_rate": rate}}
    outer = {"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner}}
    settings = compile_settings({"optimizer": outer, "loss": {"class_name": "BinaryCrossentropy",
        "config": {"from_logits": True}}})  # fmt: skip
    assert settings is not None
    assert settings.optimizer is not None
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("adam", 0.3)
    assert (optimizer.schedule, optimizer.schedule_config["alpha"]) == ("CosineDecay", 0.1)
    assert settings.losses[0].from_logits


def test_every_loss_of_keras_is_known() -> None:
    from keras.src import losses

    skipped = {"Loss", "LossFunctionWrapper"}
    for name in set(losses.ALL_OBJECTS_DICT) - skipped:
        settings = compile_settings({"loss": name})
        assert settings is not None
        assert not settings.losses[0].custom, name


def test_function_names_that_keras_writes_are_known() -> None:
    from keras.src import activations, initializers, losses

    for table in (activations.ALL_OBJECTS_DICT, losses.ALL_OBJECTS_DICT):
        names = {name for name, value in table.items() if inspect.isfunction(value)}
        assert names <= KERAS_FUNCTION_NAMES
    assert "glorot_uniform" in initializers.ALL_OBJECTS_DICT


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        ("float32", "float32"),
        ("mixed_float16", "float16"),
        ({"class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}, "bfloat16"),
        (
            {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}},
            "float32",
        ),
        (None, "int32"),
    ],
)
def test_dtype_policies(dtype: object, computed: str) -> None:
    layer = LayerConfig(name="x", kind="Dense", config={"dtype": dtype})
    assert compute_dtype(layer, "int32") == computed


SHAPES: list[tuple[Any, tuple[int, ...]]] = [
    (keras.layers.Conv1D(2, 3, padding="causal", dilation_rate=2), (8, 1)),
    (keras.layers.Conv2D(4, 3, strides=2, groups=2), (9, 8, 4)),
    (keras.layers.Conv3D(2, 3, dilation_rate=2), (8, 8, 8, 1)),
    (keras.layers.Conv2D(2, 3), (None, None, 1)),
    (keras.layers.Conv1DTranspose(2, 2, strides=3), (4, 1)),
    (keras.layers.Conv2DTranspose(2, 3, strides=2, output_padding=1), (8, 8, 1)),
    (keras.layers.Conv2DTranspose(2, 5, strides=2, padding="same"), (8, 7, 1)),
    (keras.layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), (7, 8, 3)),
    (keras.layers.SeparableConv1D(4, 3), (8, 3)),
    (keras.layers.MaxPooling2D(3, strides=2), (8, 9, 2)),
    (keras.layers.AveragePooling1D(2, strides=1, padding="same"), (4, 3)),
    (keras.layers.AdaptiveAveragePooling2D((2, 3)), (7, 7, 3)),
    (keras.layers.GlobalAveragePooling1D(keepdims=True), (4, 3)),
    (keras.layers.GlobalMaxPooling3D(), (4, 4, 4, 3)),
    (keras.layers.ZeroPadding2D(((1, 2), (0, 3))), (8, 8, 4)),
    (keras.layers.Cropping1D((1, 2)), (8, 4)),
    (keras.layers.UpSampling3D((1, 2, 3)), (4, 4, 4, 3)),
    (keras.layers.Resizing(4, 5), (8, 8, 3)),
    (keras.layers.Flatten(), (4, None)),
    (keras.layers.Reshape((-1, 2)), (4, 3)),
    (keras.layers.Permute((2, 1)), (8, 4)),
    (keras.layers.RepeatVector(3), (8,)),
    (keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 6)), (4, 3)),
    (keras.layers.EinsumDense("...x,xy->...y", output_shape=7), (4, 3)),
    (keras.layers.Embedding(10, 3), (5,)),
    (keras.layers.LSTM(4, return_sequences=True), (5, 3)),
    (keras.layers.Bidirectional(keras.layers.GRU(4), merge_mode="sum"), (5, 3)),
    (keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True)), (5, 3)),
    (keras.layers.ConvLSTM2D(4, 3, return_sequences=True), (5, 8, 8, 3)),
    (keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)]), (5, 3)),
    (keras.layers.TimeDistributed(keras.layers.Conv2D(3, 3)), (5, 8, 8, 3)),
    (keras.layers.CategoryEncoding(5, "one_hot"), (1,)),
    (keras.layers.LayerNormalization(), (4, 3)),
    (keras.layers.Softmax(), (4, 3)),
]


@pytest.mark.parametrize(("own", "size"), SHAPES, ids=lambda value: getattr(value, "name", None))
def test_inferred_shapes_are_those_of_keras(own: Any, size: tuple[int, ...]) -> None:
    entry = keras.Input(size)
    expected = tuple(own(entry).shape)
    # Through JSON, as a file would have it: tuples become lists.
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(own)))["config"]
    layer = LayerConfig(name="x", kind=type(own).__name__, config=config)
    assert infer(layer, identify(layer).op, ((None, *size),), None) == (expected,)


@pytest.mark.parametrize(
    ("own", "sizes"),
    [
        (keras.layers.Add(), [(4, 1), (4, 3)]),
        (keras.layers.Concatenate(axis=1), [(4, 3), (5, 3)]),
        (keras.layers.Dot(axes=(1, 1)), [(4, 3), (4, 5)]),
        (keras.layers.Dot(axes=1), [(4,), (4,)]),
        (keras.layers.Attention(), [(4, 3), (5, 3)]),
    ],
)
def test_inferred_shapes_of_merges(own: Any, sizes: list[tuple[int, ...]]) -> None:
    expected = tuple(own([keras.Input(size) for size in sizes]).shape)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(own)))["config"]
    shapes = tuple((None, *size) for size in sizes)
    layer = LayerConfig(name="x", kind=type(own).__name__, config=config)
    assert infer(layer, Op.ADD, shapes, None) == (expected,)
