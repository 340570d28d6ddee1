"""The error of a model that cannot be run on Keras: one line, naming the node and the reason."""

from __future__ import annotations

from auditor.errors import UnreadableModel


class NotImportable(UnreadableModel):
    """An ONNX model, or one node of it, that has no Keras form.

    reason: why, in a few words, without the node it is about; equal for equal causes.
    """

    def __init__(self, message: str, *, reason: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.reason = reason or message
