"""Keras configurations that carry code, name things to import, or lead out of the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py

from .case import BAIT_MODULE, Bait, Case

#: Marshalled code would stand here; this is no code, so that decoding it would be an error.
LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAA==", "defaults": None}}
DENSE = {"name": "wide", "units": 3, "batch_input_shape": [None, 4], "trainable": True}


def layer(kind: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": "it", **config},
        "registered_name": None,
    }


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def sequential(*layers: object, name: str = "model", **beside: Any) -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": name, "layers": [{**layer("Dense"), "config": DENSE}, *layers]},
        "registered_name": None,
        **beside,
    }


def functional(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """A functional model whose second layer is called with these keyword arguments."""
    first = {**layer("InputLayer"), "name": "x", "inbound_nodes": []}
    first["config"] = {"name": "x", "batch_shape": [None, 3]}
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}
    second = {**layer("Dense"), "name": "wide", "config": DENSE}
    second["inbound_nodes"] = [{"args": [tensor], "kwargs": dict(keywords)}]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": [first, second],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["wide", 0, 0]],
        },
    }


def keras_file(
    folder: Path, config: object, members: Mapping[str, bytes] | None = None, **options: Any
) -> Path:
    """A `.keras` archive of a configuration and further members."""
    path = folder / "model.keras"
    text = config if isinstance(config, (str, bytes)) else json.dumps(config)
    own = {"metadata.json": '{"keras_version": "3.15.1"}', "config.json": text}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in {**own, **(members or {})}.items():
            archive.writestr(name, data)
    return path


def h5_file(folder: Path, config: object, training: object = None) -> Path:
    """A whole-model HDF5 file of these configurations."""
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.11.0"
        file.attrs["model_config"] = json.dumps(config).encode()
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()
        file.create_group("model_weights")
    return path


#: What stands as a layer → code, advisory. "BAIT" is replaced by the bait's path.
PAYLOADS: dict[str, tuple[dict[str, Any], str, str]] = {
    "lambda": (layer("Lambda", function=LAMBDA), "GEB901", "CVE-2024-3660"),
    "lambda of keras 2": (
        layer("Lambda", function=["4wEAAA==", None, None], function_type="lambda"),
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda that is told raw": (
        layer("Lambda", function="4wEAAA==", function_type="raw"),
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda with code for its shape": (
        layer("Lambda", function=function("builtins", "relu"), output_shape=LAMBDA),
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda within a named lambda's arguments": (
        layer("Lambda", function=function("builtins", "relu"), arguments={"a": LAMBDA}),
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda registered under a package": (
        {**layer("own>Lambda"), "config": {"name": "it", "function": LAMBDA}},
        "GEB901",
        "CVE-2024-3660",
    ),
    "lambda calling exec": (
        layer("Lambda", function="exec", function_type="function"),
        "GEB902",
        "CVE-2025-1550",
    ),
    "lambda of a module": (
        layer("Lambda", function="system", function_type="function", module="os"),
        "GEB902",
        "CVE-2025-1550",
    ),
    "lambda of another key's module": (
        layer("Lambda", function="relu", fn_module="subprocess"),
        "GEB902",
        "CVE-2025-1550",
    ),
    "os.system": (layer("system", "os", command="true"), "GEB902", "CVE-2025-1550"),
    "posix.system": (layer("system", "posix", command="true"), "GEB902", "CVE-2025-1550"),
    "subprocess": (layer("Popen", "subprocess", args=["true"]), "GEB902", "CVE-2025-1550"),
    "exec": (layer("exec", "builtins"), "GEB902", "CVE-2025-1550"),
    "import": (layer("__import__", "builtins"), "GEB902", "CVE-2025-1550"),
    "runpy": (layer("run_path", "runpy", path_name="BAIT"), "GEB902", "CVE-2025-1550"),
    "numpy.load": (layer("load", "numpy", file="BAIT"), "GEB902", "CVE-2025-1550"),
    "exec as a function": (
        layer("Dense", units=3, activation=function("builtins", "exec")),
        "GEB902",
        "CVE-2025-1550",
    ),
    "exec as an initializer": (
        layer("Dense", units=3, kernel_initializer=layer("exec", "builtins")),
        "GEB902",
        "CVE-2025-1550",
    ),
    "type spec": (
        {"class_name": "__typespec__", "spec_name": "system", "module": "os", "config": []},
        "GEB902",
        "CVE-2025-1550",
    ),
    "get_file": (
        layer("get_file", "keras.utils", fname="BAIT", origin="https://bait.invalid/x"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "get_file from inside": (
        layer("Dense", units=3, activation=function("keras.src.utils.file_utils", "get_file")),
        "GEB902",
        "CVE-2025-8747",
    ),
    "get_file by another package": (
        layer("Dense", units=3, activation=function("keras_hub.src.utils", "get_file")),
        "GEB902",
        "CVE-2025-8747",
    ),
    "a whole application": (
        layer("Dense", units=3, activation=function("keras.applications.vgg16", "VGG16")),
        "GEB902",
        "CVE-2025-8747",
    ),
    "an application as a class": (
        layer("VGG16", "keras.applications.vgg16"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "deserialize": (
        layer("Dense", units=3, activation=function("keras.losses", "deserialize")),
        "GEB902",
        "CVE-2025-8747",
    ),
    "deserialize by its bare name": (
        layer("Dense", units=3, activation=function("builtins", "deserialize")),
        "GEB902",
        "CVE-2025-8747",
    ),
    "a class of no model": (layer("LazyModule", "keras.src.utils.module_utils", name=BAIT_MODULE),
        "GEB902", "CVE-2025-8747"),
    "tensorflow writes": (
        layer("TFOpLambda", function="io.write_file"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "tensorflow reads, by its old name": (
        layer("TFOpLambda", function="tf.compat.v1.io.read_file"),
        "GEB902",
        "CVE-2025-8747",
    ),
    **{
        f"tensorflow's {name}": (layer("TFOpLambda", function=name), "GEB902", "CVE-2025-8747")
        for name in (
            "compat.v1.gfile.DeleteRecursively", "compat.v1.read_file", "compat.v1.app.run",
            "compat.v1.load_file_system_library", "print", "raw_ops.PrintV2",
            "raw_ops.MergeV2Checkpoints", "raw_ops.InitializeTableFromTextFileV2",
            "raw_ops.SaveDatasetV2", "summary.create_file_writer", "profiler.experimental.start",
            "debugging.experimental.enable_dump_debug_info", "keras.backend.function",
            "numpy_function", "raw_ops.EagerPyFunc", "keras.utils.get_file", "saved_model.load",
        )
    },
    "a graph's node that reads": (
        layer("TensorFlowOpLayer", node_def='{"name": "x", "op": "\\u0052eadFile"}'),
        "GEB902",
        "CVE-2025-8747",
    ),
    "a class method that loads": (
        layer("ClassMethod", cls_ref="train.Checkpoint", method_name="x"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "a function as a package's class": (
        layer("get_file", "keras_hub.src.utils.preset_utils"),
        "GEB902",
        "CVE-2025-8747",
    ),
    "a registered name before a package": (
        {**layer("system", "transformers.utils.hub"), "registered_name": "a>b"},
        "GEB902",
        "CVE-2025-1550",
    ),
    "a module that left the library": (layer("load_source", "imp"), "GEB902", "CVE-2025-1550"),
    "the library's own tests": (
        layer("assert_python_ok", "test.support.script_helper"),
        "GEB902",
        "CVE-2025-1550",
    ),
    "a marker of a module": (
        layer("Dense", units=3, x={"class_name": "CompositeTensor", "module": "subprocess",
                                   "config": {}}),
        "GEB902",
        "CVE-2025-1550",
    ),
    "a shape of a module": (
        layer("Dense", units=3, x={"class_name": "TensorShape", "module": "os", "config": {},
                                   "registered_name": "x"}),
        "GEB902",
        "CVE-2025-1550",
    ),
    "a type spec that is a function": (
        layer("Dense", units=3, x={"class_name": "__typespec__", "spec_name": "load_library",
                                   "module": "tensorflow.python.framework.load_library",
                                   "config": ["BAIT"], "registered_name": "x"}),
        "GEB902",
        "CVE-2025-1550",
    ),
    "a tokenizer's model": (
        layer("SentencePieceTokenizer", "keras_hub.tokenizers", proto="BAIT"),
        "GEB908",
        "",
    ),
    "a tokenizer's merges": (
        layer("BytePairTokenizer", "keras_hub.tokenizers", merges="BAIT", vocabulary=["a"]),
        "GEB908",
        "",
    ),
    "safe mode off": (
        layer(
            "Dense",
            units=3,
            activation=function("keras.config", "enable_unsafe_deserialization"),
        ),
        "GEB902",
        "CVE-2025-9906",
    ),
    "load another model": (
        layer("Dense", units=3, activation=function("keras.models", "load_model")),
        "GEB902",
        "CVE-2025-9906",
    ),
    "torch module": (layer("TorchModuleWrapper", module="gASV"), "GEB907", "CVE-2025-49655"),
    "saved model": (layer("TFSMLayer", filepath="BAIT"), "GEB908", "CVE-2026-1462"),
    "saved model by its module": (
        layer("TFSMLayer", "keras.src.export.tfsm_layer", filepath="BAIT"),
        "GEB908",
        "CVE-2026-1462",
    ),
    "vocabulary of strings": (
        layer("StringLookup", vocabulary="BAIT"),
        "GEB908",
        "CVE-2025-12058",
    ),
    "vocabulary of integers": (
        layer("IntegerLookup", vocabulary="BAIT"),
        "GEB908",
        "CVE-2025-12058",
    ),
    "vocabulary of text": (
        layer("TextVectorization", vocabulary="BAIT"),
        "GEB908",
        "CVE-2025-12058",
    ),
    "vocabulary behind a package": (
        layer("own>StringLookup", vocabulary="../../BAIT"),
        "GEB908",
        "CVE-2025-12058",
    ),
    "vocabulary at an address": (
        layer("StringLookup", vocabulary="http://169.254.169.254/latest/meta-data"),
        "GEB908",
        "CVE-2025-12058",
    ),
    "name that climbs": (layer("Dense", units=3, name="../../evil"), "GEB903", "CVE-2026-12479"),
    "name that is absolute": (layer("Dense", units=3, name="/evil"), "GEB903", "CVE-2026-12479"),
    "name with a NUL": (layer("Dense", units=3, name="a\0b"), "GEB903", "CVE-2026-12479"),
    "name with backslashes": (
        layer("Dense", units=3, name="a\\..\\..\\b"),
        "GEB903",
        "CVE-2026-12479",
    ),
}  # fmt: skip

#: A place in a configuration → the configuration with a hostile object there.
PLACES: dict[str, Callable[[object], dict[str, Any]]] = {
    "a layer": sequential,
    "a nested model": lambda it: sequential(sequential(sequential(it, name="b"), name="a")),
    "a wrapped layer": lambda it: sequential(layer("TimeDistributed", layer=it)),
    "an argument": lambda it: sequential(layer("Dense", units=3, deep=[{"x": [it]}])),
    "keyword arguments of a call": lambda it: functional({"y": it}),
    "a registered name": lambda it: sequential({**layer("Dense", units=3), "registered_name": it}),
    "a build configuration": lambda it: sequential(
        {**layer("Dense", units=3), "build_config": {"input_shape": it}}
    ),
    "beside a marker": lambda it: sequential(
        layer("Dense", units=3, x={"class_name": "__tuple__", "items": [], "x": it})
    ),
    "a custom layer": lambda it: sequential(
        {**layer("Gate", "geb_bait"), "registered_name": "own>Gate", "own": it}
    ),
}
COMPILED: dict[str, Callable[[object], dict[str, Any]]] = {
    "a loss": lambda it: {"loss": it},
    "a loss of one output": lambda it: {"loss": {"y": it}, "optimizer": "adam"},
    "a metric": lambda it: {"metrics": [["accuracy", it]]},
    "an optimizer": lambda it: {"optimizer": it},
    "a schedule": lambda it: {"optimizer": layer("Adam", "keras.optimizers", learning_rate=it)},
}
#: Named by positions: reached at all of them, it must be seen at all of them.
IMPORTED = function("os", "system")


def _with(value: Any, bait: Bait) -> Any:
    """The value with the bait's path where "BAIT" stands."""
    return json.loads(json.dumps(value).replace("BAIT", json.dumps(str(bait.secret))[1:-1]))


