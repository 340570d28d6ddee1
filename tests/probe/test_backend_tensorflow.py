"""What is TensorFlow's own: derivatives that it lacks, and what it says in the terminal."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from auditor.probe.backends import load_backend

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of the TensorFlow backend"
)

RESIZING = {
    "bilinear": lambda: layers.Resizing(3, 9),
    "bilinear, antialiased": lambda: layers.Resizing(3, 9, antialias=True),
    "bicubic": lambda: layers.Resizing(7, 4, interpolation="bicubic"),
    "lanczos": lambda: layers.Resizing(7, 4, interpolation="lanczos3"),
    "upsampling": lambda: layers.UpSampling2D(2, interpolation="bilinear"),
}


@pytest.mark.parametrize("make", RESIZING.values(), ids=RESIZING)
def test_resized_images_are_pushed_and_pulled_alike(make):
    backend, layer = load_backend("tensorflow"), make()
    rng = np.random.default_rng(0)

    def function(primals):
        return (layer(primals[0]),)

    x, v = (keras.ops.convert_to_tensor(rng.standard_normal((2, 5, 6, 3), "f4")) for _ in range(2))
    u = keras.ops.convert_to_tensor(rng.standard_normal(function((x,))[0].shape).astype("f4"))
    (pushed,) = backend.jvp(function, (x,), (v,))
    (pulled,) = backend.vjp(function, (x,), (u,))

    # Resizing is linear: J v is what becomes of v.
    np.testing.assert_allclose(pushed, function((v,))[0], atol=1e-5)
    assert float(keras.ops.sum(pushed * u)) == pytest.approx(
        float(keras.ops.sum(v * pulled)), rel=1e-4
    )


def test_the_curvature_goes_through_resized_images():
    backend, layer = load_backend("tensorflow"), layers.Resizing(3, 9)
    rng = np.random.default_rng(0)
    x, v = (keras.ops.convert_to_tensor(rng.standard_normal((1, 5, 6, 1), "f4")) for _ in range(2))

    def gradient(primals):
        def loss(inner):
            return (keras.ops.sum(keras.ops.square(layer(inner[0]))),)

        return backend.vjp(loss, primals, (keras.ops.ones(()),))

    (product,) = backend.vjp(gradient, (x,), (v,))

    # The loss is |R x|², its Hessian 2 Rᵀ R.
    (expected,) = backend.vjp(lambda primals: (layer(primals[0]),), (x,), (2 * layer(v),))
    np.testing.assert_allclose(product, expected, atol=1e-4)


def test_tensorflow_registers_the_gradients_it_had():
    from tensorflow.python.framework.ops import gradient_registry

    before = {name: gradient_registry.lookup(name) for name in ("ResizeBilinear", "ResizeBicubic")}
    test_resized_images_are_pushed_and_pulled_alike(RESIZING["bilinear"])
    assert before == {name: gradient_registry.lookup(name) for name in before}


def test_one_probe_after_another_says_nothing_of_traces(probe, caplog, capfd):
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for width in range(2, 8):
            model = keras.Sequential([keras.Input((width,)), layers.Dense(200), layers.Dense(1)])
            model.compile("adam", "mse")
            probe(model, batches=1, batch_size=2, curvature=1)
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]
    assert "retracing" not in capfd.readouterr().err
