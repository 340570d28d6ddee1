"""Reporters, one a file. Found through the entry points `geb_audit.reporters`."""
