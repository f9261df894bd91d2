"""Ratings of reviews, with and without profiles."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import sentiment
from experiments.arguments import CLASSIFIERS, SHOWN, SentimentArguments
from systems.presets import train_tokenizer
from tests.tiny_corpus import SCHEMA

WORD = {1: "awful", 2: "poor", 3: "fine", 4: "good", 5: "great"}
PROFILE = "Stars: {} | Favorite Category: Pizza, Coffee & Tea"


def rows_of(users: int = 12, reviews: int = 3) -> list[dict]:
    """A third of the users is of the validation split; a review's text tells its rating."""
    return [
        {
            "split": "test" if user % 3 else "validation",
            "user_id": f"u{user}",
            "text": f"the pizza was {WORD[1 + (user + at) % 5]}",
            "stars": 1.0 + (user + at) % 5,
            "generated": PROFILE.format(user),
            "true": PROFILE.format(f"true {user}"),
        }
        for user in range(users)
        for at in range(reviews)
    ]


def write(folder, rows):
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "reviews.parquet")
    texts = [row[name] for row in rows for name in ("text", "generated", "true")]
    train_tokenizer(texts, SCHEMA, 400).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sentiment") / "profiles", rows_of())


@pytest.fixture(scope="module")
def tokenizer(profiles):
    return sentiment.load_classifier(SentimentArguments(profiles=str(profiles), output="out"))[0]


@pytest.mark.parametrize("number", [2, 3, 8])
def test_no_user_is_trained_on_and_tested_and_each_test_user_is_tested_once(number):
    rows = rows_of()
    cut = list(sentiment.folds(rows, number))
    assert len(cut) == number
    for train, test in cut:
        users = [{rows[place]["user_id"] for place in places} for places in (train, test)]
        assert users[0] and users[1] and not users[0] & users[1]
        assert users[0] | users[1] == {row["user_id"] for row in rows}
    tested = sorted(place for _, test in cut for place in test)
    assert tested == [place for place, row in enumerate(rows) if row["split"] == "test"]


def test_a_shuffled_profile_is_another_users_and_each_is_given_once():
    for number in (2, 3, 40):
        users = [f"u{n}" for n in range(number)]
        others = sentiment.others_of(users)
        assert sorted(others) == sorted(others.values()) == sorted(users)
        assert [user for user in users if others[user] == user] == []
    with pytest.raises(ValueError, match="needs two users, got 1"):
        sentiment.others_of(["u0"])


def test_what_stands_before_a_review_is_what_was_asked_for():
    rows = rows_of()
    found = {name: sentiment.profiles_and_texts(rows, name) for name in SHOWN}
    assert {name: [text for _, text in pairs] for name, pairs in found.items()} == dict.fromkeys(
        SHOWN, [row["text"] for row in rows]
    )
    shown = {name: [profile for profile, _ in pairs] for name, pairs in found.items()}
    assert shown["none"] == [""] * len(rows)
    assert shown["generated"] == [row["generated"] for row in rows]
    assert shown["true"] == [row["true"] for row in rows]
    assert set(shown["shuffled"]) == set(shown["generated"])
    assert [n for n, row in enumerate(rows) if shown["shuffled"][n] == row["generated"]] == []


def test_a_text_is_cut_as_far_with_a_profile_as_without_and_spells_no_special_token(tokenizer):
    long = "the pizza was good </s> " * 9
    alone, beside = sentiment.encode(tokenizer, [("", long), (PROFILE, long)], 12)["input_ids"]
    assert len(alone) == 12 + 1 and beside[-12:] == alone[-12:] and len(beside) > 20
    ends = [ids.count(tokenizer.eos_token_id) for ids in (alone, beside)]
    assert ends == [1, 1] and [ids[-1] for ids in (alone, beside)] == [tokenizer.eos_token_id] * 2
    assert sentiment.encode(tokenizer, [("", "</s>")], 12)["input_ids"] == [[tokenizer.eos_token_id]]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_classifier_learns_from_the_text_and_predicts_in_the_order_asked(classifier, profiles, tmp_path):
    """Texts of unlike lengths, by which training puts them together."""
    flags = {"num_epochs": 40.0, "learning_rate": 5e-3, "batch_size": 8, "max_tokens": 40, "eval_batch_size": 4}
    arguments = SentimentArguments(profiles=str(profiles), output="out", classifier=classifier, **flags)
    ratings = np.array([1, 5] * 8)
    texts = [("", f"{'the pizza ' * (number % 5)}{WORD[rating]}") for number, rating in enumerate(ratings.tolist())]
    found = sentiment.classify(arguments, texts, ratings, texts[::-1], tmp_path)
    assert found.tolist() == ratings[::-1].tolist()


def test_a_classification_end_to_end(profiles, tmp_path, capsys):
    flags = ["--profiles", str(profiles), "--profile", "generated", "--folds", "2", "--num_epochs", "1"]
    results = sentiment.main([*flags, "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "all_results.json").read_text()) == results
    kept = pq.read_table(tmp_path / "out" / "test_predictions.parquet").to_pydict()
    rows = [row for row in rows_of() if row["split"] == "test"]
    assert kept["user_id"] == [row["user_id"] for row in rows]
    assert kept["rating"] == [int(row["stars"]) for row in rows]
    assert set(kept["predicted"]) <= {1, 2, 3, 4, 5}
    right = np.mean(np.equal(kept["rating"], kept["predicted"]))
    assert results["accuracy"] == pytest.approx(100 * right)
    assert 0 < results["majority"]["accuracy"] < 60 and 0 < results["majority"]["macro_f1"] < 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    again = sentiment.main([*flags, "--output", str(tmp_path / "again")])
    assert again == results
    assert pq.read_table(tmp_path / "again" / "test_predictions.parquet").to_pydict() == kept


@pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*` is deprecated:FutureWarning")  # peft's
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable:FutureWarning")
def test_lora_trains_matrices_beside_the_weights_and_what_tells_ratings_apart(profiles, tmp_path):
    flags = {"classifier": "llama", "lora_rank": 2, "gradient_checkpointing": True, "num_epochs": 1.0}
    arguments = SentimentArguments(profiles=str(profiles), output="out", **flags)
    _, model = sentiment.load_classifier(arguments)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("lora_A" in name for name in trained) and any("score" in name for name in trained)
    assert [name for name in trained if "lora" not in name and "score" not in name] == []
    texts = [("", "awful"), ("", "the pizza was great")]
    found = sentiment.classify(arguments, texts, np.array([1, 5]), texts, tmp_path)
    assert found.shape == (2,) and set(found.tolist()) <= {1, 2, 3, 4, 5}


def test_what_cannot_be_classified_is_told(profiles, tmp_path):
    def ends(match, *flags):
        with pytest.raises(ValueError, match=match):
            sentiment.main(["--profiles", str(profiles), "--output", str(tmp_path / "out"), *flags])

    ends("classifier must be one of .*, got 'gpt'", "--classifier", "gpt")
    ends("profile must be one of .*, got 'mine'", "--profile", "mine")
    ends("folds is at least 2, got 1", "--folds", "1")
    ends("9 folds need as many test users, got 8", "--folds", "9")
    ends("learning_rate are above 0, got 3.0 and 0", "--learning_rate", "0")
    ends("is no output folder of experiments.held_out", "--profiles", str(tmp_path))
    ends("is there already", "--output", str(tmp_path))
    other = write(tmp_path / "other", [rows_of()[0] | {"stars": 2.5}])
    ends(r"ratings are of \[1, 2, 3, 4, 5\], got \[2.5\]", "--profiles", str(other))
    assert not (tmp_path / "out").exists()
