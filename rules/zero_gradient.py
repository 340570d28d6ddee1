"""GEB508: weights that get no gradient, as the probe measured them."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.freshness import fresh_share
from auditor.graph.heads import trained_by_loss
from auditor.graph.trainable_reach import trainable_reach
from auditor.measurement import ProbeResult, few_normalized
from auditor.rule import Context, Needs, rule

from .wording import ids, names

#: Weights that multiply what passes: at zero nothing comes back, until they have moved.
SCALES = ("kernel", "gamma", "embeddings", "scale", "alpha")


@rule("GEB508", "zero-gradient-parameters", severity=Severity.ERROR, needs=Needs.PROBE, since="0.1")
def zero_gradient_parameters(context: Context) -> Iterator[Finding | Skipped]:
    """Trainable weights get a gradient of exactly zero.

    ## What it does
    Looks for layers that outputs depend on and whose trainable weights, all of them, got a
    gradient of exactly zero in the probe's batches. An error where no layer got any, or the data
    are the user's own; on synthetic batches, which may leave a branch of a model untouched, it is a
    warning.

    Layers are left out that no gradient can reach by the graph alone (GEB103), those behind which
    a whole layer is dead (GEB205), and those behind which a kernel or scale starts at zero: that
    one moves in the first step, and then gradients come through.

    ## Why is this bad
    What gets no gradient never moves, whatever the optimizer: the weights keep their initial
    values and what the model learns, it learns around them. Mostly some function on the way is
    flat: a softmax over one unit, a comparison or rounding, a `stop_gradient`, an argmax, or a
    saturated output of which float32 keeps no slope.

    ## Evidence
    The norm of the loss's gradient in each layer's weights over the probe's batches: exactly zero.

    ## Example
    ```python
    x = keras.layers.Dense(8, activation="relu")(inputs)
    outputs = keras.layers.Dense(1, activation="softmax")(x)
    ```

    ## Use instead
    ```python
    x = keras.layers.Dense(8, activation="relu")(inputs)
    outputs = keras.layers.Dense(1, activation="sigmoid")(x)
    ```

    ## Options
    None.

    ## Known problems
    A loss with a margin is flat for samples that are right already; on trained weights that can
    be all of them. Trained weights on synthetic batches may be driven to where a hard sigmoid or
    a gate is flat: some layers of such a model are an info, all of them a warning.

    ## References
    - Ben Braiek, Khomh 2023, Testing feedforward neural networks training programs,
      doi:10.1145/3529318
    """
    graph, probe = context.graph, context.probe
    reaching = _reaching_a_loss(graph)
    teachable = [
        call
        for call in trainable_reach(graph).trained
        if call.id in reaching
        and (seen := probe.calls.get(call.id)) is not None
        and seen.weight_gradient_norm is not None
    ]
    if not teachable:
        yield context.skip("no layer with trainable weights was measured")
        return
    if reason := few_normalized(probe):
        yield context.skip(reason)
        return
    still = [call for call in teachable if probe.calls[call.id].weight_gradient_norm == 0.0]
    if not still:
        return
    closed = _closed(graph, probe)
    unexplained = [call for call in still if not _behind(graph, call, closed)]
    if not unexplained:
        return
    everything = len(still) == len(teachable)
    strange = probe.data == "synthetic" and _trained(graph)
    certain = not strange and (everything or probe.data != "synthetic")
    severity = Severity.ERROR if certain else Severity.WARNING
    if strange and not everything:
        severity = Severity.INFO
    told = "No weight of the model gets" if everything else f"{names(unexplained)} get"
    if not everything and len(unexplained) == 1:
        told += "s"
    yield context.finding(
        f"{told} a gradient: it was exactly zero in all batches, and what gets none never moves.",
        layers=ids(unexplained),
        evidence=(
            Evidence(
                name="layers without a gradient",
                value=len(still),
                unit=f"of {len(teachable)} with trainable weights",
                method="‖∂L/∂w‖ = 0, probe",
            ),
        ),
        remedy=(
            "Look behind these layers for what is flat: a softmax over one unit, a rounding, "
            "comparison or argmax, a stop_gradient, an output that is far out in its range; or set "
            "`layer.trainable = False` if they are meant to stay."
        ),
        severity=severity,
        confidence=Confidence.HIGH
        if certain
        else (Confidence.LOW if strange else Confidence.MEDIUM),
    )


def _trained(graph: LayerGraph) -> bool:
    """Whether weights are no fresh draws: noise may drive such a model to where it is flat."""
    fresh = fresh_share(graph)
    return graph.format == "onnx" or (fresh is not None and fresh < 1.0)


def _reaching_a_loss(graph: LayerGraph) -> frozenset[str]:
    """Calls that an output with a loss depends on; all outputs have one where none is declared."""
    declared = [
        graph.outputs[place][0]
        for place in range(len(graph.outputs))
        if trained_by_loss(graph, place)
    ]
    reaching = set(declared or [call_id for call_id, _ in graph.outputs])
    for call in reversed(graph.calls):
        if call.id in reaching:
            reaching.update(source.id for source in graph.predecessors(call.id))
    return frozenset(reaching)


def _closed(graph: LayerGraph, probe: ProbeResult) -> frozenset[str]:
    """Calls through which nothing comes back for a known reason: zero weights, or dead units."""
    closed = set()
    for call in graph.calls:
        seen = probe.calls.get(call.id)
        if seen is not None and seen.dead_share is not None and seen.dead_share >= 1.0:
            closed.add(call.id)
        for index, weight in enumerate(call.weights):
            statistics = graph.weight_statistics.get((call.layer, index))
            scales = any(stem in weight.role or stem in weight.name for stem in SCALES)
            if scales and statistics is not None and statistics.zero:
                closed.add(call.id)
    return frozenset(closed)


def _behind(graph: LayerGraph, call: LayerCall, closed: frozenset[str]) -> bool:
    """Whether some call that is closed lies on a way from this one (itself among them) on."""
    pending, seen = [call], {call.id}
    while pending:
        current = pending.pop()
        if current.id in closed:
            return True
        for following in graph.successors(current.id):
            if following.id not in seen:
                seen.add(following.id)
                pending.append(following)
    return False
