"""Tests of `publishing/` and upload.py."""
