"""GEB7: the data a model is to be trained on."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.rule import Context, rule


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
    probe = context.optional_probe
    if probe is None or probe.data == "synthetic":
        yield context.skip("no data were given: --data names a file of them")
        return
    if not probe.nonfinite_data:
        return
    yield context.finding(
        f"The data hold NaN or infinite values ({'; '.join(probe.nonfinite_data)}): the first "
        "batch with one of them destroys the weights.",
        evidence=tuple(
            Evidence(name="array", value=array, method="counted") for array in probe.nonfinite_data
        ),
        remedy=(
            "Drop the samples concerned, or fill in what is missing, and look for where it came "
            "from.\n\n"
            "```python\n"
            "finite = numpy.isfinite(x).reshape(len(x), -1).all(axis=1)\n"
            "x, y = x[finite], y[finite]\n"
            "```\n"
        ),
    )
