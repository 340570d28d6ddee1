"""What is read of models that Keras writes equals what Keras says of them itself."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras_comparison import differences, randomize

from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.model_file import ModelFile
from auditor.formats.read import read_model
from auditor.graph.operators import Op

# Of Keras 3.15 on TensorFlow with numpy 2, whenever it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Saved:
    model: keras.Model
    file: ModelFile


def application(name: str, size: int = 32) -> keras.Model:
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=(size, size, 3), classes=10)


def text_classifier() -> keras.Model:
    tokens = keras.Input((20,), dtype="int32")
    x = layers.Embedding(100, 16, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.GRU(6, name="gru")(x)
    return keras.Model(tokens, layers.Dense(1, activation="sigmoid")(x))


def transformer() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 16)(tokens) + layers.Embedding(12, 16)(ops.arange(12))
    attended = layers.MultiHeadAttention(4, 4)(query=x, value=x)
    x = layers.LayerNormalization()(x + attended)
    hidden = layers.Dense(32, activation="gelu")(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(16)(hidden)]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(2, activation="softmax")(x))


def unet() -> keras.Model:
    image = keras.Input((32, 32, 3))
    first = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    deep = layers.Conv2D(16, 3, padding="same")(layers.MaxPooling2D()(first))
    up = layers.Conv2DTranspose(8, 2, strides=2)(deep)
    joined = layers.Concatenate()([up, first])
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(joined))


def siamese() -> keras.Model:
    """Nested, shared, several inputs and outputs, a nested model as output."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    x = layers.BatchNormalization(name="bn")(x)
    encoder = keras.Model(image, layers.GlobalAveragePooling2D(name="gap")(x), name="encoder")
    head = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(7, activation="tanh", name="hidden"),
            layers.BatchNormalization(name="bn"),
            layers.Dense(3, name="logits"),
        ],
        name="head",
    )
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    dense = layers.Dense(5, name="dense")
    difference = layers.Subtract(name="difference")([dense(encoder(a)), dense(encoder(b))])
    return keras.Model([a, b], [head(difference), encoder(b)], name="siamese")


def frozen() -> keras.Model:
    base = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, name="wide"), layers.BatchNormalization()], name="base"
    )
    base.trainable = False
    inputs = keras.Input((4,))
    x = base(inputs)
    still = layers.Dense(5, trainable=False, name="still")(x)
    return keras.Model(inputs, layers.Dense(2, name="moving")(still))


def wrappers() -> keras.Model:
    frames = keras.Input((5, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu"), name="frames")(frames)
    x = layers.ConvLSTM2D(3, 3, padding="same", name="moving")(x)
    x = layers.SpectralNormalization(layers.Conv2D(2, 3), name="spectral")(x)
    x = layers.Flatten()(x)
    x = layers.Reshape((4, 8))(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)], name="stacked")(x)
    return keras.Model(frames, layers.Dense(2, activation=layers.PReLU())(x))


def founding_case() -> keras.Model:
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for rate in (0.25, 0.5, 0.25):
        model.add(layers.Dropout(rate))
        model.add(layers.ReLU())
    return model


MODELS: dict[str, Callable[[], keras.Model]] = {
    "mobilenet": lambda: application("MobileNetV3Small"),
    "resnet": lambda: application("ResNet50"),
    "efficientnet": lambda: application("EfficientNetB0"),
    "densenet": lambda: application("DenseNet121"),
    "vgg": lambda: application("VGG16"),
    "convnext": lambda: application("ConvNeXtTiny"),
    "text": text_classifier,
    "transformer": transformer,
    "unet": unet,
    "siamese": siamese,
    "frozen": frozen,
    "wrappers": wrappers,
    "founding": founding_case,
}


@pytest.fixture(scope="module", params=[(n, s) for n in MODELS for s in (".keras", ".h5")], ids=str)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    name, suffix = request.param
    keras.utils.set_random_seed(1)
    keras.utils.clear_session()
    model = MODELS[name]()
    randomize(model)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    path = tmp_path_factory.mktemp("saved") / f"{name}{suffix}"
    model.save(path)
    return Saved(model, read_model(path))


def test_calls_edges_shapes_and_weights_are_those_of_keras(saved: Saved) -> None:
    assert differences(saved.model, saved.file.graph) == []


