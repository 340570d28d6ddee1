"""Hazards: hostile configurations are seen at every depth, honest ones are not accused."""

from typing import Any

import pytest

from auditor.finding import Severity
from auditor.formats.safety import config_hazards
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


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAA==", "defaults": None}}

HOSTILE: dict[str, tuple[object, str, str]] = {
    "lambda layer": (layer("Lambda", function=LAMBDA), "GEB901", "CVE-2024-3660"),
    "lambda of keras 2": (
        layer("Lambda", function=["4wEAAA==", None, None], function_type="lambda"),
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda by an odd module": (
        layer("Lambda", module="keras.src.layers.core.lambda_layer", function=LAMBDA),
        "GEB901",
        "CVE-2024-3660",
    ),
    "bare lambda in an argument": (layer("Dense", activation=LAMBDA), "GEB901", "CVE-2024-3660"),
    "torch": (layer("TorchModuleWrapper", module_="gASV"), "GEB901", "CVE-2025-49655"),
    "saved model": (layer("TFSMLayer", filepath="/x"), "GEB901", "CVE-2026-1462"),
    "os.system": (layer("system", "os", command="id"), "GEB902", "CVE-2025-1550"),
    "subprocess": (layer("Popen", "subprocess"), "GEB902", "CVE-2025-1550"),
    "numpy": (layer("load", "numpy"), "GEB902", "CVE-2025-1550"),
    "tensorflow": (layer("read_file", "tensorflow.io"), "GEB902", "CVE-2025-1550"),
    "no keras but named alike": (layer("x", "keraslike"), "GEB902", ""),
    "builtin class": (layer("eval", "builtins"), "GEB902", "CVE-2025-1550"),
    "builtin function": (
        layer("Activation", activation=function("builtins", "exec")),
        "GEB902",
        "CVE-2025-1550",
    ),
    "foreign function": (function("shutil", "rmtree"), "GEB902", "CVE-2025-1550"),
    "download": (function("keras.utils", "get_file"), "GEB902", "CVE-2025-8747"),
    "download as a class": (layer("get_file", "keras.utils"), "GEB902", "CVE-2025-8747"),
    "download from inside": (
        layer("get_file", "keras.src.utils.file_utils"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "safe mode off": (
        function("keras.config", "enable_unsafe_deserialization"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "load another": (function("keras.models", "load_model"), "GEB902", "CVE-2025-8747"),
    "type spec": (
        {"class_name": "__typespec__", "spec_name": "system", "module": "os", "config": []},
        "GEB902",
        "CVE-2025-1550",
    ),
    "module of a function": (layer("Lambda", fn_module="os", function="f"), "GEB902", ""),
    "name with dots": (layer("Dense", name="../../evil"), "GEB903", "CVE-2026-12479"),
    "absolute name": (layer("Dense", name="/etc/cron.d/x"), "GEB903", "CVE-2026-12479"),
    "backslashes": (layer("Dense", name="a\\..\\..\\b"), "GEB903", "CVE-2026-12479"),
    "nul": (layer("Dense", name="a\0b"), "GEB903", "CVE-2026-12479"),
    "vocabulary": (layer("StringLookup", vocabulary="/etc/passwd"), "GEB903", "CVE-2025-12058"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("depth", [0, 3])
def test_hostile_objects_are_seen_at_every_depth(case: str, depth: int) -> None:
    value, code, identifier = HOSTILE[case]
    hazards = config_hazards(wrap(value, depth), "config.json")
    found = [hazard for hazard in hazards if hazard.code == code]
    assert found, case
    if identifier:
        assert identifier in {hazard.identifier for hazard in found}
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
        layer("Gate", None),
        {**layer("Gate", "my_project"), "registered_name": "my_project>Gate"},
        {**layer("Dense"), "registered_name": "package>Dense"},
        {"class_name": "package>Gate", "config": {}},
        function("builtins", "my_loss"),
        function("my_project.losses", "my_loss"),
    ],
)
def test_a_projects_own_code_is_a_warning(value: object) -> None:
    hazard = only(wrap(value))
    assert (hazard.code, hazard.severity) == ("GEB902", Severity.WARNING)


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
    ],
)  # fmt: skip
def test_what_keras_writes_is_no_hazard(value: object) -> None:
    assert config_hazards(wrap(value), "config.json") == ()


@pytest.mark.parametrize("value", [None, 3, [], {}, "x", [[None]], {"class_name": []}])
def test_anything_is_walked(value: object) -> None:
    assert config_hazards(value, "config.json") == ()
