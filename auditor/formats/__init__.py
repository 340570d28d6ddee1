"""Readers: a model file as a LayerGraph, without running it and without an ML framework."""

from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.read import MODEL_SUFFIXES, read_model

__all__ = ["DEFAULT_LIMITS", "MODEL_SUFFIXES", "Limits", "ModelFile", "read_model"]
