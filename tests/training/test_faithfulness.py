"""The deletion test behind a training."""

import json
import shutil

import pytest

from tests.training.test_train import run


def test_what_was_fitted_is_of_several_lengths_of_histories(base):
    """Of four reviews, two views of three and one."""
    calibrations = json.loads((base[0] / "config.json").read_text())["calibrations"]
    assert list(calibrations) == ["product"] and list(calibrations["product"]) == ["1", "2"]
    one, two = calibrations["product"].values()
    assert one["temperatures"] != two["temperatures"]


def test_a_run_tests_its_weights_on_the_split_evaluated_and_its_card_says_so(corpus, base, whole_run, tmp_path):
    photos = base[1]["test_faithfulness"]["photos"]
    assert (photos["users"], photos["faithful"]) == (4, None)
    assert photos["difference"] == pytest.approx(photos["top"] - photos["random"])
    found = json.loads((base[0] / "all_results.json").read_text())["test_faithfulness"]
    assert list(found) == ["photos", "views", "history_photos"] and found["photos"] == photos
    assert found["views"]["users"] == found["history_photos"]["users"] == 4
    assert found["history_photos"]["top"] != photos["top"]
    card = (base[0] / "README.md").read_text()
    assert "too few users to say whether the weights tell which photo" in card
    assert "too few users to say whether the weights tell which reviews" in card
    assert "Of whole histories, that of the photo with most weight among all of a user's" in card
    shutil.copytree(base[0], tmp_path / "model")
    with whole_run("measure_faithfulness"):
        again, _ = run(corpus, tmp_path / "model", do_train=False, eval_batch_size=3)
    assert again["test_faithfulness"]["photos"]["top"] == pytest.approx(photos["top"], abs=1e-5)
    assert again["test_faithfulness"]["photos"]["random"] == pytest.approx(photos["random"], abs=1e-5)
