"""Tests of `dataset_script/captions/`."""
