"""GEB1: the structure of the model."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.heads import Head, heads, loss_of
from auditor.graph.layer_graph import Shape
from auditor.graph.operators import (
    KERNEL_OPS,
    NORMALIZATION_OPS,
    POOLING_OPS,
    TRAINING_ONLY_OPS,
)
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, rule

from .budget import complexity_budget
from .depth import deep_without_skip
from .missing_flatten import missing_flatten
from .redundancy import collapsed_linear_stack, redundant_activation
from .resolution import collapsed_resolution
from .trainability import unreachable_or_frozen
from .wording import ids, names, plural

__all__ = [
    "collapsed_linear_stack",
    "collapsed_resolution",
    "complexity_budget",
    "deep_without_skip",
    "missing_flatten",
    "missing_output_layer",
    "no_trainable_parameters",
    "redundant_activation",
    "unreachable_or_frozen",
]

CLASSIFICATION_LOSSES = frozenset(
    {
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
        "binary_crossentropy",
        "binary_focal_crossentropy",
    }
)
#: What may hold weights, or compute from several inputs, that the graph cannot speak for.
UNJUDGED_OPS = frozenset({Op.OPAQUE, Op.CONTROL, Op.CONSTANT, Op.EMBEDDING})


@rule("GEB101", "missing-output-layer", severity=Severity.ERROR, since="0.1")
def missing_output_layer(context: Context) -> Iterator[Finding | Skipped]:
    """Nothing trainable forms the prediction.

    ## What it does
    Walks from each output back toward the inputs. Fires as an error when it meets no layer with a
    kernel, and nothing it does not understand, on the whole way: the output is the input after
    dropout, activation, pooling, reshaping or normalization. Fires as a warning when a model is
    compiled with a classification loss and its output is a feature map or vector that comes,
    without softmax or sigmoid, out of pooling, Flatten, Dropout or normalization.

    ## Why is this bad
    Predictions are made by weights. An output that no weight enters cannot change in training: the
    loss stays where it is, whatever the data, optimizer and number of epochs. Features without a
    classifier on top do change, but nothing maps them to the classes.

    ## Evidence
    The layers between input and output, the output's shape, and the loss it is compiled with. For
    the error no estimate is involved: certain from the graph alone.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Dropout(0.25),
        keras.layers.ReLU(),
    ])
    model.compile("adam", "categorical_crossentropy")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.25),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "categorical_crossentropy")
    ```

    ## Options
    None.

    ## Known problems
    A model saved uncompiled and without dropout may be a preprocessing pipeline, which rightly has
    no weights: it is let pass. The same holds for an output of several that has no loss. That the
    output's width is not the number of classes cannot be seen without data.

    ## References
    - Keras documentation, The Sequential model, https://keras.io/guides/sequential_model/
    - Lin, Chen, Yan 2014, Network in network, https://arxiv.org/abs/1312.4400
    """
    graph = context.graph
    if not to_be_trained(graph):
        return
    found = tuple(enumerate(heads(graph)))
    unformed = [head for index, head in found if _unformed(graph, head, index)]
    if unformed:
        yield _nothing_learned(context, unformed)
    for index, head in found:
        loss = loss_of(graph, index)
        if head in unformed or loss is None or loss.name not in CLASSIFICATION_LOSSES:
            continue
        if loss.custom or loss.from_logits or not _features(head):
            continue
        last = head.after[-1]
        yield context.finding(
            f"The output comes out of `{last.id}` ({last.kind}), as features of shape "
            f"{dimensions(head.shape)}: no layer maps them to classes, though the loss is "
            f"{loss.name}.",
            layers=ids(head.after),
            evidence=(
                Evidence(name="output shape", value=dimensions(head.shape), method="graph"),
                Evidence(name="loss", value=loss.name, method="compile settings"),
            ),
            remedy=OUTPUT_LAYER,
            severity=Severity.WARNING,
            confidence=Confidence.MEDIUM,
        )


OUTPUT_LAYER = """\
End the model in a Dense layer with one unit a class and the activation that the loss expects.

```python
x = keras.layers.GlobalAveragePooling2D()(x)  # or Flatten
outputs = keras.layers.Dense(number_of_classes, activation="softmax")(x)
```
"""


def _nothing_learned(context: Context, unformed: list[Head]) -> Finding:
    graph = context.graph
    first = unformed[0].output
    between = sorted({call.kind for head in unformed for call in _ancestors(graph, head.output)})
    which = "The output" if len(graph.outputs) == 1 else plural(len(unformed), "output")
    return context.finding(
        f"{which} of shape {dimensions(first.out_shape)} comes straight from the input: between "
        f"them stand only layers without a kernel ({', '.join(between)}). Nothing trainable forms "
        "the prediction, so training cannot change it.",
        layers=ids([head.output for head in unformed]),
        evidence=(
            Evidence(name="kernel layers before the output", value=0, method="graph"),
            Evidence(name="output shape", value=dimensions(first.out_shape), method="graph"),
        ),
        remedy=OUTPUT_LAYER,
    )


def _unformed(graph: LayerGraph, head: Head, index: int) -> bool:
    """Whether no call on any way to this output could hold what is learned."""
    if graph.compile is not None and len(graph.outputs) > 1 and loss_of(graph, index) is None:
        return False
    calls = _ancestors(graph, head.output)
    reaches = any(source.op is Op.INPUT for call in calls for source in graph.predecessors(call.id))
    return reaches and not any(
        call.op in KERNEL_OPS
        or call.op in UNJUDGED_OPS
        or any(weight.role in ("kernel", "other") for weight in call.weights)
        for call in calls
    )


def _ancestors(graph: LayerGraph, output: LayerCall) -> list[LayerCall]:
    """The calls an output depends on, itself included, inputs left out."""
    pending, seen = [output], {output.id: output}
    while pending:
        for source in graph.predecessors(pending.pop().id):
            if source.id not in seen:
                seen[source.id] = source
                pending.append(source)
    return [call for call in seen.values() if call.op is not Op.INPUT]


def _features(head: Head) -> bool:
    """Whether the output is what a kernel gave, handled further, but not made a prediction."""
    handled = POOLING_OPS | NORMALIZATION_OPS | TRAINING_ONLY_OPS | {Op.FLATTEN}
    if not head.learned or not head.after or head.former.op is Op.EMBEDDING:
        return False
    if head.activation in ("softmax", "sigmoid", "hard_sigmoid", "sparsemax", "log_softmax"):
        return False
    return head.after[-1].op in handled and head.after[-1].op is not Op.REGULARIZATION


def to_be_trained(graph: LayerGraph) -> bool:
    """Whether the graph was meant for training: compiled, or with layers that act only there."""
    return graph.compile is not None or any(call.op is Op.DROPOUT for call in graph.calls)


def dimensions(shape: Shape | None) -> str:
    """A shape without its batch dimension, such as "(32, 32, 3)"; "unknown" where it is."""
    if shape is None:
        return "unknown"
    sizes = ["?" if size is None else str(size) for size in shape[1:]]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@rule("GEB102", "no-trainable-parameters", severity=Severity.ERROR, since="0.1")
def no_trainable_parameters(context: Context) -> Iterator[Finding | Skipped]:
    """The model has nothing that training could change.

    ## What it does
    Counts the values that training changes. Fires as an error when a model that was meant for
    training has no weights at all, or is compiled with a weight of 0 for every loss, and as a
    warning when it is compiled and every weight it has is frozen.

    ## Why is this bad
    `fit` runs through its epochs, reports a loss, and leaves the model exactly as it was. Keras
    says so in a warning at most, which is easily lost among the lines of a log.

    ## Evidence
    The number of parameters and of trainable parameters, counted from the file; the weights of the
    losses.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Dropout(0.5),
        keras.layers.ReLU(),
    ])
    model.compile("adam", "mse")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(1),
    ])
    model.compile("adam", "mse")
    ```

    ## Options
    None.

    ## Known problems
    Preprocessing and augmentation models rightly have no weights. They are told by being saved
    uncompiled and holding no dropout. A model saved before it was built has no weights yet, and is
    not judged. With all losses at 0, penalties and losses that layers add still move the weights. A
    custom layer may make its weights in a way that leaves no
    trace in the file; with one in the model the finding is a warning.

    ## References
    - Keras documentation, Transfer learning and fine-tuning (the `trainable` attribute),
      https://keras.io/guides/transfer_learning/
    """
    graph = context.graph
    if graph.trainable_parameters and _weightless(graph):
        yield context.finding(
            "Every loss has a weight of 0: no gradient comes from any of them, and `fit` teaches "
            "the model nothing.",
            layers=ids(graph.output_calls),
            evidence=(Evidence(name="loss_weights", value=0, method="configuration"),),
            remedy=(
                "Give what is to be learned a weight above 0, or leave `loss_weights` out.\n\n"
                "```python\n"
                'model.compile("adam", loss=losses, loss_weights=[1.0, 0.5])\n'
                "```\n"
            ),
        )
    if graph.trainable_parameters or not to_be_trained(graph):
        return
    counted = (
        Evidence(name="parameters", value=graph.parameters, method="counted"),
        Evidence(name="trainable parameters", value=0, method="counted"),
    )
    if graph.parameters:
        if graph.compile is not None:
            yield context.finding(
                f"All {graph.parameters:,} parameters are frozen or not trainable, so `fit` "
                "changes nothing, though the model is compiled.",
                evidence=counted,
                remedy=UNFREEZE,
                severity=Severity.WARNING,
            )
        return
    if unbuilt(graph):
        yield context.skip(NOT_BUILT)
        return
    opaque = [call for call in graph.calls if call.op is Op.OPAQUE and call.kind != "Lambda"]
    if opaque:
        yield context.finding(
            f"The file holds no weights, and {names(opaque)} could not be looked into: unless "
            "they make weights of their own, there is nothing to train.",
            layers=ids(opaque),
            evidence=counted,
            remedy="Build the model by calling it once before saving, so that its weights exist.",
            severity=Severity.WARNING,
            confidence=Confidence.LOW,
        )
        return
    layers = [call for call in graph.layers() if call.op is not Op.INPUT]
    kinds = ", ".join(sorted({call.kind for call in layers}))
    yield context.finding(
        f"None of the {plural(len(layers), 'layer')} ({kinds}) has a weight: there is nothing "
        "to train.",
        evidence=counted,
        remedy=(
            "Add layers that learn, such as Conv2D or Dense, where the model is meant to have "
            "them; ReLU, Dropout and pooling only pass values on."
        ),
    )


def _weightless(graph: LayerGraph) -> bool:
    losses = graph.compile.losses if graph.compile is not None else ()
    return bool(losses) and all(loss.weight == 0 for loss in losses)


UNFREEZE = """\
Set `trainable` to True for what is to be trained, then compile again: it is read at that moment.

```python
model.trainable = True
model.compile(optimizer=model.optimizer, loss=model.loss)
```
"""
