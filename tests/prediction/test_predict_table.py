"""predict.py's flat table and vectors: of the rows that it writes, on request, and kept up once they are there."""

# ruff: noqa: F811 - fixtures are imported

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

from prediction import notes
from tests.prediction.test_predict import corpus, model, rows_of, run, whole  # noqa: F401
from tests.tiny_corpus import SCHEMA, png, user


def table_of(output) -> list[dict]:
    return [row for path in sorted(output.glob("table/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_table_is_of_the_rows_and_nothing_else_changes(model, corpus, whole, tmp_path):
    run(model, corpus, tmp_path / "out", flat=True)
    rows, found = rows_of(tmp_path / "out"), table_of(tmp_path / "out")
    assert rows == rows_of(whole[0]) and not (whole[0] / "table").exists()
    assert len(found) == len(rows) == 10
    for row, flat in zip(rows, found, strict=True):
        assert (flat["user_id"], flat["text"]) == (row["user_id"], row["text"])
        assert flat["probability.stars.4"] == row["probabilities"]["stars"]["4"]
        assert flat["profile.preferred_meal"] == row["profile"]["preferred_meal"]
        pizza = "Pizza" in row["profile"]["favorite_category"]
        assert flat["profile.favorite_category.Pizza"] == pizza
    assert "probability.favorite_category.Coffee_&_Tea" in found[0]


def test_a_table_is_made_of_a_finished_folder_and_goes_with_its_predictions(model, corpus, tmp_path):
    run(model, corpus, tmp_path / "out")
    assert run(model, corpus, tmp_path / "out", flat=True)["users_this_time"] == 0
    assert len(table_of(tmp_path / "out")) == 10
    run(model, corpus, tmp_path / "out", split="validation", overwrite_output=True, shard_users=2)
    ids = [row["user_id"] for row in rows_of(tmp_path / "out")]
    assert len(ids) == 4 and not (tmp_path / "out" / "table").exists()
    run(model, corpus, tmp_path / "out", split="validation", shard_users=2, flat=True)
    (tmp_path / "out" / "table" / "part-00001-of-00002.parquet").unlink()
    run(model, corpus, tmp_path / "out", split="validation", shard_users=2)  # that the table keeps up with unasked
    assert [row["user_id"] for row in table_of(tmp_path / "out")] == ids


def test_a_vector_is_that_of_the_model_and_answers_stay(model, corpus, whole, tmp_path):
    run(model, corpus, tmp_path / "out", vectors=True)
    rows = rows_of(tmp_path / "out")
    vectors = [row.pop("vector") for row in rows]
    assert rows == rows_of(whole[0])
    network = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    inputs = processor(
        reviews=[review["text"] for review in user(207)["reviews"][:3]],
        images=[png(20 * 207 + 3 * number)["bytes"] for number in range(3)],
        captions=[f"photo 0 of review {number}" for number in range(3)],
    )
    expected = network.encode(**inputs).last_hidden_state[0].mean(dim=0)
    assert vectors[7] == pytest.approx(expected.tolist(), abs=1e-4)
    kind = pq.read_schema(tmp_path / "out" / "predictions" / "part-00000-of-00003.parquet").field("vector").type
    assert kind == pa.list_(pa.float32(), 32)
    with pytest.raises(ValueError, match=r"holds predictions with \{'vectors': True\}, not \{'vectors': None\}"):
        run(model, corpus, tmp_path / "out")


def test_a_vector_of_several_views_is_another_and_a_user_without_prediction_has_none(model, tmp_path):
    lines = [{"user_id": "a", "reviews": ["good pizza", "bad soup"]}, {"user_id": "b", "reviews": [" "]}]
    lines += [{"user_id": name, "reviews": [text]} for name, text in zip("cd", lines[0]["reviews"], strict=True)]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, lines)))
    flags = {"vectors": True, "views": 2, "num_reviews": 1, "flat": True}
    run(model, tmp_path / "users.jsonl", tmp_path / "out", **flags)
    both, none, first, second = (row["vector"] for row in rows_of(tmp_path / "out"))
    assert none is None and np.abs(np.subtract(first, second)).max() > 0.01
    assert both == pytest.approx(np.mean([first, second], axis=0).tolist(), abs=1e-5)
    assert "vector" not in table_of(tmp_path / "out")[0]


def test_a_shard_alone_tells_its_model_and_when_it_was_written(model, corpus, whole, tmp_path):
    shards = sorted((whole[0] / "predictions").iterdir())
    found = [notes.notes_of(pq.read_schema(path)) for path in shards]
    assert len(found) == 3 and {each["model_digest"] for each in found} == {found[0]["model_digest"]}
    assert (found[0]["model"], found[0]["revision"]) == ("model", None)
    assert found[0]["profile_schema"] == SCHEMA.to_list()
    assert found[0]["predicted_at"][:2] == "20" and found[0]["predicted_at"].endswith("+00:00")
    run_of = json.loads((whole[0] / "run.json").read_text())
    other = run_of | {"model's model.safetensors": "0" * 16}
    digests = [notes.model_notes("m", None, SCHEMA, run)["model_digest"] for run in (run_of, other)]
    assert digests[0] == found[0]["model_digest"] != digests[1]
    assert len(digests[1]) == 16


def test_no_file_of_the_folder_tells_where_model_and_input_lie(model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(png(3)["bytes"][:40])
    users = [{"user_id": "a", "reviews": ["good"], "images": ["broken.png", "gone.png", "gone.png"]}]
    (tmp_path / "in" / "users.jsonl").write_text("\n".join(map(json.dumps, users)))
    run(model, tmp_path / "in" / "users.jsonl", tmp_path / "out", flat=True)
    (row,) = rows_of(tmp_path / "out")
    assert [problem.split(":")[0] for problem in row["problems"]] == [f"photo {number}" for number in range(3)]
    assert "'broken.png'" in row["problems"][0] and "'gone.png'" in row["problems"][1]
    found = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()]
    assert len(found) == 4
    for path in found:
        packed = path.suffix == ".parquet"
        content = f"{pq.read_table(path).to_pylist()}{pq.read_schema(path).metadata}" if packed else path.read_text()
        assert str(model.parent) not in content and str(tmp_path) not in content, path.name


@pytest.mark.parametrize("flag", ["flat", "vectors"])
def test_without_an_output_folder_there_is_no_table_and_no_vector(model, corpus, flag):
    with pytest.raises(ValueError, match="--output is needed, or --show N alone"):
        run(model, corpus, show=1, **{flag: True})
