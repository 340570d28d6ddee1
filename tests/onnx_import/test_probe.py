"""ONNX models under the probe: which axis holds the samples, what is held, what has a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import Maker, value

from auditor import audit
from auditor.errors import ProbeFailed, UnreadableModel
from auditor.formats import read_model
from auditor.measurement import ProbeResult
from auditor.onnx_import import to_keras
from auditor.probe.backends import load_backend
from auditor.probe.measure import measure, unheard
from auditor.probe.onnx_inputs import sample_axes
from auditor.probe.onnx_probe import hosted_nodes, probe_onnx
from auditor.probe.settings import ProbeSettings

Probe = Callable[..., ProbeResult]
SETTINGS = ProbeSettings(batch_size=4, batches=2, curvature=0)


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """Probes a model in this process."""

    def run(model: onnx.ModelProto) -> ProbeResult:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        backend = load_backend(keras.backend.backend())
        graph = read_model(path).graph
        return probe_onnx(path, graph, SETTINGS, backend, lambda _: None, unheard)

    return run


def mlp(make: Maker, x: str, *, inputs: int = 8, classes: int = 3) -> str:
    """Two dense layers with a softmax."""
    x = make.node("Gemm", x, make.weight("w1", inputs, 16), make.weight("b1", 16), name="/1/Gemm")
    x = make.node("Relu", x, name="/1/Relu")
    x = make.node("Gemm", x, make.weight("w2", 16, classes), name="/2/Gemm")
    return make.node("Softmax", x, name="/2/Softmax", axis=1)


def test_same_numbers_as_the_keras_model_of_the_same_weights(probe: Probe, tmp_path: Path) -> None:
    make = Maker()
    found = probe(make.model([value("x", ["n", 8])], [value(mlp(make, "x"), ["n", 3])]))
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu", name="1"),
            keras.layers.Dense(3, "softmax", name="2"),
        ]
    )
    w1, b1, w2 = (onnx.numpy_helper.to_array(tensor) for tensor in make.tensors)
    model.layers[0].set_weights([w1, b1])
    model.layers[1].set_weights([w2, np.zeros(3)])
    path = tmp_path / "model.keras"
    model.save(path)
    backend = load_backend(keras.backend.backend())
    graph = read_model(path).graph
    wanted = measure(model, graph, SETTINGS, backend, lambda _: None)
    assert set(found.calls) == set(wanted.calls) == {"1", "2"}
    assert found.loss == wanted.loss == "categorical_crossentropy"
    for name, call in wanted.calls.items():
        other = found.calls[name].jacobian
        assert call.jacobian is not None
        assert other is not None
        assert other.forward_gain == pytest.approx(call.jacobian.forward_gain, rel=1e-4)
        assert other.spectral_norm.value == pytest.approx(
            call.jacobian.spectral_norm.value, rel=1e-4
        )
    assert found.loss_at_start == pytest.approx(wanted.loss_at_start, rel=1e-5)


def test_a_recurrent_state_has_its_samples_in_the_middle(probe: Probe) -> None:
    make = Maker()
    w, r = make.tensor("w", np.ones((1, 32, 4), "f")), make.tensor("r", np.ones((1, 32, 8), "f"))
    make.node("LSTM", "x", w, r, "", "", "h", "c", outputs=["y", "hn", "cn"], hidden_size=8)
    y = make.node("Squeeze", "y", make.tensor("axis", [1], "int64"))
    found = probe(
        make.model(
            [value("x", [5, "n", 4]), value("h", [1, "n", 8]), value("c", [1, "n", 8])],
            [value(y, [5, "n", 8]), value("hn", [1, "n", 8])],
        )
    )
    assert found.batch_size == 4
    assert found.calls


def test_a_number_is_held_at_what_the_graph_compares_it_with(probe: Probe) -> None:
    def branch(weight: str) -> onnx.GraphProto:
        node = onnx.helper.make_node("MatMul", ["x", weight], [f"y_{weight}"], name=f"/{weight}/m")
        return onnx.helper.make_graph([node], weight, [], [value(f"y_{weight}", ["n", 2])])

    make = Maker()
    make.weight("fast", 8, 2), make.weight("slow", 8, 2)
    rate = make.node("Equal", "rate", make.tensor("sixteen", 16000, "int64"))
    y = make.node("If", rate, then_branch=branch("fast"), else_branch=branch("slow"))
    model = make.model(
        [value("x", ["n", 8]), value("rate", [], TensorProto.INT64)], [value(y, ["n", 2])]
    )
    found = probe(model)
    assert "input rate: 16000, which the graph compares it with" in found.assumptions
    assert [name for name in found.calls if "fast" in name]
    assert not [name for name in found.calls if "slow" in name]


def test_whole_numbers_have_no_loss(probe: Probe) -> None:
    make = Maker()
    scores = mlp(make, "x")
    best = make.node("ArgMax", scores, axis=1, keepdims=0)
    found = probe(make.model([value("x", ["n", 8])], [best, value(scores, ["n", 3])]))
    told = [line for line in found.assumptions if "has no loss" in line]
    assert len(told) == 1
    assert "int64" in told[0]
    assert found.loss == "categorical_crossentropy"


def test_sizes_are_tried_until_the_model_takes_them(probe: Probe) -> None:
    make = Maker()
    x = make.node("Unsqueeze", "x", make.tensor("one", [1], "int64"))
    x = make.node("Conv", x, make.weight("w", 4, 1, 200), name="/c/Conv", strides=[50])
    y = make.node("ReduceMax", x, axes=[2], keepdims=0)
    found = probe(make.model([value("x", ["n", "samples"])], [value(y, ["n", 4])]))
    assert "input x 256: standard normal" in found.assumptions


def test_nodes_without_a_gradient_are_named() -> None:
    nodes = {f"Round /{number}/Round": "it has no form on Keras" for number in range(5)}
    (told,) = hosted_nodes({**nodes})
    assert told == (
        "no gradient passes Round /0/Round, Round /1/Round, Round /2/Round and 2 more: "
        "it has no form on Keras"
    )


def test_what_cannot_be_run_is_told_in_one_line(probe: Probe) -> None:
    make = Maker(domains=("com.acme",))
    y = make.node("Swirl", mlp(make, "x"), domain="com.acme", name="/s/Swirl")
    with pytest.raises(ProbeFailed, match=r"com\.acme\.Swirl '/s/Swirl'") as told:
        probe(make.model([value("x", ["n", 8])], [value(y, ["n", 3])]))
    assert "\n" not in str(told.value)


def test_a_proto_in_memory_is_probed_in_a_worker() -> None:
    make = Maker()
    model = make.model([value("x", ["n", 8])], [value(mlp(make, "x"), ["n", 3])])
    before = model.SerializeToString(deterministic=True)
    result = audit(model, curvature=0, batches=2)
    assert result.probe is not None, result.probe_skipped
    assert {layer for layer, call in result.probe.calls.items() if call.jacobian} == {"1", "2"}
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        ([("batch", 8)], (0,)),
        ([(None, 8), (2, None, 8), ()], (0, 1, None)),
        ([("batch", "time"), (2, "batch", 8), ()], (0, 1, None)),
        ([("batch", "time"), (1, "time", 8)], (0, None)),
        ([("frames", 576), (1, 1, 128)], (0, None)),
        ([(1, 576), (2, 1, 128)], (0, 1)),
        ([(4, 3), (4, 3), (2, 2)], (0, 0, None)),
        ([(5, "n", 4), (1, "n", 8)], (1, 1)),
        ([()], (None,)),
    ],
)
def test_sample_axes(shapes: list[tuple[object, ...]], axes: tuple[int | None, ...]) -> None:
    assert sample_axes(shapes) == axes  # type: ignore[arg-type]


def test_an_imported_model_is_audited_with_the_weights_it_has_now() -> None:
    make = Maker()
    model = to_keras(make.model([value("x", ["n", 8])], [value(mlp(make, "x"), ["n", 3])]))
    first = audit(model, curvature=0, batches=1)
    kernel = next(weight for weight in model.trainable_weights if weight.shape == (8, 16))
    kernel.assign(2 * kernel)
    second = audit(model, curvature=0, batches=1)
    assert first.probe is not None
    assert second.probe is not None
    norms = [result.probe.calls["1"].weight_norm for result in (first, second)]  # type: ignore[union-attr]
    assert norms[1] > 1.9 * norms[0]
    (read,) = (w.read for w in second.graph.by_id["1"].weights if w.role == "kernel")
    assert np.array_equal(read(), kernel.numpy())


def test_a_saved_import_is_refused_where_it_is_audited_live(tmp_path: Path) -> None:
    make = Maker()
    path = tmp_path / "model.keras"
    to_keras(make.model([value("x", ["n", 8])], [value(mlp(make, "x"), ["n", 3])])).save(path)
    with pytest.raises(UnreadableModel, match="audit the ONNX file"):
        audit(keras.saving.load_model(path))
