"""GEB2, hidden layers: activations that belong elsewhere, or grow without bound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.dimensions import number
from auditor.graph.operators import (
    AFFINE_OPS,
    KERNEL_OPS,
    NORMALIZATION_OPS,
    POOLING_OPS,
    RECURRENT_OPS,
    SATURATING_ACTIVATIONS,
    SHAPE_OPS,
    TRAINING_ONLY_OPS,
)
from auditor.graph.paths import before_kernels, plain_chains
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Option, rule

from .wording import ids, names

#: What may stand between a softmax and the layer that reads it.
BETWEEN_OPS = (
    SHAPE_OPS | POOLING_OPS | NORMALIZATION_OPS | TRAINING_ONLY_OPS | {Op.IDENTITY, Op.CAST}
)


@rule("GEB202", "hidden-softmax", severity=Severity.WARNING, since="0.1")
def hidden_softmax(context: Context) -> Iterator[Finding | Skipped]:
    """A softmax in a hidden layer, where nothing reads its values as weights.

    ## What it does
    Looks for trained layers that end in softmax and whose values go into further dense,
    convolutional or recurrent layers only.

    ## Why is this bad
    Softmax makes the units of a layer compete for a total of 1: with 128 units each is about
    1/128, nearly all information about size is lost, and the gradient that comes back is smaller
    by the same factor. Layers behind it see an input that hardly differs from sample to sample.
    As a rule a ReLU was meant, or the layer was once the last.

    ## Evidence
    The layer with the softmax and the layers that read it, by the graph.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(128, activation="softmax"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    None.

    ## Known problems
    Softmax as attention, as a gate or as mixture weights is multiplied with something and is let
    pass, and so are outputs, frozen classifiers whose predictions another model reads, and
    predictions of several models put side by side. A bottleneck of soft codes (a relaxed discrete
    code of an autoencoder) looks like the mistake.

    ## References
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 6.2.2.3 (softmax units),
      https://www.deeplearningbook.org/
    - Vaswani et al. 2017, Attention is all you need, https://arxiv.org/abs/1706.03762
    """
    graph = context.graph
    learned = learned_calls(graph)
    outputs = {call_id for call_id, _ in graph.outputs}
    found: dict[str, tuple[LayerCall, tuple[LayerCall, ...]]] = {}
    for call in graph.calls:
        if call.activation != "softmax" or call.id not in learned or not _over_units(call):
            continue
        readers = _readers(graph, call, outputs)
        if readers:
            found.setdefault(call.layer, (call, readers))
    if not found:
        return
    calls = [call for call, _ in found.values()]
    first, readers = next(iter(found.values()))
    width = first.out_shape[-1] if first.out_shape else None
    share = f" of about 1/{width} each" if isinstance(width, int) and width > 1 else ""
    yield context.finding(
        f"{names(calls)} {'ends' if len(calls) == 1 else 'end'} in softmax within the model: "
        f"{names(readers)} {'reads' if len(readers) == 1 else 'read'} shares{share} that sum to "
        "1, and hardly any gradient comes back through them.",
        layers=ids(calls),
        evidence=(
            Evidence(name="hidden softmax layers", value=len(calls), method="graph"),
            Evidence(name=f"units of {first.id}", value=width or "unknown", method="graph"),
        ),
        remedy=(
            "Use ReLU or GELU in hidden layers, and softmax for the output alone.\n\n"
            "```python\n"
            f'x = keras.layers.Dense({width or "units"}, activation="relu", '
            'kernel_initializer="he_normal")(x)\n'
            "```\n"
        ),
        confidence=Confidence.HIGH if first.op in AFFINE_OPS else Confidence.MEDIUM,
    )


def _over_units(call: LayerCall) -> bool:
    """Whether the softmax is a layer's own or a layer by itself, along the units."""
    if call.op in AFFINE_OPS | RECURRENT_OPS:
        return True
    return call.op is Op.ACTIVATION and call.config.get("axis", -1) in (
        -1,
        len(call.out_shape or ()) - 1,
    )


def _readers(graph: LayerGraph, call: LayerCall, outputs: set[str]) -> tuple[LayerCall, ...]:
    """The layers with kernels that read these values; none where anything else does too."""
    found: dict[str, LayerCall] = {}
    pending = [call]
    while pending:
        step = pending.pop()
        if step.id in outputs:
            return ()
        for following in graph.successors(step.id):
            if following.op in AFFINE_OPS | RECURRENT_OPS:
                found[following.id] = following
            elif following.op in BETWEEN_OPS and len(graph.predecessors(following.id)) == 1:
                pending.append(following)
            else:
                return ()
    return tuple(found.values())


@dataclass(frozen=True, kw_only=True)
class GrowingRun:
    """Layers in a row whose activations grow faster than their input.

    exponentials, powers: the calls. degree: product of the exponents of the powers. closed:
    whether a normalization or a bounded activation ends the run.
    """

    exponentials: tuple[LayerCall, ...]
    powers: tuple[LayerCall, ...]
    degree: float
    closed: bool


@rule(
    "GEB207",
    "unbounded-growth-activation",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="degree", default=8.0, meaning="product of exponents in a row that is a fault"),
    ),
)
def unbounded_growth_activation(context: Context) -> Iterator[Finding | Skipped]:
    """Hidden activations that grow faster than their input, with nothing to hold them.

    ## What it does
    Looks for exponentials and powers between layers with kernels. Fires where an exponential feeds
    further layers without a normalization or a bounded activation behind it, where two exponentials
    follow one another, and where the exponents of powers in a row multiply to `degree` or more
    (three squares).

    ## Why is this bad
    An input of 20 is 5·10⁸ after one exponential, and beyond any float after the next; three
    squares make an eighth power of it. A single large sample then gives a loss of infinity and
    weights of NaN, and the gradient is in proportion to the value itself, so that the largest units
    take all of it.

    ## Evidence
    The activations in a row, and the product of the exponents, from the graph.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((16,)),
        keras.layers.Dense(64, activation="exponential"),
        keras.layers.Dense(64, activation="exponential"),
        keras.layers.Dense(1),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((16,)),
        keras.layers.Dense(64, activation="softplus"),
        keras.layers.Dense(64, activation="softplus"),
        keras.layers.Dense(1),
    ])
    ```

    ## Options
    - `degree`: product of the exponents of powers in a row from which on they are named, 8 by
      default.

    ## Known problems
    An exponential of something that cannot be large (a clipped or negated value) is let pass where
    the graph shows it, and so is one that is multiplied with something, as in variational
    autoencoders and coupling layers. An exponential output is the right one for rates and
    variances. Custom activations cannot be looked into.

    ## References
    - Goldberg 1991, What every computer scientist should know about floating-point arithmetic.
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks,
      https://arxiv.org/abs/1211.5063
    """
    limit = context.number("degree")
    runs = [
        run
        for run in _growing_runs(context.graph)
        if len(run.exponentials) >= (2 if run.closed else 1) or run.degree >= limit
    ]
    if not runs:
        return
    worst = max(runs, key=lambda run: (len(run.exponentials), run.degree))
    calls = [call for run in runs for call in (*run.exponentials, *run.powers)]
    what = (
        "exponential activations feed further layers with nothing to bound them: 20 becomes 5e8"
        f"{', and infinity behind the next' if _compounded(worst) else ''}"
        if worst.exponentials
        else f"their input is raised to the power {worst.degree:g}, by one after the other"
    )
    yield context.finding(
        f"In {names(calls)} {what}.",
        layers=ids(calls),
        evidence=(
            Evidence(name="exponentials in a row", value=len(worst.exponentials), method="graph"),
            Evidence(name="product of exponents", value=worst.degree, method="graph"),
        ),
        remedy=(
            "Use softplus or ReLU, which grow no faster than their input; or normalize before and "
            "clip what goes into the exponential.\n\n"
            "```python\n"
            'x = keras.layers.Dense(units, activation="softplus")(x)\n'
            "```\n"
        ),
        confidence=Confidence.HIGH if _compounded(worst) else Confidence.MEDIUM,
    )


