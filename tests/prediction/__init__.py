"""Tests of `prediction/` and predict.py."""
