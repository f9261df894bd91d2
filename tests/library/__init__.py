"""Tests of the Hub model, and of its handler."""
