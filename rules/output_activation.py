"""GEB2, outputs: the last activation against the loss."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.graph import Op
from auditor.graph.heads import Head, heads, loss_of
from auditor.graph.operators import AFFINE_OPS
from auditor.rule import Context, Needs, rule

from .losses import CROSSENTROPY, Mismatch, mismatch, missing_activation, single_softmax
from .wording import ids


@rule("GEB203", "head-loss-mismatch", severity=Severity.WARNING, since="0.1")
def head_loss_mismatch(context: Context) -> Iterator[Finding | Skipped]:
    """The activation of an output does not go with its loss.

    ## What it does
    Holds the last activation and the width of each output against the loss it is compiled with.
    Errors, because nothing can be learned: softmax over a single unit; categorical cross-entropy
    over a single unit; ReLU under categorical cross-entropy, which becomes NaN; a head that can be
    negative under the Poisson loss, likewise. Warnings: ReLU under the other cross-entropies,
    sigmoid with categorical cross-entropy, softmax with binary cross-entropy, tanh and the like
    with either, `from_logits=True` over an activated or bounded head, softmax along another axis
    than the loss's, a softmax head under CTC, a hinge loss over a head that is never negative, and
    (low confidence) a ReLU, ELU or GELU head for regression.

    ## Why is this bad
    A loss and its head are made for each other: together their gradient at the logits is simply
    prediction minus target. Paired wrongly, the gradient is zero, clipped away, or belongs to
    another problem than the one meant, and the loss still goes down a little, so that it shows
    late.

    ## Evidence
    The head's activation and width, the loss and its `from_logits`, as the file states them.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((20,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(1, activation="softmax"),
    ])
    model.compile("adam", "binary_crossentropy")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((20,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ])
    model.compile("adam", "binary_crossentropy")
    ```

    ## Options
    None.

    ## Known problems
    Custom losses, and heads that end in arithmetic or in layers that are not understood, are not
    judged. On TensorFlow, Keras notices a softmax under `from_logits=True` in some cases and
    mends it with a warning; other backends do not.

    ## References
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 6.2.2 (output units),
      https://www.deeplearningbook.org/
    - Keras documentation, Probabilistic losses, https://keras.io/api/losses/probabilistic_losses/
    """
    graph = context.graph
    for index, head in enumerate(heads(graph)):
        loss = loss_of(graph, index)
        found = single_softmax(head, _softmax_width(head))
        judged = head.known and head.former.op is not Op.INPUT
        if found is None and loss is not None and not loss.custom and judged:
            found = mismatch(head, loss)
        if found is None or _is_features(head):
            continue
        yield _said(context, head, index, found)


def _is_features(head: Head) -> bool:
    """Whether the head is what GEB101 calls features: activated, then pooled or flattened."""
    one_sided = head.activation in ("relu", "relu6")
    return one_sided and any(call.op is not Op.IDENTITY for call in head.after[_after(head) :])


def _after(head: Head) -> int:
    """Index in `head.after` of the first call behind the activation."""
    for index, call in enumerate(head.after):
        if head.activated is not None and call.id == head.activated.id:
            return index + 1
    return 0


def _softmax_width(head: Head) -> int | None:
    """Size of the axis the head's softmax runs along."""
    call = head.activated
    if call is None or call.out_shape is None or call.op not in (AFFINE_OPS | {Op.ACTIVATION}):
        return None
    axis = call.config.get("axis", -1) if call.op is Op.ACTIVATION else -1
    if not isinstance(axis, int) or not -len(call.out_shape) <= axis < len(call.out_shape):
        return None
    size = call.out_shape[axis]
    return size if isinstance(size, int) else None


def _said(context: Context, head: Head, index: int, found: Mismatch) -> Finding:
    loss = loss_of(context.graph, index)
    evidence = [
        Evidence(name="head", value=head.activation or "linear", method="graph"),
        Evidence(name="width", value=head.width or "unknown", method="graph"),
    ]
    if loss is not None:
        evidence.append(Evidence(name="loss", value=loss.name, method="compile settings"))
        if loss.name in CROSSENTROPY:
            evidence.append(
                Evidence(name="from_logits", value=loss.from_logits, method="compile settings")
            )
    where = head.activated or head.former
    layers = (where, head.output) if where.id != head.output.id else (where,)
    return context.finding(
        f"`{head.output.id}`: {found.why}.",
        layers=ids(layers),
        evidence=tuple(evidence),
        remedy=found.instead,
        severity=found.severity,
        confidence=found.confidence,
    )


@rule(
    "GEB204",
    "missing-output-activation",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
)
def missing_output_activation(context: Context) -> Iterator[Finding | Skipped]:
    """A linear output goes into a loss that expects probabilities.

    ## What it does
    Fires when an output has no activation and its loss is a cross-entropy with `from_logits=False`
    (the default) or the Kullback–Leibler divergence.

    ## Why is this bad
    The loss takes raw scores for probabilities. Keras clips them to 10⁻⁷ … 1 − 10⁻⁷, and a clipped
    value has no gradient: under binary cross-entropy every sample whose score lies outside 0 … 1
    is lost to training. Categorical cross-entropy divides the scores by their sum first, which may
    be negative or near zero. The loss falls a little and then stays.

    ## Evidence
    The head's (missing) activation, the loss, and its `from_logits`, as the file states them.

    ## Example
    ```python
    outputs = keras.layers.Dense(10)(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "categorical_crossentropy")
    ```

    ## Use instead
    ```python
    outputs = keras.layers.Dense(10)(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    ```

    ## Options
    None.

    ## Known problems
    A custom loss, or a head that ends in a layer that is not understood, is not judged.

    ## References
    - Keras documentation, Probabilistic losses, https://keras.io/api/losses/probabilistic_losses/
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 6.2.2 (output units),
      https://www.deeplearningbook.org/
    """
    graph = context.graph
    for index, head in enumerate(heads(graph)):
        loss = loss_of(graph, index)
        if loss is None or loss.custom or not head.known:
            continue
        found = missing_activation(head, loss)
        if found is None:
            continue
        said = _said(context, head, index, found)
        wanted = "Binary" if loss.name.startswith("binary") else "Categorical"
        if loss.name.startswith("sparse"):
            wanted = "SparseCategorical"
        code = (
            "\n\n```python\n"
            f"model.compile(loss=keras.losses.{wanted}Crossentropy(from_logits=True), "
            "optimizer=model.optimizer)\n```\n"
            if loss.name.endswith("_crossentropy")
            else ""
        )
        yield context.finding(
            said.message,
            layers=said.layers,
            evidence=said.evidence,
            remedy=f"{found.instead}{code}",
        )
