"""GEB7: the data a model is to be trained on."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.target_fit import BINARY, BY_NUMBER, BY_ROW
from auditor.measurement import ArrayFacts
from auditor.rule import Context, Needs, Option, rule

from .batch_size import batch_size
from .input_scale import unscaled_input
from .targets import label_format, output_units_mismatch, target_out_of_range

__all__ = [
    "batch_size",
    "degenerate_data",
    "label_format",
    "non_finite_data",
    "output_units_mismatch",
    "target_out_of_range",
    "unscaled_input",
]

#: Fewer samples than these say nothing of how rare a class is.
FEWEST = 100


@rule("GEB704", "non-finite-data", severity=Severity.ERROR, since="0.1")
def non_finite_data(context: Context) -> Iterator[Finding | Skipped]:
    """The data hold NaN or infinite values.

    ## What it does
    Names the arrays of the given data that hold NaN or an infinity, and how many values of each.

    ## Why is this bad
    A single NaN in a batch makes the loss or a gradient NaN, and one step later every weight. Not
    every layer lets it show: `relu(NaN)` is 0 on some devices, and a pooling or a mask may hide
    it, while the weights of the first layer are lost.

    ## Evidence
    Counted in the arrays, exactly.

    ## Example
    ```python
    x = frame.to_numpy("float32")  # missing values are NaN
    model.fit(x, y)
    ```

    ## Use instead
    ```python
    known = numpy.isfinite(x).all(axis=1) & numpy.isfinite(y)
    model.fit(x[known], y[known])
    ```

    ## Options
    None.

    ## Known problems
    Only data given with `--data` are looked at. A model that takes NaN for "missing" and masks it
    before its first weight may do so rightly.

    ## References
    - IEEE 754-2019, Standard for floating-point arithmetic.
    - scikit-learn user guide, Imputation of missing values,
      https://scikit-learn.org/stable/modules/impute.html
    """
    data, probe = context.facts.data, context.optional_probe
    if data is None and (probe is None or probe.data == "synthetic"):
        yield context.skip("no data were given: --data names a file of them")
        return
    lost = data.nonfinite if data is not None else ()
    if not lost and probe is not None:
        lost = probe.nonfinite_data
    if not lost:
        return
    yield context.finding(
        f"The data hold NaN or infinite values ({'; '.join(lost)}): the first "
        "batch with one of them destroys the weights.",
        evidence=tuple(Evidence(name="array", value=array, method="counted") for array in lost),
        remedy=(
            "Drop the samples concerned, or fill in what is missing, and look for where it came "
            "from.\n\n"
            "```python\n"
            "finite = numpy.isfinite(x).reshape(len(x), -1).all(axis=1)\n"
            "x, y = x[finite], y[finite]\n"
            "```\n"
        ),
    )


@rule(
    "GEB705",
    "degenerate-data",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    since="0.1",
    options=(
        Option(
            name="constant",
            default=0.5,
            meaning="share of constant features from which it is a warning",
            most=1.0,
        ),
        Option(
            name="majority",
            default=0.98,
            meaning="share of the samples in one class from which it is a warning",
            most=1.0,
        ),
    ),
)
def degenerate_data(context: Context) -> Iterator[Finding | Skipped]:
    """The data hold less to learn from than it seems.

    ## What it does
    Looks for targets that are all the same, for a class that nearly all samples belong to
    (`majority` or more, of labels that are one a sample), for samples that are all the same, and
    for features with one value in every sample: a warning where `constant` or more of them are
    so, an information where it is some columns of a table.

    ## Why is this bad
    A model that always gives the same answer fits such targets perfectly, and at 98 of 100 it
    has an accuracy of 98 %: the loss falls, and nothing is learned. A constant feature takes
    weights and gives nothing; standardizing it divides by zero.

    ## Evidence
    Counted in the arrays; of very large ones in an even spread of blocks.

    ## Example
    ```python
    y = (frame["failed"] == "yes").to_numpy()  # 3 of 10,000
    model.fit(x, y)
    ```

    ## Use instead
    ```python
    share = y.mean()
    model.fit(x, y, class_weight={0: 0.5 / (1 - share), 1: 0.5 / share})
    ```

    ## Options
    - `constant`: share of constant features from which it is a warning, 0.5 by default; the margin
      of images, and words that do not occur, are often constant.
    - `majority`: share of the samples in one class from which it is a warning, 0.98 by default.

    ## Known problems
    A batch for a discriminator, or one of several files, may hold one class on purpose. Rare
    classes can be what a model is for: then it is their weight that matters.

    ## References
    - He, Garcia 2009, Learning from imbalanced data, doi:10.1109/TKDE.2008.239
    - scikit-learn user guide, Removing features with low variance,
      https://scikit-learn.org/stable/modules/feature_selection.html
    """
    data = context.data
    if data.samples < 2:
        yield context.skip("the data hold a single sample")
        return
    for array in data.targets:
        yield from _targets(context, array)
    for array in data.inputs:
        yield from _inputs(context, array)


def _targets(context: Context, array: ArrayFacts) -> Iterator[Finding]:
    """One class only, or nearly."""
    counts = _classes(context, array)
    total = sum(counts.values())
    single = array.minimum is not None and array.minimum == array.maximum
    if single or (len(counts) > 1 and max(counts.values()) == total):
        only = array.minimum if single else max(counts, key=lambda value: counts[value])
        yield context.finding(
            f"All {array.seen:,} targets in `{array.name}` are "
            + (f"{only:g}" if single else f"of class {only:g}")
            + ": there is nothing to tell apart.",
            layers=(context.graph.outputs[array.place][0],),
            evidence=(Evidence(name="different targets", value=1, method="counted"),),
            remedy=(
                "Look at how the labels were read and at the split: shuffle before it "
                "(`sklearn.model_selection.train_test_split(x, y, stratify=y)`)."
            ),
        )
        return
    if total < FEWEST or len(counts) < 2:
        return
    most = max(counts, key=lambda value: counts[value])
    share = counts[most] / total
    if share >= context.number("majority"):
        yield context.finding(
            f"{share:.1%} of the targets in `{array.name}` are of class {most:g}: a model that "
            "knows nothing else is as often right.",
            layers=(context.graph.outputs[array.place][0],),
            evidence=(
                Evidence(name="largest class", value=share, unit="share", method="counted"),
                Evidence(name="other samples", value=total - counts[most], method="counted"),
            ),
            remedy=(
                "Weigh the classes (`fit(…, class_weight=…)`), sample the rare ones more often, "
                "or use a focal loss; judge by recall or average precision, not by accuracy."
            ),
            confidence=Confidence.MEDIUM if array.sampled else Confidence.HIGH,
        )


def _classes(context: Context, array: ArrayFacts) -> dict[float, int]:
    """How often each class occurs, of labels that are one a sample; empty where they are not."""
    losses = context.graph.compile.losses if context.graph.compile is not None else ()
    if losses and not {loss.name for loss in losses} & (BY_ROW | BINARY | {BY_NUMBER}):
        return {}
    if not array.one_number_each and len(array.shape) != 2:
        return {}
    if array.one_number_each or (array.rows is not None and array.rows.one_hot == 1.0):
        return dict(array.class_counts)
    return {}


def _inputs(context: Context, array: ArrayFacts) -> Iterator[Finding]:
    """Samples that are all the same, and features that are."""
    features = array.features
    if features is None:
        if array.minimum is None or array.minimum != array.maximum:
            return
        share = 1.0
    else:
        share = features.constant / features.count
    if share == 1.0:
        message = f"All {array.seen:,} samples in `{array.name}` are the same."
        severity = Severity.WARNING
    elif features is not None and features.constant and share >= context.number("constant"):
        message = (
            f"{features.constant:,} of the {features.count:,} features in `{array.name}` have one "
            "and the same value in every sample."
        )
        severity = Severity.WARNING
    elif features is not None and features.constant and len(array.shape) == 2:
        message = (
            f"{features.constant:,} of the {features.count:,} columns of `{array.name}` are "
            "constant."
        )
        severity = Severity.INFO
    else:
        return
    yield context.finding(
        message,
        layers=(context.graph.inputs[array.place].call,),
        evidence=(
            Evidence(name="constant features", value=share, unit="share", method="counted"),
            Evidence(name="samples", value=array.seen, method="of the data"),
        ),
        remedy=(
            "Look at how the data were read; drop what does not vary.\n\n"
            "```python\n"
            f"{array.name} = {array.name}[:, {array.name}.std(axis=0) > 0]\n"
            "```\n"
        ),
        severity=severity,
        confidence=Confidence.MEDIUM if array.sampled or array.seen < FEWEST else Confidence.HIGH,
    )
