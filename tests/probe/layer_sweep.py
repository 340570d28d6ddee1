"""Every case of the zoo measured on one backend, beside what it should have come to.

Run as a module, in a process that Keras has another backend in, it leaves its numbers in a file.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from probe.exact_jacobian import Exact, exact
from probe.layer_zoo import Case, Recorded, of_each, recorded

from auditor.measurement import JacobianMeasurement
from auditor.probe import jacobians
from auditor.probe.backends import load_backend
from auditor.probe.blocks import Block, Linearizer, numbers
from auditor.probe.jacobians import Jacobians, measure_jacobians
from auditor.probe.recording import RecordedCall
from auditor.probe.state import ModelState, untrained_state

#: Calls whose products are compiled together.
CHUNK = 50


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Recorded cases, and what measures their calls together."""

    cases: Mapping[str, Case]
    calls: tuple[RecordedCall, ...]
    linearizer: Linearizer

    def measured(self, **thresholds: int) -> Jacobians:
        """With other thresholds of the engine, so that calls go to another estimator."""
        with _thresholds(thresholds):
            return measure_jacobians(self.calls, self.linearizer, seed=0, progress=lambda _: None)

    def exact(self, wanted: Callable[[Case], bool]) -> dict[str, Exact]:
        """The exact Jacobians of some cases, by the id of a call."""
        calls = [call for call in self.calls if wanted(self.cases[call.id])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return exact(calls, self.linearizer.variables, self.linearizer.restart)

    def adjoint_gaps(self, measured: Mapping[str, JacobianMeasurement]) -> dict[str, float]:
        """|⟨u, J v⟩ − ⟨Jᵀ u, v⟩| / |⟨u, J v⟩| by id, for random v and a u that is not far from J v.

        Calls of which the backend has products in one direction alone are left out.
        A random u would be orthogonal to J v but for what rounding decides.
        """
        blocks = [Block(call, rows=1) for call in self.calls if call.id in measured]
        gaps: dict[str, float] = {}
        # Not in one graph: its tracing would take longer than all else.
        for start in range(0, len(blocks), CHUNK):
            gaps |= self._gaps(blocks[start : start + CHUNK])
        return gaps

    def _gaps(self, blocks: Sequence[Block]) -> dict[str, float]:
        backend = self.linearizer.backend
        primals = [block.call.inputs for block in blocks]
        without: set[str] = set()

        def product(block: Block, method: Any) -> Any:
            def one(inputs: Any, vector: Any) -> Any:
                try:
                    made = method(block, backend, inputs, vector)
                except Exception:  # a derivative in one direction alone, such as a pattern's
                    without.add(block.id)
                    made = vector
                return tuple(made), keras.ops.zeros((1,))

            return one

        def all_of_them(method: Any, vectors: Any) -> Any:
            products = self.linearizer.each([product(block, method) for block in blocks])
            made, _ = products(list(zip(primals, vectors, strict=True)))
            return [[numbers(part) for part in parts] for parts in made]

        rng = np.random.default_rng(2)
        v = [_unit(b.draw_inputs(rng.standard_normal), b) for b in blocks]
        pushed = all_of_them(Block.push, v)
        u = []
        for block, parts in zip(blocks, pushed, strict=True):
            length = np.sqrt(sum(np.sum(part**2) for part in parts)) or 1.0
            noise = _unit(block.draw_outputs(rng.standard_normal), block)
            if block.id in without:
                u.append(noise)
                continue
            u.append(
                tuple(
                    ((part / length + other) / 2.0).astype(block.precision)
                    for part, other in zip(parts, noise, strict=True)
                )
            )
        pulled = all_of_them(Block.pull, u)
        gaps = {}
        for block, one, there, back, other in zip(blocks, v, pushed, pulled, u, strict=True):
            if block.id in without:
                continue
            first, second = _product(other, there), _product(back, one)
            scale = max(abs(first), abs(second))
            gaps[block.id] = abs(first - second) / scale if scale else 0.0
        return gaps


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep found."""

    measured: Jacobians
    gaps: dict[str, float]
    truth: dict[str, Exact]
    backend: str = "tensorflow"


def bench(cases: Sequence[Case], dtype: str = "float32") -> Bench:
    """Record cases; those that the backend cannot run in this precision are left out."""
    made: list[Recorded] = []
    for case in cases:
        if keras.backend.backend() not in case.backends:
            continue
        try:
            made.append(recorded(case, dtype))
        except Exception:
            if dtype == "float32":
                raise
    state = ModelState(_Variables(made))
    return Bench(
        cases={call.id: one.case for one in made for call in one.calls},
        calls=tuple(call for one in made for call in one.calls),
        linearizer=Linearizer(
            backend=load_backend(keras.backend.backend()),
            variables=untrained_state(_Variables(made)),
            restart=lambda: state.begin_pass(0),
        ),
    )


@contextmanager
def double_precision() -> Iterator[None]:
    """Layers are built to compute in float64."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def own_precision(case: Case) -> bool:
    """Whether a case has to be held against its own precision, draws and dtypes being its own."""
    return case.random or case.name.startswith("mixed/")


class _Variables:
    """The variables of many models as those of one."""

    trainable_variables: tuple[Any, ...] = ()

    def __init__(self, made: Sequence[Recorded]) -> None:
        found = {id(v): v for one in made for v in one.model.variables}
        self.variables = list(found.values())
        self._models = [one.model for one in made]

    def _flatten_layers(self) -> Iterator[Any]:
        for model in self._models:
            yield from model._flatten_layers()


@contextmanager
def _thresholds(values: Mapping[str, int]) -> Iterator[None]:
    before = {name: getattr(jacobians, name) for name in values}
    for name, value in values.items():
        setattr(jacobians, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(jacobians, name, value)


def _unit(parts: Sequence[Any], block: Block) -> tuple[Any, ...]:
    length = np.sqrt(sum(np.sum(part**2) for part in parts))
    return tuple((part / length).astype(block.precision) for part in parts)


def _product(a: Sequence[Any], b: Sequence[Any]) -> float:
    pairs = zip(a, b, strict=True)
    return float(sum(np.sum(np.float64(one) * np.float64(other)) for one, other in pairs))


if __name__ == "__main__":
    target, kind = Path(sys.argv[1]), int(sys.argv[2])
    here = bench(of_each(kind))
    found = here.measured()
    swept = Swept(
        measured=found,
        gaps=here.adjoint_gaps(found.found),
        truth=here.exact(lambda case: own_precision(case) or "tensorflow" not in case.backends),
    )
    # Read by the test that started this, as the class it knows by its own name.
    target.write_bytes(pickle.dumps((swept.measured, swept.gaps, swept.truth)))
