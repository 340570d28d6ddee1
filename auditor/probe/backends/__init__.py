"""One module a backend: the only framework imports of the project."""
