"""Tests of `training/` and train.py."""
