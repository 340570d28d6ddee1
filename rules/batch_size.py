"""GEB608: the size of a batch against the data."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph, Op
from auditor.rule import Context, Needs, Option, rule


@rule(
    "GEB608",
    "batch-size",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    since="0.1",
    options=(
        Option(
            name="batch-size",
            default=32,
            meaning="samples a batch that the model is trained with, where it does not fix them",
        ),
        Option(
            name="steps",
            default=4,
            meaning="batches an epoch below which a model that normalizes by batches is named",
        ),
    ),
)
def batch_size(context: Context) -> Iterator[Finding | Skipped]:
    """The batch does not go with the amount of data.

    ## What it does
    Takes the batch size that the model fixes in its input shape, or else the option `batch-size`,
    and holds it against the number of samples. Fires where a fixed batch is larger than the data
    or leaves a part of a batch over. As an information, where BatchNormalization on single vectors
    gets a last batch of one sample, and where it has fewer than `steps` batches an epoch to take
    its averages from. What the gradient's noise says of the batch is GEB511's.

    ## Why is this bad
    A model with a fixed batch stops with an error at the batch that is not full: at the end of
    the first epoch. The statistics of a single sample are that sample itself: its normalized
    value is zero whatever it was, and the moving averages take it in.

    ## Evidence
    The number of samples in the data, and the batch as the model states it or as configured.

    ## Example
    ```python
    inputs = keras.Input(batch_shape=(32, 20, 8))
    x = keras.layers.LSTM(16, stateful=True)(inputs)
    model.fit(data, targets, batch_size=32)  # 1,000 samples
    ```

    ## Use instead
    ```python
    whole = len(data) // 32 * 32
    model.fit(data[:whole], targets[:whole], batch_size=32)
    ```

    ## Options
    - `batch-size`: samples a batch that the model is trained with, 32 by default as in `fit`;
      without effect where the model fixes its batch.
    - `steps`: batches an epoch below which a model that normalizes by batches is named, 4 by
      default.

    ## Known problems
    A file does not say what `batch_size` it is fitted with.

    ## References
    - Keras documentation, Model training APIs (batch_size),
      https://keras.io/api/models/model_training_apis/
    - Ioffe, Szegedy 2015, Batch normalization, https://arxiv.org/abs/1502.03167
    """
    samples = context.data.samples
    fixed = {
        spec.shape[0]
        for spec in context.graph.inputs
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] > 0
    }
    if len(fixed) == 1:
        yield from _fixed(context, int(fixed.pop()), samples)
        return
    size = int(context.number("batch-size"))
    normalized = [
        call for call in context.graph.calls if call.op is Op.BATCH_NORM and call.trainable
    ]
    vectors = [call for call in normalized if call.in_shape is not None and len(call.in_shape) == 2]
    if vectors and samples > size and samples % size == 1:
        yield context.finding(
            f"{samples:,} samples in batches of {size} leave a last batch of one, and "
            f"`{vectors[0].id}` normalizes it to nothing.",
            layers=tuple(call.id for call in vectors),
            evidence=(Evidence(name="samples", value=samples, method="counted"),),
            remedy="Drop the last sample, or take another batch size.",
            severity=Severity.INFO,
        )
    elif normalized and samples < context.number("steps") * size and size > 1:
        steps = math.ceil(samples / size)
        told = "one batch" if steps == 1 else f"{steps} batches"
        yield context.finding(
            f"{samples:,} samples are {told} of {size} an epoch: the moving averages of "
            "BatchNormalization, which follow by 1 % a step, need hundreds of them.",
            layers=tuple(call.id for call in normalized),
            evidence=(Evidence(name="batches an epoch", value=steps, method="counted"),),
            remedy="Take smaller batches or a lower `momentum`, or use LayerNormalization.",
            severity=Severity.INFO,
            confidence=Confidence.MEDIUM,
        )


def _fixed(context: Context, size: int, samples: int) -> Iterator[Finding]:
    if samples % size == 0:
        return
    none = samples < size
    yield context.finding(
        f"The model takes batches of {size} and nothing else, and the {samples:,} samples "
        + ("do not fill one." if none else f"leave {samples % size} over: the last batch fails."),
        layers=tuple(
            spec.call for spec in context.graph.inputs if _known(context.graph, spec.call)
        ),
        evidence=(
            Evidence(name="samples", value=samples, method="counted"),
            Evidence(name="batch", value=size, method="shape of the input"),
        ),
        remedy=(
            "Leave the batch open (`keras.Input(shape=…)`), or give whole batches.\n\n"
            "```python\n"
            f"whole = len(x) // {size} * {size}\n"
            f"model.fit(x[:whole], y[:whole], batch_size={size})\n"
            "```\n"
        ),
    )


def _known(graph: LayerGraph, call_id: str) -> bool:
    return call_id in graph.by_id
