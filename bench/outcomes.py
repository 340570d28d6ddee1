"""Verdicts against what training does: several hundred small models, each audited and trained.

    python bench/outcomes.py run                 # resumable; about ten seconds a model
    python bench/outcomes.py table               # judge again what was measured, after a change
    python bench/outcomes.py fit                 # auditor/risk/calibration.json from the table
    python bench/outcomes.py report              # tables, and outcomes.png beside the results

Every model is audited as it is saved, on synthetic batches as users' are, and then trained as it
was declared, and repaired in several ways where that fails (outcome_training.py). `run` does both
side by side, audits on PyTorch, which compiles nothing, and training on JAX, which compiles it
whole; each keeps what it measured in a file a model under .outcomes/, and goes on there when it is
run again. `table` judges the measurements by the rules as they are, and writes outcomes.csv, one
line a model. Models with an even number set what is fitted, odd ones are reported, and whole
families only reported; so are those from number 1,000 on, drawn when all the rest stood.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_suffix(".csv")
KEPT = Path(__file__).with_name(".outcomes")
#: The backend of each stage.
BACKENDS = {"audit": "torch", "train": "jax", "table": "torch"}
#: Models after which what was compiled for them is dropped.
TOGETHER = 20
#: How long training waits for an audit, in seconds.
PATIENCE = 900.0


def main() -> int:
    """Run, judge or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "audit", "train", "table", "fit", "report"))
    parser.add_argument("--count", type=int, default=1300)
    parser.add_argument("--backwards", action="store_true", help="begin with the last model")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--kept", type=Path, default=KEPT)
    options = parser.parse_args()
    if options.action == "run":
        return _both(options.count, options.results, options.kept)
    os.environ["KERAS_BACKEND"] = BACKENDS.get(options.action, "torch")
    if options.action == "fit":
        from outcome_fit import calibrate, store

        store(calibrate(read(options.results), time.strftime("%B %Y")))
        return 0
    if options.action == "report":
        from outcome_report import report

        print(report(read(options.results), options.results.with_suffix(".png")))
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Small models: more threads wait for each other.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    options.kept.mkdir(exist_ok=True)
    numbers = range(options.count)[:: -1 if options.backwards else 1]
    if options.action == "audit":
        audit_all(numbers, options.kept)
    elif options.action == "train":
        train_all(numbers, options.kept)
    else:
        write(options.results, list(rows(numbers, options.kept)))
    return 0


def _both(count: int, results: Path, kept: Path) -> int:
    """Audits and training side by side, then the table."""
    common = ["--count", str(count), "--results", str(results), "--kept", str(kept)]
    command = [sys.executable, __file__]
    stages = [subprocess.Popen([*command, stage, *common]) for stage in ("audit", "train")]
    codes = [stage.wait() for stage in stages]
    return max(codes) or subprocess.run([*command, "table", *common], check=False).returncode


def audit_all(numbers: Sequence[int], kept: Path) -> None:
    """Audit the models that were not yet, and keep probe and weights."""
    import outcome_models
    import torch
    from outcome_tasks import task

    from auditor import audit

    torch.set_num_threads(1)
    for number in numbers:
        path = _audited(kept, number)
        if path.exists():
            continue
        started = time.perf_counter()
        one = outcome_models.spec(number)
        data = task(one.task)
        model = _compiled(one, data)
        weights = model.get_weights()
        result = audit(model, batch_size=16, select=("GEB5", "GEB6"))
        _keep(path, pickle.dumps({"probe": result.probe, "weights": weights}))
        seconds = time.perf_counter() - started
        print(f"{number:4} {one.family:18} audited {seconds:6.1f} s", flush=True)


def _compiled(one: Any, data: Any) -> Any:
    """The model as it is declared; its layers have the same names in every process."""
    import keras
    import outcome_models

    keras.utils.clear_session()
    model = outcome_models.build(one, data.x.shape[1:], data.outputs)
    model.compile(outcome_models.optimizer_of(one, one.rate), data.loss)
    return model


