"""The error of a model that cannot be run on Keras: one line, naming the node and the reason."""

from __future__ import annotations

from auditor.errors import UnreadableModel


class NotImportable(UnreadableModel):
    """An ONNX model, or one node of it, that has no Keras form.

    reason: why, in a few words, without the node it is about; equal for equal causes.
    """

    #: Keras puts the arguments of a layer's call into the message of what is raised within it,
    #: unless that is done: the message has to stay one line.
    _keras_call_info_injected = True

    def __init__(self, message: str, *, reason: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.reason = reason or message
