"""GEB9: what a model file could do to whoever loads it."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.rule import Context, rule


@rule("GEB901", "executable-code", severity=Severity.ERROR, since="0.1")
def executable_code(context: Context) -> Iterator[Finding | Skipped]:
    """The file carries Python code that loading would run.

    ## What it does
    Finds Lambda layers, marshalled functions and pickled payloads anywhere in the model's
    configuration, at every depth, the compile settings included. Nothing is decoded.

    ## Why is this bad
    The code in a Lambda layer is Python bytecode. Whoever loads the model with safe mode off, or
    with a Keras version that ignores it, runs whatever the file's author put there.

    ## Evidence
    The place in the file, and the public advisory that describes the way in.

    ## Example
    ```python
    keras.layers.Lambda(lambda x: x / 255.0)
    ```

    ## Use instead
    ```python
    keras.layers.Rescaling(1 / 255.0)
    ```

    ## Options
    None.

    ## Known problems
    An honest Lambda layer looks like a hostile one; nothing short of reading its bytecode tells
    them apart. `--ignore GEB901` accepts the file for the gate, `--unsafe` for the probe.

    ## References
    - CVE-2024-3660, arbitrary code injection through Lambda layers in Keras.
    - CVE-2025-9905, safe mode ignored for legacy .h5 files in Keras.
    - Keras API documentation, Lambda layer.
    """
    yield from hazards(
        context, "Replace the code by layers or keras.ops, or register it as a custom layer."
    )


@rule("GEB902", "import-outside-allowlist", severity=Severity.ERROR, since="0.1")
def import_outside_allowlist(context: Context) -> Iterator[Finding | Skipped]:
    """The file names something to import that is not part of Keras.

    ## What it does
    Finds every module, class and function reference in the configuration that loading would
    resolve outside of Keras and its official libraries. References into the standard library or
    other installed packages, and to Keras functions that are not layers, losses or the like, are
    errors. A class from a module of unknown origin, as honest custom layers have it, is a warning.

    ## Why is this bad
    A configuration that may name any callable is a program: `os.system` is a callable too. Keras
    has had several advisories of this kind.

    ## Evidence
    The place in the file, the name, and the public advisory that describes the way in.

    ## Example
    ```python
    class Scale(keras.layers.Layer): ...  # saved as module "my_project.layers"
    ```

    ## Use instead
    ```python
    @keras.saving.register_keras_serializable("my_project")
    class Scale(keras.layers.Layer): ...  # found by its registered name, nothing is imported
    ```

    ## Options
    None.

    ## Known problems
    Whether a module of unknown origin is your own cannot be seen from the file.

    ## References
    - CVE-2025-1550, arbitrary code execution through config.json in Keras.
    - CVE-2025-8747 and CVE-2025-9906, bypasses of safe mode in Keras.
    - Keras API documentation, Object registration.
    """
    yield from hazards(
        context, "Load the file only if you trust its author; register custom classes by name."
    )


@rule("GEB903", "path-escape", severity=Severity.ERROR, since="0.1")
def path_escape(context: Context) -> Iterator[Finding | Skipped]:
    """A name in the file leads out of it.

    ## What it does
    Finds archive members, layer names and external data locations that are absolute, climb with
    `..`, or carry separators that a writer would follow. Nothing outside is opened.

    ## Why is this bad
    Unpacking such a file writes where its author wants, and loading it reads what its author
    names: configuration, keys, other people's data.

    ## Evidence
    The place in the file, and the public advisory that describes the way in.

    ## Example
    ```python
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    ```

    ## Use instead
    ```python
    onnx.external_data_helper.set_external_data(tensor, location="weights.bin")
    ```

    ## Options
    None.

    ## Known problems
    None known.

    ## References
    - CVE-2024-27318, directory traversal in ONNX external data.
    - CVE-2022-25882, the same by nested folders.
    """
    yield from hazards(context, "Do not load this file; ask its author for an honest one.")


def hazards(context: Context, remedy: str) -> Iterator[Finding]:
    """One finding for each thing the reader saw under this rule's code."""
    for hazard in context.hazards:
        known = f" ({hazard.identifier})" if hazard.identifier else ""
        sure = hazard.severity is Severity.ERROR
        yield context.finding(
            f"{hazard.place}: {hazard.what}{known}",
            evidence=(
                Evidence(name="place", value=hazard.place, method="static walk of the file"),
            ),
            remedy=remedy,
            severity=hazard.severity,
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )
