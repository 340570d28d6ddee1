"""GEB901, 902, 907, 908, 910: what loading a model file would run, import or fetch."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Finding, Severity, Skipped
from auditor.rule import Context, rule

from .file_container import (
    linked_storage,
    malformed_or_duplicated_members,
    path_escape,
    recursion_or_nesting,
    resource_bomb,
)
from .hazard_findings import hazard_findings

__all__ = [
    "custom_code_needed",
    "executable_code",
    "external_reference",
    "import_outside_allowlist",
    "linked_storage",
    "malformed_or_duplicated_members",
    "path_escape",
    "pickled_payload",
    "recursion_or_nesting",
    "resource_bomb",
]


@rule("GEB901", "executable-code", severity=Severity.ERROR, since="0.1")
def executable_code(context: Context) -> Iterator[Finding | Skipped]:
    """The file carries Python code that loading would run.

    ## What it does
    Finds Lambda layers and marshalled functions anywhere in the model's configuration, at every
    depth, the compile settings included. Nothing is decoded. A Lambda layer or an ONNX operator
    that names a Python function instead of carrying it is a warning.

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
    - CVE-2026-12481, Lambda layers loaded where no safe mode is set.
    - CVE-2025-9905, safe mode ignored for legacy .h5 files in Keras.
    - Keras API documentation, Lambda layer.
    """
    yield from hazard_findings(
        context, "Replace the code by layers or keras.ops, or register it as a custom layer."
    )


@rule("GEB902", "import-outside-allowlist", severity=Severity.ERROR, since="0.1")
def import_outside_allowlist(context: Context) -> Iterator[Finding | Skipped]:
    """The file names something to import that is no part of a model.

    ## What it does
    Finds every module, class and function reference in the configuration that loading would
    resolve outside of what Keras and its official libraries keep for models. References into the
    standard library or other installed packages are errors, and so are those to functions of Keras
    that download, load, save or change settings. A class from a module of unknown origin, as honest
    custom layers have it, is a warning.

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
    yield from hazard_findings(
        context, "Load the file only if you trust its author; register custom classes by name."
    )


@rule("GEB907", "pickled-payload", severity=Severity.ERROR, since="0.1")
def pickled_payload(context: Context) -> Iterator[Finding | Skipped]:
    """The file carries a pickle.

    ## What it does
    Finds TorchModuleWrapper layers, which keep a torch module pickled, and members of a .keras
    archive that are pickles by their first bytes: by themselves, as arrays of objects in .npy and
    .npz files, or in an archive within the archive. Nothing is unpickled. An asset that is a pickle
    is a warning, because Keras itself does not read it.

    ## Why is this bad
    A pickle is a program: unpickling it calls whatever its author named, with arguments of the
    author's choice.

    ## Evidence
    The place in the file, and the public advisory that describes the way in.

    ## Example
    ```python
    numpy.savez("model.weights.npz", kernel=numpy.array([layer], dtype=object))
    ```

    ## Use instead
    ```python
    model.save("model.keras")  # weights as HDF5, which holds numbers and no objects
    ```

    ## Options
    None.

    ## Known problems
    An honest torch module in a TorchModuleWrapper looks like a hostile one.

    ## References
    - CVE-2025-49655, code execution through TorchModuleWrapper in Keras.
    - Python documentation, pickle: "Never unpickle data that could have come from an untrusted
      source".
    """
    yield from hazard_findings(
        context, "Save the model without pickles: weights as HDF5, torch modules as Keras layers."
    )


@rule("GEB908", "external-reference", severity=Severity.ERROR, since="0.1")
def external_reference(context: Context) -> Iterator[Finding | Skipped]:
    """Loading the file would read something that is not in it.

    ## What it does
    Finds TFSMLayer, which loads a TensorFlow SavedModel from a path; vocabularies of StringLookup,
    IntegerLookup and TextVectorization that are the name of a file; and addresses with a scheme
    (https, gs, s3, file and any other) among the settings of any object. A vocabulary beside the
    model, as older releases of Keras kept it, and an address are warnings. Nothing is opened.

    ## Why is this bad
    Whoever loads the file reads, from their own machine or network, what its author names: a
    password file as a vocabulary, an address behind the firewall, a SavedModel that was put there
    before. What was audited is not what is loaded.

    ## Evidence
    The place in the file, the path or address, and the public advisory that describes the way in.

    ## Example
    ```python
    keras.layers.StringLookup(vocabulary="/home/me/words.txt")
    ```

    ## Use instead
    ```python
    keras.layers.StringLookup(vocabulary=["yes", "no"])  # kept in the file
    ```

    ## Options
    None.

    ## Known problems
    An address in the settings of a custom layer may be no more than a remark.

    ## References
    - CVE-2025-12058, files read and requests made through vocabularies in Keras.
    - CVE-2026-1462, safe mode bypassed through TFSMLayer in Keras.
    """
    yield from hazard_findings(
        context, "Put what is referred to into the file: vocabularies as lists, models as layers."
    )


@rule("GEB910", "custom-code-needed", severity=Severity.INFO, since="0.1")
def custom_code_needed(context: Context) -> Iterator[Finding | Skipped]:
    """The model needs code that is not in the file.

    ## What it does
    Names the classes and functions that are registered under a package of their own, and the ONNX
    operators of domains that ONNX does not define.

    ## Why is this bad
    It is not, and custom layers are common. But what they compute cannot be judged from the file:
    static rules treat them as opaque, and the probe cannot load the model without their code.

    ## Evidence
    The place where each is first used, and how many more there are.

    ## Example
    ```python
    @keras.saving.register_keras_serializable("my_project")
    class Scale(keras.layers.Layer): ...
    ```

    ## Use instead
    ```python
    import my_project.layers

    auditor.audit(keras.saving.load_model("model.keras"))  # a live model has its code
    ```

    ## Options
    None.

    ## Known problems
    Operators of the com.microsoft domain that no rule knows are named here too, although
    onnxruntime has them.

    ## References
    - Keras API documentation, Object registration.
    - ONNX documentation, Extending ONNX with custom operators.
    """
    yield from hazard_findings(
        context, "To measure the model, audit it live in Python, where its code is imported."
    )
