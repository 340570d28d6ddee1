"""A plan in text, in JSON and as Python.

The Python is written from an untrusted file's names and numbers: every literal passes `ascii()`,
and nothing from the file becomes an identifier. It is valid for every plan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.graph.compile_settings import CompileSettings, LossSettings
from auditor.graph.layer_graph import LayerGraph
from auditor.plan.recipe import (
    Construction,
    callbacks_of,
    dropouts_of,
    optimizer_of,
    redraws_of,
    takes_seed,
)
from auditor.plan.settings import Plan, Setting

#: Losses of Keras by canonical name, and the arguments of each that are carried over.
LOSSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "binary_crossentropy": ("BinaryCrossentropy", ("from_logits", "label_smoothing")),
    "binary_focal_crossentropy": (
        "BinaryFocalCrossentropy",
        ("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing"),
    ),
    "categorical_crossentropy": ("CategoricalCrossentropy", ("from_logits", "label_smoothing")),
    "categorical_focal_crossentropy": (
        "CategoricalFocalCrossentropy",
        ("alpha", "gamma", "from_logits", "label_smoothing"),
    ),
    "sparse_categorical_crossentropy": (
        "SparseCategoricalCrossentropy",
        ("from_logits", "ignore_class"),
    ),
    "categorical_hinge": ("CategoricalHinge", ()),
    "cosine_similarity": ("CosineSimilarity", ()),
    "dice": ("Dice", ()),
    "hinge": ("Hinge", ()),
    "huber": ("Huber", ("delta",)),
    "kl_divergence": ("KLDivergence", ()),
    "log_cosh": ("LogCosh", ()),
    "mean_absolute_error": ("MeanAbsoluteError", ()),
    "mean_absolute_percentage_error": ("MeanAbsolutePercentageError", ()),
    "mean_squared_error": ("MeanSquaredError", ()),
    "mean_squared_logarithmic_error": ("MeanSquaredLogarithmicError", ()),
    "poisson": ("Poisson", ()),
    "squared_hinge": ("SquaredHinge", ()),
    "tversky": ("Tversky", ("alpha", "beta")),
}
#: Metrics that a name alone makes again.
METRICS = frozenset(
    {
        "accuracy",
        "acc",
        "auc",
        "binary_accuracy",
        "categorical_accuracy",
        "sparse_categorical_accuracy",
        "top_k_categorical_accuracy",
        "mae",
        "mse",
        "mean_absolute_error",
        "mean_squared_error",
        "root_mean_squared_error",
        "precision",
        "recall",
    }
)
LAYER_AT = '''\
def layer_at(model, path):
    """The layer at a path of names, through nested models and wrappers."""
    for name in path.split("/"):
        inside = getattr(model, "layers", None) or vars(model).values()
        model = next(x for x in inside if isinstance(x, keras.Layer) and x.name == name)
    return model
'''


def as_python(plan: Plan, graph: LayerGraph) -> str:
    """Python for Keras 3 that applies the plan to a model called `model`. Valid for every input."""
    blocks = [f"# Settings recommended by geb-audit for {graph.name!a}."]
    if graph.format == "onnx":
        blocks[0] += (
            "\n# An ONNX file is not trained itself: `model` is the Keras model it was made from,"
            "\n# or what auditor.onnx_import.to_keras makes of the file."
        )
    changes = () if graph.format == "onnx" else (*redraws_of(plan), *dropouts_of(plan))
    optimizer = optimizer_of(plan)
    if optimizer is None and not changes and plan.learning_rate is None:
        blocks.extend(f"# {_comment(note)}" for note in plan.notes[:1])
        return "\n".join(blocks) + "\n"
    if optimizer is None:
        blocks.extend(f"# {_comment(note)}" for note in plan.notes[:1])
    blocks.append("import keras\n")
    if changes:
        blocks += ["", LAYER_AT, "", *_layer_changes(plan)]
    if optimizer is not None:
        blocks.append(_assigned("optimizer", optimizer))
        blocks += _compile_call(plan, graph.compile)
    elif plan.learning_rate is not None:
        blocks.append("# The model's own optimizer is kept.")
        blocks.append(f"model.optimizer.learning_rate = {_literal(plan.learning_rate.value)}")
    callbacks = callbacks_of(plan)
    if callbacks:
        inside = "".join(f"    {_expression(callback, 1)},\n" for callback in callbacks)
        blocks.append(f"callbacks = [\n{inside}]")
        blocks.append("# model.fit(x, y, callbacks=callbacks)")
    return "\n".join(blocks) + "\n"


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values; numbers that JSON has not become strings ("NaN", "Infinity")."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(plan))
    return plain


def as_text(plan: Plan) -> str:
    """The plan as lines to read: one a setting with its interval, its reason and formula below."""
    lines: list[str] = []
    for setting in plan.settings():
        interval = "" if setting.low is None else f"  [{setting.low:g}, {setting.high:g}]"
        where = f"  ({_comment(', '.join(setting.layers))})" if setting.layers else ""
        lines.append(f"{setting.name} = {setting.value}{interval}{where}")
        lines += [f"    {text}" for text in (setting.reason, setting.formula) if text]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines) + "\n"


def _layer_changes(plan: Plan) -> Iterator[str]:
    """Statements that redraw weights and set dropout rates."""
    seed = 0
    for redraw in redraws_of(plan):
        yield f"# {_comment(redraw.setting.reason)}."
        yield f"# {_comment(redraw.setting.formula)}. What training put into them is lost."
        yield "for seed, path in enumerate(\n    ["
        yield from (f"        {_literal(layer)}," for layer in redraw.layers)
        yield f"    ],\n    start={seed},\n):"
        yield "    for index, variable in enumerate(layer_at(model, path).weights):"
        names = ", ".join(_literal(name) for name in redraw.variables)
        yield f"        if variable.name in [{names}]:"
        seeded = {"seed": "100 * seed + index"} if takes_seed(redraw.initializer) else {}
        yield f"            initializer = {_expression(redraw.initializer, 3, seeded)}"
        yield "            variable.assign(initializer(variable.shape, variable.dtype))\n"
        seed += len(redraw.layers)
    for setting in dropouts_of(plan):
        for layer in setting.layers:
            rate = _literal(setting.value)
            yield f"layer_at(model, {_literal(layer)}).rate = {rate}  # {_comment(setting.reason)}"
    if dropouts_of(plan):
        yield ""


def _compile_call(plan: Plan, compiled: CompileSettings | None) -> Iterator[str]:
    yield "model.compile("
    yield "    optimizer=optimizer,"
    losses = compiled.losses if compiled else ()
    written = _losses(plan, losses)
    if written is None:
        names = ", ".join(ascii(loss.name) for loss in losses) or "none saved"
        yield f"    loss=model.loss,  # your own loss ({names}): write it here if there is none"
    else:
        yield f"    loss={written},"
    metrics = [name for name in (compiled.metrics if compiled else ()) if name in METRICS]
    if metrics and len(losses) == 1:
        yield f"    metrics=[{', '.join(_literal(name) for name in metrics)}],"
    elif compiled and compiled.metrics:
        yield "    # metrics=[...],  # your own"
    yield ")"


def _losses(plan: Plan, losses: tuple[LossSettings, ...]) -> str | None:
    """The argument `loss`; None where it is not one of Keras' own."""
    if not losses:
        return None if plan.loss is None else _literal(plan.loss.value)
    written = [_loss(loss) for loss in losses]
    if any(text is None for text in written):
        return None
    if len(losses) == 1 and losses[0].output is None:
        return written[0]
    if any(loss.output is None for loss in losses):
        return None
    pairs = (f"{_literal(loss.output)}: {text}" for loss, text in zip(losses, written, strict=True))
    return "{" + ", ".join(pairs) + "}"


def _loss(loss: LossSettings) -> str | None:
    """One loss: its name where that is enough, its class where it has arguments."""
    known = None if loss.custom else LOSSES.get(loss.name)
    if known is None:
        return None
    class_name, names = known
    config = {**loss.config, "from_logits": loss.from_logits}
    arguments = {
        name: value
        for name in names
        if isinstance(value := config.get(name), (int, float)) and math.isfinite(value) and value
    }
    if not arguments:
        return _literal(loss.name)
    return _expression(Construction(path=f"losses.{class_name}", arguments=arguments), 1)


def _assigned(name: str, construction: Construction) -> str:
    """An assignment, one argument a line, each with its interval and what it was."""
    lines = [f"{name} = keras.{construction.path}("]
    for argument, value in construction.arguments.items():
        text = _expression(value, 1) if isinstance(value, Construction) else _literal(value)
        setting = construction.settings.get(argument)
        remark = "" if setting is None else _interval(setting)
        lines.append(f"    {argument}={text},{remark}")
    return "\n".join([*lines, ")"])


def _interval(setting: Setting) -> str:
    said = []
    if setting.low is not None and setting.high is not None:
        said.append(f"{setting.low:g} to {setting.high:g}")
    if isinstance(setting.current, (int, float)) and setting.current != setting.value:
        said.append(f"was {setting.current:g}")
    return f"  # {'; '.join(said)}" if said else ""


def _expression(
    construction: Construction, indent: int, more: Mapping[str, str] | None = None
) -> str:
    """A constructor call; on one line if it fits, else one argument a line."""
    arguments = [
        f"{name}={_expression(value, indent + 1)}"
        if isinstance(value, Construction)
        else f"{name}={_literal(value)}"
        for name, value in construction.arguments.items()
    ]
    arguments += [f"{name}={text}" for name, text in (more or {}).items()]
    head = f"keras.{construction.path}("
    line = head + ", ".join(arguments) + ")"
    if len(line) + 4 * indent <= 90:
        return line
    pad = "    " * (indent + 1)
    inside = "".join(f"{pad}{argument},\n" for argument in arguments)
    return f"{head}\n{inside}{'    ' * indent})"


def _literal(value: object) -> str:
    """A value as Python source in ASCII."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    text = ascii(value)
    # The quotes of a formatter, where that needs no other change.
    return (
        f'"{text[1:-1]}"' if isinstance(value, str) and not set(text[1:-1]) & set("\\'\"") else text
    )


def _comment(text: str) -> str:
    """Text on one line in ASCII-escaped form where it holds anything but printable characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
