"""GEB3: initialization and weights."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.bypass import bypassed
from auditor.graph.kernel_symmetry import (
    KernelSymmetry,
    dead_at_start,
    kernel_symmetry,
    readers,
)
from auditor.graph.paths import reaching_outputs
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, Needs, rule

from .recurrent import recurrent_kernel
from .residual_scaling import residual_scaling
from .selu import selu_contract
from .weight_anomalies import anomalous_weights
from .weight_scale import mis_scaled_initialization
from .wording import ids, names

__all__ = [
    "anomalous_weights",
    "mis_scaled_initialization",
    "non_finite_weights",
    "recurrent_kernel",
    "residual_scaling",
    "selu_contract",
    "symmetric_weights",
]


@rule("GEB301", "symmetric-weights", severity=Severity.ERROR, since="0.1")
def symmetric_weights(context: Context) -> Iterator[Finding | Skipped]:
    """Kernels of zeros, or units that are all alike, where training cannot mend it.

    ## What it does
    Looks at the kernels of dense, convolutional and recurrent layers: at their values, or at their
    initializers where the file holds no values. Errors, where no training can get out of it: a
    kernel of zeros before an activation that is flat at zero (ReLU); a kernel of zeros read by
    kernels of zeros; a layer whose units are all alike, read by layers that give all of them the
    same weight. A warning where a hidden layer's units are all alike but the next layer tells them
    apart.

    ## Why is this bad
    Units with equal weights in and out compute the same, get the same gradient, and stay equal for
    good: a layer of 256 such units is a layer of one. A kernel of zeros passes no signal on; where
    the activation is flat at zero, or the next kernel is zero as well, no gradient comes back
    either, and the layer never moves.

    ## Evidence
    The kernel's values, read from the file and compared exactly, with the layers that read them.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(64, activation="relu", kernel_initializer="zeros"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((784,)),
        keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    None.

    ## Known problems
    What is zero on purpose trains, and is left alone: a zero output layer, the last layer of a
    residual branch, one factor of a low-rank adapter, biases, scales, a single zero layer under
    tanh. Depthwise and grouped kernels may be alike rightly, since their units see different
    inputs. Frozen layers are not judged.

    ## References
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 8.4 (parameter initialization
      strategies), https://www.deeplearningbook.org/
    - Zhang, Dauphin, Ma 2019, Fixup initialization: residual learning without normalization,
      https://arxiv.org/abs/1901.09321
    - Hu et al. 2021, LoRA: low-rank adaptation of large language models,
      https://arxiv.org/abs/2106.09685
    """
    graph = context.graph
    used = reaching_outputs(graph)
    symmetries = {
        call.id: symmetry
        for call in graph.layers()
        if call.id in used
        and call.trainable
        and (symmetry := kernel_symmetry(graph, call)) is not None
    }
    if not symmetries:
        if graph.parameters:
            yield context.skip("no kernel whose values or initializer are known")
        elif unbuilt(graph):
            yield context.skip(NOT_BUILT)
        return
    zero: list[LayerCall] = []
    same: list[LayerCall] = []
    merged: list[LayerCall] = []
    for call_id, symmetry in symmetries.items():
        call = graph.by_id[call_id]
        if symmetry.zero:
            if _stuck(graph, call, symmetry, symmetries):
                zero.append(call)
        elif symmetry.alike and (level := _level_readers(graph, call, symmetries)) is not None:
            (same if level else merged).append(call)
    if zero:
        yield _zero_kernels(context, zero)
    if same:
        yield context.finding(
            f"All units of {names(same)} are alike, going in and going out: they get the same "
            "gradient and stay one single unit for good.",
            layers=ids(same),
            evidence=_kernels(same),
            remedy=RANDOM,
            severity=_unless_bypassed(graph, same),
        )
    if merged:
        yield context.finding(
            f"All units of {names(merged)} start alike: the layer is a single unit until the "
            "layer after it has pulled them apart.",
            layers=ids(merged),
            evidence=_kernels(merged),
            remedy=RANDOM,
            severity=Severity.WARNING,
        )


RANDOM = """\
Draw the kernel at random: he_normal before ReLU and its kin, glorot_uniform otherwise.

