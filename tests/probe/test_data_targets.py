"""A user's targets that no loss can take, and data that hold NaN: told in a line, or as a fact."""

import keras
import numpy as np
import pytest
from keras import layers

from auditor.errors import UsageError

CLASSES = 4


@pytest.fixture
def classifier(sequential):
    def build(loss="sparse_categorical_crossentropy"):
        head = layers.Dense(CLASSES, activation="softmax", name="head")
        return sequential(keras.Input((3,), name="features"), head, loss=loss)

    return build


def labels(*values, dtype=None):
    return np.resize(np.array(values, dtype=dtype), 8)


@pytest.mark.parametrize(
    ("y", "found"),
    [
        (labels(0, 4), "y holds 0 to 4;"),
        (labels(-1, 2), "y holds -1 to 2;"),
        (labels(1, 200, dtype="uint8"), "y holds 1 to 200;"),
        (labels(0.5, 1), "y holds fractions;"),
        (labels(np.nan, 1), "y holds 4 values that are NaN or infinite;"),
        (labels("cat", "dog"), "y holds text;"),
        (labels(b"cat", b"dog"), "y holds text;"),
        (labels(1j, 2), "y holds values of type complex128;"),
    ],
)
def test_class_numbers_that_are_none(probe, classifier, tmp_path, y, found):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((8, 3)), y=y)
    with pytest.raises(UsageError) as caught:
        probe(classifier(), data=path)
    assert str(caught.value).startswith(f"{path}: {found} sparse_categorical_crossentropy takes ")
    assert "whole class numbers from 0 to 3, head having 4 units" in str(caught.value)


@pytest.mark.parametrize(
    "y",
    [
        labels(0, 3),
        labels(0.0, 3.0),
        labels(True, False),
        labels(0, 3)[:, None],
        labels(2, dtype="uint8"),
    ],
)
def test_class_numbers_that_are_some(probe, classifier, tmp_path, y):
    np.savez(tmp_path / "d.npz", x=np.ones((8, 3)), y=y)
    result = probe(classifier(), data=tmp_path / "d.npz")
    assert np.isfinite(result.loss_at_start)
    assert result.nonfinite_data == ()


@pytest.mark.parametrize("ignored", [-1, 255])
def test_the_class_that_says_no_label_is_left_out(probe, classifier, tmp_path, ignored):
    np.savez(tmp_path / "d.npz", x=np.ones((8, 3)), y=labels(0, ignored, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    assert np.isfinite(probe(classifier(loss), data=tmp_path / "d.npz").loss_at_start)


def test_targets_of_another_model_are_not_passed_over(probe, classifier, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((8, 3)), y_0=labels(0), y_1=labels(1))
    with pytest.raises(UsageError, match="no array for every loss; wanted y or head, found x, y_0"):
        probe(classifier(), data=tmp_path / "d.npz")


def test_text_is_no_target_of_any_loss(probe, classifier, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((8, 3)), y=labels("cat", "dog"))
    with pytest.raises(UsageError, match="y holds text; mean_squared_error takes numbers"):
        probe(classifier("mse"), data=tmp_path / "d.npz")


def test_values_that_are_no_numbers_are_a_fact(probe, classifier, tmp_path):
    x, y = np.ones((8, 3)), np.ones((8, CLASSES))
    x[0, 0], x[3, 1], y[2, 2] = np.nan, np.inf, -np.inf
    # Rows that no batch happens to draw are told as well, and arrays nobody asked for are not.
    np.savez(tmp_path / "d.npz", features=x, y=y, other=np.full(8, np.nan))
    result = probe(classifier("mse"), data=tmp_path / "d.npz", batches=1, batch_size=1)
    assert result.nonfinite_data == ("features: 2 of 24 values", "y: 1 of 32 values")


def test_nan_is_no_row_of_a_table(probe, sequential, tmp_path):
    for dtype, words in [("int32", "takes whole numbers, found NaN"), ("float32", "1 values")]:
        tokens = keras.Input((3,), dtype=dtype, name="tokens")
        model = sequential(tokens, layers.Embedding(9, 2), layers.Flatten(), layers.Dense(1))
        x = np.ones((4, 3))
        x[1, 1] = np.nan
        np.savez(tmp_path / "d.npz", x=x)
        with pytest.raises(UsageError, match=words):
            probe(model, data=tmp_path / "d.npz")


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_one_number_a_sample_goes_with_one_unit(probe, sequential, tmp_path, dtype):
    """As `fit` takes them: a label for each sample, of shape `(n,)`, against `(n, 1)` outputs."""
    head = layers.Dense(1, activation="sigmoid", name="head")
    model = sequential(keras.Input((3,), name="features"), head, loss="binary_crossentropy")
    y = labels(0, 1, 1).astype(dtype)
    losses = []
    for name, targets in (("flat.npz", y), ("column.npz", y[:, None])):
        np.savez(tmp_path / name, x=np.eye(8, 3, dtype="float32"), y=targets)
        losses.append(probe(model, data=tmp_path / name).loss_at_start)
    assert losses[0] == losses[1]
