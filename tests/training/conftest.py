"""Runs of train.py here draw no figures, which take a third of a small run: tests/scoring draws them."""

import pytest
from PIL import Image

from training import evaluations, results, resuming

DRAWN = {
    evaluations: ("plot_confusion", "plot_curves"),
    results: ("plot_confusion", "plot_calibration", "plot_curves"),
    resuming: ("plot_curves",),
}


@pytest.fixture(scope="module", autouse=True)
def undrawn_figures(request):
    """A figure is a PNG of one pixel, but in a module with `DRAWS_FIGURES`."""
    if getattr(request.module, "DRAWS_FIGURES", False):
        yield
        return

    def draw(values, schema, path, *of):
        Image.new("RGB", (1, 1)).save(path, format="png")

    with pytest.MonkeyPatch.context() as patch:
        for module, names in DRAWN.items():
            for name in names:
                patch.setattr(module, name, draw)
        yield
