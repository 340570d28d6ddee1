"""Model files as each release of Keras wrote them, against what that release says of them.

The files and their expected.json come from tests/data/keras/make_fixtures.py, run with the old
releases; the tables below say what its models are.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import auditor
from auditor.finding import Severity
from auditor.formats.model_file import ModelFile
from auditor.formats.read import read_model
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import Op

FOLDER = Path(__file__).parent.parent / "data" / "keras"
PATHS = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".keras", ".h5"))

# One call a line: id, operator, activation behind ":", sources behind "<". "@0" is the model's
# first input; "?" stands for an id that the release gives.
CNN_BODY = """
    conv1 conv < @0
    bn1 batch-norm < conv1
    relu1 activation:relu < bn1
    conv2 conv < relu1
    add add < conv2 relu1
    pool max-pool < add
    left conv:relu < pool
"""
CNN_1 = f"""{CNN_BODY}
    right average-pool < pool
    crop crop < right
    join concatenate < left crop
    flat flatten < join
    head dense:softmax < flat
"""
GRAPHS = {
    "mlp": """
        wide dense:relu < @0
        drop dropout < wide
        narrow dense:tanh < drop
        head dense:softmax < narrow
    """,
    "cnn": f"""{CNN_BODY}
        right separable-conv < pool
        crop crop < right
        join concatenate < left crop
        gap global-average-pool < join
        head dense:softmax < gap
    """,
    "cnn_th": CNN_1,
    "cnn_tf": CNN_1,
    "text": """
        embed embedding < @0
        both lstm:tanh < embed
        gru gru:tanh < both
        head dense:sigmoid < gru
    """,
    "gates": """
        both lstm:tanh < @0
        gru gru:tanh < both
        head dense:sigmoid < gru
    """,
    # Of two calls of equal depth, Keras runs the one first that it comes by last from the outputs.
    "pair": """
        encoder/hidden dense:relu < @1
        encoder/norm batch-norm < encoder/hidden
        encoder/code dense < encoder/norm
        encoder#2/hidden dense:relu < @0
        encoder#2/norm batch-norm < encoder#2/hidden
        encoder#2/code dense < encoder#2/norm
        shared dense < encoder#2/code
        shared#2 dense < encoder/code
        product multiply < shared shared#2
        head/deep dense:relu < product
        head/last dense:softmax < head/deep
        score dense < encoder/code
    """,
    "image": """
        pad pad < @0
        depth depthwise-conv < pad
        prelu activation:prelu < depth
        up conv-transpose < prelu
        leaky activation:leaky_relu < up
        mean average-pool < leaky
        larger upsample < mean
        conv conv:relu < larger
        flat flatten < conv
        head dense < flat
    """,
    "rows": """
        rows reshape < @0
        turn permute < rows
        each dense:elu < turn
        spatial dropout < each
        conv1d conv < spatial
        most global-max-pool < conv1d
        noise noise < most
        again repeat < noise
        simple simple-rnn:tanh < again
        head dense < simple
    """,
    "attention": """
        embed embedding < @0
        attend attention < embed embed
        ? add < embed attend
        norm layer-norm < ?
        mean global-average-pool < norm
        head dense < mean
    """,
    "mixed": """
        wide dense:relu < @0
        head dense:softmax < wide
    """,
    "custom": """
        wide dense:relu < @0
        scale opaque < wide
        head dense < scale
    """,
    "code": """
        wide dense:relu < @0
        twice opaque < wide
        head dense < twice
    """,
    "join": """
        a dense < @0
        b dense < @1
        join concatenate < a b
        head dense < join
    """,
    "zoo": """
        pad pad < @0
        prelu activation:prelu < pad
        leaky activation:leaky_relu < prelu
        mean average-pool < leaky
        larger upsample < mean
        conv conv < larger
        rows reshape < conv
        turn permute < rows
        each dense:elu < turn
        conv1d conv < each
        most global-max-pool < conv1d
        noise noise < most
        highway opaque < noise
        maxout opaque < highway
        again repeat < maxout
        simple simple-rnn:tanh < again
        head dense < simple
    """,
    # Keras 3.2 saved every use of a shared layer as one of its first call: that is what it loads.
    "pair-3.2": """
        encoder/hidden dense:relu < @0
        encoder/norm batch-norm < encoder/hidden
        encoder/code dense < encoder/norm
        shared dense < encoder/code
        product multiply < shared shared
        head/deep dense:relu < product
        head/last dense:softmax < head/deep
        score dense < encoder/code
    """,
    # Keras 3 makes the mask of an embedding a call like any other.
    "text-3": """
        embed embedding < @0
        not_equal compare < @0
        both lstm:tanh < embed not_equal
        gru gru:tanh < both not_equal
        head dense:sigmoid < gru
    """,
    "text-1": """
        embed embedding < @0
        mean average-pool < embed
        flat flatten < mean
        head dense:sigmoid < flat
    """,
    "code-1": """
        wide dense:relu < @0
        twice opaque < wide
        both opaque < wide twice
        head dense < both
    """,
}
#: The codes of what is dangerous in a model, or missing from its file; others have none.
HAZARDS = {"code": {"GEB901"}, "custom": {"GEB910"}, "zoo": {"GEB910"}}
#: Models with calls that nothing is known of: shapes after them are not known everywhere.
OPAQUE = {"code", "custom", "zoo"}
SOFTMAX = "categorical_crossentropy"
#: Optimizer, learning rate, and losses by output.
COMPILE: dict[str, tuple[str, float, dict[str | None, str]]] = {
    "mlp": ("sgd", 0.05, {None: SOFTMAX}),
    "cnn": ("adam", 0.002, {None: f"sparse_{SOFTMAX}"}),
    "cnn_th": ("adam", 0.002, {None: f"sparse_{SOFTMAX}"}),
    "cnn_tf": ("adam", 0.002, {None: f"sparse_{SOFTMAX}"}),
    "text": ("rmsprop", 0.001, {None: "binary_crossentropy"}),
    "gates": ("adagrad", 0.01, {None: "binary_crossentropy"}),
    "pair": ("sgd", 0.01, {"head": SOFTMAX, "score": "mean_squared_error"}),
    "attention": ("adam", 0.01, {None: f"sparse_{SOFTMAX}"}),
    "mixed": ("adam", 0.001, {None: SOFTMAX}),
    "join": ("sgd", 0.01, {None: "mean_squared_error"}),
    **dict.fromkeys(
        ("image", "rows", "custom", "code", "zoo"), ("adam", 0.001, {None: "mean_squared_error"})
    ),
}


@dataclass(frozen=True)
class Fixture:
    path: Path
    file: ModelFile
    release: str
    said: dict[str, Any]

    @property
    def model(self) -> str:
        return self.path.stem

    @property
    def graph(self) -> LayerGraph:
        return self.file.graph


@pytest.fixture(scope="module", params=PATHS, ids=lambda p: f"{p.parent.name}/{p.name}")
def fixture(request: pytest.FixtureRequest) -> Fixture:
    path = request.param
    expected = json.loads((path.parent / "expected.json").read_text())
    said = expected["models"][path.stem]
    return Fixture(path, read_model(path), expected["keras_version"], said)


def wanted(fixture: Fixture) -> Iterator[tuple[str, Op, str | None, list[str]]]:
    major, minor, *_ = fixture.release.split(".")
    names = (f"{fixture.model}-{major}.{minor}", f"{fixture.model}-{major}", fixture.model)
    table = next(GRAPHS[name] for name in names if name in GRAPHS)
    inputs = {f"@{index}": spec.call for index, spec in enumerate(fixture.graph.inputs)}
    for line in table.split("\n"):
        if not line.strip():
            continue
        call, sources = line.split("<")
        name, kind = call.split()
        op, _, activation = kind.partition(":")
        yield name, Op(op), activation or None, [inputs.get(s, s) for s in sources.split()]


def test_every_release_line_is_there() -> None:
    lines = {path.parent.name.rsplit(".", 1)[0] for path in PATHS}
    assert {f"keras-3.{minor}" for minor in range(16)} <= lines
    assert {"keras-1.0", "keras-1.2", "keras-2.0", "keras-2.2", "keras-2.3"} <= lines
    assert {f"tensorflow-2.{minor}" for minor in (0, 4, 8, 12, 13, 15)} <= lines
    kinds = {(path.parent.name.split("-")[1][0], path.suffix) for path in PATHS}
    assert {("1", ".h5"), ("2", ".h5"), ("3", ".h5"), ("2", ".keras"), ("3", ".keras")} <= kinds


def test_calls_operators_and_edges(fixture: Fixture) -> None:
    rows = list(wanted(fixture))
    named = {name for name, *_ in rows}
    given = [call for call in fixture.graph.calls if call.op is not Op.INPUT]
    # The one call whose name the release chose.
    chosen = {call.id: "?" for call in given if call.id not in named} if "?" in named else {}
    assert len(chosen) == ("?" in named)
    read = {
        chosen.get(call.id, call.id): (
            call.op,
            call.activation,
            [chosen.get(source.id, source.id) for source in fixture.graph.predecessors(call.id)],
        )
        for call in given
    }
    assert read == {name: (op, activation, sources) for name, op, activation, sources in rows}
    ends = {"pair": ["head/last", "score"]}.get(fixture.model, ["head"])
    assert [call.id for call in fixture.graph.output_calls] == ends


def test_weights_are_those_the_release_counts(fixture: Fixture) -> None:
    graph, said = fixture.graph, fixture.said
    layers = {call.layer: call for call in graph.layers()}
    assert {path for path, call in layers.items() if call.weights} == set(said["weights"])
    for path, weights in said["weights"].items():
        read = layers[path].weights
        assert [list(weight.shape) for weight in read] == [one["shape"] for one in weights], path
        for weight, one in zip(read, weights, strict=True):
            assert weight.read is not None
            values = weight.read().astype("float64").ravel()
            numbers = np.arange(1, values.size + 1)
            # What was summed in old releases was summed in single precision by some.
            assert values.sum() == pytest.approx(one["sum"], abs=1e-5), (path, weight.name)
            assert values @ numbers == pytest.approx(one["order"], abs=1e-4), (path, weight.name)
            assert weight.trainable == one["trainable"], (path, weight.name)
    assert graph.parameters == said["parameters"]
    assert graph.trainable_parameters == said["trainable"]


def test_roles_and_fans(fixture: Fixture) -> None:
    """What is no weight of an odd layer has its role, and every kernel its fans."""
    for call in fixture.graph.layers():
        for weight in call.weights:
            if call.op is Op.OPAQUE or call.activation == "prelu":
                continue
            assert weight.role != "other", (call.id, weight.name)
            kernel = "kernel" in weight.role
            assert (weight.fan_in is not None) == (kernel or weight.role == "embeddings")
            assert weight.initializer is not None, (call.id, weight.name)
    if fixture.model.startswith("cnn"):
        kernel = fixture.graph.by_id["left"].weight("kernel")
        assert kernel is not None
        assert (kernel.shape, kernel.fan_in, kernel.fan_out) == ((1, 3, 4, 2), 12, 6)


def fits(read: tuple[Any, ...], said: list[int | None]) -> bool:
    """Whether a shape agrees with one that may know less."""
    pairs = zip(read, said, strict=False)
    return len(read) == len(said) and all(size in (None, own) for own, size in pairs)


def test_output_shapes(fixture: Fixture) -> None:
    said, compared = fixture.said["shapes"], 0
    for call in fixture.graph.calls:
        if call.out_shape is None:
            assert fixture.model in OPAQUE, call.id
        elif said.get(call.layer) is not None:
            assert fits(call.out_shape, said[call.layer]), call.id
            compared += 1
    assert compared >= 1


def test_compile_settings(fixture: Fixture) -> None:
    settings = fixture.graph.compile
    assert settings is not None
    assert settings.optimizer is not None
    name, rate, losses = COMPILE[fixture.model]
    # Keras 1 and 2 wrote the rate as the optimizer holds it, in single precision.
    assert settings.optimizer.name == name
    assert settings.optimizer.learning_rate == pytest.approx(rate, rel=1e-6)
    found = {loss.output: loss.name for loss in settings.losses}
    by_place = {str(place): loss for place, loss in enumerate(losses.values())}
    assert found in (losses, by_place)
    assert not any(loss.custom for loss in settings.losses)
    if fixture.model == "mlp":
        assert settings.metrics == ("accuracy",)
        numbers = {key: settings.optimizer.number(key) for key in ("momentum", "clipnorm")}
        assert numbers == {"momentum": pytest.approx(0.9), "clipnorm": pytest.approx(1.0)}
    if fixture.model == "attention":
        assert settings.optimizer.schedule == "ExponentialDecay"
        assert settings.losses[0].from_logits


def test_writer_notes_and_hazards(fixture: Fixture) -> None:
    assert fixture.graph.writer == f"keras {fixture.release}"
    assert fixture.graph.notes == ()
    opaque = [call for call in fixture.graph.calls if call.note]
    assert all(call.op is Op.OPAQUE for call in opaque)
    assert bool(opaque) == (fixture.model in OPAQUE)
    assert {hazard.code for hazard in fixture.file.hazards} == HAZARDS.get(fixture.model, set())


def test_static_audit_finds_no_error_on_the_healthy(fixture: Fixture) -> None:
    result = auditor.audit(fixture.path, probe=False)
    errors = {found.code for found in result.findings if found.severity is Severity.ERROR}
    assert errors == ({"GEB901"} if fixture.model == "code" else set())


def configured(fixture: Fixture, layer: str) -> LayerCall:
    return next(call for call in fixture.graph.calls if call.layer == layer)


def test_one_vocabulary_of_configurations(fixture: Fixture) -> None:
    """Rules read Keras 2's argument names, whoever wrote the file."""
    if fixture.model == "mlp":
        config = configured(fixture, "narrow").config
        assert (config["units"], config["use_bias"]) == (6, False)
        assert config["kernel_regularizer"]["class_name"] in ("L1L2", "L2")
        assert config["kernel_regularizer"]["config"]["l2"] == pytest.approx(0.01)
        kernel = configured(fixture, "wide").weight("kernel")
        assert kernel is not None
        assert kernel.initializer is not None
        law = kernel.initializer
        # Before 2.10, He's law was written as the scaling of variance that it is.
        spelled = (law.name, law.config.get("scale"), law.config.get("mode"))
        assert law.name == "he_normal" or spelled == ("variance_scaling", 2.0, "fan_in")
        assert configured(fixture, "drop").config["rate"] == pytest.approx(0.25)
    if fixture.model.startswith("cnn"):
        config = configured(fixture, "left").config
        assert (list(config["kernel_size"]), list(config["strides"])) == ([1, 3], [2, 2])
        assert (config["padding"], config["filters"]) == ("valid", 2)
        axis = configured(fixture, "bn1").config["axis"]
        axis = axis[0] if isinstance(axis, list) else axis
        first = fixture.model == "cnn_th"
        assert config["data_format"] == ("channels_first" if first else "channels_last")
        assert axis in ((1,) if first else (-1, 3))


def test_mixed_precision(fixture: Fixture) -> None:
    wide, head = configured_or_none(fixture, "wide"), configured_or_none(fixture, "head")
    if fixture.model != "mixed":
        assert all(call.dtype != "float16" for call in fixture.graph.calls)
        return
    assert wide is not None
    assert head is not None
    assert (wide.dtype, head.dtype) == ("float16", "float32")
    assert {weight.dtype for weight in (*wide.weights, *head.weights)} == {"float32"}


def configured_or_none(fixture: Fixture, layer: str) -> LayerCall | None:
    return next((call for call in fixture.graph.calls if call.layer == layer), None)
