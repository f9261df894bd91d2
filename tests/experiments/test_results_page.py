"""The results that are kept in the repository, and the page that is made of them."""

import pytest

from experiments.plan import read_scale
from experiments.render import PAGE, render
from tests import ROOT

RESULTS = ROOT / "experiments" / "results"
SCALE = read_scale("tiny")


@pytest.mark.slow
def test_rendered_again_the_page_is_the_one_that_is_kept_to_the_letter():
    assert render(SCALE, RESULTS / SCALE.name) == (ROOT / "experiments" / PAGE).read_text(encoding="utf-8")


def test_what_is_kept_is_small_and_whole():
    files = sorted((RESULTS / SCALE.name).iterdir())
    assert sum(path.stat().st_size for path in files) < 10 * 2**20
    runs = {path.stem for path in files if path.suffix == ".json"}
    assert runs and runs == {path.stem for path in files if path.suffix == ".parquet" and path.stem[:6] != "users-"}
