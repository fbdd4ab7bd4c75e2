"""Measurements of holdfast beside the floor, in one interleaved run: `make bench`."""
