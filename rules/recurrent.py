"""GEB3, recurrent kernels: what a step does to the state, over as many steps as there are."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import Op
from auditor.graph.bypass import bypassed
from auditor.graph.operators import RECURRENT_OPS
from auditor.graph.recurrence import Recurrence, recurrences
from auditor.graph.trainable_reach import learned_calls
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, Option, rule

#: Sequences from which on a forget gate that starts half shut costs memory that is missed.
LONG = 50


@rule(
    "GEB304",
    "recurrent-kernel",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="growth", default=30.0, meaning="growth of a change over all steps: warning"),
        Option(
            name="error-growth",
            default=1e4,
            meaning="the same for an error, of fresh weights over a known length",
        ),
    ),
)
def recurrent_kernel(context: Context) -> Iterator[Finding | Skipped]:
    """A recurrent kernel multiplies the state's changes at every step.

    ## What it does
    Runs the cell of each SimpleRNN, LSTM and GRU layer, with the weights the file holds, over
    random sequences of unit scale, and carries a small change of the first state along. Warns when
    the change has grown `growth`-fold at the end; an error when it has grown `error-growth`-fold,
    the length of the sequences is known, the weights are fresh from their initializers, and there
    is no way around the layer. A note says where an LSTM over long sequences starts without the
    forget-gate bias of 1.

    ## Why is this bad
    What a step does to a change of the state it does at every step: 1.25 a step is five billion
    over a hundred. The gradient grows by the same factor on its way back, and under an activation
    without a bound (ReLU, linear) so does the state, and with it the loss.

    ## Evidence
    The factor a step and over all steps: the product of the exact derivatives ∂h_t/∂h_{t−1} along
    the states reached, geometric mean, median of eight sequences. The spectral radius of the
    recurrent kernel stands beside it: above 1 it is necessary for an explosion under tanh, but not
    sufficient, since activations take away from it.

    ## Example
    ```python
    keras.layers.SimpleRNN(
        32, activation="relu", recurrent_initializer=keras.initializers.RandomNormal(stddev=0.4)
    )
    ```

    ## Use instead
    ```python
    keras.layers.SimpleRNN(32, activation="tanh", recurrent_initializer="orthogonal")
    ```

    ## Options
    - `growth`: growth of a change of the state over all steps that is a warning, 30 by default.
    - `error-growth`: the same for an error, of fresh weights over a known length, 10⁴ by default.

    ## Known problems
    Real sequences are not random; those of trained weights least of all, which are named only
    beyond `error-growth`, with low confidence. Custom and convolutional cells, and recurrent ONNX
    nodes, are not run. Of a bidirectional layer the forward cell is.

    ## References
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks.
    - Saxe, McClelland, Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep
      linear neural networks (orthogonal kernels).
    - Le, Jaitly, Hinton 2015, A simple way to initialize recurrent networks of rectified linear
      units, https://arxiv.org/abs/1504.00941
    - Jozefowicz, Zaremba, Sutskever 2015, An empirical exploration of recurrent network
      architectures (the forget-gate bias).
    """
    graph = context.graph
    recurrent = [call for call in graph.layers() if call.op in RECURRENT_OPS]
    if not recurrent:
        return
    found = recurrences(graph)
    if not found:
        missing = {call.id for call in unbuilt(graph)} & {call.id for call in recurrent}
        yield context.skip(NOT_BUILT if missing else "no recurrent cell whose weights can be run")
    learned = learned_calls(graph)
    for recurrence in found:
        # A frozen layer's state may still explode forward; the loss at start tells that.
        if recurrence.call.id in learned and recurrence.total >= context.number("growth"):
            said = _growing(context, recurrence)
            if said is not None:
                yield said
    for recurrence in found:
        if _forgetful(recurrence):
            yield _bias(context, recurrence)


def _growing(context: Context, found: Recurrence) -> Finding | None:
    astronomical = found.total >= context.number("error-growth")
    if found.untouched is not True and not astronomical:
        return None
    severe = (
        astronomical
        and found.untouched is True
        and found.steps is not None
        and not bypassed(context.graph, (found.call.id,))
    )
    over = f"{found.steps} steps" if found.steps is not None else "100 steps (the length is open)"
    evidence = [
        Evidence(
            name="factor a step",
            value=found.rate,
            unit="on a change of the state",
            method="derivatives along random sequences",
        ),
        Evidence(name="factor over all steps", value=found.total, method=over),
    ]
    if found.radius is not None:
        evidence.append(Evidence(name="spectral radius", value=found.radius, method="eigenvalues"))
    doubt = "" if found.untouched else " The weights are not fresh, so this is a guess."
    return context.finding(
        f"The recurrent kernel of `{found.call.id}` multiplies a change of its state by "
        f"{found.rate:.3g} at every step, {found.total:.1e}-fold over {over}: so does the gradient "
        f"grow on its way back.{doubt}",
        layers=(found.call.id,),
        evidence=tuple(evidence),
        remedy=(
            "Use an orthogonal recurrent kernel (Keras' default), which keeps norms over time, "
            "and tanh in place of an activation without a bound; or an LSTM or GRU. Clipping the "
            "global norm keeps single steps bounded.\n\n"
            "```python\n"
            f'keras.layers.{found.call.kind}(..., recurrent_initializer="orthogonal")\n'
            "```\n"
        ),
        severity=Severity.ERROR if severe else Severity.WARNING,
        confidence=Confidence.HIGH if found.untouched else Confidence.LOW,
    )


def _forgetful(found: Recurrence) -> bool:
    """Whether a fresh LSTM over long sequences starts with its forget gate half shut."""
    return (
        found.call.op is Op.LSTM
        and found.untouched is True
        and found.call.config.get("unit_forget_bias") is False
        and (found.steps or 0) >= LONG
    )


def _bias(context: Context, found: Recurrence) -> Finding:
    return context.finding(
        f"`{found.call.id}` starts without the forget-gate bias of 1: half of its memory is gone "
        f"after each of its {found.steps} steps.",
        layers=(found.call.id,),
        evidence=(Evidence(name="unit_forget_bias", value=False, method="configuration"),),
        remedy="Leave `unit_forget_bias` at True, Keras' default.",
        severity=Severity.INFO,
    )
