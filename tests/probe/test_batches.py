"""What inputs and targets are drawn, and what is made of a user's file."""

import keras
import numpy as np
import pytest
from builders import GraphBuilder
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

from auditor.errors import ProbeFailed, UsageError
from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph.layer_graph import InputSpec
from auditor.graph.operators import Op
from auditor.probe.batches import InputPlan, candidate_shapes, choose_batch_size, sample_rows
from auditor.probe.prepare import prepare
from auditor.probe.settings import ProbeSettings


def test_open_axes_are_tried_from_small_to_large():
    image = InputSpec(name="x", call="x", shape=(None, None, None, 3), dtype="float32")
    tokens = InputSpec(name="t", call="t", shape=(None, None), dtype="int32")
    fixed = InputSpec(name="f", call="f", shape=(None, 5), dtype="float32")
    tried = list(candidate_shapes([image, tokens]))
    assert tried[:3] == [
        ((64, 64, 3), (16,)),
        ((128, 128, 3), (32,)),
        ((256, 256, 3), (64,)),
    ]
    assert tried[-1] == ((4096, 4096, 3), (1024,))
    assert list(candidate_shapes([fixed])) == [((5,),)]


def test_open_axes_of_one_name_are_of_one_size():
    image = InputSpec(name="x", call="x", shape=(None, "time", 8, 3), dtype="float32")
    mask = InputSpec(name="m", call="m", shape=(None, "time"), dtype="bool")
    assert next(candidate_shapes([image, mask])) == ((64, 8, 3), (64,))


def test_large_activations_ask_for_small_batches():
    def size(side, asked=None, samples=None, batch=None, *, normalized=False):
        builder = GraphBuilder()
        call = builder.add(Op.CONV, builder.input((side, side, 3)), shape=(None, side, side, 64))
        call = builder.batch_norm(call) if normalized else call
        graph = builder.graph(call)
        spec = InputSpec(name="x", call="x", shape=(batch, side, side, 3), dtype="float32")
        plan = InputPlan(spec=spec, shape=(side, side, 3), domain=None)
        return choose_batch_size(asked, graph, [plan], samples)

    assert size(32) == (16, "")
    small, why = size(512)
    assert small == 2
    assert "256 MiB" in why
    assert size(512, asked=32) == (32, "")
    assert size(512, normalized=True)[0] == 2
    assert size(32, batch=5)[0] == 5
    assert size(32, samples=3)[0] == 3


@pytest.mark.parametrize(("side", "chosen"), [(384, 8), (1024, 2)])
def test_batch_normalization_behind_a_pooling_asks_for_larger_ones(side, chosen):
    """Of two values it would leave a sign; but not at any price."""
    builder = GraphBuilder()
    call = builder.add(Op.CONV, builder.input((side, side, 3)), shape=(None, side, side, 64))
    call = builder.batch_norm(builder.dense(builder.global_average(call), 32))
    graph = builder.graph(builder.dense(call, 10))
    spec = InputSpec(name="x", call="x", shape=(None, side, side, 3), dtype="float32")
    plan = InputPlan(spec=spec, shape=(side, side, 3), domain=None)
    size, why = choose_batch_size(None, graph, [plan], None)
    assert size == chosen
    assert ("batch normalization needs" in why) == (chosen > 2)


@given(samples=st.integers(1, 50), batch=st.integers(1, 20), count=st.integers(1, 6))
def test_samples_are_used_up_before_one_comes_again(samples, batch, count):
    rows = np.concatenate(sample_rows(samples, batch_size=batch, count=count, seed=1))
    times = np.bincount(rows, minlength=samples)
    assert rows.size == batch * count
    assert times.max() - times.min() <= 1


