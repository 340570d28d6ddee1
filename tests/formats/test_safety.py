"""Hazards: hostile configurations are seen at every depth, honest ones are not accused."""

import json
from typing import Any

import pytest
from formats.crafted.keras_configs import LAMBDA, PAYLOADS

from auditor.finding import Severity
from auditor.formats.safety import MOST, config_hazards
from auditor.hazard import Hazard


def wrap(value: object, depth: int = 0) -> dict[str, Any]:
    """A model that holds a layer's object, `depth` models down."""
    model = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": [value]},
        "registered_name": None,
    }
    return model if depth == 0 else wrap(model, depth - 1)


def layer(kind: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": "it", **config}}


def function(module: str, name: str) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


@pytest.mark.parametrize("case", PAYLOADS)
@pytest.mark.parametrize("depth", [0, 3])
def test_hostile_objects_are_seen_at_every_depth(case: str, depth: int) -> None:
    value, code, identifier = PAYLOADS[case]
    value = json.loads(json.dumps(value).replace("BAIT", "/bait"))
    hazards = config_hazards(wrap(value, depth), "config.json")
    found = [hazard for hazard in hazards if hazard.code == code]
    assert found, case
    assert any(identifier in hazard.identifier for hazard in found)
    assert all(hazard.place.startswith("config.json: ") for hazard in found)


PLACES = {
    "argument": lambda value: layer("Dense", deep=[{"x": [value]}]),
    "call": lambda value: {
        **layer("Dense"),
        "inbound_nodes": [{"args": [], "kwargs": {"a": value}}],
    },
    "compile": lambda value: {**layer("Dense"), "compile_config": {"loss": {"y": value}}},
    "build": lambda value: {**layer("Dense"), "build_config": {"input_shape": value}},
    "beside a marker": lambda value: {"class_name": "__tensor__", "config": {"value": value}},
    "in a registered name": lambda value: {**layer("Dense"), "registered_name": value},
    "in a lambda layer": lambda value: layer("Lambda", function="relu", arguments={"a": value}),
}


@pytest.mark.parametrize("place", PLACES)
def test_hostile_objects_are_seen_in_every_place(place: str) -> None:
    config = wrap(PLACES[place](layer("system", "os")))
    assert any(
        "os.system" in hazard.what and hazard.severity is Severity.ERROR
        for hazard in config_hazards(config, "config.json")
    )


def only(config: object) -> Hazard:
    (hazard,) = config_hazards(config, "config.json")
    return hazard


def test_a_lambda_layer_is_told_once_and_by_name() -> None:
    hazard = only(wrap(layer("Lambda", function=LAMBDA)))
    assert hazard.severity is Severity.ERROR
    assert hazard.place == "config.json: config.layers[0] (it)"


def test_a_lambda_of_a_named_function_is_a_warning() -> None:
    hazard = only(wrap(layer("Lambda", function=function("builtins", "relu"))))
    assert (hazard.code, hazard.severity) == ("GEB901", Severity.WARNING)
    hazard = only(wrap(layer("Lambda", function="scale", function_type="function")))
    assert (hazard.code, hazard.severity) == ("GEB901", Severity.WARNING)


@pytest.mark.parametrize(
    "value",
    [
        layer("Gate", "my_project.layers"),
        layer("Gate", "__main__"),
        function("my_project.losses", "my_loss"),
        {"class_name": "Gate", "module": "my_project", "registered_name": "Gate", "config": {}},
        {**layer("Gate", "my_project"), "registered_name": "my_project>Gate"},
        function("my_project.losses", "my_project>my_loss"),
        layer("Gate", "test"),
        layer("KerasLayer", "tensorflow_hub.keras_layer"),
        layer("TFBertMainLayer", "transformers.models.bert.modeling_tf_bert"),
        layer("TFOpLambda", function="io.decode_jpeg"),
        layer("TFOpLambda", function="image.decode_png"),
        layer("TFOpLambda", function="something.new"),
        layer("TFOpLambda"),
        layer("ClassMethod", cls_ref="Module", method_name="x"),
    ],
)
def test_a_projects_own_module_is_a_warning(value: object) -> None:
    hazard = only(wrap(value))
    assert (hazard.code, hazard.severity) == ("GEB902", Severity.WARNING)


@pytest.mark.parametrize(
    "value",
    [
        layer("Gate", None),
        {**layer("Dense"), "registered_name": "package>Dense"},
        {"class_name": "package>Gate", "config": {}},
        {"class_name": "Gate", "config": {"name": "gate"}},
        function("builtins", "my_loss"),
    ],
)
def test_what_is_looked_up_and_not_imported_is_information(value: object) -> None:
    hazard = only(wrap(value))
    assert (hazard.code, hazard.severity) == ("GEB910", Severity.INFO)
    assert "not in the file" in hazard.what


def test_a_registered_name_hides_no_means() -> None:
    """Unpatched releases import the module whatever name is registered."""
    value = {**layer("system", "os"), "registered_name": "my_project>system"}
    assert only(wrap(value)).severity is Severity.ERROR
    hazard = only(wrap(function("subprocess", "my_project>run")))
    assert (hazard.code, hazard.severity) == ("GEB902", Severity.ERROR)


@pytest.mark.parametrize(
    ("vocabulary", "severity"),
    [
        ("words.txt", Severity.WARNING),
        ("assets/words.txt", Severity.WARNING),
        ("/etc/passwd", Severity.ERROR),
        ("../words.txt", Severity.ERROR),
        ("C:\\words.txt", Severity.ERROR),
        ("gs://bucket/words.txt", Severity.ERROR),
        (" https://host/x", Severity.ERROR),
    ],
)
def test_a_vocabulary_elsewhere_is_worse_than_one_beside_the_model(
    vocabulary: str, severity: Severity
) -> None:
    hazard = only(wrap(layer("StringLookup", vocabulary=vocabulary)))
    assert (hazard.code, hazard.severity) == ("GEB908", severity)
    assert hazard.identifier == "CVE-2025-12058"


def test_a_name_is_told_once() -> None:
    value = layer("Dense", name="a/../b")
    assert only(wrap(value)).code == "GEB903"
    assert only(wrap({**value, "name": "a/../b"})).code == "GEB903"
    assert len(config_hazards(wrap({**value, "name": "/x"}), "config.json")) == 2


@pytest.mark.parametrize("key", ["proto", "merges", "sentencepiece_path", "merges_file"])
def test_a_tokenizers_file_is_told_as_a_vocabulary_is(key: str) -> None:
    def told(name: str) -> Hazard:
        return only(wrap(layer("AnyTokenizer", "keras_hub.tokenizers", **{key: name})))

    for outside in ("/etc/passwd", "../x", "gs://bucket/x", "~/x"):
        assert (told(outside).code, told(outside).severity) == ("GEB908", Severity.ERROR)
    assert told("words.txt").severity is Severity.WARNING


def test_what_is_no_error_is_told_once_with_its_places() -> None:
    gates = [{**layer("Gate", None), "config": {"name": f"g{i}"}} for i in range(1000)]
    hazard = only(wrap({"class_name": "Sequential", "config": {"layers": gates}}))
    assert hazard.place.endswith("(g0) and 999 more")


def test_a_million_hazards_are_counted() -> None:
    """Each would be a finding; and none hides another kind of them."""
    many = [layer("Lambda", function=LAMBDA)] * 20_000
    hazards = config_hazards([*many, layer("system", "os"), layer("Gate", "own")], "config.json")
    assert len(hazards) == MOST + 3
    assert [h.code for h in hazards[-3:]] == ["GEB902", "GEB902", "GEB901"]
    assert hazards[-1].what.startswith("19,950 more")


@pytest.mark.parametrize(
    "value",
    [
        layer("Dense"),
        layer("Dense", name="block1/conv..1/a:b"),
        layer("Dense", module="tf_keras.layers"),
        layer("Dense", module="keras.src.layers.core.dense"),
        layer("BertBackbone", module="keras_hub.src.models.bert.bert_backbone"),
        {"class_name": "Dense", "config": {"name": "x", "module": "encoder"}},
        layer("StringLookup", vocabulary=["a", "b"]),
        function("builtins", "gelu"),
        function("builtins", "mean_squared_error"),
        function("keras.activations", "gelu"),
        function("keras.src.ops.nn", "relu"),
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "int32"}},
        {"class_name": "__typespec__", "module": "tensorflow.python.framework.tensor_spec",
         "spec_name": "TensorSpec", "config": [], "registered_name": None},
        {"module": "builtins", "class_name": "type", "config": "int", "registered_name": None},
        {**layer("Relu", "keras.src.ops.nn"), "registered_name": "Relu"},
        layer("LayerScale", "keras.src.applications.convnext"),
        layer("FeatureSpace", "keras.utils"),
        layer("Dense", "keras.engine.base_layer"),
        layer("Relu", "keras.api._v2.keras.layers"),
        function("keras.backend", "relu"),
        function("tensorflow.python.keras.losses", "mse"),
        function("keras_hub.src.utils.keras_utils", "keras_hub>gelu_approximate"),
        layer("TFOpLambda", function="compat.v1.nn.conv2d"),
        *(
            layer("TFOpLambda", function=name)
            for name in (
                "__operators__.add", "math.reduce_mean", "compat.v1.transpose", "tf.concat",
                "image.resize", "strings.lower", "linalg.matmul", "random.stateless_uniform",
                "clip_by_value", "compat.v1.shape", "debugging.assert_shapes", "sparse.to_dense",
                "keras.backend.batch_flatten", "keras.metrics.mean_squared_error",
                "signal.stft", "experimental.numpy.copy", "one_hot", "cast", "where",
            )
        ),
        layer("ClassMethod", cls_ref="RaggedTensor", method_name="from_tensor"),
        layer("TensorFlowOpLayer", node_def='{"name": "r", "op": "ReadVariableOp"}'),
        layer("TensorFlowOpLayer", node_def='{"name": "print", "op": "AddV2"}'),
        layer("SentencePieceTokenizer", "keras_hub.tokenizers", proto="Cg4K" + "a/b+" * 200),
        layer("Own", None, cache_path="/home/me")["config"],
        {"class_name": "TensorShape", "items": [None, 3]},
        layer("StringLookup", vocabulary=["https://a", "../b"]),
        layer("TextVectorization", vocabulary=None),
    ],
)  # fmt: skip
def test_what_keras_writes_is_no_hazard(value: object) -> None:
    assert config_hazards(wrap(value), "config.json") == ()


