"""Telling an exception for want of memory, by whichever framework raised it."""

from __future__ import annotations

import re

#: TensorFlow's and PyTorch's own classes; `MemoryError` and NumPy's are told by their base.
CLASSES = frozenset({"ResourceExhaustedError", "OutOfMemoryError"})
#: XLA raises one class for everything, and PyTorch's allocator on the CPU a RuntimeError.
WORDS = re.compile(
    r"RESOURCE_EXHAUSTED|out of memory|OOM when allocating|can't allocate memory"
    r"|not enough memory|std::bad_alloc",
    re.IGNORECASE,
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether want of memory is behind an error: what it says, or what it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if (
            isinstance(cause, MemoryError)
            or type(cause).__name__ in CLASSES
            or WORDS.search(str(cause))
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