def operations(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Keras' own operations of a model, nested ones entered, by path."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    for operation in functional.operations:
        if isinstance(operation, keras.Model):
            yield from operations(operation, f"{prefix}{operation.name}/")
        elif prefix == "" or not isinstance(operation, layers.InputLayer):
            yield f"{prefix}{operation.name}", operation


def test_parameters_are_those_of_keras(saved: Saved) -> None:
    trainable = sum(int(np.prod(w.shape)) for w in saved.model.trainable_weights)
    assert saved.file.graph.parameters == saved.model.count_params()
    assert saved.file.graph.trainable_parameters == trainable


def test_every_operation_has_its_calls_and_no_other(saved: Saved) -> None:
    expected = {path for path, _ in operations(saved.model)}
    if isinstance(saved.model, keras.Sequential):
        expected = {path for path in expected if "input" not in path} | {
            saved.file.graph.inputs[0].name
        }
    assert {call.layer for call in saved.file.graph.calls} == expected


def test_output_shapes_are_those_of_keras(saved: Saved) -> None:
    graph = saved.file.graph
    calls = {call.layer: call for call in graph.calls}
    for path, operation in operations(saved.model):
        if path in calls:
            own = [tuple(t.shape) for t in operation._inbound_nodes[-1].output_tensors]
            assert list(calls[path].out_shapes) == own, path
    assert [graph.by_id[call].out_shapes[slot] for call, slot in graph.outputs] == [
        tuple(output.shape) for output in saved.model.outputs
    ]


def test_values_of_every_weight_are_those_of_keras(saved: Saved) -> None:
    calls = {call.layer: call for call in saved.file.graph.calls}
    for path, operation in operations(saved.model):
        weights = getattr(operation, "weights", [])
        read = calls[path].weights if path in calls else ()
        assert len(read) == len(weights), path
        left = [np.asarray(weight) for weight in weights]
        for weight in read:
            assert weight.read is not None
            values = weight.read()
            assert (values.shape, values.dtype.name) == (weight.shape, weight.dtype)
            # Two weights may be equal (a bias and beta of zeros): each accounts for one.
            same = [i for i, own in enumerate(left) if np.array_equal(own, values)]
            assert same, (path, weight.name)
            left.pop(same[0])


def test_roles_stand_on_the_variables_of_their_names(saved: Saved) -> None:
    calls = {call.layer: call for call in saved.file.graph.calls}
    for path, operation in operations(saved.model):
        for weight in calls[path].weights if path in calls else ():
            last = weight.name.rsplit("/", 1)[-1]
            named = [own for own in operation.weights if own.name == last]
            if weight.role == "other" or not named:
                continue
            values = weight.read()
            match = [own for own in named if np.array_equal(np.asarray(own), values)]
            assert match, (path, weight.name)
            assert weight.trainable == match[0].trainable, (path, weight.name)


def test_nothing_that_keras_writes_is_a_hazard_or_opaque(saved: Saved) -> None:
    assert saved.file.hazards == ()
    assert [c.id for c in saved.file.graph.calls if c.op is Op.OPAQUE] == []
    assert saved.file.graph.notes == ()


def test_calls_are_in_topological_order_and_edges_meet_slots(saved: Saved) -> None:
    graph = saved.file.graph
    seen: set[str] = set()
    for call in graph.calls:
        incoming = sorted((e for e in graph.edges if e.target == call.id), key=_slot)
        assert [edge.target_slot for edge in incoming] == list(range(len(incoming)))
        assert {edge.source for edge in incoming} <= seen
        if incoming:
            shapes = [graph.by_id[e.source].out_shapes[e.source_slot] for e in incoming]
            assert list(call.in_shapes) == shapes, call.id
        seen.add(call.id)


def _slot(edge: object) -> int:
    return edge.target_slot  # type: ignore[attr-defined]


def test_compile_settings(saved: Saved) -> None:
    settings = saved.file.graph.compile
    assert settings is not None
    assert settings.optimizer is not None
    assert (settings.optimizer.name, settings.optimizer.learning_rate) == ("adam", 0.001)
    assert [loss.name for loss in settings.losses] == ["categorical_crossentropy"]
    assert settings.metrics == ("accuracy",)


def test_calls_of_nested_and_shared_layers_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "siamese.keras"
    siamese().save(path)
    graph = read_model(path).graph
    ids = [call.id for call in graph.calls]
    assert {"encoder/conv1", "encoder#2/conv1", "dense", "dense#2", "head/hidden"} <= set(ids)
    assert len(set(ids)) == len(ids)
    # Keras comes to b before a here, and counts the encoder's calls so.
    assert [c.id for c in graph.predecessors("encoder/conv1")] == ["b"]
    assert [c.id for c in graph.predecessors("encoder#2/conv1")] == ["a"]
    assert [c.id for c in graph.predecessors("difference")] == ["dense", "dense#2"]
    assert graph.outputs == (("head/logits", 0), ("encoder#3/gap", 0))
    assert graph.by_id["encoder#2/conv1"].layer == "encoder/conv1"
    first, second = graph.by_id["encoder/conv1"], graph.by_id["encoder#2/conv1"]
    assert first.weights == second.weights


def test_founding_case_is_the_same_in_both_formats(tmp_path: Path) -> None:
    model = founding_case()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    graphs = []
    for suffix in (".keras", ".h5"):
        path = tmp_path / f"founding{suffix}"
        model.save(path)
        graph = read_model(path).graph
        assert graph.compile is not None
        compiled = replace(graph.compile, raw={})
        graphs.append(replace(graph, format="", writer="", compile=compiled))
    assert graphs[0] == graphs[1]
    assert [call.op for call in graphs[0].calls] == [Op.INPUT, *[Op.DROPOUT, Op.ACTIVATION] * 3]
    assert graphs[0].calls[2].activation == "relu"


def test_wrappers_are_what_they_wrap(tmp_path: Path) -> None:
    path = tmp_path / "wrappers.keras"
    wrappers().save(path)
    calls = {call.name: call for call in read_model(path).graph.calls}
    assert (calls["frames"].op, calls["frames"].activation) == (Op.CONV, "relu")
    assert calls["frames"].weights[0].fan_in == 27
    assert (calls["moving"].op, calls["moving"].activation) == (Op.CONV_LSTM, "tanh")
    assert calls["spectral"].op is Op.CONV
    assert [w.role for w in calls["spectral"].weights] == ["kernel", "other", "bias"]
    assert calls["stacked"].op is Op.RECURRENT
    assert calls["dense"].activation == "prelu"


def test_attention_and_bidirectional_weights_have_roles(tmp_path: Path) -> None:
    path = tmp_path / "transformer.keras"
    transformer().save(path)
    calls = read_model(path).graph.calls
    attention = next(call for call in calls if call.op is Op.ATTENTION)
    roles = ["query_kernel", "bias", "key_kernel", "bias", "value_kernel", "bias"]
    assert [w.role for w in attention.weights] == [*roles, "output_kernel", "bias"]
    query, output = attention.weight("query_kernel"), attention.weight("output_kernel")
    assert query is not None
    assert output is not None
    assert (query.fan_in, query.fan_out, query.unit_axes) == (16, 16, (1, 2))
    assert (output.fan_in, output.fan_out, output.unit_axes) == (16, 16, (2,))
    path = tmp_path / "text.keras"
    text_classifier().save(path)
    calls = read_model(path).graph.calls
    both = next(call for call in calls if call.kind == "Bidirectional")
    assert (both.op, both.activation) == (Op.LSTM, "tanh")
    assert [w.role for w in both.weights] == ["kernel", "recurrent_kernel", "bias"] * 2
    assert both.weights[3].name == "backward/kernel"


def test_reading_without_values_is_fast(tmp_path: Path) -> None:
    path = tmp_path / "resnet.keras"
    application("ResNet50").save(path)
    start = time.perf_counter()
    read_model(path)
    # A fifth of a second where this was written; the rest is for slow and busy machines.
    assert time.perf_counter() - start < 2.0


def test_a_subclassed_model_is_one_opaque_call_with_all_weights(tmp_path: Path) -> None:
    class Block(keras.Model):
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)
            self.first = layers.Dense(3)
            self.rest = [layers.BatchNormalization(), layers.Dense(2)]

        def call(self, x: object) -> object:
            for layer in (self.first, *self.rest):
                x = layer(x)
            return x

    model = Block()
    model(np.zeros((2, 4), "float32"))
    path = tmp_path / "subclassed.keras"
    model.save(path)
    file = read_model(path)
    entry, block = file.graph.calls
    assert (entry.op, entry.out_shape) == (Op.INPUT, (2, 4))
    assert block.op is Op.OPAQUE
    assert "Block" in block.note
    assert file.graph.parameters == model.count_params()
    assert [hazard.code for hazard in file.hazards] == ["GEB902"]


