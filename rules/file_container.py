"""GEB903 to 906, 909: what is wrong with the file itself, whatever model is in it."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Finding, Severity, Skipped
from auditor.rule import Context, rule

from .hazard_findings import hazard_findings

REMEDY = "Do not load this file; ask its author for an honest one."


@rule("GEB903", "path-escape", severity=Severity.ERROR, since="0.1")
def path_escape(context: Context) -> Iterator[Finding | Skipped]:
    """A name in the file leads out of it.

    ## What it does
    Finds archive members, layer names and locations of external data that are absolute, climb with
    `..`, name a drive, hold a NUL, or are links. Nothing outside is opened. External data with
    other names on the disk (hard links), as package caches make them, is a warning.

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
    - GHSA-hqp4-2352-xf5r, members of an archive that leave it, in Keras.
    - CVE-2026-12479, files written by the name of a layer in Keras.
    - CVE-2022-25882 and CVE-2024-27318, directory traversal in ONNX external data.
    - CVE-2026-27489, CVE-2026-34446 and CVE-2026-34447, the same by links in ONNX.
    """
    yield from hazard_findings(context, REMEDY)


@rule("GEB904", "linked-storage", severity=Severity.ERROR, since="0.1")
def linked_storage(context: Context) -> Iterator[Finding | Skipped]:
    """An HDF5 file keeps its values, or a part of itself, somewhere else.

    ## What it does
    Finds external storage, external links, soft links and virtual datasets at every step of the
    way to a weight. None is followed, and the file is not opened any further.

    ## Why is this bad
    Loading such a file reads another one, of its author's choice, into the model's weights, from
    which it can be had again. Keras writes none of these.

    ## Evidence
    The path within the HDF5 file, and the public advisory that describes the way in.

    ## Example
    ```python
    file.create_dataset("kernel", (64,), "u1", external=[("/etc/passwd", 0, 64)])
    ```

    ## Use instead
    ```python
    file.create_dataset("kernel", data=values)
    ```

    ## Options
    None.

    ## Known problems
    A soft link or virtual dataset within the same file does no harm, and is refused all the same.

    ## References
    - CVE-2026-1669, files read through HDF5 external storage in Keras.
    - HDF5 documentation, external datasets, links and virtual datasets.
    """
    yield from hazard_findings(context, REMEDY)


@rule("GEB905", "resource-bomb", severity=Severity.ERROR, since="0.1")
def resource_bomb(context: Context) -> Iterator[Finding | Skipped]:
    """The file declares more than it holds, or unfolds to more than can be meant.

    ## What it does
    Finds members of an archive that inflate a hundredfold or overlap each other, HDF5 datasets and
    attributes that declare what the file does not hold, and configurations and graphs beyond the
    readers' limits. The file is not opened any further.

    ## Why is this bad
    Loading it takes memory or time until the machine has none left: a few kilobytes are enough.

    ## Evidence
    The place in the file, what it declares and what it holds.

    ## Example
    ```python
    file.create_dataset("kernel", (2**20, 2**20), "f4", chunks=True)  # 4 TiB in 2 KiB
    ```

    ## Use instead
    ```python
    file.create_dataset("kernel", data=values)
    ```

    ## Options
    None.

    ## Known problems
    A model beyond the readers' limits that is meant is refused until they are raised, in the table
    `[tool.geb-audit.limits]` of the configuration.

    ## References
    - CVE-2026-0897 and CVE-2026-12570, memory exhausted by HDF5 shapes in Keras.
    - Fifield, "A better zip bomb", USENIX WOOT 2019.
    """
    yield from hazard_findings(context, REMEDY)


@rule("GEB906", "malformed-or-duplicated-members", severity=Severity.ERROR, since="0.1")
def malformed_or_duplicated_members(context: Context) -> Iterator[Finding | Skipped]:
    """Two readers of this file may see two models.

    ## What it does
    Finds archives that hold a member twice, or under names that differ by case alone, whose listing
    does not agree with the members' own headers, leaves members out, or does not end the file;
    files that are of one kind by their first bytes and of another by their name; keys that stand
    twice in a JSON object; and entries of ONNX external data that ONNX does not define.

    ## Why is this bad
    What was checked is not what is loaded: a scanner reads the one model and Keras the other. The
    entries of external data have been used to set attributes and to read memory in onnx itself.

    ## Evidence
    The place in the file, and the public advisory that describes the way in, where there is one.

    ## Example
    ```python
    archive.writestr("config.json", harmless)
    archive.writestr("config.json", harmful)
    ```

    ## Use instead
    ```python
    model.save("model.keras")
    ```

    ## Options
    None.

    ## Known problems
    A download with bytes appended to it is refused.

    ## References
    - CVE-2026-34445 and CVE-2024-27319, keys and lengths of ONNX external data.
    - PKWARE, APPNOTE.TXT, .ZIP file format specification 6.3.10.
    """
    yield from hazard_findings(context, REMEDY)


@rule("GEB909", "recursion-or-nesting", severity=Severity.ERROR, since="0.1")
def recursion_or_nesting(context: Context) -> Iterator[Finding | Skipped]:
    """The file is nested without an end, or deeper than can be meant.

    ## What it does
    Finds ONNX functions that call themselves, by way of other functions and of graphs within nodes
    too; HDF5 groups that hold themselves; and configurations, models, graphs and functions nested
    beyond the readers' limits. The file is not opened any further.

    ## Why is this bad
    Whatever follows the nesting runs out of stack or memory, and native code crashes.

    ## Evidence
    The place in the file, and the public advisory that describes the way in, where there is one.

    ## Example
    ```python
    helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("f", ["x"], ["y"],
                                                                     domain="own")], opsets)
    ```

    ## Use instead
    ```python
    helper.make_node("Loop", ["n", "go", "x"], ["y"], body=body)
    ```

    ## Options
    None.

    ## Known problems
    None known.

    ## References
    - GHSA-7w46-vvrh-m8q5, recursive local functions in ONNX.
    - HDF5 documentation, hard links.
    """
    yield from hazard_findings(context, REMEDY)
