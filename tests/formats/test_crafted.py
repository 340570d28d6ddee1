"""Every crafted file: the right finding, the right exit code, and nothing touched."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from formats.crafted import archives, documents, hdf5_files, keras_configs, onnx_files
from formats.crafted.case import BAIT_MODULE, Bait, Case

from auditor.errors import UnreadableModel
from auditor.finding import Finding, Severity
from auditor.pipeline import AuditOptions, audit_file
from auditor.result import AuditResult, RefusedModel

CASES: dict[str, Case] = {
    f"{family.__name__.rsplit('.', 1)[-1]}: {name}": case
    for family in (archives, documents, hdf5_files, keras_configs, onnx_files)
    for name, case in family.cases().items()
}
WATCH = Path(__file__).parent / "crafted" / "watch.py"
CHILD_WATCH = WATCH.with_name("child_watch.py")
STATIC = AuditOptions(probe=False)
#: Seconds in which any one file must be done with; most take a hundredth of one.
PATIENCE = 30


@pytest.fixture(scope="session")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Bait:
    return Bait.at(tmp_path_factory.mktemp("crafted") / "bait")


@pytest.fixture(scope="session")
def crafted(bait: Bait) -> Callable[[str], Path]:
    """A crafted file by name, made once, beside the bait and in a folder of its own."""
    made: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in made:
            folder = bait.secret.parent.parent / re.sub(r"\W+", "_", name)
            folder.mkdir()
            made[name] = CASES[name].build(folder, bait)
        return made[name]

    return build


def audited(path: Path) -> AuditResult:
    try:
        return audit_file(path, STATIC)
    except RefusedModel as refused:
        assert refused.findings == refused.result.findings
        return refused.result


def safety(result: AuditResult) -> list[Finding]:
    return [finding for finding in result.findings if finding.code.startswith("GEB9")]


@pytest.mark.parametrize("name", CASES)
def test_a_crafted_file_is_told(name: str, crafted: Callable[[str], Path]) -> None:
    case = CASES[name]
    path = crafted(name)
    if not case.code:
        with pytest.raises(UnreadableModel) as error:
            audit_file(path, STATIC)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        return
    result = audited(path)
    told = [
        finding
        for finding in safety(result)
        if finding.code == case.code and case.identifier in finding.message
    ]
    assert told, [(finding.code, finding.message) for finding in result.findings]
    places = [str(item.value) for finding in told for item in finding.evidence[:1]]
    assert any(case.place in place for place in places), places
    assert case.severity in {finding.severity.value for finding in told}
    assert bool(result.refused) == (case.exit_code == 3)
    if case.exit_code == 0:
        assert not [f for f in safety(result) if f.severity is Severity.ERROR]


def test_nothing_is_touched(crafted: Callable[[str], Path], bait: Bait) -> None:
    """Asserted by an audit hook in a process of its own, for all files."""
    modules = bait.secret.parent / "modules"
    modules.mkdir()
    mark = modules / "mark"
    log = modules / "log"
    log.touch()
    (modules / "sitecustomize.py").write_text(CHILD_WATCH.read_text())
    (modules / f"{BAIT_MODULE}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    paths = {name: crafted(name) for name in CASES}
    done = subprocess.run(
        [sys.executable, "-P", WATCH, bait.secret.parent],
        cwd=modules,
        env={**os.environ, "PYTHONPATH": str(modules), "GEB_CHILD_LOG": str(log)},
        input="\n".join(map(str, paths.values())),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 20,
        check=False,
    )
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(heard) == len(paths), done.stderr
    assert {name: said for name, said in zip(paths, heard, strict=True) if said} == {}
    assert not mark.exists()
    # The HDF5 library's own process was watched, too, and did nothing but read.
    assert set(log.read_text().splitlines()) == {"watched"}


def test_the_watch_hears(tmp_path: Path, bait: Bait) -> None:
    """The test above could not fail if the hook were deaf."""
    code = (
        "import watch\n"
        "watch.armed = watch.strict = True\n"
        f"open({str(bait.secret)!r})\n"
        f"open({str(tmp_path / 'new')!r}, 'w')\n"
        "exec('1')\n"
        "import runpy, os, socket, pickle, subprocess\n"
        "os.system('true')\n"
        "subprocess.run(['true'])\n"
        "socket.socket().close()\n"
        "pickle.loads(b'cos\\ngetpid\\n.')\n"
        "watch.armed = False\n"
        "print('\\n'.join(watch.heard))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bait.secret.parent],
        cwd=WATCH.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    for said in (
        f"opens {bait.secret}", "for writing", "compile", "exec", "imports runpy", "os.system",
        "starts ['true']", "socket.__new__", "pickle.find_class",
    ):  # fmt: skip
        assert said in done.stdout


@pytest.mark.parametrize("exit_code", [1, 3])
def test_the_command_line_says_so(
    exit_code: int, crafted: Callable[[str], Path], run_cli: Callable[..., object]
) -> None:
    names = [name for name, case in CASES.items() if case.exit_code == exit_code and case.code]
    # One of each code and format is enough for the command line.
    chosen = {(CASES[name].code, crafted(name).suffix): name for name in names}
    paths = [crafted(name) for name in chosen.values()]
    done = run_cli(*paths, "--no-probe", "-o", "json", "-o", "html=all.html", "-o", "text=all.txt")
    assert done.returncode == exit_code, done.stderr
    documents = json.loads(done.stdout)
    assert len(documents) == len(paths)
    for (code, _), document in zip(chosen, documents, strict=True):
        assert code in {finding["code"] for finding in document["findings"]}
        assert document["verdict"] == "unknown"
        told = {item["code"] for item in document["skipped"]}
        assert exit_code == 1 or "GEB101" in told
    lines = done.stderr.splitlines()
    assert len(lines) == (len(paths) if exit_code == 3 else 0), done.stderr
    for (code, _), line in zip(chosen, lines, strict=False):
        assert line.startswith("geb-audit: ")
        assert code in line


def test_every_row_of_the_threats_has_a_file() -> None:
    identifiers = {case.identifier for case in CASES.values()}
    assert identifiers >= {
        "CVE-2024-3660", "CVE-2026-12481", "CVE-2025-1550", "CVE-2025-8747", "CVE-2025-9906",
        "CVE-2025-9905", "CVE-2025-49655", "CVE-2025-12058", "CVE-2026-0897", "CVE-2026-12570",
        "CVE-2026-1669", "CVE-2026-1462", "CVE-2026-12479", "GHSA-hqp4-2352-xf5r",
        "CVE-2022-25882", "CVE-2024-27318", "CVE-2026-27489", "CVE-2026-34447", "CVE-2026-34446",
        "CVE-2026-34445", "CVE-2024-27319", "GHSA-7w46-vvrh-m8q5",
    }  # fmt: skip
    codes = {case.code for case in CASES.values()} - {""}
    assert codes == {f"GEB9{number:02}" for number in range(1, 11)}


def test_names_that_steer_a_display_do_not_reach_one(
    tmp_path: Path, run_cli: Callable[..., object]
) -> None:
    paths = documents.steering(tmp_path)
    outputs = ("-o", "text", "-o", "json=a.json", "-o", "html=a.html", "--color", "always")
    done = run_cli(*paths, "--no-probe", *outputs, "-v")
    assert done.returncode == 3
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    raw = (tmp_path / "a.json").read_text(encoding="utf-8")
    json.loads(raw)
    own = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # rich's colours, which are asked for
    for text in (own, done.stderr, page, raw):
        assert not set(text) & set("\x1b\x07\u202e\u200b\x9b\u2028\ud800")
    assert "<script>i" not in page


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.exit_code < 3 and "steer" not in name]
)
def test_what_stops_the_probe_is_a_finding(name: str, crafted: Callable[[str], Path]) -> None:
    """No probe is begun, even where a backend is there, and the reason is one of the findings."""
    result = audit_file(crafted(name), AuditOptions())
    assert result.probe is None
    if crafted(name).suffix != ".onnx" or CASES[name].severity != "info":
        codes = re.findall("GEB9[0-9]{2}", result.probe_skipped)
        assert codes, result.probe_skipped
        assert set(codes) <= {finding.code for finding in safety(result)}
