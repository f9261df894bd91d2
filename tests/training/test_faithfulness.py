"""The deletion test behind a training."""

import json

import pytest

from tests.training.test_train import corpus, run  # noqa: F401


def test_a_run_tests_its_weights_on_the_split_evaluated_and_its_card_says_so(corpus, tmp_path):  # noqa: F811
    results, _ = run(corpus, tmp_path / "model")
    photos = results["test_faithfulness"]["photos"]
    assert (photos["users"], photos["faithful"]) == (4, None)
    assert photos["difference"] == pytest.approx(photos["top"] - photos["random"])
    assert json.loads((tmp_path / "model" / "all_results.json").read_text())["test_faithfulness"] == {"photos": photos}
    assert "too few users to say whether the weights tell which photo" in (tmp_path / "model/README.md").read_text()
    again, _ = run(corpus, tmp_path / "model", do_train=False, eval_batch_size=1)
    assert again["test_faithfulness"]["photos"]["top"] == pytest.approx(photos["top"], abs=1e-5)
    assert again["test_faithfulness"]["photos"]["random"] == pytest.approx(photos["random"], abs=1e-5)