```python
keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal")
```
"""


def _stuck(
    graph: LayerGraph,
    call: LayerCall,
    symmetry: KernelSymmetry,
    symmetries: dict[str, KernelSymmetry],
) -> bool:
    """Whether no gradient ever reaches this kernel of zeros."""
    if dead_at_start(graph, call, symmetry.bias):
        return True
    following = readers(graph, call, masked=True)
    return bool(following) and all(
        (seen := symmetries.get(reader.id)) is not None and seen.zero for reader in following or ()
    )


def _level_readers(
    graph: LayerGraph, call: LayerCall, symmetries: dict[str, KernelSymmetry]
) -> bool | None:
    """Whether all layers that read this one's units give each of them the same weight.

    None where the units leave the model, or something that is not judged comes between.
    """
    following = readers(graph, call)
    if following is None:
        return None if readers(graph, call, masked=True) is None else False
    known = [symmetries.get(reader.id) for reader in following]
    return bool(known) and all(seen is not None and seen.level for seen in known)


def _zero_kernels(context: Context, calls: list[LayerCall]) -> Finding:
    verb = "is" if len(calls) == 1 else "are"
    return context.finding(
        f"The kernel of {names(calls)} {verb} all zeros, and no gradient reaches it: neither "
        "it nor anything before it will ever move.",
        layers=ids(calls),
        evidence=_kernels(calls),
        remedy=RANDOM,
        severity=_unless_bypassed(context.graph, calls),
    )


def _unless_bypassed(graph: LayerGraph, calls: list[LayerCall]) -> Severity:
    """An error where one of the calls is on every way, a warning where the rest still trains."""
    blocking = any(not bypassed(graph, (call.id,)) for call in calls)
    return Severity.ERROR if blocking else Severity.WARNING


def _kernels(calls: list[LayerCall]) -> tuple[Evidence, ...]:
    evidence = []
    for call in calls:
        kernel = call.weight("pointwise_kernel") or call.weight("kernel")
        if kernel is not None:
            method = "values read" if kernel.read is not None else "initializer"
            shape = "×".join(str(size) for size in kernel.shape)
            evidence.append(Evidence(name=f"kernel of {call.id}", value=shape, method=method))
    return tuple(evidence)


@rule(
    "GEB305",
    "non-finite-weights",
    severity=Severity.ERROR,
    needs=Needs.WEIGHTS,
    since="0.1",
)
def non_finite_weights(context: Context) -> Iterator[Finding | Skipped]:
    """Weights that are NaN or infinite.

    ## What it does
    Reads every weight of the file and counts values that are NaN or infinite.

    ## Why is this bad
    NaN times anything is NaN: the first batch turns the output, the loss and every gradient into
    NaN, and one step later all weights are. The model was saved after its training had already
    broken down, or the file is damaged.

    ## Evidence
    The number of such values in each weight, counted exactly.

    ## Example
    ```python
    model.fit(x, y)  # the loss was NaN from the third epoch on
    model.save("model.keras")
    ```

    ## Use instead
    ```python
    model.fit(
        x,
        y,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.ModelCheckpoint("model.keras", save_best_only=True),
        ],
    )
    ```

    ## Options
    None.

    ## Known problems
    A constant of an ONNX graph that is infinite on purpose (a mask's −∞) is no weight of a layer
    and is not counted as one, unless the exporter has made it one.

    ## References
    - Keras documentation, TerminateOnNaN, https://keras.io/api/callbacks/terminate_on_nan/
    - Goldberg 1991, What every computer scientist should know about floating-point arithmetic.
    """
    graph = context.graph
    bad: list[tuple[LayerCall, str, int, int]] = []
    unread = []
    for call in graph.layers():
        for index, weight in enumerate(call.weights):
            seen = graph.weight_statistics.get((call.layer, index))
            if seen is not None and seen.nonfinite:
                bad.append((call, weight.name, seen.nonfinite, seen.count))
            elif seen is None and weight.read is not None and weight.size:
                unread.append(f"{call.id}: {weight.name}")
    if bad:
        call, name, count, size = bad[0]
        calls = [entry[0] for entry in bad]
        total = sum(entry[2] for entry in bad)
        more = f"; {total:,} such values in {len(bad)} weights in all" if len(bad) > 1 else ""
        yield context.finding(
            f"{count:,} of the {size:,} values of {name!r} in `{call.id}` are NaN or "
            f"infinite{more}: the model gives NaN from the first batch on.",
            layers=ids(calls),
            evidence=tuple(
                Evidence(name=f"{call.id}: {name}", value=count, unit="values", method="counted")
                for call, name, count, _ in bad
            ),
            remedy=(
                "Go back to the last checkpoint whose weights are finite; then train on with a "
                "lower learning rate or gradient clipping.\n\n"
                "```python\n"
                "callbacks = [keras.callbacks.TerminateOnNaN()]\n"
                "```\n"
            ),
        )
    if unread:
        rest = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        yield context.skip(f"values of {unread[0]}{rest} could not be read as numbers")
