"""The environment of a process that the probe runs in: what frameworks read when they start."""

from __future__ import annotations

import os
from collections.abc import Mapping

from auditor.graph.layer_graph import LayerGraph


def process_environment(backend: str, device: str = "auto") -> dict[str, str]:
    """This process' environment with what Keras and the framework are to find in it."""
    environment = {
        # Memory of the GPU is taken as it is needed: others may work there too.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Sets of strings are walked in the same order in every run.
        "PYTHONHASHSEED": "0",
    }
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        environment["JAX_PLATFORMS"] = "cpu"
    return environment


def numbers_environment(backend: str, graph: LayerGraph) -> Mapping[str, str]:
    """What is to be set besides, before Keras is imported, for the numbers the model holds.

    JAX has double precision only where it is told at its start.
    """
    return {"JAX_ENABLE_X64": "1"} if backend == "jax" and is_double(graph) else {}


def is_double(graph: LayerGraph) -> bool:
    """Whether any of the model is in double precision."""
    return any(
        "float64" in (call.dtype, *(weight.dtype for weight in call.weights))
        for call in graph.calls
    )
