"""Targets against the output and the loss they are for: number, form, values."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.target_fit import Misfit, Unfit, misfits
from auditor.rule import Context, Needs, Option, rule


@rule("GEB108", "output-units-mismatch", severity=Severity.ERROR, needs=Needs.DATA, since="0.1")
def output_units_mismatch(context: Context) -> Iterator[Finding | Skipped]:
    """An output has another number of units than its targets have classes or columns.

    ## What it does
    Holds the shape of each output against that of its targets, and its units against the class
    numbers that occur. Fires where there are more classes than units, where a sample's targets are
    not as many as the units, and where one sigmoid unit is given three classes or more. More
    units than there are classes are told as an information.

    ## Why is this bad
    Most of these end the first step with an error about shapes. The others do not: one target
    for many units, or many for one, are stretched to each other's shape without a word, and every
    unit is trained towards every target. A class without a unit is read from outside the output:
    on a GPU that gives NaN, or nothing at all.

    ## Evidence
    The arrays' shapes and class numbers, counted; the output's shape, as the model states it.

    ## Example
    ```python
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(9, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y)  # y holds the digits 0 to 9
    ```

    ## Use instead
    ```python
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y)
    ```

    ## Options
    None.

    ## Known problems
    Only losses of Keras are looked at, and of these only those that want targets of one certain
    form. A class that does not occur in the data given is not counted.

    ## References
    - Keras documentation, Probabilistic losses,
      https://keras.io/api/losses/probabilistic_losses/
    """
    yield from _told(context, Unfit.UNITS)


@rule("GEB703", "label-format", severity=Severity.ERROR, needs=Needs.DATA, since="0.1")
def label_format(context: Context) -> Iterator[Finding | Skipped]:
    """The targets are written in another form than their loss takes.

    ## What it does
    Recognizes one-hot rows under a loss of class numbers and class numbers under a loss of rows,
    classes that are numbered from 1 or below 0, fractions for class numbers, −1 and 1 (or 1 and 2)
    for two classes where 0 and 1 are wanted, several marked classes where one is, one label a
    sample for an output of many positions, and text.

    ## Why is this bad
    Where the shapes differ, training ends with an error that names tensors and not the reason.
    Where they do not, it goes on and learns something else: a cross-entropy with −1 or 2 for a
    target has no least value, and its optimum lies where the output is saturated.

    ## Evidence
    The shape of the array, and its values: all of them, or of very large arrays an even spread of
    blocks.

    ## Example
    ```python
    model.compile("adam", "categorical_crossentropy")
    model.fit(x, y)  # y holds class numbers: 3, 0, 7, …
    ```

    ## Use instead
    ```python
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y)
    ```

    ## Options
    None.

    ## Known problems
    Soft labels (mixed or smoothed ones) are rows of fractions, and right. Losses of one's own are
    not judged.

    ## References
    - Keras documentation, Probabilistic losses,
      https://keras.io/api/losses/probabilistic_losses/
    - Janocha, Czarnecki 2017, On loss functions for deep neural networks in classification,
      https://arxiv.org/abs/1702.05659
    """
    yield from _told(context, Unfit.FORMAT)


@rule(
    "GEB702",
    "target-out-of-range",
    severity=Severity.ERROR,
    needs=Needs.DATA,
    since="0.1",
    options=(
        Option(
            name="share",
            default=0.01,
            meaning="share of the values out of range from which it is an error; else a warning",
            zero=True,
            most=1.0,
        ),
    ),
)
def target_out_of_range(context: Context) -> Iterator[Finding | Skipped]:
    """Targets lie where the output cannot come.

    ## What it does
    Compares the values of the targets with the range of the output's activation (tanh −1 to 1,
    sigmoid and softmax 0 to 1, ReLU and softplus from 0 on, ELU from −1 on), and with what the loss
    takes (cross-entropies 0 to 1, Poisson and squared logarithmic errors nothing below 0, relative
    errors no zeros). An error where `share` of the values or more are outside, a warning below.

    ## Why is this bad
    The output is driven to the end of its range, where the activation is flat: the gradient
    vanishes, and the loss stays at what the closest reachable value gives. Under a ReLU negative
    targets kill the unit for good. A cross-entropy with a target above 1 has no least value.

    ## Evidence
    Least and largest value of the targets, and the share of them that is out of range, counted.

    ## Example
    ```python
    model.add(keras.layers.Dense(1, activation="tanh"))
    model.compile("adam", "mean_squared_error")
    model.fit(x, prices)  # 80,000 to 900,000
    ```

    ## Use instead
    ```python
    model.add(keras.layers.Dense(1))
    model.compile("adam", "mean_squared_error")
    model.fit(x, (prices - prices.mean()) / prices.std())
    ```

    ## Options
    - `share`: share of the values out of range from which it is an error, 0.01 by default; a
      warning below it.

    ## Known problems
    A ReLU output for counts with a few negative measurement errors is meant so by some; below
    `share` it is a warning. An output that is scaled behind its activation is not judged.

    ## References
    - Goodfellow, Bengio, Courville 2016, Deep learning, section 6.2.2 (output units),
      https://www.deeplearningbook.org/contents/mlp.html
    - Keras documentation, Regression losses, https://keras.io/api/losses/regression_losses/
    """
    yield from _told(context, Unfit.RANGE)


def _told(context: Context, unfit: Unfit) -> Iterator[Finding | Skipped]:
    """The misfits of one kind."""
    data = context.data
    if not data.targets:
        yield context.skip("the data hold no targets")
        return
    if context.graph.compile is None:
        yield context.skip("the model was saved uncompiled: what its targets are for is not known")
        return
    for misfit in misfits(context.graph, data):
        if misfit.unfit is not unfit:
            continue
        target = misfit.target
        yield context.finding(
            f"`{target.name}` {misfit.why}.",
            layers=(misfit.head.output.id,),
            evidence=tuple(_evidence(misfit)),
            remedy=misfit.instead,
            severity=_severity(context, misfit),
            confidence=Confidence.MEDIUM
            if target.sampled and not misfit.refused
            else Confidence.HIGH,
        )


def _severity(context: Context, misfit: Misfit) -> Severity:
    if misfit.slack:
        return Severity.INFO
    few = misfit.unfit is Unfit.RANGE and misfit.share < context.number("share")
    if misfit.mild or few:
        return Severity.WARNING
    return Severity.ERROR


def _evidence(misfit: Misfit) -> Iterator[Evidence]:
    target = misfit.target
    counted = "counted"
    if target.sampled:
        counted = f"counted in {target.seen:,} of {target.samples:,} samples, evenly spread"
    yield Evidence(name="targets", value=f"{target.dtype}, {target.shape}", method="as stored")
    yield Evidence(name="output", value=str(misfit.head.shape), method=f"under {misfit.loss}")
    if target.minimum is not None and target.maximum is not None:
        yield Evidence(name="least target", value=target.minimum, method=counted)
        yield Evidence(name="largest target", value=target.maximum, method=counted)
    if misfit.unfit is Unfit.RANGE:
        yield Evidence(name="out of range", value=misfit.share, unit="share", method=counted)
