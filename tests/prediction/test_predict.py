"""predict.py: every user once with the model's own answer; it goes on after a stop, scores, shows, and refuses."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

import predict
from mmprofile import Sees
from prediction.store import PredictionFolder
from scoring import predictions
from tests.tiny_corpus import SCHEMA, png, tiny_dataset, user, write_corpus
from tests.tiny_folder import make_older, save_tiny_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "model"
    save_tiny_folder(folder, SCHEMA)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "corpus"
    write_corpus(folder, sizes=(4, 4, 10), photos=3)
    return folder


def run(model, dataset, output=None, **flags) -> dict:
    """Random weights are sure of nothing, and the proof would take long: few decoder calls."""
    small = {"batch_size": 3, "shard_users": 4, "num_workers": 0, "max_calls": 2, "views": 1}
    flags = small | {"output": output} | flags
    argv = ["--model", str(model), "--dataset", str(dataset)]
    for name, value in flags.items():
        argv += [] if value is None else [f"--{name}", str(value)]
    return predict.main(argv)


def rows_of(output) -> list[dict]:
    return [row for path in sorted(output.glob("predictions/*.parquet")) for row in pq.read_table(path).to_pylist()]


def without_time(results: dict) -> dict:
    return {k: v for k, v in results.items() if "second" not in k and k not in ("input_wait_share", "users_this_time")}


@pytest.fixture(scope="module")
def whole(model, corpus, tmp_path_factory):
    """A run in one go: its folder and results."""
    output = tmp_path_factory.mktemp("predict") / "whole"
    return output, run(model, corpus, output, evaluate=True)


def test_each_user_is_answered_once_in_order_as_the_model_answers_him(model, corpus, whole):
    rows = rows_of(whole[0])
    assert [row["user_id"] for row in rows] == [f"u{200 + index}" for index in range(10)]
    network = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    reviews = [review["text"] for review in user(207)["reviews"][:3]]
    photos = [png(20 * 207 + 3 * number)["bytes"] for number in range(3)]
    captions = [f"photo 0 of review {number}" for number in range(3)]
    inputs = processor(reviews=reviews, images=photos, captions=captions)
    (expected,) = network.generate_profiles(**inputs, tokenizer=processor.tokenizer, max_calls=2)
    assert rows[7]["text"] == expected.text
    assert rows[7]["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)
    with torch.no_grad():
        weights = network.encode(**inputs, output_fusion=True).image_attentions[0].mean(dim=0)
    placed = [weights[0].item(), 0, 0, weights[1].item(), 0, 0, weights[2].item(), 0, 0, 0, 0, 0]
    assert rows[7]["image_weights"] == pytest.approx(placed, abs=1e-4)


def test_the_model_computes_by_onednn_in_each_thread(model, corpus, tmp_path, products):
    run(model, corpus, tmp_path / "out", batches_at_once=2)
    network = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    layers = [network.text_model.encoder.block[0].layer[-1].DenseReluDense.wo, network.text_model.lm_head]
    assert {weight for _, weight in products} >= {tuple(layer.weight.shape) for layer in layers}


def test_the_results_say_what_was_done_and_how_fast(whole):
    output, results = whole
    assert results == json.loads((output / "results.json").read_text())
    assert (results["users"], results["predicted"], results["photos_left_out"]) == (10, 10, 0)
    assert results["users_this_time"] == 10 and results["num_processes"] == 1
    assert results["users_per_second"] == pytest.approx(10 / results["seconds"])
    assert 0 < results["input_wait_share"] < 1
    rows = rows_of(output)
    assert results["mean_coverage"] == pytest.approx(sum(row["coverage"] for row in rows) / 10)
    assert results["exact_share"] == sum(row["exact"] for row in rows) / 10


def test_evaluation_scores_calibrates_and_draws(whole):
    output, results = whole
    rows = rows_of(output)
    right = [row["profile"]["stars"] == row["truth"]["stars"] for row in rows]
    bins = results["calibration"]["stars"]["bins"]
    assert sum(cell["accuracy"] * cell["values"] for cell in bins) == pytest.approx(sum(right))
    assert set(results["f1"]) == {*SCHEMA.keys, "average"}
    for name in ("confusion.png", "calibration.png"):
        with Image.open(output / name) as image:
            assert image.format == "PNG"


def test_figures_name_the_corpus_and_the_split_that_was_predicted(model, corpus, tmp_path, monkeypatch):
    drawn = []
    for name in ("plot_confusion", "plot_calibration"):
        monkeypatch.setattr(predictions, name, lambda *args: drawn.append(args[-1]))
    run(model, corpus, tmp_path / "out", split="validation", evaluate=True)
    run(model, corpus / "test-00000-of-00001.parquet", tmp_path / "file", evaluate=True)
    of_split, of_file = "corpus, validation split, 4 users", "test-00000-of-00001.parquet, 10 users"
    assert drawn == [of_split, of_split, of_file, of_file]


def test_a_run_that_was_stopped_goes_on_where_it_stopped(model, corpus, whole, tmp_path, monkeypatch):
    write = PredictionFolder.write

    def stop_at_second(self, shard, rows):
        if shard == 1:
            raise KeyboardInterrupt
        write(self, shard, rows)

    monkeypatch.setattr(PredictionFolder, "write", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, tmp_path / "out")
    monkeypatch.undo()
    results = run(model, corpus, tmp_path / "out", evaluate=True)
    assert results["users_this_time"] == 6
    assert without_time(results) == without_time(whole[1])
    assert rows_of(tmp_path / "out") == rows_of(whole[0])
    again = run(model, corpus, tmp_path / "out")
    assert (again["users_this_time"], again["users_per_second"]) == (0, None)


def test_another_batch_size_or_workers_change_nothing(model, corpus, whole, tmp_path):
    run(model, corpus, tmp_path / "out", batch_size=4, num_workers=2)
    for _, row, other in zip(range(10), rows_of(tmp_path / "out"), rows_of(whole[0]), strict=True):
        assert row["text"] == other["text"]
        assert row["log_probability"] == pytest.approx(other["log_probability"], abs=1e-3)


def test_batches_side_by_side_change_nothing(model, corpus, whole, tmp_path):
    results = run(model, corpus, tmp_path / "out", batches_at_once=2, num_workers=1, evaluate=True)
    assert rows_of(tmp_path / "out") == rows_of(whole[0])
    assert without_time(results) == without_time(whole[1])
    assert results["users_this_time"] == 10 and 0 < results["input_wait_share"] < 1


def test_another_model_or_search_is_not_mixed_into_a_run(model, corpus, whole, tmp_path):
    save_tiny_folder(tmp_path / "other", SCHEMA, seed=1)
    with pytest.raises(ValueError, match="holds predictions with .*model's model.safetensors"):
        run(tmp_path / "other", corpus, whole[0])
    with pytest.raises(ValueError, match="'max_calls': 2.* not .*'max_calls': 3"):
        run(model, corpus, whole[0], max_calls=3)
    run(model, corpus, tmp_path / "out")
    run(model, corpus, tmp_path / "out", max_calls=3, overwrite_output=True)
    assert rows_of(tmp_path / "out") != rows_of(whole[0])


def test_users_are_shown_without_an_output_folder(model, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(model, corpus, show=2, shard_users=1) == {}
    text = capsys.readouterr().out
    assert "user u200" in text and "user u201" in text and "u202" not in text
    assert "review     user 200 review 0 likes" in text
    assert "photos     12, looked at: 1 with weight 0." in text
    assert text.count("  predicted  Stars: ") == text.count("  true       Stars: ") == 2
    assert all(f"{value} " in text for attribute in SCHEMA.attributes for value in attribute.values)
    assert list(tmp_path.iterdir()) == []


def test_users_of_an_output_folder_are_shown_with_the_answers_in_it(model, corpus, whole, capsys):
    run(model, corpus, whole[0], show=1)
    assert rows_of(whole[0])[0]["text"] in capsys.readouterr().out


def test_a_long_review_is_cut_when_it_is_shown(model, tmp_path, capsys):
    lines = tmp_path / "users.jsonl"
    lines.write_text(json.dumps({"user_id": "a", "reviews": ["word " * 1000]}))
    run(model, lines, show=1)
    assert 50 < capsys.readouterr().out.count("word") <= 60


def test_lines_are_predicted_and_bad_users_counted(model, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(png(3)["bytes"])
    (tmp_path / "broken.png").write_bytes(b"no photo")
    photos = {"images": ["broken.png", "photo.png"], "captions": ["a place"]}
    lines = [{"user_id": "a", "reviews": ["likes a place"]} | photos, {"user_id": "b", "reviews": []}]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, lines)))
    results = run(model, tmp_path / "users.jsonl", tmp_path / "out", num_workers=1)
    assert (results["users"], results["predicted"], results["not_predicted"]) == (2, 1, 1)
    assert results["photos_left_out"] == 1
    first, second = rows_of(tmp_path / "out")
    assert first["image_weights"] == [0.0, pytest.approx(1)]
    assert first["problems"][0].startswith("photo 0: image")
    assert (second["user_id"], second["profile"], second["text"]) == ("b", None, None)
    said = capsys.readouterr()
    assert "b: a user needs a review with words" in said.out
    assert "\r" not in said.err  # of bars that are redrawn


def test_it_fails_if_nobody_could_be_predicted(model, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": [" "]}))
    with pytest.raises(ValueError, match="none of 1 users could be predicted:\n  a: a user needs a review"):
        run(model, tmp_path / "users.jsonl", tmp_path / "out")


def test_a_prediction_that_is_missing_counts_as_wrong(model, tmp_path):
    profile = SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"])
    users = [{"user_id": str(n), "reviews": ["good"] * (n < 1), "profile": profile} for n in range(2)]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, users)))
    results = run(model, tmp_path / "users.jsonl", tmp_path / "out", evaluate=True)
    values = rows_of(tmp_path / "out")[0]["profile"]
    right = values["preferred_meal"] == profile["preferred_meal"]
    assert results["f1"]["preferred_meal"] == pytest.approx(100 * 2 / 3 if right else 0)


@pytest.mark.parametrize(("workers", "parts_ahead"), [(0, None), (1, 6), (2, 3), (4, 2)])
def test_workers_read_two_batches_ahead(monkeypatch, workers, parts_ahead):
    options = {}
    monkeypatch.setattr(predict, "DataLoader", lambda *_, **given: options.update(given) or [])
    predict.read_batches([], [list(range(40)), list(range(40, 50))], None, Sees(False, True), workers)
    assert [len(part) for part in options["batch_sampler"]] == [16, 16, 8, 10]
    assert (options["num_workers"], options["prefetch_factor"]) == (workers, parts_ahead)


def test_prediction_leaves_no_attention_to_cudnn(model, corpus, tmp_path, cudnn_attention):
    assert cudnn_attention()
    run(model, corpus, tmp_path / "out")
    assert not cudnn_attention()


def test_a_checkpoint_that_older_code_saved_is_read_by_the_words_that_it_knows(corpus, tmp_path):
    save_tiny_folder(tmp_path / "model", SCHEMA)
    make_older(tmp_path / "model")
    assert predict.load_processor(str(tmp_path / "model"), None)[0].section_marks == "words"
    assert run(tmp_path / "model", corpus, tmp_path / "output")["predicted"] == 10