def test_operations_with_constants_and_indices(tmp_path: Path) -> None:
    a, b = keras.Input((4, 3), name="a"), keras.Input((4, 3), name="b")
    x = ops.where(a > 0, a, b)
    x = x[..., 1:] * 2.0
    x = ops.transpose(x, (0, 2, 1)) / np.arange(1, 5, dtype="float32")
    x = ops.concatenate([x, 1.0 / (ops.abs(x) + 1.0)], axis=-1)
    x = ops.mean(ops.reshape(x, (-1, 16)), axis=1, keepdims=True)
    model = keras.Model([a, b], ops.split(ops.expand_dims(x, 0), 1, axis=0)[0][0])
    path = tmp_path / "operations.keras"
    model.save(path)
    file = read_model(path)
    calls = {call.name: call for call in file.graph.calls}
    assert file.hazards == ()
    assert calls["where"].op is Op.WHERE
    assert calls["multiply"].op is Op.SCALE
    assert calls["multiply"].config["arguments"][1] == 2.0
    scaled, inverse = calls["true_divide"], calls["true_divide_1"]
    assert (scaled.op, inverse.op) == (Op.SCALE, Op.ELEMENTWISE)
    assert calls["get_item"].op is Op.SLICE
    assert file.graph.output_calls[0].out_shape == tuple(model.outputs[0].shape)


