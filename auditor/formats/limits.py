"""Bounds on what a reader takes in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the readers, with their defaults.

    json_bytes: size of a configuration; json_depth: its nesting; members: files in an archive, and
    groups in an HDF5 file; calls: layer calls in a model; nesting: models within models;
    inflated_bytes: size of a compressed archive member, which has to be inflated in memory (what
    Keras writes is stored, and is read in place at any size); expansion: inflated over compressed
    bytes from which a member is a bomb (deflate reaches 1032, real models stay near 1).
    """

    json_bytes: int = 64 * 2**20
    json_depth: int = 128
    members: int = 100_000
    calls: int = 200_000
    nesting: int = 32
    inflated_bytes: int = 2 * 2**30
    expansion: int = 100


DEFAULT_LIMITS = Limits()
