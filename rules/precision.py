"""GEB610: half precision without what keeps its gradients from vanishing."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.operators import KERNEL_OPS
from auditor.rule import Context, Needs, rule

from .wording import ids, names


@rule(
    "GEB610",
    "half-precision-without-loss-scaling",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
)
def half_precision_without_loss_scaling(context: Context) -> Iterator[Finding | Skipped]:
    """Layers compute in float16, and nothing scales the loss.

    ## What it does
    Warns when trained layers compute in float16 and the optimizer neither scales the loss
    (`LossScaleOptimizer`, `loss_scale_factor`) nor is wrapped by Keras to do so, which it does at
    compile time for models, not layers, of the policy "mixed_float16", and for no others.

    ## Why is this bad
    The smallest number in float16 is 6·10⁻⁸. Gradients of activations are often smaller and come
    out as exactly zero: weights far from the output stop learning, with no error and no NaN.
    Multiplying the loss by a large number before the backward pass, and dividing the weights'
    gradients by it after, keeps them; bfloat16, with the range of float32, does not need it.

    ## Evidence
    The layers' types, and the optimizer as saved: its configuration, or its state, which shows
    what Keras wrapped around it.

    ## Example
    ```python
    x = keras.layers.Dense(64, activation="relu", dtype="mixed_float16")(x)
    model = keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))
    model.compile("adam", "mse")
    ```

    ## Use instead
    ```python
    keras.config.set_dtype_policy("mixed_float16")  # before the model is made
    x = keras.layers.Dense(64, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))
    model.compile("adam", "mse")
    ```

    ## Options
    None.

    ## Known problems
    A file without the optimizer's state does not tell whether Keras wraps it: the rule is skipped.
    A training loop of one's own may scale the loss itself.

    ## References
    - Micikevicius et al. 2018, Mixed precision training, https://arxiv.org/abs/1710.03740
    - Keras documentation, Mixed precision, https://keras.io/api/mixed_precision/
    """
    graph = context.graph
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    if optimizer is None:
        yield context.skip("the model was saved without an optimizer")
        return
    half = [
        call
        for call in graph.layers()
        if call.op in KERNEL_OPS and call.dtype == "float16" and call.trainable_parameters
    ]
    if not half or optimizer.loss_scaling:
        return
    if optimizer.loss_scaling is None:
        yield context.skip("the file does not tell whether the optimizer scales the loss")
        return
    stored = any(weight.dtype == "float16" for call in half for weight in call.weights)
    kept = " Their weights are float16 as well, so that small steps round to nothing."
    yield context.finding(
        f"{names(half)} {'computes' if len(half) == 1 else 'compute'} in float16, and nothing "
        f"scales the loss: gradients below 6e-8 vanish.{kept if stored else ''}",
        layers=ids(half),
        evidence=(
            Evidence(name="layers in float16", value=len(half), method="configuration"),
            Evidence(name="loss scaling", value=False, method="compile settings"),
        ),
        remedy=(
            'Take "mixed_bfloat16", or set the policy for the whole model before it is made, '
            "so that Keras wraps the optimizer.\n\n"
            '```python\nkeras.config.set_dtype_policy("mixed_float16")\n```\n'
        ),
        confidence=Confidence.HIGH,
    )
