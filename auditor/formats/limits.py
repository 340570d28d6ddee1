"""Bounds on what a reader takes in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the readers, with their defaults.

    json_bytes: size of a configuration; json_values: values in it; json_depth: its nesting, and
    that of groups in an HDF5 file; members: files in an archive, and groups and datasets in an
    HDF5 file; calls: layer calls in a model (the default takes about a minute; large models have
    tens of thousands); edges: tensors handed from call to call; nesting: models within models;
    name_length: characters in the name of a layer, a model, a class or a module; id_characters:
    characters in the ids of all calls and of both ends of all edges;
    inflated_bytes: size of a compressed archive member, which has to be inflated in memory (what
    Keras writes is stored, and is read in place at any size); expansion: inflated over compressed
    bytes from which a member is a bomb (deflate reaches 1032, real models stay near 1); seconds
    and memory_bytes: what the HDF5 library, which is native code, may take for one answer and for
    one file (address space, more than it touches).
    """

    json_bytes: int = 64 * 2**20
    json_values: int = 5_000_000
    json_depth: int = 128
    members: int = 100_000
    calls: int = 100_000
    edges: int = 1_000_000
    nesting: int = 32
    name_length: int = 1024
    id_characters: int = 64 * 2**20
    inflated_bytes: int = 2 * 2**30
    expansion: int = 100
    seconds: float = 30.0
    memory_bytes: int = 6 * 2**30


DEFAULT_LIMITS = Limits()
