"""GEB1, depth: long ways without anything that keeps signal and gradient alive."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.freshness import fresh_share
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS
from auditor.graph.paths import before_kernels, plain_chains
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Option, rule

from .wording import ids

#: Initializers under which a deep plain network can be an isometry, and activations made for depth.
ISOMETRIC = frozenset({"orthogonal", "orthogonal_initializer", "identity", "identity_initializer"})


@rule(
    "GEB109",
    "deep-without-skip",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="layers", default=30, meaning="hidden layers in a row that are still borne"),
    ),
)
def deep_without_skip(context: Context) -> Iterator[Finding | Skipped]:
    """A deep stack of layers with neither normalization nor skip connections.

    ## What it does
    Counts the trainable layers with kernels that follow one another without a normalization, a
    branch or a merge between them. Fires when more than `layers` do.

    ## Why is this bad
    Every layer multiplies what comes back through it. Even with the right initial variance a plain
    stack turns all inputs alike and its gradients into noise as it gets deeper: plain networks of
    twenty to thirty layers train worse than shallower ones, on the training data itself. Skip
    connections and normalization are what made greater depth useful.

    ## Evidence
    The layers, counted in the graph. Whether the weights are fresh is looked at: of a model that
    was trained, the finding is for information.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(64, activation="relu") for _ in range(50)]
        + [keras.layers.Dense(10, activation="softmax")]
    )
    ```

    ## Use instead
    ```python
    inputs = keras.Input((64,))
    x = inputs
    for _ in range(25):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(64, activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(64)(y)])
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    ```

    ## Options
    - `layers`: hidden layers in a row that are still borne, 30 by default. VGG-19, the deepest
      plain network that came into use, has 18.

    ## Known problems
    Stacks of SELU layers, which normalize themselves, and of orthogonal kernels, which can be deep
    isometries, are let pass. An exporter that folds BatchNormalization into convolutions leaves a
    plain stack where there was none: on ONNX models the finding is for information.

    ## References
    - He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition (figure 1: the
      degradation of plain networks), https://arxiv.org/abs/1512.03385
    - Balduzzi et al. 2017, The shattered gradients problem, https://arxiv.org/abs/1702.08591
    - Xiao et al. 2018, Dynamical isometry and a mean field theory of CNNs,
      https://arxiv.org/abs/1806.05393
    """
    graph = context.graph
    stacks = [stack for stack in _stacks(graph) if len(stack) > context.number("layers")]
    stacks = [stack for stack in stacks if not _made_for_depth(graph, stack)]
    if not stacks:
        return
    longest = max(stacks, key=len)
    fresh = fresh_share(graph)
    trained = graph.format == "onnx" or (fresh is not None and fresh < 0.5)
    yield context.finding(
        f"{len(longest)} layers in a row, from `{longest[0].id}` to `{longest[-1].id}`, have "
        "neither a normalization nor a skip connection between them.",
        layers=ids([call for stack in stacks for call in stack]),
        evidence=(Evidence(name="layers in a row", value=len(longest), method="graph"),),
        remedy=(
            "Add the input of every two layers to their output, with a normalization before them; "
            "or use fewer, wider layers.\n\n"
            "```python\n"
            "y = keras.layers.LayerNormalization()(x)\n"
            'y = keras.layers.Dense(units, activation="relu")(y)\n'
            "x = keras.layers.Add()([x, keras.layers.Dense(units)(y)])\n"
            "```\n"
        ),
        severity=Severity.INFO if trained else None,
        confidence=Confidence.LOW if trained else Confidence.MEDIUM,
    )


def _stacks(graph: LayerGraph) -> list[list[LayerCall]]:
    """Hidden trainable kernel calls in a row, none apart by normalization, branch or merge."""
    followed, learned = before_kernels(graph), learned_calls(graph)
    stacks: list[list[LayerCall]] = []
    for chain in plain_chains(graph):
        stacks.append([])
        for call in chain:
            if call.op in NORMALIZATION_OPS:
                stacks.append([])
            elif (
                call.op in KERNEL_OPS
                and call.op is not Op.EMBEDDING
                and call.id in followed
                and call.id in learned
            ):
                stacks[-1].append(call)
    return stacks


def _made_for_depth(graph: LayerGraph, stack: list[LayerCall]) -> bool:
    """Whether nearly all layers are SELU's, or have kernels that keep every length."""
    selu = sum(_activation(graph, call) == "selu" for call in stack)
    isometric = sum(
        any(
            weight.initializer is not None and weight.initializer.name in ISOMETRIC
            for weight in call.weights
            if weight.role == "kernel"
        )
        for call in stack
    )
    return max(selu, isometric) >= 0.9 * len(stack)


def _activation(graph: LayerGraph, call: LayerCall) -> str | None:
    if call.activation is not None:
        return call.activation
    return next((after.activation for after in graph.successors(call.id)), None)