def _keras(config: object) -> Callable[[Path, Bait], Path]:
    return lambda folder, bait: keras_file(folder, _with(config, bait))


def _h5(config: object, training: object = None) -> Callable[[Path, Bait], Path]:
    return lambda folder, bait: h5_file(folder, _with(config, bait), _with(training, bait))


def cases() -> dict[str, Case]:
    """All configurations, in both formats."""
    found: dict[str, Case] = {}
    for name, (payload, code, identifier) in PAYLOADS.items():
        at = "config.layers[1]"
        found[f"keras: {name}"] = Case(
            build=_keras(sequential(payload)),
            code=code,
            identifier=identifier,
            place=f"config.json: {at}",
        )
        if code == "GEB901":
            identifier = "CVE-2025-9905"
        found[f"h5: {name}"] = Case(
            build=_h5(sequential(payload)),
            code=code,
            identifier=identifier,
            place=f"model_config: {at}",
        )
    found["keras: lambda where no safe mode is set"] = Case(
        build=_keras(sequential(layer("Lambda", function=LAMBDA))),
        code="GEB901",
        identifier="CVE-2026-12481",
    )
    for name, place in PLACES.items():
        common = {"code": "GEB902", "identifier": "CVE-2025-1550"}
        found[f"keras: {name}"] = Case(build=_keras(place(IMPORTED)), **common)
        found[f"h5: {name}"] = Case(build=_h5(place(IMPORTED)), **common)
    for name, settings in COMPILED.items():
        config = sequential(compile_config=settings(IMPORTED))
        found[f"keras: {name}"] = Case(
            build=_keras(config),
            code="GEB902",
            identifier="CVE-2025-1550",
            place="config.json: compile_config",
        )
        renamed = {
            "optimizer_config" if key == "optimizer" else key: item
            for key, item in settings(IMPORTED).items()
        }
        found[f"h5: {name}"] = Case(
            build=_h5(sequential(), renamed),
            code="GEB902",
            identifier="CVE-2025-1550",
            place="training_config: ",
        )
    found["keras: code in a model that is damaged further on"] = Case(
        build=_keras(sequential(layer("Lambda", function=LAMBDA), {"class_name": "Dense"})),
        code="GEB901",
        identifier="CVE-2024-3660",
        exit_code=3,
    )
    found["keras: a bait to import"] = Case(
        build=_keras(sequential(layer("fire", BAIT_MODULE))),
        code="GEB902",
        severity="warning",
        exit_code=0,
    )
    found["keras: vocabulary beside the model"] = Case(
        build=_keras(sequential(layer("StringLookup", vocabulary="words.txt"))),
        code="GEB908",
        identifier="CVE-2025-12058",
        severity="warning",
        exit_code=0,
    )
    found["keras: an address"] = Case(
        build=_keras(sequential(layer("KerasLayer", None, handle="https://bait.invalid/m"))),
        code="GEB908",
        place=".handle",
        severity="warning",
        exit_code=0,
    )
    found["keras: a registered class"] = Case(
        build=_keras(sequential({**layer("Gate", "own"), "registered_name": "own>Gate"})),
        code="GEB902",
        severity="warning",
        exit_code=0,
    )
    found["keras: a class of no module"] = Case(
        build=_keras(sequential(layer("Gate", None))), code="GEB910", severity="info", exit_code=0
    )
    found["h5: a class of no module"] = Case(
        build=_h5(sequential({"class_name": "Gate", "config": {"name": "gate"}})),
        code="GEB910",
        severity="info",
        exit_code=0,
    )
    return found
