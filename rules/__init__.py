"""Coded rules, one family a file. Found through the entry points `geb_audit.rules`."""
