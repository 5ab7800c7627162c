"""Writes the contribution to ART, attack and trainer, from this package's core: `make upstream ART=<checkout>`."""
