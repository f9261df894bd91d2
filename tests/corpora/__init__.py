"""Tests of `corpora/`."""
