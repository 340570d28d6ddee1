"""GEB1, positions: an output layer that Flatten or pooling is missing before."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.heads import Head, heads, loss_of
from auditor.graph.operators import CONVOLUTION_OPS, POOLING_OPS, RECURRENT_OPS
from auditor.graph.paths import calls_between
from auditor.rule import Context, Needs, rule

from .losses import CROSSENTROPY
from .wording import ids, sample_shape, times

#: Let one position see another, so that a prediction for each of them may be meant.
MIXING_OPS = RECURRENT_OPS | {Op.ATTENTION, Op.DOT_ATTENTION, Op.MATMUL, Op.DOT, Op.EINSUM_DENSE}
#: Make positions anew, or cannot be looked into: the author knows the output's shape.
SHAPING_OPS = frozenset(
    {Op.CONV_TRANSPOSE, Op.UPSAMPLE, Op.RESHAPE, Op.OPAQUE, Op.CONTROL, Op.REPEAT, Op.PERMUTE}
)


@rule("GEB105", "missing-flatten", severity=Severity.WARNING, needs=Needs.COMPILED, since="0.1")
def missing_flatten(context: Context) -> Iterator[Finding | Skipped]:
    """A Dense output layer is applied to every position of an image or sequence by itself.

    ## What it does
    Looks at outputs that a Dense layer forms from a tensor that still has positions (height and
    width, or time). Fires where the positions are fewer than the input's, as convolutions and
    pooling leave them, and where no layer of the model lets one position see another, so that each
    pixel, step or token is classified alone.

    ## Why is this bad
    Dense acts on the last axis only. Without Flatten or pooling before it the output is
    (26, 26, 10) where the targets are (10,): `fit` stops with an error about shapes, or worse, the
    targets are broadcast against the positions and every position is trained on the label of the
    whole image.

    ## Evidence
    The shapes of input and output, and the loss. What the targets look like is not in the file.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy")
    ```

    ## Options
    None.

    ## Known problems
    A Dense layer at every cell of a coarse grid may be a detector's head or a coarse segmentation.
    Heads made of 1×1 convolutions, which say so, are let pass, and so are models that upsample,
    reshape, or mix positions by recurrence or attention. A model of equal padding throughout that
    lacks its Flatten cannot be told from a segmentation.

    ## References
    - Keras documentation, Dense layer, https://keras.io/api/layers/core_layers/dense/
    - Keras documentation, Flatten layer, https://keras.io/api/layers/reshaping_layers/flatten/
    """
    graph = context.graph
    for index, head in enumerate(heads(graph)):
        loss = loss_of(graph, index)
        if loss is None or loss.custom:
            continue
        found = _positions_left(graph, head, classified=loss.name in CROSSENTROPY)
        if found is None:
            continue
        why, confidence = found
        yield context.finding(
            f"`{head.former.id}` gives an output of shape {sample_shape(head.shape)}: {why}. "
            "Flatten or pooling before it is missing, if there is one target for each sample.",
            layers=ids([head.former]),
            evidence=(
                Evidence(name="input of the layer", value=sample_shape(head.former.in_shape)),
                Evidence(name="output shape", value=sample_shape(head.shape), method="graph"),
                Evidence(name="loss", value=loss.name, method="compile settings"),
            ),
            remedy=(
                "Put Flatten, or a global pooling, before the output layer.\n\n"
                "```python\n"
                f"x = keras.layers.{_pooling(head)}()(x)  # or keras.layers.Flatten()\n"
                f"outputs = keras.layers.Dense({head.width or 'units'}, "
                f"activation={head.activation!r})(x)\n"
                "```\n"
            ),
            confidence=confidence,
        )


def _positions_left(
    graph: LayerGraph, head: Head, *, classified: bool
) -> tuple[str, Confidence] | None:
    """What is odd about the positions of this output, and how sure that is."""
    former, rank = head.former, len(head.shape or ())
    if former.op is not Op.DENSE or former.kind != "Dense" or rank < 3:
        return None
    if former.out_shape != head.shape or len(former.in_shape or ()) != rank:
        return None
    before = [graph.by_id[call_id] for call_id in calls_between(graph, None, former.id)]
    inputs = [call for call in before if call.op is Op.INPUT]
    if len(inputs) != 1 or any(call.op in SHAPING_OPS | MIXING_OPS for call in before):
        return None
    tables = [call for call in before if call.op is Op.EMBEDDING]
    embedded = bool(tables)
    if any(head.width == tokens for call in tables for tokens in _tokens(call)):
        return None  # one score for each token of the vocabulary: a language model
    shape, given = head.shape or (), inputs[0].out_shape or ()
    positions, offered = shape[1:-1], given[1:] if embedded else given[1:-1]
    if len(positions) != len(offered):
        return None
    reduced = any(
        isinstance(left, int) and isinstance(whole, int) and left < whole
        for left, whole in zip(positions, offered, strict=True)
    )
    if reduced:
        sure = Confidence.HIGH if rank > 3 else Confidence.MEDIUM
        return f"one prediction for each of the {times(positions)} positions left", sure
    mixed = any(call.op in CONVOLUTION_OPS | POOLING_OPS for call in before)
    known = all(isinstance(size, int) for size in positions)
    if mixed or not classified or not (known or embedded):
        return None
    square = rank == 3 and not embedded and len(set(given[1:])) == 1
    sure = Confidence.MEDIUM if rank > 3 or square or embedded else Confidence.LOW
    what = "token" if embedded else "pixel" if rank > 3 or square else "step"
    return f"every {what} is classified by itself, and no layer sees two of them", sure


def _tokens(call: LayerCall) -> tuple[int, ...]:
    table = call.weight("embeddings")
    return table.shape[:1] if table is not None else ()


def _pooling(head: Head) -> str:
    return f"GlobalAveragePooling{min(max(len(head.shape or ()) - 2, 1), 3)}D"
