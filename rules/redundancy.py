"""GEB1, redundancy: layers that add nothing to what the model computes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.linear_runs import linear_runs
from auditor.graph.nonnegative import changes_nothing_above_zero, nonnegative
from auditor.graph.paths import reaching_outputs
from auditor.rule import Context, rule

from .wording import ids, names


@rule("GEB104", "collapsed-linear-stack", severity=Severity.WARNING, since="0.1")
def collapsed_linear_stack(context: Context) -> Iterator[Finding | Skipped]:
    """Linear layers in a row with nothing nonlinear between them.

    ## What it does
    Looks for dense layers or convolutions that follow one another, apart from dropout, without an
    activation or normalization between them and without a branch.

    ## Why is this bad
    A linear map of a linear map is a linear map. Two such layers compute what one could: the
    second adds parameters and training time, and a product of matrices that gradient descent
    handles worse than the single one, but nothing the model can express. As a rule an activation
    was forgotten.

    ## Evidence
    The runs of layers, by name. Certain from the graph; with dropout between them the layers
    differ from one in training only, and confidence is lower.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(256),
        keras.layers.Dense(128),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    None.

    ## Known problems
    What is linear on purpose is left alone where it shows: a middle narrower than both sides
    (low-rank factorization, linear bottleneck, the code of an autoencoder), depthwise, grouped and
    one-axis convolutions, patch embeddings, embeddings and attention projections, layers joined
    by normalization. A deep linear network built for study is named all the same. An exporter
    that folds BatchNormalization into convolutions makes ONNX models look collapsed; there the
    finding is for information, with low confidence.

    ## References
    - Goodfellow, Bengio, Courville 2016, Deep learning, chapter 6, https://www.deeplearningbook.org/
    - Saxe, McClelland, Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep
      linear neural networks, https://arxiv.org/abs/1312.6120
    - Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks,
      https://arxiv.org/abs/1801.04381
    """
    graph = context.graph
    used = reaching_outputs(graph)
    runs = [run for run in linear_runs(graph) if run[-1].id in used]
    if not runs:
        return
    longest = max(runs, key=len)
    calls = [call for run in runs for call in run]
    where = "" if len(runs) == 1 else f", the longest of {len(runs)} such runs"
    yield context.finding(
        f"{names(longest)} are {len(longest)} linear maps with nothing nonlinear between "
        f"them{where}: together they compute no more than a single layer.",
        layers=ids(calls),
        evidence=(
            Evidence(name="linear runs", value=len(runs), method="graph"),
            Evidence(name="layers in the longest", value=len(longest), method="graph"),
        ),
        remedy=(
            f'Give {names(longest[:-1])} an activation, such as `activation="relu"`, or make '
            "the run one layer."
        ),
        severity=Severity.INFO if graph.format == "onnx" else None,
        confidence=_collapse_confidence(graph, runs),
    )


def _collapse_confidence(graph: LayerGraph, runs: list[tuple[LayerCall, ...]]) -> Confidence:
    if graph.format == "onnx":
        return Confidence.LOW
    adjacent = all(
        graph.successors(first.id) == (second,) for run in runs for first, second in pairwise(run)
    )
    dense = all(call.op is Op.DENSE for run in runs for call in run)
    return Confidence.HIGH if adjacent and dense else Confidence.MEDIUM


@rule("GEB106", "redundant-activation", severity=Severity.INFO, since="0.1")
def redundant_activation(context: Context) -> Iterator[Finding | Skipped]:
    """An activation that does nothing, or that undoes the one before it.

    ## What it does
    Names activations such as ReLU, LeakyReLU and ELU whose input cannot be negative, so that they
    are the identity: after another ReLU, a sigmoid or a softmax, with pooling, dropout or
    reshaping between them. An error where softmax is applied to softmax, a warning where sigmoid
    is applied to sigmoid.

    ## Why is this bad
    The identity costs time and hides what the author meant: often a convolution or dense layer
    that should stand between is missing. A second softmax is worse. Its inputs lie between 0 and
    1, so with C classes no probability can exceed e/(e + C − 1) (0.23 for 10 classes) however
    sure the model is; the loss never comes near zero and the gradient is tiny. A second sigmoid
    can only give 0.5 to 0.73.

    ## Evidence
    The activation and the call that already made its input non-negative. Certain from the graph.

    ## Example
    ```python
    x = keras.layers.Dense(10, activation="softmax")(x)
    outputs = keras.layers.Softmax()(x)
    ```

    ## Use instead
    ```python
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    ```

    ## Options
    None.

    ## Known problems
    Softmax along one axis and then along another is a deliberate thing (soft matchings) and is
    let pass when the axes differ.

    ## References
    - Nair, Hinton 2010, Rectified linear units improve restricted Boltzmann machines.
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 6.2.2.3 (softmax units),
      https://www.deeplearningbook.org/
    """
    graph = context.graph
    yield from _twice(context, "softmax", Severity.ERROR)
    yield from _twice(context, "sigmoid", Severity.WARNING)
    above = nonnegative(graph)
    used = reaching_outputs(graph)
    idle = [
        call
        for call in graph.calls
        if call.id in used
        and changes_nothing_above_zero(call)
        and all(source.id in above for source in graph.predecessors(call.id))
        and graph.predecessors(call.id)
    ]
    if idle:
        verb = "does" if len(idle) == 1 else "do"
        yield context.finding(
            f"{names(idle)} {verb} nothing: what comes in is never negative already.",
            layers=ids(idle),
            evidence=(Evidence(name="redundant activations", value=len(idle), method="graph"),),
            remedy=(
                "Remove them, or put the layer with weights between the two activations that "
                "was meant to be there."
            ),
        )


#: Between two softmax calls these leave a softmax a softmax, axis included.
UNTOUCHED_OPS = frozenset({Op.IDENTITY, Op.CAST, Op.DROPOUT, Op.REGULARIZATION})


def _twice(context: Context, name: str, severity: Severity) -> Iterator[Finding]:
    graph = context.graph
    used = reaching_outputs(graph)
    for call in graph.calls:
        if call.id not in used or call.op is not Op.ACTIVATION or call.activation != name:
            continue
        sources = graph.predecessors(call.id)
        while len(sources) == 1 and sources[0].op in UNTOUCHED_OPS:
            sources = graph.predecessors(sources[0].id)
        if len(sources) != 1 or sources[0].activation != name:
            continue
        if sources[0].config.get("axis", -1) != call.config.get("axis", -1):
            continue
        yield context.finding(
            f"`{call.id}` applies {name} to the {name} of `{sources[0].id}`: "
            f"{_squeezed(name, call)}.",
            layers=(sources[0].id, call.id),
            evidence=(Evidence(name=f"{name} calls in a row", value=2, method="graph"),),
            remedy=f"Keep one {name}: remove `{call.id}`.",
            severity=severity,
        )


def _squeezed(name: str, call: LayerCall) -> str:
    if name == "sigmoid":
        return "its output stays between 0.5 and 0.73"
    width = call.out_shape[-1] if call.out_shape else None
    if not isinstance(width, int) or width < 2:
        return "its probabilities stay nearly equal"
    # The largest value a softmax of probabilities can reach: e¹ against width − 1 times e⁰.
    largest = 2.718281828459045 / (2.718281828459045 + width - 1)
    return f"with {width} classes no probability can exceed {largest:.2g}"
