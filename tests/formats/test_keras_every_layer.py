"""Every class of keras.layers, alone in a model that Keras saves: what is read is what Keras has.

A layer stands last here, where no file records what it gives, so that shapes are inferred.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from keras_comparison import differences, randomize

from auditor.formats.keras_layers import OPAQUE_LAYERS
from auditor.formats.read import read_model
from auditor.graph.layer_graph import LayerCall
from auditor.graph.operators import KERNEL_OPS, Op

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

VECTOR, STEPS, IMAGE, VOLUME = (6,), (6, 4), (12, 10, 4), (6, 7, 8, 2)
FRAMES = (3, 8, 8, 2)
TOKENS = ((5,), "int32")
WORDS = ((1,), "string")
#: What no file tells: abstract classes, and classes that stand in other layers only.
ABSTRACT = {"InputSpec", "Layer", "Wrapper"}
#: Layers that compute what no file says; their cases are in test_keras_opaque.py.
UNTOLD = set(OPAQUE_LAYERS)


@dataclass(frozen=True)
class Case:
    """One layer and what goes in: shapes without batch, or (shape, dtype)."""

    make: Callable[[], Any]
    inputs: tuple[Any, ...]

    @property
    def name(self) -> str:
        return type(self.make()).__name__


def case(make: Callable[[], Any], *inputs: Any) -> Case:
    return Case(make, inputs)


def by_rank(stem: str, *settings: dict[str, Any], suffix: str = "") -> Iterator[Case]:
    """A layer for sequences, images and volumes, where Keras has all three."""
    for rank, given in ((1, STEPS), (2, IMAGE), (3, VOLUME)):
        cls = getattr(layers, f"{stem}{rank}D{suffix}", None)
        for setting in settings or ({},):
            if cls is not None:
                yield Case(lambda cls=cls, s=setting: cls(**s), (given,))  # type: ignore[misc]


def augmentations() -> Iterator[Case]:
    simple = (
        "AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization "
        "RandAugment RandomColorJitter RandomElasticTransform RandomErasing RandomFlip "
        "RandomGaussianBlur RandomGrayscale RandomInvert RandomPerspective RandomShear Solarization"
    )
    of_factor = (
        "RandomBrightness RandomColorDegeneration RandomContrast RandomHue RandomRotation "
        "RandomSaturation RandomSharpness RandomZoom"
    )
    image = (16, 16, 3)
    for name in simple.split():
        yield Case(lambda name=name: getattr(layers, name)(), (image,))  # type: ignore[misc]
    for name in of_factor.split():
        yield Case(lambda name=name: getattr(layers, name)(0.2), (image,))  # type: ignore[misc]
    yield case(lambda: layers.RandomPosterization(4), image)
    yield case(lambda: layers.RandomTranslation(0.1, 0.2), image)
    yield case(lambda: layers.RandomCrop(8, 7), image)
    yield case(lambda: layers.CenterCrop(8, 7), image)
    yield case(lambda: layers.Resizing(20, 8), image)
    labelled = {"images": image, "labels": (5,)}
    yield case(lambda: layers.CutMix(), labelled)
    yield case(lambda: layers.MixUp(), labelled)
    boxes = {"boxes": (7, 4), "labels": (7,)}
    yield case(lambda: layers.MaxNumBoundingBoxes(3), {"images": image, "bounding_boxes": boxes})
    yield case(lambda: layers.Pipeline([layers.RandomFlip(), layers.Resizing(4, 5)]), image)


def convolutions() -> Iterator[Case]:
    for stem in ("Conv", "SeparableConv"):
        yield from by_rank(
            stem,
            {"filters": 5, "kernel_size": 3, "activation": "relu"},
            {"filters": 6, "kernel_size": 2, "strides": 2, "padding": "same", "use_bias": False},
            {"filters": 4, "kernel_size": 2, "dilation_rate": 2},
        )
    yield from by_rank(
        "DepthwiseConv",
        {"kernel_size": 3, "depth_multiplier": 2, "activation": "silu"},
        {"kernel_size": 2, "strides": 2, "padding": "same", "use_bias": False},
    )
    yield from by_rank(
        "Conv",
        {"filters": 5, "kernel_size": 3, "strides": 2},
        {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
        {"filters": 5, "kernel_size": 2, "strides": 3},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
        suffix="Transpose",
    )
    yield case(lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), STEPS)
    yield case(lambda: layers.Conv2D(4, 3, groups=2), IMAGE)
    yield case(lambda: layers.Conv2D(4, (3, 1), kernel_regularizer="l2"), (None, None, 4))
    yield case(lambda: layers.Conv2D(6, 3, data_format="channels_first"), (4, 12, 10))
    yield case(lambda: layers.Conv2D(6, 3), (2, 12, 10, 4)[1:])


def recurrent() -> Iterator[Case]:
    for cls in (layers.SimpleRNN, layers.LSTM, layers.GRU):
        yield Case(lambda cls=cls: cls(3), (STEPS,))  # type: ignore[misc]
        yield Case(
            lambda cls=cls: cls(  # type: ignore[misc]
                3, return_sequences=True, return_state=True, use_bias=False, activation="relu"
            ),
            (STEPS,),
        )
    yield case(lambda: layers.GRU(3, reset_after=False, go_backwards=True), STEPS)
    yield case(lambda: layers.RNN(layers.LSTMCell(3, activation="relu"), unroll=True), STEPS)
    yield case(lambda: layers.RNN(layers.SimpleRNNCell(3), return_state=True), STEPS)
    yield case(lambda: layers.RNN([layers.GRUCell(3), layers.GRUCell(2)]), STEPS)
    yield case(
        lambda: layers.RNN(
            layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(2)]),
            return_sequences=True,
            return_state=True,
        ),
        STEPS,
    )
    for rank, given in ((1, (3, 8, 2)), (2, FRAMES), (3, (2, 4, 4, 4, 1))):
        cls = getattr(layers, f"ConvLSTM{rank}D")
        yield Case(lambda cls=cls: cls(3, 3, padding="same"), (given,))  # type: ignore[misc]
    yield case(lambda: layers.ConvLSTM2D(3, 2, return_sequences=True, return_state=True), FRAMES)
    for mode in ("concat", "sum", "ave", None):
        yield case(lambda mode=mode: layers.Bidirectional(layers.GRU(3), mode), STEPS)  # type: ignore[misc]
    yield case(
        lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True, return_state=True)),
        STEPS,
    )
    yield case(
        lambda: layers.Bidirectional(
            layers.LSTM(3, return_sequences=True),
            backward_layer=layers.GRU(5, return_sequences=True, go_backwards=True),
        ),
        STEPS,
    )
    yield case(
        lambda: layers.Bidirectional(layers.RNN([layers.LSTMCell(3), layers.LSTMCell(2)])), STEPS
    )


def wrappers() -> Iterator[Case]:
    yield case(lambda: layers.TimeDistributed(layers.Dense(3, activation="tanh")), STEPS)
    yield case(lambda: layers.TimeDistributed(layers.Conv2D(3, 3, use_bias=False)), FRAMES)
    yield case(lambda: layers.TimeDistributed(layers.BatchNormalization()), STEPS)
    yield case(lambda: layers.TimeDistributed(encoder()), FRAMES)
    yield case(lambda: layers.TimeDistributed(functional_encoder()), FRAMES)
    yield case(lambda: layers.TimeDistributed(layers.TimeDistributed(layers.Dense(3))), (2, *STEPS))
    yield case(lambda: layers.TimeDistributed(layers.Bidirectional(layers.LSTM(3))), (2, *STEPS))
    yield case(lambda: layers.Bidirectional(layers.GRU(3), name="both"), STEPS)
    yield case(lambda: layers.SpectralNormalization(layers.Dense(3)), VECTOR)
    yield case(lambda: layers.SpectralNormalization(layers.Conv2D(3, 3, use_bias=False)), IMAGE)
    yield case(lambda: layers.SpectralNormalization(layers.Embedding(9, 3)), TOKENS)


def encoder() -> keras.Model:
    entries = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]
    return keras.Sequential([keras.Input(FRAMES[1:]), *entries])


def functional_encoder() -> keras.Model:
    entry = keras.Input(FRAMES[1:])
    x = layers.Conv2D(2, 3, padding="same", name="conv")(entry)
    x = layers.Add()([x, entry])
    x = layers.BatchNormalization()(x)
    return keras.Model(entry, layers.GlobalAveragePooling2D()(x))


def attention() -> Iterator[Case]:
    yield case(lambda: layers.MultiHeadAttention(2, 3), STEPS, STEPS)
    yield case(lambda: layers.MultiHeadAttention(2, 3, value_dim=5, use_bias=False), STEPS, STEPS)
    yield case(lambda: layers.MultiHeadAttention(2, 3, output_shape=7), STEPS, (9, 5), (9, 5))
    yield case(lambda: layers.MultiHeadAttention(2, 3, use_gate=True), STEPS, STEPS)
    yield case(lambda: layers.MultiHeadAttention(2, 3, attention_axes=(1, 2)), IMAGE, IMAGE)
    yield case(lambda: layers.GroupQueryAttention(3, 4, 2), STEPS, STEPS)
    yield case(lambda: layers.GroupQueryAttention(3, 4, 2, use_gate=True), STEPS, STEPS)
    yield case(lambda: layers.GroupQueryAttention(3, 4, 4, use_bias=False), STEPS, (9, 4), (9, 4))


def merges() -> Iterator[Case]:
    for cls in (
        layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum
    ):  # fmt: skip
        yield Case(lambda cls=cls: cls(), ((STEPS, STEPS),))  # type: ignore[misc]
    yield case(lambda: layers.Add(), (STEPS, (6, 1), (1, 4)))
    yield case(lambda: layers.Concatenate(axis=1), (STEPS, (3, 4)))
    yield case(lambda: layers.Concatenate(), (IMAGE, (12, 10, 3), (12, 10, 1)))
    yield case(lambda: layers.Dot(axes=1), (VECTOR, VECTOR))
    yield case(lambda: layers.Dot(axes=(2, 1), normalize=True), (STEPS, (4, 3)))
    yield case(lambda: layers.Attention(use_scale=True, score_mode="concat"), (STEPS, (9, 4)))
    yield case(lambda: layers.Attention(), (STEPS, (9, 5), (9, 4)))
    yield case(lambda: layers.AdditiveAttention(), (STEPS, (9, 4)))
    yield case(lambda: layers.AdditiveAttention(use_scale=False), (STEPS, (9, 4)))
    yield case(lambda: layers.HashedCrossing(7), (WORDS, WORDS))
    yield case(lambda: layers.HashedCrossing(7, output_mode="one_hot"), (WORDS, WORDS))


def preprocessing() -> Iterator[Case]:
    for mode in ("int", "one_hot", "multi_hot", "count"):
        yield case(lambda m=mode: layers.Discretization([0.0, 1.0], output_mode=m), (3,))  # type: ignore[misc]
        yield case(lambda m=mode: layers.Hashing(7, output_mode=m), WORDS)  # type: ignore[misc]
        yield case(lambda m=mode: layers.StringLookup(vocabulary=["a", "b"], output_mode=m), WORDS)  # type: ignore[misc]
        yield case(
            lambda m=mode: layers.IntegerLookup(vocabulary=[4, 5, 6], output_mode=m),  # type: ignore[misc]
            ((3,), "int64"),
        )
    yield case(lambda: layers.Discretization([0.0, 1.0], output_mode="one_hot"), (1,))
    yield case(lambda: layers.Discretization([0.0, 1.0], output_mode="one_hot"), (2, 3))
    yield case(lambda: layers.StringLookup(vocabulary=["a", "b"], invert=True), ((3,), "int64"))
    yield case(
        lambda: layers.StringLookup(
            vocabulary=["a", "b"], output_mode="multi_hot", max_tokens=9, pad_to_max_tokens=True
        ),
        WORDS,
    )
    yield case(
        lambda: layers.StringLookup(
            vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[0.5, 0.7]
        ),
        WORDS,
    )
    for mode in ("one_hot", "multi_hot", "count"):
        yield case(lambda m=mode: layers.CategoryEncoding(5, output_mode=m), ((3,), "int32"))  # type: ignore[misc]
        yield case(lambda m=mode: layers.CategoryEncoding(5, output_mode=m), ((1,), "int32"))  # type: ignore[misc]
    vocabulary = ["one", "two", "three"]
    yield case(lambda: layers.TextVectorization(vocabulary=vocabulary), WORDS)
    yield case(
        lambda: layers.TextVectorization(output_sequence_length=7, vocabulary=vocabulary), WORDS
    )
    for mode in ("multi_hot", "count"):
        yield case(
            lambda m=mode: layers.TextVectorization(output_mode=m, vocabulary=vocabulary),  # type: ignore[misc]
            WORDS,
        )
    yield case(
        lambda: layers.TextVectorization(
            output_mode="multi_hot", max_tokens=11, pad_to_max_tokens=True, vocabulary=vocabulary
        ),
        WORDS,
    )
    yield case(lambda: layers.MelSpectrogram(fft_length=64, sequence_stride=16), (400,))
    yield case(lambda: layers.MelSpectrogram(num_mel_bins=12, sequence_length=256), (4000,))
    yield case(lambda: layers.STFTSpectrogram(frame_length=32, frame_step=8), (200, 1))
    yield case(lambda: layers.STFTSpectrogram("real", 32, 8, padding="same"), (200, 2))
    yield case(
        lambda: layers.STFTSpectrogram("stft", 32, fft_length=64, expand_dims=True), (200, 1)
    )
    yield case(lambda: layers.Normalization(mean=[1.0] * 4, variance=[2.0] * 4), STEPS)
    yield case(adapted_normalization, STEPS)
    yield case(lambda: layers.Rescaling(1 / 255, offset=-1), IMAGE)


def adapted_normalization() -> Any:
    layer = layers.Normalization()
    layer.build((None, *STEPS))
    return layer


def plain() -> Iterator[Case]:
    yield case(lambda: layers.Dense(3, activation="gelu", kernel_initializer="he_normal"), VECTOR)
    yield case(lambda: layers.Dense(3, use_bias=False), STEPS)
    yield case(lambda: layers.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d"), STEPS)
    yield case(lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), activation="tanh"), STEPS)
    yield case(lambda: layers.EinsumDense("...x,xy->...y", 7, bias_axes="y"), STEPS)
    yield case(lambda: layers.Embedding(11, 3, mask_zero=True), TOKENS)
    yield case(lambda: layers.ReversibleEmbedding(11, 3), TOKENS)
    yield case(lambda: layers.ReversibleEmbedding(11, 3, tie_weights=False), TOKENS)
    for name in ("relu", "softmax", "linear", "gelu", "hard_swish", "log_softmax"):
        yield case(lambda name=name: layers.Activation(name), STEPS)  # type: ignore[misc]
    yield case(lambda: layers.ReLU(6.0, 0.1), IMAGE)
    yield case(lambda: layers.LeakyReLU(0.3), IMAGE)
    yield case(lambda: layers.ELU(0.5), VECTOR)
    yield case(lambda: layers.PReLU(shared_axes=[1, 2]), IMAGE)
    yield case(lambda: layers.PReLU(), VECTOR)
    yield case(lambda: layers.Softmax(axis=1), STEPS)
    yield case(lambda: layers.Identity(), STEPS)
    yield case(lambda: layers.BatchNormalization(), IMAGE)
    yield case(lambda: layers.BatchNormalization(axis=1, scale=False, center=False), IMAGE)
    yield case(lambda: layers.LayerNormalization(), STEPS)
    yield case(lambda: layers.LayerNormalization(axis=(1, 2), center=False), STEPS)
    yield case(lambda: layers.RMSNormalization(), STEPS)
    yield case(lambda: layers.GroupNormalization(2, center=False), IMAGE)
    yield case(lambda: layers.GroupNormalization(-1), IMAGE)
    yield case(lambda: layers.UnitNormalization(), STEPS)
    yield case(lambda: layers.Dropout(0.2), STEPS)
    yield case(lambda: layers.AlphaDropout(0.2), STEPS)
    yield case(lambda: layers.GaussianDropout(0.2), STEPS)
    yield case(lambda: layers.GaussianNoise(0.2), STEPS)
    yield case(lambda: layers.ActivityRegularization(0.1, 0.2), STEPS)
    yield from by_rank("SpatialDropout", {"rate": 0.2})
    yield case(lambda: layers.Flatten(), IMAGE)
    yield case(lambda: layers.Flatten(data_format="channels_first"), IMAGE)
    yield case(lambda: layers.Flatten(), ())
    yield case(lambda: layers.Flatten(), (None, 3))
    yield case(lambda: layers.Reshape((-1, 5)), IMAGE)
    yield case(lambda: layers.Reshape((2, 12)), STEPS)
    yield case(lambda: layers.Permute((3, 1, 2)), IMAGE)
    yield case(lambda: layers.RepeatVector(4), VECTOR)
    yield case(lambda: layers.Masking(), STEPS)


def resizing() -> Iterator[Case]:
    yield from by_rank("MaxPooling", {})
    for stem in ("MaxPooling", "AveragePooling"):
        yield from by_rank(
            stem,
            {"pool_size": 2},
            {"pool_size": 3, "strides": 2, "padding": "same"},
            {"pool_size": 2, "strides": 1},
        )
    for stem in ("GlobalMaxPooling", "GlobalAveragePooling"):
        yield from by_rank(stem, {}, {"keepdims": True})
    for stem in ("AdaptiveMaxPooling", "AdaptiveAveragePooling"):
        yield from by_rank(stem, {"output_size": 3})
    yield case(lambda: layers.MaxPooling2D(data_format="channels_first"), (4, 12, 10))
    yield case(lambda: layers.GlobalAveragePooling2D("channels_first"), (4, 12, 10))
    yield from by_rank("ZeroPadding", {}, {"padding": 2})
    yield from by_rank("Cropping", {}, {"cropping": 2})
    yield from by_rank("UpSampling", {}, {"size": 3})
    yield case(lambda: layers.ZeroPadding1D((1, 3)), STEPS)
    yield case(lambda: layers.ZeroPadding2D((1, 3)), IMAGE)
    yield case(lambda: layers.ZeroPadding3D(((1, 0), (2, 3), (0, 4))), VOLUME)
    yield case(lambda: layers.Cropping2D(((1, 0), (2, 3))), IMAGE)
    yield case(lambda: layers.UpSampling2D((2, 3), "channels_first"), (4, 12, 10))


CASES = [
    *plain(), *convolutions(), *resizing(), *merges(), *attention(), *recurrent(), *wrappers(),
    *augmentations(), *preprocessing(),
]  # fmt: skip
#: Classes that Keras 3.15 cannot save as .h5: their configuration cannot be copied.
NOT_IN_HDF5 = {
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomPosterization",
    "RandomSaturation",
    "RandomSharpness",
    "Solarization",
}
#: Classes without a case of their own.
ELSEWHERE = {
    "Equalization": "Keras 3.15 gives its input itself for its symbolic output: no graph holds it",
    "InputLayer": "stands in every model",
    "LSTMCell": "stands in RNN",
    "GRUCell": "stands in RNN",
    "SimpleRNNCell": "stands in RNN",
    "StackedRNNCells": "stands in RNN",
}


def model_of(case_: Case) -> keras.Model:
    """The layer alone between inputs and output; a tuple of inputs is given to it as one list."""

    def entry(given: Any, name: str | None = None) -> Any:
        if given and isinstance(given[-1], str):
            return keras.Input(given[0], dtype=given[1], name=name)
        return keras.Input(given, name=name)

    def entered(given: Any, name: str | None = None) -> Any:
        if isinstance(given, dict):
            return {key: entered(item, key) for key, item in given.items()}
        many = given and isinstance(given[0], tuple) and not isinstance(given[-1], str)
        return [entry(item) for item in given] if many else entry(given, name)

    arguments = [entered(given) for given in case_.inputs]
    layer = case_.make()
    outputs = layer(*arguments)
    return keras.Model(arguments if len(arguments) > 1 else arguments[0], outputs)


def test_every_class_of_keras_layers_has_a_case() -> None:
    classes = {value.__name__ for value in vars(layers).values() if inspect.isclass(value)}
    held = {case_.name for case_ in CASES}
    assert classes - held - set(ELSEWHERE) - ABSTRACT - UNTOLD == set()


@pytest.mark.parametrize("case_", CASES, ids=[c.name for c in CASES])
def test_a_layer_is_read_as_keras_has_it(case_: Case, tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = model_of(case_)
    randomize(model)
    for suffix in (".keras",) if case_.name in NOT_IN_HDF5 else (".keras", ".h5"):
        path = tmp_path / f"model{suffix}"
        model.save(path)
        file = read_model(path)
        assert differences(model, file.graph) == []
        assert file.hazards == ()
        assert file.graph.notes == ()
        call = file.graph.calls[-1]
        assert (call.op is Op.OPAQUE) == around_a_model(case_), call.note
        _check_kernels(call)


def around_a_model(case_: Case) -> bool:
    """Whether the layer is a wrapper around a whole model, whose layers are not told apart."""
    return isinstance(getattr(case_.make(), "layer", None), keras.Model)


def _check_kernels(call: LayerCall) -> None:
    """A call that multiplies by a kernel has one, with fans and an initializer, roles in order."""
    if call.op not in KERNEL_OPS:
        return
    kernels = [w for w in call.weights if "kernel" in w.role or w.role == "embeddings"]
    assert kernels
    for weight in kernels:
        assert weight.fan_in is not None, weight.name
        assert weight.fan_out is not None, weight.name
        assert weight.unit_axes, weight.name
        assert weight.initializer is not None, weight.name
    for weight in call.weights:
        if weight.name.endswith("bias"):
            assert weight.role == "bias"
