"""Histories beside the paper's recipe: the comparison over seeds."""

import json

import numpy as np
import pytest

from benchmarks import history_seeds
from benchmarks.history_seeds import compare
from mmprofile import ProfileSchema
from tests.tiny_corpus import write_corpus
from tests.tiny_folder import save_tiny_folder

SCHEMA = ProfileSchema(({"name": "Mood", "values": ["Calm", "Shy"]},))
CALM, SHY = {"mood": "Calm"}, {"mood": "Shy"}


def seed(right: float, number: int) -> tuple:
    """A model whose profiles by history are right for this share of the users, and by the recipe for half of them."""
    rng = np.random.default_rng(number)
    truths = [CALM if calm else SHY for calm in rng.random(200) < 0.5]

    def guessed(share: float) -> list[dict]:
        hits = rng.random(200) < share
        return [t if hit else (SHY if t == CALM else CALM) for t, hit in zip(truths, hits, strict=True)]

    history = guessed(right)
    same = {"history by marginals": history, "history by weighted marginals": history}
    return {"history": history, "paper's recipe": guessed(0.5), **same}, truths, SCHEMA


def test_differences_are_of_the_means_over_seeds_and_one_that_is_none_has_no_interval():
    found = compare([seed(0.9, 0), seed(0.7, 1)])
    first, second = (compare([seed(share, number)])["f1"] for number, share in enumerate((0.9, 0.7)))
    for name, of_name in found["f1"].items():
        assert of_name["average"] == pytest.approx((first[name]["average"] + second[name]["average"]) / 2)
    told = found["differences"]["history minus paper's recipe"]["average"]
    assert told["difference"] == pytest.approx(
        found["f1"]["history"]["average"] - found["f1"]["paper's recipe"]["average"]
    )
    assert 0 < told["interval"][0] < told["difference"] < told["interval"][1]
    assert told["p"] == 0
    same = found["differences"]["history by marginals minus history"]["average"]
    assert (same["difference"], same["interval"], same["p"]) == (0, [0, 0], 1)


@pytest.mark.slow
def test_models_are_asked_in_both_ways(tmp_path):
    save_tiny_folder(tmp_path / "seed-0", ProfileSchema())
    write_corpus(tmp_path / "corpus", reviews=7)
    flags = [
        "--models",
        str(tmp_path / "seed-0"),
        "--dataset",
        str(tmp_path / "corpus"),
        "--folder",
        str(tmp_path / "p"),
    ]
    results = history_seeds.main([*flags, "--output", str(tmp_path / "h.json")])
    assert json.loads((tmp_path / "h.json").read_text()) == results
    assert (results["models"], results["users"]) == (1, 4)
    ways = {"history", "paper's recipe", "history by marginals", "history by weighted marginals"}
    assert results["f1"].keys() == ways
    assert results["calibration"] == results["calibrations"][0] and len(results["calibration"]) == 6