class TestModels:
    """Inputs of whole models, probed."""

    def test_an_image_model_with_open_sizes(self, probe):
        inputs = keras.Input((None, None, 3))
        x = layers.Conv2D(2, 3, activation="relu")(inputs)
        for _ in range(6):
            x = layers.MaxPooling2D()(x)
        model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
        model.compile("sgd", "mse")
        # 64 pixels are none after six poolings of 62.
        assert any("128×128×3" in words for words in probe(model).assumptions)

    @pytest.fixture
    def prepared(self):
        """What is drawn for a model, before anything is compiled."""

        def run(inputs, outputs):
            model = keras.Model(inputs, outputs)
            model.compile("sgd", "mse")
            return prepare(model, read_live_model(model, DEFAULT_LIMITS).graph, ProbeSettings())

        return run

    def test_inputs_that_are_not_dense_numbers(self, prepared):
        lookup = layers.IntegerLookup(output_mode="multi_hot")
        lookup.adapt(np.array([100, 101, 102, 100]))
        inputs = {
            "bag": keras.Input((50,), sparse=True, name="bag"),
            "codes": keras.Input((4,), dtype="int64", name="codes"),
            "rank": keras.Input((), name="rank"),
            "steps": keras.Input((None, 3), ragged=True, name="steps"),
        }
        parts = [
            inputs["bag"],
            lookup(inputs["codes"]),
            layers.Reshape((1,))(inputs["rank"]),
            layers.GlobalAveragePooling1D()(inputs["steps"]),
        ]
        found = prepared(inputs, layers.Dense(2)(layers.Concatenate()(parts)))
        bag, codes, rank, steps = found.batches[0].x
        assert 0.05 < np.mean(bag != 0) < 0.2
        assert set(np.unique(codes)) == {100, 101, 102}
        assert rank.shape == (16,)
        assert steps.shape == (16, 16, 3)
        said = "\n".join(found.assumptions)
        assert "zero but for one in 10: the input is sparse" in said
        assert "3 whole numbers: the vocabulary of integer_lookup" in said
        assert "in rows of one length though it is ragged" in said

    def test_inputs_that_nothing_can_be_computed_with(self, prepared):
        x, number = keras.Input((4,), name="x"), keras.Input(batch_shape=(), name="number")
        with pytest.raises(ProbeFailed, match="'number' is one number for the whole batch"):
            prepared([x, number], layers.Dense(1)(x * number))
        # TensorFlow's own kernels would end the process.
        with pytest.raises(ProbeFailed, match=r"dense\w* has a weight of shape \(0, 3\)"):
            prepared(x, layers.Dense(3)(x[:, 2:2]))
        nothing = keras.Input((0,), name="nothing")
        with pytest.raises(ProbeFailed, match="'nothing' holds no values: its samples are 0"):
            prepared([x, nothing], layers.Dense(1)(layers.Concatenate()([x, nothing])))

    def test_inputs_by_name_and_several_losses(self, probe):
        a, b = keras.Input((4,), name="a"), keras.Input((3,), dtype="int32", name="b")
        x = ops.concatenate([a, layers.Flatten()(layers.Embedding(9, 2)(b))], axis=-1)
        outputs = {
            "size": layers.Dense(1, name="one")(x),
            "kind": layers.Dense(4, activation="softmax", name="two")(x),
        }
        model = keras.Model({"b": b, "a": a}, outputs)
        losses = {"size": "mse", "kind": "sparse_categorical_crossentropy"}
        model.compile("sgd", losses, loss_weights={"size": 0.0, "kind": 2.0})
        result = probe(model)
        assert result.loss == "sparse_categorical_crossentropy, mean_squared_error"
        assert result.loss_expected == pytest.approx(2 * np.log(4))
        assert result.calls["one"].gradient_norm == 0.0

    @pytest.mark.parametrize(
        ("head", "loss", "expected"),
        [
            (layers.Dense(5, activation="softmax"), "categorical_crossentropy", np.log(5)),
            (
                layers.Dense(5),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                np.log(5),
            ),
            (layers.Dense(1, activation="sigmoid"), "binary_crossentropy", np.log(2)),
            (layers.Dense(2), "mse", 1.0),
            (layers.Dense(5), "categorical_crossentropy", None),
            (layers.Dense(2, activation="tanh"), "hinge", None),
            (layers.Dense(2, activation="softplus"), "poisson", None),
            (layers.Dense(4, activation="softmax"), "kl_divergence", None),
            (layers.Dense(3), keras.losses.CosineSimilarity(), None),
            (layers.Dense(1), "mean_absolute_percentage_error", None),
            (layers.Dense(2, activation="sigmoid"), keras.losses.Dice(), None),
            (layers.Dense(4), keras.losses.Circle(), None),
        ],
        ids=lambda value: getattr(value, "name", None) or str(value),
    )
    def test_every_kind_of_loss_gets_targets_that_fit(
        self, probe, sequential, head, loss, expected
    ):
        head = type(head).from_config(head.get_config())
        result = probe(sequential(keras.Input((6,)), layers.Dense(8), head, loss=loss))
        assert np.isfinite(result.loss_at_start)
        assert result.gradient_norm.p50 > 0
        if expected is None:
            assert result.loss_expected is None
        else:
            # Of targets drawn, the variance is near one and not one.
            assert result.loss_expected == pytest.approx(expected, rel=0.25)

    @pytest.mark.parametrize(
        ("activation", "loss"),
        [
            ("softmax", "categorical_crossentropy"),
            ("sigmoid", "binary_crossentropy"),
            (None, "mean_squared_error"),
        ],
    )
    def test_an_uncompiled_model_gets_a_loss_by_its_head(self, probe, sequential, activation, loss):
        model = sequential(keras.Input((6,)), layers.Dense(3, activation=activation), loss=None)
        result = probe(model)
        assert result.loss == loss
        assert any("declares no loss" in words for words in result.assumptions)
        assert probe(model, loss="mae").loss == "mean_absolute_error"

    def test_a_custom_loss_is_replaced_unless_there_are_targets(self, probe, sequential, tmp_path):
        def wasserstein(y_true, y_pred):
            return ops.mean(y_true * y_pred, axis=-1)

        model = sequential(keras.Input((4,)), layers.Dense(1), loss=wasserstein)
        result = probe(model)
        assert result.loss == "mean_squared_error"
        assert any("custom loss 'wasserstein'" in words for words in result.assumptions)
        np.savez(tmp_path / "d.npz", x=np.ones((8, 4)), y=np.ones((8, 1)))
        assert probe(model, data=tmp_path / "d.npz").loss == "wasserstein"