def test_structures_of_inputs_are_flattened_as_keras_does(tmp_path: Path) -> None:
    last, first = keras.Input((4,), name="z"), keras.Input((3,), name="a")
    outputs = {"y": layers.Dense(2, name="d")(last), "x": layers.Dense(5, name="e")(first)}
    path = tmp_path / "dicts.keras"
    keras.Model({"z": last, "a": first}, outputs).save(path)
    graph = read_model(path).graph
    assert [entry.name for entry in graph.inputs] == ["a", "z"]
    assert graph.outputs == (("e", 0), ("d", 0))


def test_states_of_a_recurrent_layer_are_outputs_of_their_own(tmp_path: Path) -> None:
    source, target = keras.Input((4, 3)), keras.Input((5, 3))
    _, hidden, cell = layers.LSTM(6, return_state=True, name="encoder")(source)
    decoded = layers.LSTM(6, name="decoder")(target, initial_state=[hidden, cell])
    path = tmp_path / "seq2seq.keras"
    keras.Model([source, target], decoded).save(path)
    graph = read_model(path).graph
    incoming = {
        (e.source, e.source_slot, e.target_slot) for e in graph.edges if "decoder" in e.target
    }
    assert {("encoder", 1, 1), ("encoder", 2, 2)} <= incoming
    assert graph.by_id["encoder"].out_shapes == ((None, 6),) * 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_float16"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_low_precision(tmp_path: Path, dtype: str, suffix: str) -> None:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype=dtype)])
    path = tmp_path / f"low{suffix}"
    model.save(path)
    call = read_model(path).graph.calls[-1]
    assert call.dtype == dtype.removeprefix("mixed_")
    kernel = call.weights[0]
    assert kernel.dtype == model.layers[0].kernel.dtype
    assert kernel.read is not None
    own = np.asarray(keras.ops.cast(model.layers[0].kernel, "float32"))
    np.testing.assert_array_equal(kernel.read().astype("float32"), own)


def test_limits_are_the_readers_bounds(tmp_path: Path) -> None:
    from auditor.errors import UnsafeModel

    path = tmp_path / "founding.keras"
    founding_case().save(path)
    with pytest.raises(UnsafeModel, match=r"more than 3 calls.*GEB905"):
        read_model(path, replace(DEFAULT_LIMITS, calls=3))
    with pytest.raises(UnsafeModel, match=r"config.json.*GEB905"):
        read_model(path, replace(DEFAULT_LIMITS, json_bytes=100))
    with pytest.raises(UnsafeModel, match=r"config.json.*GEB909"):
        read_model(path, replace(DEFAULT_LIMITS, json_depth=3))
