"""Tests of `web/` and app.py."""
