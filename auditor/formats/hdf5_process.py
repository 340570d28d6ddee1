"""Asking the HDF5 library about one file, in a process of its own and within bounds.

Whatever the library does over a damaged or hostile file ends as one line here.
"""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.archive import StoredSpan
from auditor.formats.hdf5_server import give_back, take
from auditor.formats.limits import Limits
from auditor.formats.refusal import refusal
from auditor.formats.untrusted import summary


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
    """Where an HDF5 file's bytes are: a file of its own, or a member of a zip archive.

    `span` is where a member stored uncompressed stands; None for one to be inflated in memory.
    """

    path: Path
    member: str | None = None
    span: StoredSpan | None = None

    @property
    def place(self) -> str:
        """What the file is called in messages."""
        return self.member or "the HDF5 file"


class Hdf5Process:
    """The library reading one file. Use as a context manager.

    Raises `UnreadableModel` where the file is damaged or a bound was hit, `UnsafeModel` where it
    leads out of itself or declares what it does not hold.
    """

    def __init__(self, source: Hdf5Source, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._server = take()
        self._talking = True
        span = source.span
        opened = {
            "path": str(source.path.absolute()),
            "member": source.member,
            "span": None if span is None else (span.offset, span.size),
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "inflated_bytes": limits.inflated_bytes,
        }
        try:
            self._ask({"open": opened})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Hdf5Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def index(self, *attributes: str) -> dict[str, Any]:
        """Every group and dataset, and of their attributes the named ones that are strings.

        At the root, `library` is the library's version.
        """
        found: dict[str, Any] = self._ask(
            {
                "index": {
                    "attributes": attributes,
                    "objects": self._limits.members,
                    "depth": self._limits.json_depth,
                }
            }
        )
        return found

    def values(self, dataset: str) -> np.ndarray[Any, Any]:
        """The values of the dataset at an absolute path of the file."""
        head = self._ask({"values": dataset})
        dtype, shape = np.dtype(head["dtype"]), tuple(head["shape"])
        size = math.prod(shape) * dtype.itemsize
        with self._server.killed_after(self._limits.seconds):
            data = self._server.read(size)
        if len(data) != size:
            raise UnreadableModel(f"{self._source.place}: the values of {dataset!r} are damaged")
        return np.frombuffer(data, dtype).reshape(shape)

    def close(self) -> None:
        """End the conversation; the process is kept for another file, if it is well."""
        if self._talking:
            with self._server.killed_after(self._limits.seconds):
                self._talking = self._server.ask({"close": True}) is None
        if self._talking:
            self._server.kill()
        else:
            give_back(self._server)

    def _ask(self, message: dict[str, Any]) -> Any:
        with self._server.killed_after(self._limits.seconds) as late:
            answer = self._server.ask(message)
        if answer is not None and "ok" in answer:
            return answer["ok"]
        if answer is not None and "refused" in answer:
            said = {key: summary(value, 200) for key, value in answer["refused"].items()}
            place = f"{self._source.place}: {said['place']}"
            raise refusal(said["code"], place, said["what"], identifier=said["identifier"])
        place, limits = self._source.place, self._limits
        if answer is None and late.is_set():
            raise UnreadableModel(
                f"{place} kept the HDF5 library busy for more than {limits.seconds:g} s (the limit "
                "`seconds`): damaged, or made to hang its readers"
            )
        if answer is not None and "damaged" in answer:
            raise UnreadableModel(
                f"{place} is truncated or damaged; save or copy the model again",
                detail=str(answer["damaged"]),
            )
        if answer is not None and "memory" in answer:
            raise UnreadableModel(
                f"{place} takes the HDF5 library more than {limits.memory_bytes / 2**20:,.0f} MiB "
                "of memory (the limit `memory-bytes`): damaged, or made to fill it"
            )
        # The process that answered is gone; the one that forked it may still be well.
        self._talking = answer is None
        raise UnreadableModel(
            f"{place} crashes the HDF5 library: damaged, or made to; save or copy the model again",
            detail=_how(None if answer is None else answer.get("ended")),
        )


def _how(status: object) -> str:
    if isinstance(status, int) and status < 0:
        with suppress(ValueError):
            return f"the library's process ended by {signal.Signals(-status).name}"
    return f"the library's process ended with status {status}"
