"""The tests, in folders as what they test; what several share stands here."""

from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the repository
