import ast
import json
import math
from dataclasses import replace

import pytest
from builders import GraphBuilder, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.plan_samples import compiled, finding, mlp, probe

from auditor.graph import CompileSettings, LossSettings, OptimizerSettings
from auditor.plan.emit import as_json, as_python, as_text
from auditor.plan.make import make_plan
from auditor.plan.settings import Plan, Setting

HOSTILE = (
    '"); import os; os.system("true"); ("',
    "'''\nimport os\n'''",
    "a\nimport os",
    "a\\",
    "{danger}",
    "\u202eevil\u2028import os",
    "\udc80",
    "#\r\nimport os",
)


def imports(source: str) -> set[str]:
    tree = ast.parse(source)
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_data(name: str) -> None:
    build = GraphBuilder()
    call = build.add(
        build.calls[0].op if build.calls else build_op("input"), shape=(None, 8), name="in"
    )
    hidden = build.dense(call, 8, "relu", kernel=normal(5.0))
    dropout = build.dropout(hidden, 0.9)
    head = build.dense(dropout, 4, "softmax")
    graph = build.graph(head)
    renamed = {hidden: name, dropout: f"{name}2"}
    graph = replace(
        graph,
        name=name,
        calls=tuple(
            replace(c, id=renamed.get(c.id, c.id), layer=renamed.get(c.id, c.id), name=name)
            for c in graph.calls
        ),
        edges=tuple(
            replace(
                e,
                source=renamed.get(e.source, e.source),
                target=renamed.get(e.target, e.target),
            )
            for e in graph.edges
        ),
        compile=CompileSettings(
            optimizer=OptimizerSettings(name=name, learning_rate=0.1, config={name: name}),
            losses=(LossSettings(name=name, output=name, custom=True),),
            metrics=(name,),
        ),
    )
    accusations = (finding("GEB302", name), finding("GEB402", f"{name}2"))
    for optimizer in (name, "adam"):
        saved = graph.compile
        assert saved is not None
        saved = replace(saved, optimizer=OptimizerSettings(name=optimizer, learning_rate=0.1))
        plan = make_plan(replace(graph, compile=saved), accusations, None, probe())
        compile(plan.snippet, "plan", "exec")
        assert imports(plan.snippet) == {"keras"}
        plan.snippet.encode("utf-8")
        assert name in ast.literal_eval(
            next(
                ast.unparse(node.iter.args[0])
                for node in ast.walk(ast.parse(plan.snippet))
                if isinstance(node, ast.For) and isinstance(node.iter, ast.Call)
            )
        )


def build_op(name: str):
    from auditor.graph import Op

    return Op(name)


@settings(max_examples=60)
@given(
    name=st.text(),
    rate=st.floats(),
    momentum=st.floats() | st.text() | st.booleans(),
    smoothing=st.floats() | st.text(),
    clip=st.floats(),
)
def test_snippet_is_python_for_every_configuration(
    name: str, rate: float, momentum: object, smoothing: object, clip: float
) -> None:
    graph = mlp(2)
    optimizer = OptimizerSettings(
        name="sgd", learning_rate=rate, config={"momentum": momentum, "clipnorm": clip}
    )
    loss = LossSettings(
        name="categorical_crossentropy", config={"label_smoothing": smoothing}, output=name
    )
    graph = replace(graph, compile=CompileSettings(optimizer=optimizer, losses=(loss,)))
    plan = make_plan(graph, (), None, None)
    compile(plan.snippet, "plan", "exec")
    assert imports(plan.snippet) == {"keras"}


def test_loss_arguments_are_carried_over() -> None:
    graph = replace(
        mlp(),
        compile=CompileSettings(
            optimizer=OptimizerSettings(name="adam", learning_rate=1e-3),
            losses=(
                LossSettings(name="binary_crossentropy", from_logits=True, output="a"),
                LossSettings(name="huber", config={"delta": 2.0}, output="b"),
            ),
        ),
    )
    snippet = make_plan(graph, (), None, None).snippet
    assert '"a": keras.losses.BinaryCrossentropy(from_logits=True)' in snippet
    assert '"b": keras.losses.Huber(delta=2.0)' in snippet


def test_custom_loss_is_left_to_the_user() -> None:
    graph = compiled(mlp(), "adam", 1e-3)
    assert graph.compile is not None
    custom = replace(graph.compile, losses=(LossSettings(name="mine", custom=True),))
    snippet = make_plan(replace(graph, compile=custom), (), None, None).snippet
    assert "loss=model.loss,  # your own loss ('mine')" in snippet


def test_json_has_no_number_that_json_lacks() -> None:
    plan = Plan(learning_rate=Setting(name="learning_rate", value=math.nan, high=math.inf))
    assert json.loads(json.dumps(as_json(plan), allow_nan=False))["learning_rate"] == {
        **as_json(plan)["learning_rate"],
        "value": "NaN",
        "high": "Infinity",
    }


def test_text_names_every_setting_with_its_interval() -> None:
    plan = make_plan(compiled(mlp(), "adam", 5.0), (), None, probe())
    text = as_text(plan)
    for setting in plan.settings():
        assert f"{setting.name} = {setting.value}" in text
    assert plan.learning_rate is not None
    assert f"[{plan.learning_rate.low:g}, {plan.learning_rate.high:g}]" in text


def test_snippet_of_an_empty_plan_is_a_comment() -> None:
    snippet = as_python(Plan(notes=("nothing\nimport os",)), mlp())
    assert ast.parse(snippet).body == []
