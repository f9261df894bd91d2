"""What the page says of its model."""

import json
import re

import pytest

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

from web.about import UNKNOWN_DATA, read_card, read_train_corpus, render_about  # noqa: E402

CARD = {
    "model-index": [
        {
            "name": "m",
            "results": [
                {
                    "dataset": {"name": "our Yelp", "type": "org/yelp", "config": "default", "split": "test"},
                    "metrics": [
                        {"type": "f1", "name": "Macro-F1, Stars (percent)", "value": 71.7},
                        {"type": "f1", "name": "Macro-F1, Favorite Category (percent)", "value": 60.1},
                        {"type": "f1", "name": "Macro-F1, average (percent)", "value": 76.2},
                    ],
                }
            ],
        }
    ]
}

TRAINED = {"name": "our Yelp", "config": "default", "dataset": "org/yelp"}


def test_the_model_its_data_its_figures_and_its_limits_are_told_with_links():
    html = render_about("org/model", "1f0c9a2", CARD, TRAINED)
    assert re.findall('href="(.*?)"', html) == [
        "https://huggingface.co/org/model/tree/1f0c9a2",
        "https://huggingface.co/datasets/org/yelp",
        "https://huggingface.co/org/model",
    ]
    assert "at 1f0c9a2. It was trained on" in html and "our Yelp" in html and 'id="limits"' in html
    assert "On users of these data that it had not seen it reached a" in html
    assert "Macro-F1 of 76 out of 100 on average, least for Favorite Category, 60." in html
    assert "no ground for a decision" in html


def test_of_a_folder_only_the_name_is_told(tmp_path):
    (tmp_path / "quickstart").mkdir()
    html = render_about(str(tmp_path / "quickstart"), None, CARD, TRAINED)
    assert "<b>quickstart</b>" in html and str(tmp_path) not in html and "huggingface.co/quickstart" not in html


@pytest.mark.parametrize(
    "card", [{}, {"model-index": []}, {"model-index": [{"results": [{"dataset": 7}]}]}, {"model-index": "x"}]
)
def test_a_card_that_does_not_tell_is_said(card):
    html = render_about("org/model", None, card, {})
    assert UNKNOWN_DATA in html and "Macro-F1" not in html


def test_what_a_card_says_is_no_markup():
    entry = CARD["model-index"][0]["results"][0] | {"dataset": {"name": "<script>", "type": 'a/b"><script>'}}
    card = {"model-index": [{"results": [entry]}]}
    for trained in ({}, {"name": "<script>", "config": "", "dataset": 'a/b"><script>'}):
        html = render_about("org/model", None, card, trained)
        assert "<script" not in html and "&lt;script&gt;" in html


def test_data_that_it_was_measured_on_are_not_called_those_of_the_training():
    elsewhere = {"name": "their hotels", "config": "default", "dataset": "./hotels"}
    measured = "On users of <b>" + '<a href="https://huggingface.co/datasets/org/yelp"'
    html = render_about("org/model", None, CARD, elsewhere)
    assert f"It was trained on <b>their hotels</b>. {measured}" in html
    for trained in ({}, TRAINED | {"config": "full"}):  # whose users are split in another way
        assert f" {measured}" in render_about("org/model", None, CARD, trained)
    entry = CARD["model-index"][0]["results"][0]
    seen = {"model-index": [{"results": [entry | {"dataset": entry["dataset"] | {"split": "train"}}]}]}
    assert "On the users that it was trained on it reached" in render_about("org/model", None, seen, TRAINED)


@pytest.mark.parametrize("told", ["", "{", "[]", '{"train_corpus": null}', '{"train_corpus": {"name": "x"}}'])
def test_the_corpus_of_the_training_is_read_from_the_results_where_they_tell(tmp_path, told):
    assert read_train_corpus(str(tmp_path)) == {}
    (tmp_path / "all_results.json").write_text(told)
    assert read_train_corpus(str(tmp_path)) == {}
    (tmp_path / "all_results.json").write_text(json.dumps({"train_corpus": TRAINED | {"train": 9}}))
    assert read_train_corpus(str(tmp_path)) == TRAINED


def test_a_card_is_read_from_the_models_folder_and_a_broken_one_is_none(tmp_path):
    assert read_card(str(tmp_path)) == {}
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert read_card(str(tmp_path)) == {"license": "mit"}
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert read_card(str(tmp_path)) == {}
