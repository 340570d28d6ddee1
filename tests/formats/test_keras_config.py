"""Configurations without files: the dialect of Keras 2, malformed ones, what keys mean."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.keras_config import graph_from_config
from auditor.formats.safety import config_hazards
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op


def read(config: object, **settings: Any) -> LayerGraph:
    return graph_from_config(config, format="keras", writer="keras", **settings)


def layer(kind: str, name: str, *sources: str, **config: Any) -> dict[str, Any]:
    """A layer of a functional model as Keras 2 wrote it."""
    node = [[source, 0, 0, {}] for source in sources]
    return {
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "name": name,
        "inbound_nodes": [node] if sources else [],
    }


def functional(
    *layers: dict[str, Any], inputs: Any, outputs: Any, name: str = "model"
) -> dict[str, Any]:
    config = {"name": name, "layers": [*layers], "input_layers": inputs, "output_layers": outputs}
    return {"class_name": "Functional", "config": config}


def entry(name: str = "x", *sizes: int) -> dict[str, Any]:
    return layer("InputLayer", name, batch_input_shape=[None, *(sizes or (4,))])


def residual() -> dict[str, Any]:
    return functional(
        entry(),
        layer("Dense", "wide", "x", units=4, activation="relu"),
        layer("Add", "sum", "wide", "x"),
        layer("Dense", "out", "sum", units=2, activation="softmax"),
        inputs=[["x", 0, 0]],
        outputs=[["out", 0, 0]],
    )


def test_keras_2_functional_model() -> None:
    graph = read(residual())
    assert [(c.id, c.op, c.activation) for c in graph.calls] == [
        ("x", Op.INPUT, None),
        ("wide", Op.DENSE, "relu"),
        ("sum", Op.ADD, None),
        ("out", Op.DENSE, "softmax"),
    ]
    assert [c.out_shape for c in graph.calls] == [(None, 4), (None, 4), (None, 4), (None, 2)]
    assert [c.id for c in graph.predecessors("sum")] == ["wide", "x"]
    assert graph.inputs[0].shape == (None, 4)


@pytest.mark.parametrize("listed", [True, False])
def test_keras_2_sequential_without_input_layer(listed: bool) -> None:
    first = {"name": "wide", "units": 3, "batch_input_shape": [None, 7], "activation": "linear"}
    layers = [
        {"class_name": "Dense", "config": first},
        {"class_name": "Activation", "config": {"name": "act", "activation": "tanh"}},
    ]
    graph = read({"class_name": "Sequential", "config": layers if listed else {"layers": layers}})
    assert [(c.id, c.out_shape) for c in graph.calls] == [
        ("wide_input", (None, 7)),
        ("wide", (None, 3)),
        ("act", (None, 3)),
    ]
    assert graph.calls[2].activation == "tanh"


def test_keras_2_tuples_are_lists() -> None:
    size = {"class_name": "__tuple__", "items": [3, 3]}
    conv = {"name": "conv", "filters": 2, "kernel_size": size, "batch_input_shape": [None, 8, 8, 1]}
    graph = read(
        {
            "class_name": "Sequential",
            "config": {"layers": [{"class_name": "Conv2D", "config": conv}]},
        }
    )
    assert graph.calls[1].out_shape == (None, 6, 6, 2)
    assert graph.calls[1].config["kernel_size"] == [3, 3]


def inner_model(name: str) -> dict[str, Any]:
    inner = functional(
        entry("i"),
        layer("Dense", "d", "i", units=4),
        inputs=[["i", 0, 0]],
        outputs=[["d", 0, 0]],
        name=name,
    )
    return {**inner, "name": name}


def test_keras_2_counts_the_birth_of_a_nested_model_as_its_first_call() -> None:
    inner = inner_model("inner")
    inner["inbound_nodes"] = [[["x", 0, 0, {}]], [["y", 0, 0, {}]]]
    add = layer("Subtract", "sum", "x")
    add["inbound_nodes"] = [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]]
    graph = read(
        functional(
            entry("x"),
            entry("y"),
            inner,
            add,
            inputs=[["x", 0, 0], ["y", 0, 0]],
            outputs=[["sum", 0, 0], ["inner", 2, 0]],
        )
    )
    sources = [call.id for call in graph.predecessors("sum")]
    assert [graph.predecessors(source)[0].id for source in sources] == ["x", "y"]
    assert graph.outputs[1] == (sources[1], 0)


def test_nested_models_are_frozen_as_wholes() -> None:
    inner = inner_model("inner")
    inner["config"]["trainable"] = False
    inner["inbound_nodes"] = [[["x", 0, 0, {}]]]
    graph = read(functional(entry(), inner, inputs=[["x", 0, 0]], outputs=[["inner", 1, 0]]))
    assert [c.trainable for c in graph.calls] == [True, False]


def test_a_tensor_twice_is_two_edges() -> None:
    graph = read(
        functional(
            entry(), layer("Add", "a", "x", "x"), inputs=[["x", 0, 0]], outputs=[["a", 0, 0]]
        )
    )
    assert [(e.source, e.target_slot) for e in graph.edges] == [("x", 0), ("x", 1)]


def test_tensorflow_operations_of_keras_2() -> None:
    add = layer("TFOpLambda", "tf.add", "x", function="math.add")
    add["inbound_nodes"] = [["wide", 0, 0, {"y": ["x", 0, 0], "name": None}]]
    half = layer("TFOpLambda", "tf.half", function="math.multiply")
    half["inbound_nodes"] = [["tf.add", 0, 0, {"y": 0.5, "name": None}]]
    odd = layer("TFOpLambda", "tf.odd", "tf.half", function="image.non_max_suppression")
    graph = read(
        functional(
            entry(),
            layer("Dense", "wide", "x", units=4),
            add,
            half,
            odd,
            inputs=[["x", 0, 0]],
            outputs=[["tf.odd", 0, 0]],
        )
    )
    by_id = graph.by_id
    assert by_id["tf.add"].op is Op.ADD
    assert [c.id for c in graph.predecessors("tf.add")] == ["wide", "x"]
    assert by_id["tf.half"].op is Op.SCALE
    assert by_id["tf.odd"].op is Op.OPAQUE
    assert "non_max_suppression" in by_id["tf.odd"].note


def test_slashes_in_names_do_not_make_two_calls_one() -> None:
    inner = inner_model("inner")
    inner["inbound_nodes"] = [[["inner/d", 0, 0, {}]]]
    graph = read(
        functional(
            entry(),
            layer("Dense", "inner/d", "x", units=4),
            inner,
            inputs=[["x", 0, 0]],
            outputs=[["inner", 1, 0]],
        )
    )
    assert [c.id for c in graph.calls] == ["x", "inner/d", "inner/d~"]


def test_custom_classes_are_opaque_even_under_a_known_name() -> None:
    config = residual()
    config["config"]["layers"][1]["module"] = "my_project.layers"
    config["config"]["layers"][3]["class_name"] = "Custom>Gate"
    graph = read(config)
    assert [c.op for c in graph.calls] == [Op.INPUT, Op.OPAQUE, Op.ADD, Op.OPAQUE]
    assert "my_project.layers.Dense" in graph.by_id["wide"].note
    assert graph.by_id["wide"].config["units"] == 4


def test_a_custom_activation_keeps_its_name() -> None:
    config = residual()
    config["config"]["layers"][1]["config"]["activation"] = "my_act"
    call = read(config).by_id["wide"]
    assert call.activation == "my_act"
    assert "my_act" in call.note


def test_compile_settings_of_keras_2() -> None:
    training = {
        "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.05, "momentum": 0.9}},
        "loss": {"a": "mse", "b": {"class_name": "BinaryCrossentropy", "config": {}}, "c": "own"},
        "metrics": ["acc"],
    }
    settings = read(residual(), training=training).compile
    assert settings is not None
    assert settings.optimizer is not None
    assert (settings.optimizer.name, settings.optimizer.learning_rate) == ("sgd", 0.05)
    assert settings.optimizer.number("momentum") == 0.9
    assert [(loss.output, loss.name, loss.custom) for loss in settings.losses] == [
        ("a", "mean_squared_error", False),
        ("b", "binary_crossentropy", False),
        ("c", "own", True),
    ]
    assert settings.metrics == ("accuracy",)


def test_not_compiled() -> None:
    assert read(residual()).compile is None
    assert read({**residual(), "compile_config": {}}).compile is None


def _drop(key: str) -> Any:
    def change(config: dict[str, Any]) -> None:
        del config["config"][key]

    return change


def _first(**fields: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1].update(fields)

    return change


def _cycle(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["inbound_nodes"] = [[["sum", 0, 0, {}]]]


def _disconnected(config: dict[str, Any]) -> None:
    config["config"]["input_layers"] = [["y", 0, 0]]
    config["config"]["layers"].append(entry("y"))


MALFORMED = {
    "no layers": (lambda c: c["config"].update(layers=[]), "no layers"),
    "layers no list": (lambda c: c["config"].update(layers={}), "no list of layers"),
    "no inputs": (lambda c: c["config"].update(input_layers=[]), "without inputs"),
    "no outputs": (lambda c: c["config"].update(output_layers={}), "without outputs"),
    "outputs missing": (_drop("output_layers"), "without inputs or outputs"),
    "unknown output": (lambda c: c["config"].update(output_layers=[["z", 0, 0]]), "'z'"),
    "unknown input": (lambda c: c["config"].update(input_layers=[["z", 0, 0]]), "'z'"),
    "unknown source": (_first(inbound_nodes=[[["z", 0, 0, {}]]]), "'z'"),
    "unknown call": (_first(inbound_nodes=[[["sum", 7, 0, {}]]]), "call 7 of layer 'sum'"),
    "unknown slot": (lambda c: c["config"].update(output_layers=[["out", 0, 9**9]]), "output"),
    "slot of an input": (_first(inbound_nodes=[[["x", 0, 1, {}]]]), "one output only"),
    "no class": (_first(class_name=3), "layers[1] has no class name"),
    "no name": (_first(name=None, config={}), "layers[1] has no name"),
    "two of a name": (_first(name="sum"), "two layers named 'sum'"),
    "nodes no list": (_first(inbound_nodes=7), "inbound_nodes is not a list"),
    "empty call": (_first(inbound_nodes=[[]]), "without any input tensor"),
    "cycle": (_cycle, "depends on its own output"),
    "disconnected": (_disconnected, "computed from no input"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_configurations_are_told_in_one_line(case: str) -> None:
    change, line = MALFORMED[case]
    config = residual()
    change(config)
    with pytest.raises(UnreadableModel) as error:
        read(config)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config", [None, [], 3, "x", {}, {"class_name": []}, {"class_name": "Dense"}]
)
def test_what_is_no_model(config: object) -> None:
    with pytest.raises(UnreadableModel, match=r"model.save"):
        read(config)


def test_nesting_is_bounded() -> None:
    model = inner_model("m")
    for _ in range(40):
        model = {
            "class_name": "Sequential",
            "name": "m",
            "config": {"name": "m", "layers": [model]},
        }
    with pytest.raises(UnsafeModel, match=r"GEB909"):
        read(model)


def test_a_model_that_calls_itself_exponentially_is_stopped() -> None:
    model = inner_model("m0")
    for depth in range(1, 25):
        inner = {**model, "inbound_nodes": [[["x", 0, 0, {}]], [[f"m{depth - 1}", 1, 0, {}]]]}
        model = functional(
            entry(),
            inner,
            inputs=[["x", 0, 0]],
            outputs=[[f"m{depth - 1}", 2, 0]],
            name=f"m{depth}",
        )
        model["name"] = f"m{depth}"
    with pytest.raises(UnsafeModel, match=r"GEB905"):
        read(model)


def test_deep_models_need_no_recursion() -> None:
    layers = [entry()]
    for index in range(3000):
        layers.append(layer("Dense", f"d{index}", layers[-1]["name"], units=4))
    graph = read(functional(*layers, inputs=[["x", 0, 0]], outputs=[["d2999", 0, 0]]))
    assert len(graph.calls) == 3001


JUNK: list[Any] = [
    *(None, True, 0, -1, 2, 3.5, 1e308, float("nan"), 10**30, "", "x", "a/b", "..", "relu", "\0"),
    *("InputLayer", "Sequential", "Functional", "\ud800", [], {}, [1], [None], [[]], [{}]),
    *(["x", 0, 0], [["x", 0, 0]], ["x", 5, 0], ["x", 0, 10**8], {"class_name": 1}),
    *({"class_name": "__tuple__", "items": 3}, {"class_name": "LSTM", "config": []}),
    {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}},
]


def rich() -> dict[str, Any]:
    """A model with something of everything that is parsed."""
    lstm = {"class_name": "LSTM", "config": {"name": "l", "units": 3, "return_sequences": True}}
    dense = {
        "class_name": "Dense",
        "config": {
            "name": "t",
            "units": 4,
            "activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.1}},
        },
    }
    marked = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 5, 4], "dtype": "float32", "keras_history": ["t", 0, 0]},
    }
    attention = layer("MultiHeadAttention", "m", num_heads=2, key_dim=2)
    attention["inbound_nodes"] = [{"args": [marked], "kwargs": {"value": marked, "mask": None}}]
    index = layer("GetItem", "g")
    index["module"] = "keras.src.ops.numpy"
    index["inbound_nodes"] = [
        {
            "args": [
                {**marked, "config": {**marked["config"], "keras_history": ["m", 0, 0]}},
                [
                    {"class_name": "__slice__", "config": {"start": None, "stop": 2, "step": None}},
                    1,
                ],
            ],
            "kwargs": {},
        }
    ]
    inner = inner_model("inner")
    inner["inbound_nodes"] = [[["g", 0, 0, {}]], [["inner", 0, 0, {}]]]
    head = {
        "class_name": "Sequential",
        "name": "head",
        "inbound_nodes": [[["inner", 1, 0, {}]]],
        "config": {
            "name": "head",
            "layers": [
                layer("Dense", "h", units=2, kernel_initializer="he_normal"),
                layer("Conv2DTranspose", "c", filters=2, kernel_size=3, strides=[2, 2]),
                layer("EinsumDense", "e", equation="ab,bc->ac", output_shape=[3]),
            ],
        },
    }
    config = functional(
        entry("x", 5, 3),
        layer("Bidirectional", "b", "x", layer=lstm, merge_mode="concat"),
        layer("TimeDistributed", "t", "b", layer=dense),
        attention,
        index,
        inner,
        head,
        inputs=["x", 0, 0],
        outputs={"y": ["head", 0, 0], "z": ["t", 0, 0]},
    )
    config["compile_config"] = {
        "optimizer": {
            "class_name": "Adam",
            "config": {
                "learning_rate": {
                    "class_name": "ExponentialDecay",
                    "config": {"initial_learning_rate": 0.1},
                }
            },
        },
        "loss": {"y": ["mse"], "z": {"class_name": "Huber", "config": {"delta": 1.0}}},
        "metrics": [["mae"], {"class_name": "MeanMetricWrapper", "config": {"name": "acc"}}],
    }
    return config


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from places(value[key], (*place, key))


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def mutated(seed: int) -> Any:
    chance = random.Random(seed)
    config = [rich()]
    for _ in range(chance.randint(1, 3)):
        everywhere = [place for place in places(config) if place]
        place = chance.choice(everywhere)
        parent, key, kind = at(config, place[:-1]), place[-1], chance.random()
        if kind < 0.5:
            parent[key] = copy.deepcopy(chance.choice(JUNK))
        elif kind < 0.65 and len(place) > 1:
            del parent[key]
        elif kind < 0.85:
            parent[key] = copy.deepcopy(at(config, chance.choice(everywhere)))
        elif isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
    return config[0]


def test_mutated_configurations_are_read_or_refused_and_nothing_else() -> None:
    assert read(rich()).by_id["inner#2/d"].out_shape is not None
    read_at_all = 0
    lines: list[str] = []
    for seed in range(3000):
        config = mutated(seed)
        config_hazards(config, "config.json")
        try:
            graph = read(config)
        except UnreadableModel as error:
            lines.append(str(error))
            continue
        read_at_all += 1
        seen: set[str] = set()
        for call in graph.calls:
            assert {source.id for source in graph.predecessors(call.id)} <= seen, seed
            seen.add(call.id)
        assert {call for call, _ in graph.outputs} <= seen, seed
    assert [line for line in lines if "\n" in line] == []
    # Most mutations touch settings only; a reader that refuses everything would pass otherwise.
    assert read_at_all > 1000
