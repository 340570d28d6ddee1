"""GEB1, cost: what a model takes in parameters, operations and memory."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.cost import ModelCost, model_cost
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, Option, rule

from .wording import ids

MIB = 1 << 20
#: Bytes a parameter takes while Adam trains it in single precision: value, gradient, two moments.
TRAINED_BYTES = 16


@rule(
    "GEB110",
    "complexity-budget",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="parameters",
            default=2_000_000_000,
            meaning="most parameters a model may have; 0 for any number",
            zero=True,
        ),
        Option(
            name="operations",
            default=0,
            meaning="most multiply-adds for one sample; 0 for any number",
            zero=True,
        ),
        Option(
            name="activation-memory",
            default=32768,
            meaning="most memory of one sample's activations, in MiB; 0 for any",
            zero=True,
        ),
    ),
)
def complexity_budget(context: Context) -> Iterator[Finding | Skipped]:
    """The model takes more parameters, operations or memory than the budget allows.

    ## What it does
    Counts parameters, multiply-adds for one sample, and the memory of one sample's activations,
    and holds each against the budget configured. By default only what hardly any single machine
    can train is over it.

    ## Why is this bad
    Budgets are broken by accident: a Flatten before a Dense layer on large feature maps makes a
    kernel of billions of weights, a 3-D convolution at full resolution keeps tens of gibibytes a
    sample. Training then stops for want of memory, or the model does not fit where it is to run.

    ## Evidence
    The counts and, for each that is over its budget, the layer that takes most. Operations and
    memory are sums over the layers that could be counted, and so lower bounds where some could not.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((512, 512, 3)),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(1024, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((512, 512, 3)),
        keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(1024, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    - `parameters`: most parameters a model may have, two billion by default, which Adam trains in
      30 GiB; 0 for any number.
    - `operations`: most multiply-adds for one sample; 0, the default, for any number.
    - `activation-memory`: most memory of one sample's activations, in MiB, 32768 by default; 0 for
      any. A batch takes so much times its size.

    ## Known problems
    Dimensions that are not known, such as a sequence's length, count as not counted. Recomputation
    and in-place operations take less memory than is stated.

    ## References
    - Kingma, Ba 2015, Adam: a method for stochastic optimization (two moments a parameter),
      https://arxiv.org/abs/1412.6980
    - Chen, Xu, Zhang, Guestrin 2016, Training deep nets with sublinear memory cost,
      https://arxiv.org/abs/1604.06174
    """
    graph = context.graph
    if unbuilt(graph) and not graph.parameters:
        yield context.skip(NOT_BUILT)
        return
    limits = {name: context.number(name) for name in ("parameters", "operations")}
    memory = context.number("activation-memory")
    if 0 < limits["parameters"] < graph.parameters:
        yield _over(
            context,
            max(graph.layers(), key=lambda call: call.parameters),
            what=f"{graph.parameters:,} parameters",
            limit=f"{limits['parameters']:,.0f}",
            evidence=Evidence(name="parameters", value=graph.parameters, method="counted"),
            note=f" Adam trains them in {graph.parameters * TRAINED_BYTES / 1024**3:,.0f} GiB.",
        )
    if not limits["operations"] and not memory:
        return
    cost = model_cost(graph)
    if 0 < limits["operations"] < cost.multiply_adds:
        yield _over(
            context,
            _largest(graph, cost, "multiply_adds"),
            what=f"{cost.multiply_adds:,} multiply-adds a sample",
            limit=f"{limits['operations']:,.0f}",
            evidence=Evidence(name="multiply-adds", value=cost.multiply_adds, method="counted"),
            whole=not cost.uncounted,
        )
    if 0 < memory < cost.activation_bytes / MIB:
        mebibytes = round(cost.activation_bytes / MIB)
        yield _over(
            context,
            _largest(graph, cost, "activation_bytes"),
            what=f"{mebibytes:,} MiB of activations a sample",
            limit=f"{memory:,.0f}",
            evidence=Evidence(
                name="activation memory", value=mebibytes, unit="MiB", method="counted"
            ),
            whole=not cost.unsized,
        )


def _largest(graph: LayerGraph, cost: ModelCost, field: str) -> LayerCall:
    return max(graph.calls, key=lambda call: getattr(cost.calls[call.id], field) or 0)


def _over(
    context: Context,
    largest: LayerCall,
    *,
    what: str,
    limit: str,
    evidence: Evidence,
    note: str = "",
    whole: bool = True,
) -> Finding:
    return context.finding(
        f"The model takes {what}, over the budget of {limit}; `{largest.id}` takes most.{note}",
        layers=ids([largest]),
        evidence=(evidence,),
        remedy=(
            "Reduce resolution or width before the layer named: stride or pool, put a global "
            "pooling in the place of Flatten; or raise the budget.\n\n"
            "```python\n"
            "x = keras.layers.GlobalAveragePooling2D()(x)  # instead of Flatten\n"
            "```\n"
        ),
        confidence=Confidence.HIGH if whole else Confidence.MEDIUM,
    )
