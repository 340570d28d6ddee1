"""One probe under way: the compiled training pass of a model, and the ways it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from auditor.graph.layer_graph import LayerGraph
from auditor.probe.backends import Backend, CompiledPass, PassInputs, PassResult
from auditor.probe.blocks import Linearizer
from auditor.probe.optimizers import HALF_PRECISION_SCALES
from auditor.probe.prepare import Prepared
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import ModelState
from auditor.probe.training_pass import TrainingPass
from auditor.probe.trial import Gradients

Array = np.ndarray[Any, Any]
Progress = Callable[[str], None]


@dataclass(kw_only=True)
class Session:
    """A model, what it is probed with, and its training pass, compiled once for all phases."""

    model: Any
    graph: LayerGraph
    settings: ProbeSettings
    backend: Backend
    state: ModelState
    prepared: Prepared
    progress: Progress

    @cached_property
    def program(self) -> TrainingPass:
        """What is compiled."""
        return TrainingPass(
            model=self.model,
            graph=self.graph,
            inputs=self.prepared.inputs,
            losses=self.prepared.losses,
            batch=self.prepared.batch_size,
        )

    @property
    def variables(self) -> Sequence[Any]:
        """The trainable `keras.Variable`s, in the order of all gradients."""
        return self.program.variables

    @property
    def linearizer(self) -> Linearizer:
        """What single calls are differentiated with, under the masks of the first pass."""
        return Linearizer(
            backend=self.backend,
            variables=(*self.program.variables, *self.program.state),
            restart=lambda: self.state.reseed(self.settings.seed),
        )

    @cached_property
    def first(self) -> tuple[float, PassResult]:
        """The loss scale, and the pass over the first batch with it.

        Only half precision takes a scale, the largest at which all gradients are finite: without
        it small gradients would be lost to underflow, which training avoids in the same way.
        """
        self.progress("tracing the model")
        scales = HALF_PRECISION_SCALES if "float16" in compute_dtypes(self.model) else (1.0,)
        for scale in scales[:-1]:
            result = self.training_pass(0, scale)
            if all(
                bool(np.isfinite(result.values[name]).all())
                for name in ("gradient_norms", "variable_gradient_norms")
                if name in result.values
            ):
                return scale, result
        return scales[-1], self.training_pass(0, scales[-1])

    @property
    def scale(self) -> float:
        """The loss scale of all passes but an optimizer's own."""
        return self.first[0]

    def training_pass(self, index: int, scale: float) -> PassResult:
        """The pass over a batch, from the same state and with the same masks each time."""
        return self._run(index, self.prepared.no_cotangents, loss_share=1.0, scale=scale)

    def gradients(self, scale: float) -> Gradients:
        """Those of the first batch where the weights stand, multiplied by `scale`."""
        return gradients_of(self.training_pass(0, scale), scale)

    def pull_back(self, cotangents: tuple[Array, ...]) -> Mapping[str, Array]:
        """The values of a pass over the first batch that pulls cotangents of the outputs back."""
        values = dict(self._run(0, cotangents, loss_share=0.0, scale=self.scale).values)
        if "gradient_norms" in values:
            values["gradient_norms"] = values["gradient_norms"] / self.scale
        return values

    @cached_property
    def _compiled(self) -> CompiledPass:
        return self.backend.compile(self.program)

    def _run(
        self, index: int, cotangents: tuple[Array, ...], *, loss_share: float, scale: float
    ) -> PassResult:
        batch = self.prepared.batches[index]
        self.state.begin_pass(self.settings.seed + index)
        return self._compiled(
            PassInputs(
                x=batch.x, y=batch.y, cotangents=cotangents, loss_share=loss_share, scale=scale
            )
        )


def gradients_of(result: PassResult, scale: float) -> Gradients:
    """The gradients of a pass that was run with this scale."""
    loss = float(result.values["objective"])
    return Gradients(loss=loss, gradients=result.gradients, scale=scale)


def compute_dtypes(model: Any) -> set[str]:
    """The dtypes that the model's layers compute in."""
    return {str(layer.compute_dtype) for layer in model._flatten_layers()}  # noqa: SLF001