TORCH = "keras.src.backend.torch.optimizers"


@pytest.mark.parametrize(
    "kind", ["Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "Lion", "Nadam", "RMSprop", "SGD"]
)
def test_an_optimizer_as_keras_names_it_on_pytorch_is_no_hazard(kind: str) -> None:
    value = {**layer(kind, f"{TORCH}.torch_{kind.lower()}"), "registered_name": kind}
    assert config_hazards(wrap(value), "config.json") == ()
    wrapped = layer("LossScaleOptimizer", "keras.optimizers", inner_optimizer=value)
    assert config_hazards(wrap(wrapped), "config.json") == ()


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("torch", f"{TORCH}.torch_adam"),
        ("SGD", f"{TORCH}.torch_adam"),
        ("TorchOptimizer", f"{TORCH}.torch_optimizer"),
        ("Adam", f"{TORCH}.torch_adam.more"),
        ("Adam", "keras.src.backend.torch.torch_adam"),
    ],
)
def test_beside_the_optimizers_of_a_backend_it_is_one(kind: str, module: str) -> None:
    hazard = only(wrap(layer(kind, module)))
    assert (hazard.code, hazard.severity) == ("GEB902", Severity.ERROR)


@pytest.mark.parametrize("value", [None, 3, [], {}, "x", [[None]], {"class_name": []}])
def test_anything_is_walked(value: object) -> None:
    assert config_hazards(value, "config.json") == ()
