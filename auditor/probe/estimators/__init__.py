"""Estimators: one method a file, written once on `keras.ops`."""
