"""What the probe costs, counted in training steps and side by side with `model.fit`.

    python bench/probe.py                      # everything; about 10 minutes on 2 cores
    python bench/probe.py --only process       # or jacobians, depth

process: ResNet50 at 224 pixels, batches of 2: a whole `geb-audit resnet50.keras` at its default
settings against a fresh process that loads the same file and runs 30 steps of `model.fit`, wall
time and peak memory, interleaved; then the time of each phase of the probe.
jacobians: the sweeps that measure the Jacobians of all calls against compiled training steps of
the same model and batch, tracing told apart; and against the naive way, one reverse pass for every
output value of every call (its passes timed on one value of each call, and multiplied).
depth: the probe of plain stacks of 50, 100, 200 and 400 calls, the curvature left out: above 100
calls it is not measured unless asked for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from processes import Case

SAVE = """
import sys, keras
keras.utils.set_random_seed(0)
model = keras.applications.ResNet50(weights=None)
model.compile("adam", "categorical_crossentropy")
model.save(sys.argv[1])
"""
FIT = """
import sys, keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
rng = np.random.default_rng(0)
x = rng.normal(size=(60, 224, 224, 3)).astype("float32")
y = np.eye(1000, dtype="float32")[rng.integers(0, 1000, 60)]
model.fit(x, y, batch_size=2, epochs=1, verbose=0)
"""
#: The bounds that are held.
AGAINST_FIT = 1.25
MEMORY_AGAINST_FIT = 2.0
JACOBIAN_STEPS = 15.0
AGAINST_DEPTH = 2.3
DEPTHS = (50, 100, 200, 400)


def process(folder: Path, repeats: int) -> bool:
    """A whole audit against a whole fit."""
    path = folder / "resnet50.keras"
    subprocess.run([sys.executable, "-c", SAVE, str(path)], check=True, capture_output=True)
    tool = str(Path(sys.executable).with_name("geb-audit"))
    fit = Case(
        name="load, 30 steps of fit", command=[sys.executable, "-c", FIT, str(path)], poll_s=0.2
    )
    audit = Case(
        name="geb-audit resnet50.keras",
        command=[tool, str(path), "--isolated", "-o", "json=audit.json"],
        poll_s=0.2,
    )
    for _ in range(repeats):
        for case in (fit, audit):
            case.run(folder)
    time_share = statistics.median(audit.seconds) / statistics.median(fit.seconds)
    memory_share = audit.peak_mib / fit.peak_mib
    print("\nResNet50, 224 pixels, batches of 2")
    for case in (fit, audit):
        print(
            f"  {case.name:28} {statistics.median(case.seconds):7.1f} s {case.peak_mib:8.0f} MiB"
            f"   ({', '.join(f'{seconds:.1f}' for seconds in case.seconds)})"
        )
    print(f"  time {time_share:.2f} x (at most {AGAINST_FIT}), memory {memory_share:.2f} x", end="")
    print(f" (at most {MEMORY_AGAINST_FIT})")
    _phases(path)
    return time_share <= AGAINST_FIT and memory_share <= MEMORY_AGAINST_FIT


def _phases(path: Path) -> None:
    """The time between what the probe tells of its progress, by phase."""
    from auditor.probe.settings import ProbeSettings
    from auditor.probe.worker import probe_file

    told: list[tuple[float, str]] = []
    probe_file(path, ProbeSettings(), lambda words: told.append((time.perf_counter(), words)))
    told.append((time.perf_counter(), ""))
    spent: dict[str, float] = {}
    for (begun, words), (ended, _) in pairwise(told):
        phase = words.partition(",")[0].rstrip("0123456789 of")
        spent[phase] = spent.get(phase, 0.0) + ended - begun
    print("  the probe by phase:")
    for phase, seconds in spent.items():
        print(f"    {phase:48} {seconds:6.2f} s")


def jacobians() -> bool:
    """The sweeps against training steps, in this process."""
    import keras
    import numpy as np

    from auditor.probe.backends import load_backend
    from auditor.probe.blocks import Linearizer
    from auditor.probe.jacobians import measure_jacobians
    from auditor.probe.model_io import ModelInputs
    from auditor.probe.recording import record
    from auditor.probe.state import preserved, untrained_state

    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    model.compile("adam", "categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 224, 224, 3)).astype("float32")
    y = np.eye(1000, dtype="float32")[rng.integers(0, 1000, 2)]
    backend = load_backend(keras.backend.backend())
    timer = _Timer()

    @dataclass(frozen=True, kw_only=True)
    class Timed(Linearizer):
        def each(self, functions: Any) -> Callable[..., Any]:
            return timer.timed(super().each(functions))

    with preserved(model) as state:
        with timer.watch("record"):
            calls = record(model, ModelInputs(specs=(), structure=None), [x], backend=backend)
        linearizer = Timed(
            backend=backend,
            variables=(*model.trainable_variables, *untrained_state(model)),
            restart=lambda: state.reseed(0),
        )
        found = measure_jacobians(calls, linearizer, seed=0, progress=lambda _: None).found
    for _ in range(3):
        model.train_on_batch(x, y)
    steps = []
    for _ in range(10):
        begun = time.perf_counter()
        model.train_on_batch(x, y)
        steps.append(time.perf_counter() - begun)
    step = statistics.median(steps)
    values = sum(j.outputs * j.samples for j in found.values())
    naive = _naive(calls, linearizer, found)
    print(f"\nJacobians of {len(found)} calls of ResNet50, 224 pixels, a batch of 2")
    print(f"  a compiled training step      {step:7.3f} s (median of {len(steps)})")
    print(f"  recording the calls           {timer.seconds['record']:7.2f} s")
    print(f"  tracing, once                 {timer.tracing:7.2f} s")
    print(f"  sweeps ({timer.runs:3} products)        {timer.running:7.2f} s", end="")
    print(f" = {timer.running / step:.1f} training steps (at most {JACOBIAN_STEPS:g})")
    print(f"  one reverse pass a value, {values:,} of them: {naive / 3600:.0f} h", end="")
    print(f" = {naive / timer.running:,.0f} x the sweeps")
    return timer.running <= JACOBIAN_STEPS * step


def _naive(calls: Any, linearizer: Any, found: Any) -> float:
    """Seconds for whole Jacobians by reverse mode: one pass timed for each call, times values."""
    import keras
    import numpy as np

    from auditor.probe.blocks import Block

    total = 0.0
    timed: dict[Any, float] = {}
    for call in calls:
        if call.id not in found:
            continue
        block = Block(call, rows=1)
        kind = (type(call.operation), tuple(tuple(t.shape) for t in call.inputs), call.outputs)
        if kind not in timed:
            pull = partial(block.pull, linearizer.backend)
            one = linearizer.backend.jit(pull, linearizer.variables)
            u = block.draw_outputs(lambda shape: np.ones(shape, "float32"))
            seconds = []
            for _ in range(3):
                begun = time.perf_counter()
                keras.ops.convert_to_numpy(one(call.inputs, u)[0])
                seconds.append(time.perf_counter() - begun)
            timed[kind] = min(seconds[1:])
        total += timed[kind] * block.outputs
    return total


def depth(folder: Path) -> bool:
    """The probe of plain stacks, each twice as deep as the one before."""
    import keras

    from auditor.formats import read_model
    from auditor.probe.backends import load_backend
    from auditor.probe.measure import measure
    from auditor.probe.settings import ProbeSettings

    backend = load_backend(keras.backend.backend())
    print("\nplain stacks of Dense(64, relu)")
    took: list[float] = []
    for layers in (DEPTHS[0], *DEPTHS):  # the first time warms the framework up
        keras.utils.set_random_seed(0)
        stack = [
            keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")
            for _ in range(layers - 1)
        ]
        model = keras.Sequential(
            [keras.Input((64,)), *stack, keras.layers.Dense(10, activation="softmax")]
        )
        # At this rate the loss of all of them falls, so that all go through the same phases.
        model.compile(keras.optimizers.SGD(1e-5), "categorical_crossentropy")
        path = folder / f"stack{layers}.keras"
        model.save(path)
        graph = read_model(path).graph
        begun = time.perf_counter()
        measure(model, graph, ProbeSettings(curvature=0), backend, lambda _: None)
        took.append(time.perf_counter() - begun)
    held = True
    for layers, seconds, before in zip(DEPTHS, took[1:], (None, *took[1:-1]), strict=True):
        factor = "" if before is None else f"  {seconds / before:.2f} x (at most {AGAINST_DEPTH})"
        held = held and (before is None or seconds / before <= AGAINST_DEPTH)
        print(f"  {layers:4} calls {seconds:7.2f} s{factor}")
    return held


@dataclass(kw_only=True)
class _Timer:
    """Time in compiled functions: what the first run of each takes beyond another is tracing."""

    seconds: dict[str, float] = field(default_factory=dict)
    tracing: float = 0.0
    running: float = 0.0
    runs: int = 0

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        first = True

        def run(*arguments: Any) -> Any:
            nonlocal first
            if first:
                first = False
                begun = time.perf_counter()
                function(*arguments)
                self.tracing += time.perf_counter() - begun
            begun = time.perf_counter()
            made = function(*arguments)
            self.running += time.perf_counter() - begun
            self.runs += 1
            return made

        return run


def main() -> None:
    """Run the asked parts, and fail where a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", choices=("process", "jacobians", "depth"))
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    held = True
    with tempfile.TemporaryDirectory(prefix="geb-bench-") as name:
        folder = Path(name)
        if chosen.only in (None, "process"):
            held &= process(folder, chosen.repeats)
        if chosen.only in (None, "jacobians"):
            held &= jacobians()
        if chosen.only in (None, "depth"):
            held &= depth(folder)
    if not held:
        raise SystemExit("a bound does not hold")


if __name__ == "__main__":
    main()