class TestData:
    """A user's file."""

    @pytest.fixture
    def model(self, sequential):
        return sequential(
            keras.Input((3,), dtype="int32", name="tokens"),
            layers.Embedding(10, 4),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
            loss="sparse_categorical_crossentropy",
        )

    @pytest.mark.parametrize("name", ["x", "x_0", "tokens"])
    def test_arrays_are_found_by_every_documented_name(self, probe, model, tmp_path, name):
        np.savez(tmp_path / "d.npz", **{name: np.ones((5, 3), int), "y": np.zeros(5, int)})
        result = probe(model, data=tmp_path / "d.npz")
        assert result.data == result.targets == "d.npz"
        assert result.batch_size == 5

    def test_targets_are_drawn_where_there_are_none(self, probe, model, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.ones((5, 3), int))
        result = probe(model, data=tmp_path / "d.npz")
        assert result.data == "d.npz"
        assert result.targets == "class numbers, evenly drawn"

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.ones((4, 2), int)}, r"takes samples of shape \(3\), found \(2\)"),
            ({"x": np.full((4, 3), 10)}, "holds 10 to 10, outside 0 to 9: the rows of embedding"),
            ({"x": np.full((4, 3), -1)}, "holds -1 to -1, outside 0 to 9"),
            ({"x": np.full((4, 3), 0.5)}, "takes whole numbers, found fractions"),
            ({"x": np.full((4, 3), "a")}, "takes int32 numbers, found <U1"),
            ({"z": np.ones((4, 3))}, "wanted x or tokens, found z"),
            ({"x": np.ones((4, 3)), "y": np.ones(5)}, "x has 4, y has 5"),
            ({"x": np.ones((0, 3))}, "holds no samples"),
            ({"x": np.ones(())}, "a single number"),
            ({"x": np.array([[None] * 3], object)}, "holds Python objects"),
            ({}, "holds no arrays"),
        ],
    )
    def test_a_file_that_does_not_fit_is_one_line(self, probe, model, tmp_path, arrays, message):
        path = tmp_path / "d.npz"
        np.savez(path, **arrays)
        with pytest.raises(UsageError, match=message) as caught:
            probe(model, data=path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_what_is_no_npz_file_is_told(self, probe, model, tmp_path):
        text, single = tmp_path / "t.npz", tmp_path / "s.npy"
        text.write_text("no archive")
        np.save(single, np.ones(3))
        for path, message in [
            (text, "not an .npz file"),
            (single, "not an .npz file"),
            (tmp_path / "none.npz", "no such data file"),
        ]:
            with pytest.raises(UsageError, match=message):
                probe(model, data=path)

    def test_targets_the_loss_cannot_take_are_told(self, probe, model, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.ones((4, 3), int), y=np.ones((4, 7)))
        with pytest.raises(
            ProbeFailed, match="the loss sparse_categorical_crossentropy cannot take"
        ):
            probe(model, data=tmp_path / "d.npz")
