"""Tests of `dataset_script/synthetic/`."""
