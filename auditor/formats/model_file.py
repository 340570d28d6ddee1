"""`ModelFile`: what a reader hands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditor.graph.layer_graph import LayerGraph
from auditor.hazard import Hazard


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model as read: its graph, its bytes' digest, and what is dangerous about it.

    `hdf5` is the version of the HDF5 library, native code, that read it; empty where none did.
    """

    path: Path
    sha256: str
    graph: LayerGraph
    hazards: tuple[Hazard, ...] = ()
    hdf5: str = ""
