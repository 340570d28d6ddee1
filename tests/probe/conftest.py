"""Probing a live model, and the models several tests probe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ProbeResult
from auditor.probe.backends import CompiledPass, PassInputs, load_backend
from auditor.probe.live import probe_live
from auditor.probe.prepare import Prepared, prepare
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import ModelState, preserved
from auditor.probe.tally import Tally
from auditor.probe.training_pass import TrainingPass


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Layers draw their seeds as they are made: the same in every run of a test."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def probe() -> Callable[..., ProbeResult]:
    """Probe a live model: `probe(model, batches=2)`."""

    def run(model: keras.Model, **settings: Any) -> ProbeResult:
        graph = read_live_model(model, DEFAULT_LIMITS).graph
        result = probe_live(model, graph, ProbeSettings(**settings), lambda _: None)
        assert not result.incomplete, result.incomplete_detail or result.incomplete
        return result

    return run


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A worker of our own making, from its source: `probe_file(…, module=stand_in("…"))`."""

    def write(source: str) -> str:
        folder = tmp_path / "importable"
        folder.mkdir()
        (folder / "stand_in_worker.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return "stand_in_worker"

    return write


@dataclass(frozen=True, kw_only=True)
class Passes:
    """The compiled training pass of a model, to be run one by one, and what it gave so far."""

    graph: LayerGraph
    prepared: Prepared
    program: TrainingPass
    compiled: CompiledPass
    state: ModelState
    tally: Tally

    def run(
        self, cotangents: Sequence[Any] | None = None, batch: int = 0
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        """The values of a pass with these cotangents of the outputs in place of the loss."""
        self.state.begin_pass(batch)
        drawn = self.prepared.batches[batch]
        return self.compiled(
            PassInputs(
                x=drawn.x,
                y=drawn.y,
                cotangents=self.prepared.no_cotangents if cotangents is None else cotangents,
                loss_share=1.0 if cotangents is None else 0.0,
            )
        ).values


@pytest.fixture
def passes() -> Iterator[Callable[..., Passes]]:
    """A model's passes, each batch run once with the loss: `passes(model, batches=2)`."""
    with ExitStack() as stack:

        def run(model: keras.Model, **settings: Any) -> Passes:
            graph = read_live_model(model, DEFAULT_LIMITS).graph
            state = stack.enter_context(preserved(model))
            prepared = prepare(model, graph, ProbeSettings(**settings))
            batch = prepared.batch_size
            program = TrainingPass(
                model=model,
                graph=graph,
                inputs=prepared.inputs,
                losses=prepared.losses,
                batch=batch,
            )
            made = Passes(
                graph=graph,
                prepared=prepared,
                program=program,
                compiled=load_backend(keras.backend.backend()).compile(program),
                state=state,
                tally=Tally(slots=None, calls=graph.by_id, batch=batch, sample_factor=batch),
            )
            for index in range(len(prepared.batches)):
                made.tally.add(made.run(batch=index), 1.0)
            made.tally.slots = program.slots
            return made

        yield run


@pytest.fixture
def sequential() -> Callable[..., keras.Model]:
    """A compiled Sequential: `sequential(keras.Input((4,)), layers.Dense(1))`."""

    def build(*stack: Any, loss: Any = "mse", optimizer: Any = "sgd") -> keras.Model:
        model = keras.Sequential(list(stack))
        if loss is not None:
            model.compile(optimizer, loss)
        return model

    return build


@pytest.fixture
def plain_stack() -> Callable[..., keras.Model]:
    """A plain stack of dense layers with a softmax head: activation fused, or as own layers."""

    def build(
        depth: int, activation: str, initializer: str | Any, *, width: int = 256, fused: bool = True
    ) -> keras.Model:
        keras.utils.set_random_seed(1)
        stack: list[Any] = [keras.Input((width,))]
        for index in range(depth):
            # Every layer has an initializer of its own: one object draws the same values again.
            made = initializer() if callable(initializer) else initializer
            dense = layers.Dense(
                width,
                activation=activation if fused else None,
                kernel_initializer=made,
                name=f"dense_{index}",
            )
            stack += [dense] if fused else [dense, layers.Activation(activation)]
        model = keras.Sequential([*stack, layers.Dense(10, activation="softmax", name="head")])
        model.compile("adam", "categorical_crossentropy")
        return model

    return build
