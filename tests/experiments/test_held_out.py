"""Profiles of users whose reviews to classify are kept apart."""

import json

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import List as ListFeature

import predict
from corpora.checks import review_fields
from experiments import held_out
from tests.tiny_corpus import SCHEMA, features, user
from tests.tiny_folder import save_tiny_folder

REVIEWS, HELD_OUT = 5, 2


def with_stars(number: int) -> dict:
    row = user(number, reviews=REVIEWS, photos=1)
    row["reviews"] = [review | {"stars": 1.0 + (number + at) % 5} for at, review in enumerate(row["reviews"])]
    return row


def rated_corpus(sizes=(2, 3, 4)) -> DatasetDict:
    plain = features()
    rated = Features(plain | {"reviews": ListFeature({**review_fields(plain), "stars": Value("float32")})})
    names = dict(zip(("train", "validation", "test"), sizes, strict=True))
    return DatasetDict(
        {
            name: Dataset.from_list([with_stars(100 * at + index) for index in range(size)], features=rated)
            for at, (name, size) in enumerate(names.items())
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `main` leaves, and the texts that predict.py had of each user."""
    folder, seen = tmp_path_factory.mktemp("held_out"), {}
    for name, split in rated_corpus().items():
        (folder / "corpus").mkdir(exist_ok=True)
        split.to_parquet(folder / "corpus" / f"{name}-00000-of-00001.parquet")
    save_tiny_folder(folder / "model", SCHEMA)
    plain = predict.main

    def watched(argv):
        corpus = argv[argv.index("--dataset") + 1]
        for row in pq.read_table(corpus, columns=["user_id", "reviews"]).to_pylist():
            seen[row["user_id"]] = [review["text"] for review in row["reviews"]]
        return plain(argv)

    flags = ["--model", folder / "model", "--dataset", folder / "corpus", "--held_out", HELD_OUT, "--output"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "main", watched)
        results = held_out.main([str(word) for word in [*flags, folder / "out"]])
    return folder, seen, results


def test_reviews_to_classify_are_not_among_those_that_profiles_are_made_of(made):
    folder, seen, _ = made
    rows = pq.read_table(folder / "out" / held_out.REVIEWS).to_pylist()
    assert len(rows) == 7 * HELD_OUT and set(seen) == {row["user_id"] for row in rows}
    assert not any(row["text"] in seen[row["user_id"]] for row in rows)
    assert {len(texts) for texts in seen.values()} == {REVIEWS - HELD_OUT}


def test_users_of_the_training_split_are_not_profiled_and_every_review_keeps_its_rating(made):
    folder, _, _ = made
    rows = pq.read_table(folder / "out" / held_out.REVIEWS).to_pylist()
    assert {(row["user_id"], row["split"]) for row in rows} == {
        *((f"u{100 + n}", "validation") for n in range(3)),
        *((f"u{200 + n}", "test") for n in range(4)),
    }
    given = {review["text"]: review["stars"] for number in (101, 203) for review in with_stars(number)["reviews"]}
    found = {row["text"]: row["stars"] for row in rows if row["user_id"] in ("u101", "u203")}
    assert len(found) == 4 and found == {text: given[text] for text in found}


def test_profiles_are_valid_texts_and_those_of_test_users_are_scored(made):
    folder, _, results = made
    rows = pq.read_table(folder / "out" / held_out.REVIEWS).to_pylist()
    assert rows and all(SCHEMA.render(SCHEMA.parse(row["generated"])) == row["generated"] for row in rows)
    truths = {row["user_id"]: SCHEMA.parse(row["true"]) for row in rows}
    assert truths["u200"] == SCHEMA.profile_from_labels(with_stars(200)["profile"])
    told = json.loads((folder / "out" / "all_results.json").read_text())
    assert told == results and (told["users"], told["reviews"]) == (7, 14)
    kept = pq.read_table(folder / "out" / "test_predictions.parquet").to_pydict()
    assert kept["user_id"] == ["u200", "u201", "u202", "u203"]
    assert [json.loads(text) for text in kept["truth"]] == [truths[user] for user in kept["user_id"]]
    assert sorted(path.name for path in folder.iterdir()) == ["corpus", "model", "out"]
    assert not (folder / "out" / "work").exists()


def test_the_same_reviews_are_drawn_in_any_order_of_users_and_others_by_another_seed():
    split = rated_corpus()["test"]

    def drawn(dataset, seed):
        rest, taken = held_out.take_out(dataset, HELD_OUT, seed)
        assert [len(row) for row in rest.data.column("reviews").to_pylist()] == [REVIEWS - HELD_OUT] * len(dataset)
        return {(row["user_id"], row["text"]) for row in taken}

    backwards = Dataset.from_list([with_stars(203 - n) for n in range(4)], features=split.features)
    assert drawn(split, 0) == drawn(backwards, 0) != drawn(split, 1)


def test_half_of_a_users_reviews_stay_and_photos_stay_with_their_reviews():
    split = rated_corpus()["test"]
    rest, taken = held_out.take_out(split, 9, 0)
    assert len(taken) == 4 * (REVIEWS // 2)
    before = {review["text"]: review for row in split.data.to_pylist() for review in row["reviews"]}
    left = [review for row in rest.data.to_pylist() for review in row["reviews"]]
    assert len(left) == 4 * (REVIEWS - REVIEWS // 2) and left == [before[review["text"]] for review in left]


def test_what_cannot_be_profiled_is_told(tmp_path):
    flags = ["--model", "nowhere", "--dataset", str(tmp_path / "corpus"), "--output"]
    with pytest.raises(ValueError, match="is there already; choose another output"):
        held_out.main([*flags, str(tmp_path)])
    (tmp_path / "corpus").mkdir()
    rated_corpus()["test"].to_parquet(tmp_path / "corpus" / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"has the splits \['test'\], \['validation'\] missing"):
        held_out.main([*flags, str(tmp_path / "out")])
    with pytest.raises(ValueError, match=r"reviews to classify have .*, \['stars'\] missing"):
        held_out.take_out(Dataset.from_list([user(1)], features=features()), 1, 0)
    with pytest.raises(ValueError, match="held_out is at least 1, got 0"):
        held_out.main([*flags, str(tmp_path / "out"), "--held_out", "0"])
    assert not (tmp_path / "out").exists()
