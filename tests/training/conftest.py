"""Runs of train.py here draw no figures, which take half of a small run: tests/scoring draws them."""

import pytest
from matplotlib.figure import Figure
from PIL import Image


@pytest.fixture(scope="module", autouse=True)
def undrawn_figures(request):
    """A saved figure is a PNG of one pixel, but in a module with `DRAWS_FIGURES`."""
    if getattr(request.module, "DRAWS_FIGURES", False):
        yield
        return

    def save(self, file, **kwargs):
        Image.new("RGB", (1, 1)).save(file, format="png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield
