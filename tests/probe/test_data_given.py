"""Arrays handed over in Python: every form that has one meaning, and a line for the others."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from auditor import UsageError, audit
from auditor.probe.data_file import read_data
from auditor.probe.given_data import given_data


def arrays_of(data):
    with given_data(data) as path:
        return dict(read_data(path, given=True).arrays)


X, Y = np.arange(12.0).reshape(4, 3), np.arange(4)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ((X, Y), {"x": X, "y": Y}),
        ([X, Y], {"x": X, "y": Y}),
        ((X, None), {"x": X}),
        (([X, X], Y), {"x_0": X, "x_1": X, "y": Y}),
        (([X], [Y]), {"x_0": X, "y_0": Y}),
        (({"left": X, "right": X}, Y), {"left": X, "right": X, "y": Y}),
        ({"x": X, "y": Y}, {"x": X, "y": Y}),
        ({"x": X}, {"x": X}),
        ((X.tolist(), Y.tolist()), {"x": X, "y": Y}),
        ((tuple(map(tuple, X)), tuple(Y)), {"x": X, "y": Y}),
        ({"x": X.tolist()}, {"x": X}),
        # Names that np.savez keeps for itself.
        ({"file": X, "allow_pickle": X}, {"file": X, "allow_pickle": X}),
        ((keras.ops.convert_to_tensor(X), Y), {"x": X, "y": Y}),
        ((keras.ops.cast(X, "bfloat16"), Y), {"x": X, "y": Y}),
    ],
    ids=lambda value: "",
)
def test_forms_with_one_meaning(data, names):
    found = arrays_of(data)
    assert list(found) == list(names)
    for name, array in names.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (X, "not ndarray of shape (4, 3)"),
        (np.ones((2, 3)), "not ndarray of shape (2, 3)"),
        ((X,), "not a tuple of 1"),
        ((X, Y, Y), "not a tuple of 3"),
        (3, "not int"),
        (iter([X, Y]), "data must be (x, y)"),
        ({}, "data holds no arrays"),
        ({1: X}, "named by strings, not by 1"),
        (([[1.0, 2.0], [3.0]], Y), "x cannot be made an array"),
        ((np.array([{}], object), Y), "x is no array of numbers"),
        ((None, Y), "x is no array of numbers"),
        ((X, {"y": object()}), "y is no array of numbers"),
        ((5.0, 3), "array x is a single number"),
        ((X, Y[:2]), "data: arrays differ in their number of samples: x has 4, y has 2"),
    ],
)
def test_other_forms_are_one_line(data, words):
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        arrays_of(data)
    assert str(caught.value).startswith("data")
    assert "\n" not in str(caught.value)
    assert "geb-audit-" not in str(caught.value)


@pytest.fixture
def model(sequential):
    head = layers.Dense(4, activation="softmax")
    return sequential(keras.Input((3,)), head, loss="sparse_categorical_crossentropy")


def test_an_audit_takes_lists_and_names_no_file_of_its_own(model, tmp_path):
    result = audit(model, data=(X.tolist(), Y.tolist()), probe=True)
    assert result.probe.data == result.probe.targets == "given"
    assert "Probed on the given data: " in result.save(tmp_path / "r.txt").read_text()
    with pytest.raises(UsageError) as caught:
        audit(model, data=(np.ones((4, 2)), Y))
    assert str(caught.value).startswith("data: input ")
    assert "takes samples of shape (3), found (2)" in str(caught.value)


def test_many_samples_in_a_list_are_named_in_a_short_line(model):
    with pytest.raises(UsageError, match=r"found x_0, .*, … \(100 arrays\)"):
        audit(model, data=([np.ones(3)] * 100, None))


@pytest.mark.parametrize(
    ("dtype", "x", "y", "words"),
    [
        ("float32", 1e300, 0.0, "input input_layer takes float32 numbers, found 1e+300"),
        ("float32", -1e300, 0.0, "found -1e+300"),
        ("uint8", 256, 0.0, "takes uint8 numbers, found 256"),
        ("uint8", -1, 0.0, "takes uint8 numbers, found -1"),
        ("float32", 1.0, 1e300, "y holds 1e+300; mean_squared_error takes numbers of single"),
    ],
)
def test_numbers_that_would_become_others_are_told(dtype, x, y, words):
    model = keras.Sequential(
        [keras.Input((1,), dtype=dtype, name="input_layer"), layers.Rescaling(1.0), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    with pytest.raises(UsageError, match=re.escape(words)):
        audit(model, data=(np.full((4, 1), x), np.full((4, 1), y)))


def test_numbers_at_the_end_of_their_range_are_taken(recwarn):
    model = keras.Sequential([keras.Input((2,), dtype="uint8"), layers.Dense(1)])
    model.compile("adam", "mse")
    result = audit(model, data=(np.array([[0, 255]] * 4), np.ones((4, 1))))
    assert result.probe is not None
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]
