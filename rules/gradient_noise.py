"""GEB511: the gradient's noise against the batch, as the probe measured it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.rule import Context, Needs, Option, rule


@rule(
    "GEB511",
    "gradient-noise",
    severity=Severity.INFO,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="batch-size", default=32, meaning="samples a batch the model is trained with"),
        Option(
            name="factor",
            default=10.0,
            meaning="noise scale, at least, over the batch from which it is told",
        ),
    ),
)
def gradient_noise(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient of a batch is mostly noise.

    ## What it does
    Compares the gradient noise scale on the data given with the batch that the model is trained
    with. Told where the lower end of its 95 % interval is `factor` batches or more.

    ## Why is this bad
    It is not bad in itself: steps of batches far below the noise scale go mostly at random, and
    training takes as many more of them. A larger batch, or gradients accumulated over several,
    is then worth its price, and the learning rate may grow with it.

    ## Evidence
    tr Σ / |G|² from the gradients of the probe's batches, with its interval. Three batches give a
    wide one: its lower end counts. Synthetic targets have no more to be learned than chance, so
    that data have to be given.

    ## Example
    ```python
    model.fit(x, y, batch_size=8)
    ```

    ## Use instead
    ```python
    model.compile(keras.optimizers.Adam(1e-3, gradient_accumulation_steps=16), loss)
    model.fit(x, y, batch_size=8)
    ```

    ## Options
    - `batch-size`: samples a batch the model is trained with, 32 by default as in `fit`.
    - `factor`: noise scale, at least, over the batch from which it is told, 10 by default.

    ## Known problems
    The noise scale is that of the start, and it grows in training.

    ## References
    - McCandlish, Kaplan, Amodei 2018, An empirical model of large-batch training,
      https://arxiv.org/abs/1812.06162
    """
    probe = context.probe
    scale = probe.noise_scale
    if probe.data == "synthetic":
        yield context.skip(
            "synthetic targets have no signal to hold the noise against: give --data"
        )
        return
    if scale is None or not math.isfinite(scale.value):
        yield context.skip("the gradient noise scale could not be estimated")
        return
    size = context.number("batch-size")
    if scale.low < context.number("factor") * size:
        return
    yield context.finding(
        f"The gradient noise scale is {scale.value:.3g} samples, {scale.low:.3g} at least: a batch "
        f"of {size:g} says little of where to go.",
        evidence=(
            Evidence(
                name="gradient noise scale", value=scale.value, unit="samples", method=scale.method
            ),
            Evidence(name="lower end", value=scale.low, unit="samples", method="95 % interval"),
        ),
        remedy=(
            "Train with larger batches, or accumulate gradients over several.\n\n"
            "```python\n"
            f"keras.optimizers.Adam(1e-3, gradient_accumulation_steps={_steps(scale.low, size)})\n"
            "```\n"
        ),
        confidence=Confidence.LOW,
    )


def _steps(scale: float, size: float) -> int:
    """A power of two of batches that comes near the noise scale; 64 at most."""
    return int(min(64, 2 ** math.floor(math.log2(max(scale / size, 2.0)))))
