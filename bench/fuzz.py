"""Coverage-guided fuzzing of the readers: no crash, no hang, no run-away memory.

    pip install atheris
    python bench/fuzz.py all --runs 20000          # every target, one after the other
    python bench/fuzz.py h5 --runs 50000 --seed 7  # one target

A target takes mutated bytes as one kind of file, and the whole static audit of that file must end
in a result or in one line of an error made on purpose. What does not is kept in the folder of
`--findings`; a mended one belongs into tests/data/fuzz, where the tests read it for ever after.

Targets: `onnx` (a model's bytes), `config` (the config.json of an otherwise whole .keras archive,
mutated as a tree half of the time), `zip` (an archive's bytes), `weights` (the bytes of
model.weights.h5 within a whole archive), `h5` (a whole model in HDF5).
"""

from __future__ import annotations

import argparse
import atexit
import copy
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("onnx", "config", "zip", "weights", "h5")
#: Seconds that one input may take; the machine's other work included.
HANG_S = 20
#: Seconds that the HDF5 library may take: it does hang, and is to be killed for it.
LIBRARY_S = 2.0
#: MiB of resident memory that no input may exceed. The process itself takes about 150.
MEMORY_MIB = 1024
SUFFIXES = {"onnx": ".onnx", "h5": ".h5"}
LARGEST_SEED = 200_000


def seeds(target: str) -> Iterator[bytes]:
    """Whole files to begin with: those of the tests and examples."""
    if target == "onnx":
        import onnx

        node = Path(onnx.__file__).parent / "backend" / "test" / "data"
        files = sorted(node.rglob("*.onnx")) + sorted((ROOT / "tests").rglob("*.onnx"))
        yield from (file.read_bytes() for file in files if file.stat().st_size < LARGEST_SEED)
        return
    kind = "*.h5" if target == "h5" else "*.keras"
    for file in sorted((*(ROOT / "tests").rglob(kind), *(ROOT / "examples").rglob(kind))):
        if file.stat().st_size > LARGEST_SEED:
            if target == "config":
                yield _members(file.read_bytes())["config.json"]
        elif target in ("zip", "h5"):
            yield file.read_bytes()
        else:
            member = {"config": "config.json", "weights": "model.weights.h5"}[target]
            yield _members(file.read_bytes()).get(member, b"")


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def wrapped(target: str, data: bytes, whole: dict[str, bytes]) -> bytes:
    """The file that mutated bytes are a part of."""
    if target not in ("config", "weights"):
        return data
    member = {"config": "config.json", "weights": "model.weights.h5"}[target]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {**whole, member: data}.items():
            archive.writestr(name, content)
    return stream.getvalue()


def mutate_tree(value: Any, generator: random.Random, others: list[Any]) -> Any:
    """The JSON value with one of its nodes removed, doubled, exchanged or replaced."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        keys = (
            list(node)
            if isinstance(node, dict)
            else range(len(node))
            if isinstance(node, list)
            else ()
        )
        for key in keys:
            places.append((node, key))
            waiting.append(node[key])
    if not places:
        return copy.deepcopy(generator.choice(others))
    holder, key = generator.choice(places)
    action = generator.randrange(5)
    if action == 0:
        del holder[key]
    elif action == 1:
        other, place = generator.choice(places)
        holder[key] = copy.deepcopy(other[place]) if place in _keys(other) else None
    elif action == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(generator.choice(others))
    return value


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


ODD_VALUES: list[Any] = [
    None, True, 0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", "relu", "same", "Dense", "Lambda", "../x", "\0", "a/b", "layers", [], {}, [[]], [0], [None],
    {"class_name": "Dense", "config": {}}, {"class_name": "__tensor__", "config": {"value": [1]}},
]  # fmt: skip


def fuzz(target: str, runs: int, seed: int, findings: Path) -> None:
    """Run one target in this process; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["auditor"]):
        import auditor.formats.keras_h5
        import auditor.formats.keras_zip
        import auditor.formats.onnx_file  # noqa: F401
        from auditor.errors import GebAuditError
        from auditor.formats.limits import Limits
        from auditor.pipeline import AuditOptions, audit_file

    folder = Path(tempfile.mkdtemp(prefix="geb-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, data in enumerate(seeds(target)):
        (corpus / f"{index:05d}").write_bytes(data)
    whole = _members((ROOT / "examples" / "founding_case.keras").read_bytes())
    path = folder / f"model{SUFFIXES.get(target, '.keras')}"
    outcomes = {"read": 0, "told": 0}
    options = AuditOptions(probe=False, limits=Limits(seconds=LIBRARY_S))

    def one(data: bytes) -> None:
        path.write_bytes(wrapped(target, data, whole))
        try:
            audit_file(path, options)
            outcomes["read"] += 1
        except GebAuditError as error:
            if "\n" in str(error):
                raise ValueError(f"an error of several lines: {error}") from error
            outcomes["told"] += 1

    def mutator(data: bytes, most: int, chosen: int) -> bytes:
        generator = random.Random(chosen)  # noqa: S311
        if generator.random() < 0.5:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                pass
            else:
                for _ in range(generator.randint(1, 4)):
                    value = mutate_tree(value, generator, ODD_VALUES)
                return json.dumps(value).encode()[:most]
        return bytes(atheris.Mutate(data, most))

    hooks: dict[str, Callable[..., Any]] = {"custom_mutator": mutator} if target == "config" else {}
    arguments = [
        sys.argv[0],
        f"-runs={runs}",
        f"-seed={seed}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={findings}/{target}-",
        f"-max_len={LARGEST_SEED}",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, one, **hooks)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(lambda: print(f"stat::outcomes: {outcomes}", file=sys.stderr))
    atheris.Fuzz()


def main() -> None:
    """Fuzz one target, or all of them in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=(*TARGETS, "all"))
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    chosen = parser.parse_args()
    chosen.findings.mkdir(parents=True, exist_ok=True)
    if chosen.target != "all":
        fuzz(chosen.target, chosen.runs, chosen.seed, chosen.findings)
        return
    failed = False
    for target in TARGETS:
        begun = time.monotonic()
        command = [sys.executable, __file__, target, "--runs", str(chosen.runs)]
        command += ["--seed", str(chosen.seed), "--findings", str(chosen.findings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()
        stats = [line for line in said if line.startswith("stat::")]
        print(f"{target:8} exit {done.returncode}  {time.monotonic() - begun:.0f} s  ", end="")
        print("; ".join(line.removeprefix("stat::") for line in stats) or "\n".join(said[-15:]))
        failed = failed or done.returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