def _compounded(run: GrowingRun) -> bool:
    """Whether one exponential is fed by another."""
    return len(run.exponentials) > 1


def _growing_runs(graph: LayerGraph) -> list[GrowingRun]:
    """Runs with an exponential or a power, on ways without branch or merge."""
    followed, learned = before_kernels(graph), learned_calls(graph)
    runs: list[GrowingRun] = []
    for chain in plain_chains(graph):
        exponentials: list[LayerCall] = []
        powers: list[LayerCall] = []
        unread: list[LayerCall] = []
        for call in (*chain, None):
            if call is not None and call.op in KERNEL_OPS:
                # Only what a kernel reads counts: elsewhere it may be multiplied, or be the output.
                exponentials += [step for step in unread if _exponent(step) <= 1]
                powers += [step for step in unread if _exponent(step) > 1]
                unread = []
            ends = call is None or _bounds(call)
            if ends and (exponentials or powers):
                runs.append(
                    GrowingRun(
                        exponentials=tuple(exponentials),
                        powers=tuple(powers),
                        degree=math.prod(_exponent(step) for step in powers),
                        closed=call is not None and call.id in followed,
                    )
                )
            if ends or call is None:
                exponentials, powers, unread = [], [], []
                continue
            if call.id not in followed or call.id not in learned:
                continue
            if _exponential(graph, call) or _exponent(call) > 1:
                unread.append(call)
    return runs


def _bounds(call: LayerCall) -> bool:
    """Whether the call's output is bounded, or is a function that is not known to grow."""
    if call.op in NORMALIZATION_OPS or call.op in RECURRENT_OPS:
        return True
    if call.activation in SATURATING_ACTIVATIONS | {"relu6", "log_sigmoid", "log_softmax"}:
        return True
    if call.op is Op.ELEMENTWISE:
        return call.kind != "Exp" and _exponent(call) <= 1
    kept = KERNEL_OPS | BETWEEN_OPS | {Op.ACTIVATION, Op.SCALE, Op.INPUT}
    return call.op not in kept


def _exponential(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether the call is an exponential of what a layer gives as it is."""
    if call.activation == "exponential" and call.op in KERNEL_OPS:
        return True
    if call.activation != "exponential" and not (call.op is Op.ELEMENTWISE and call.kind == "Exp"):
        return False
    return any(
        source.op in KERNEL_OPS and source.activation is None
        for source in graph.predecessors(call.id)
    )


def _exponent(call: LayerCall) -> float:
    if call.op is not Op.ELEMENTWISE:
        return 1.0
    if call.kind in ("Square", "Cube"):
        return 2.0 if call.kind == "Square" else 3.0
    if call.kind not in ("Power", "Pow"):
        return 1.0
    arguments = call.config.get("arguments")
    given = arguments[1] if isinstance(arguments, (list, tuple)) and len(arguments) > 1 else None
    return number(given if given is not None else call.config.get("B")) or 1.0