def train_all(numbers: Sequence[int], kept: Path) -> None:
    """Train the models that were audited and not yet trained."""
    import outcome_models
    import outcome_training
    from outcome_tasks import task

    for number in numbers:
        path = _trained(kept, number)
        if path.exists():
            continue
        weights = _waited_for(_audited(kept, number))["weights"]
        started = time.perf_counter()
        one = outcome_models.spec(number)
        seen = outcome_training.observe(one, weights, task(one.task))
        _keep(path, json.dumps(seen).encode())
        if number % TOGETHER == 0:
            outcome_training.forget()
        seconds = time.perf_counter() - started
        print(
            f"{number:4} {one.family:18} trained {seconds:6.1f} s, ends at {seen['final']:.3g}",
            flush=True,
        )


def rows(numbers: Sequence[int], kept: Path) -> Iterator[dict[str, Any]]:
    """The table's lines: what was measured, judged by the rules as they are."""
    import outcome_models
    from outcome_tasks import task

    from auditor.formats.keras_live import read_live_model
    from auditor.formats.limits import DEFAULT_LIMITS
    from auditor.graph.forecast import forecast
    from auditor.graph.operators import Op
    from auditor.judgement import Selection, judge, verdict
    from auditor.registry import rules
    from auditor.risk.measures import MEASURES, risk_measures
    from auditor.rule import Facts

    for number in numbers:
        if not (_audited(kept, number).exists() and _trained(kept, number).exists()):
            continue
        audited = pickle.loads(_audited(kept, number).read_bytes())
        trained = json.loads(_trained(kept, number).read_text())
        one = outcome_models.spec(number)
        data = task(one.task)
        model = _compiled(one, data)
        model.set_weights(audited["weights"])
        graph = read_live_model(model, DEFAULT_LIMITS).graph
        missing = set(graph.by_id) - set(audited["probe"].calls) - set(audited["probe"].skipped)
        if any(graph.by_id[call_id].op is not Op.INPUT for call_id in missing):
            raise SystemExit(f"{number}: audited under other names of layers; audit it again")
        probe = audited["probe"]
        row: dict[str, Any] = asdict(one)
        predicted = forecast(graph)
        optimizer = graph.compile.optimizer if graph.compile else None
        measured = risk_measures(probe, optimizer) if optimizer else {}
        row.update({name: measured.get(name) for name in MEASURES})
        row["layers"], row["weights"] = probe.depth, graph.parameters
        row["growth"], row["forecast"] = probe.growth_rate, predicted and predicted.growth_rate
        facts = Facts(graph=graph, forecast=predicted, probe=probe)
        findings, _ = judge(rules(), facts, Selection())
        row["verdict"] = verdict(findings, probed=True)
        row["codes"] = " ".join(sorted({f"{f.code}{f.severity[0]}" for f in findings}))
        row.update({name: trained.get(name) for name in TRAINED})
        yield {name: _short(value) for name, value in row.items()}


#: What is kept of the training (outcome_training.observe says what each is).
TRAINED = (
    "start",
    "final",
    "worst",
    "seen",
    "moved_first",
    "moved_last",
    *(f"final_rate_{power}" for power in (-3, -2, -1, 1, 2, 3)),
    "scaling",
    *(f"final_{repair}{rate}" for repair in ("scaled", "replaced") for rate in ("", "_usual")),
)


def read(path: Path) -> list[dict[str, str]]:
    """The table, by number."""
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """Store the table."""
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def _audited(kept: Path, number: int) -> Path:
    return kept / f"{number:04}.audit.pickle"


def _trained(kept: Path, number: int) -> Path:
    return kept / f"{number:04}.training.json"


def _keep(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _waited_for(path: Path) -> Any:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            raise SystemExit(f"no {path.name} after {PATIENCE:.0f} s: is `audit` running?")
        time.sleep(0.5)
    return pickle.loads(path.read_bytes())


def _short(value: Any) -> Any:
    return "" if value is None else float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
