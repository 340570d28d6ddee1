"""Readers: a model file as a LayerGraph, without running it and without an ML framework."""
