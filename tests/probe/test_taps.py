import threading

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph.operators import Op
from auditor.probe.taps import Taps


def seen(model, *inputs):
    """Ids in the order of execution, of one eager call."""
    ids = []

    def on_output(call_id, _, outputs):
        ids.append(call_id)
        return outputs

    with Taps(model, on_output):
        model(*inputs)
    return ids


def static_ids(model):
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    return [call.id for call in graph.calls if call.op not in (Op.INPUT, Op.CONSTANT)]


def nested() -> keras.Model:
    encoder = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="first"), layers.Dense(4, name="second")],
        name="encoder",
    )
    shared = layers.Dense(4, name="shared")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = shared(shared(encoder(a)) + encoder(b))
    inner = keras.Model(a, shared(encoder(a)), name="inner")
    joined = ops.concatenate([x, inner(b)], axis=-1)
    return keras.Model([a, b], layers.Dense(1, name="out")(ops.relu(joined)))


def test_nested_shared_and_operation_calls_have_the_documented_ids():
    keras.utils.clear_session()
    inputs = [np.ones((2, 4), "float32")] * 2
    assert seen(nested(), inputs) == [
        "encoder/first",
        "encoder/second",
        "shared",
        "encoder#2/first",
        "encoder#2/second",
        "add",
        "shared#2",
        "inner/encoder/first",
        "inner/encoder/second",
        "inner/shared",
        "concatenate",
        "relu",
        "out",
    ]


@pytest.mark.parametrize(
    "build",
    [
        nested,
        models.lstm_classifier,
        models.transformer_encoder,
        models.unet,
        models.gru_forecaster,
        models.siamese,
        models.multi_output,
        models.dcgan_generator,
    ],
    ids=lambda build: build.__name__,
)
def test_ids_agree_with_the_static_graph(build):
    model = build()
    inputs = [
        np.ones([2 if axis == 0 else size or 5 for axis, size in enumerate(x.shape)], x.dtype)
        for x in model.inputs
    ]
    ids = seen(model, inputs if len(inputs) > 1 else inputs[0])
    # A mask is computed by a node of its own that Keras adds while it builds, and does not save.
    assert [call_id for call_id in ids if call_id != "not_equal"] == static_ids(model)


def test_wrappers_and_recurrent_layers_are_one_call():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.TimeDistributed(layers.Dense(5), name="each"),
            layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both"),
            layers.LSTM(4, name="last"),
        ]
    )
    assert seen(model, np.ones((2, 6, 3), "float32")) == ["each", "both", "last"]


def test_layers_of_a_subclassed_model_are_seen_one_by_one():
    class Branching(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = keras.Sequential([layers.Dense(4, name="in")], name="block")
            self.last = layers.Dense(1, name="last")

        def call(self, x):
            return self.last(self.block(self.block(x)))

    model, x = Branching(), np.ones((2, 4), "float32")
    model(x)
    assert seen(model, x) == ["block/in", "block#2/in", "last"]


def test_what_on_output_returns_goes_on_through_the_model():
    model = keras.Sequential(
        [keras.Input((1,)), layers.Identity(name="a"), layers.Identity(name="b")]
    )
    with Taps(model, lambda call_id, _, h: h + 1.0 if call_id == "a" else h):
        assert float(model(np.zeros((1, 1), "float32"))[0, 0]) == 1.0
    assert float(model(np.zeros((1, 1), "float32"))[0, 0]) == 0.0


def test_methods_are_put_back_also_after_an_exception():
    before = keras.layers.Layer.__call__, keras.Operation.__call__
    model = keras.Sequential([keras.Input((1,)), layers.Identity(name="a")])

    def fail(*_):
        raise RuntimeError("stop")

    taps = Taps(model, fail)
    with pytest.raises(RuntimeError), taps:
        model(np.zeros((1, 1), "float32"))
    assert (keras.layers.Layer.__call__, keras.Operation.__call__) == before
    assert taps.failed_in is None


def test_the_call_that_raised_is_named():
    class Rogue(layers.Layer):
        def call(self, x):
            raise RuntimeError("stop")

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    model = keras.Sequential([keras.Input((1,)), layers.Dense(1), Rogue(name="rogue")])
    taps = Taps(model, lambda _id, _op, h: h)
    with pytest.raises(RuntimeError), taps:
        model(np.zeros((1, 1), "float32"))
    assert taps.failed_in == "rogue"


def test_calls_of_other_threads_and_models_pass_unseen():
    model = keras.Sequential([keras.Input((1,)), layers.Identity(name="mine")])
    other = keras.Sequential([keras.Input((1,)), layers.Identity(name="other")])
    x = np.zeros((1, 1), "float32")
    ids = []

    def on_output(call_id, _, outputs):
        ids.append(call_id)
        return outputs

    with Taps(model, on_output):
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        thread.join()
        other(x)
        assert ids == []
        model(x)
    assert ids == ["mine"]


def test_two_threads_tap_two_models_at_once():
    both_inside = threading.Barrier(2, timeout=30)
    found = {}

    def tap(name):
        model = keras.Sequential([keras.Input((1,)), layers.Identity(name=name)])
        ids = []

        def on_output(call_id, _, outputs):
            ids.append(call_id)
            return outputs

        with Taps(model, on_output):
            both_inside.wait()
            model(np.zeros((1, 1), "float32"))
            both_inside.wait()
        found[name] = ids

    before = keras.layers.Layer.__call__
    threads = [threading.Thread(target=tap, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": ["one"], "two": ["two"]}
    assert keras.layers.Layer.__call__ is before
