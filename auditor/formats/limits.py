"""Bounds on what a reader takes in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the readers, with their defaults.

    json_bytes: size of a configuration; json_depth: its nesting; members: files in an archive;
    calls: layer calls in a model; nesting: models within models.
    """

    json_bytes: int = 64 * 2**20
    json_depth: int = 128
    members: int = 100_000
    calls: int = 200_000
    nesting: int = 32


DEFAULT_LIMITS = Limits()
