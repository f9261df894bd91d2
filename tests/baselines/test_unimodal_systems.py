"""Systems that see no photo: with photos in the input they predict and are evaluated as without."""

import json

import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from datasets import Dataset

import predict
from publishing.hub_folder import save_hub_folder
from scoring.evaluation import evaluate_model, evaluate_probabilities
from tests.baselines.tiny_systems import BLIND, by_kind, processor_of_users, tiny_model
from tests.tiny_corpus import features, png, user
from training.arguments import JointTrainingArguments
from training.batching import undecoded
from training.data import evaluation_loader


@pytest.mark.parametrize("name", by_kind(BLIND))
def test_a_photo_changes_nothing_that_a_unimodal_system_predicts(name, tmp_path):
    save_hub_folder(tiny_model(name), processor_of_users(), tmp_path / "model")
    (tmp_path / "photo.png").write_bytes(png(3)["bytes"])
    one = {"user_id": "a", "reviews": ["a good place"], "captions": ["a cake"]}
    found = []
    for photos in ([], ["photo.png"], ["missing.png"]):
        (tmp_path / "users.jsonl").write_text(json.dumps(one | {"images": photos}))
        argv = ["--model", tmp_path / "model", "--dataset", tmp_path / "users.jsonl", "--output", tmp_path / "out"]
        predict.main([*map(str, argv), "--overwrite_output", "true", "--num_workers", "0"])
        found.append(pq.read_table(tmp_path / "out" / "predictions").drop_columns(["digest"]).to_pylist())
    assert found[0] == found[1] == found[2] and found[0][0]["text"]


@pytest.mark.parametrize("name", by_kind(BLIND))
def test_photos_of_a_corpus_change_nothing_of_a_unimodal_systems_evaluation(name):
    model, processor, accelerator = tiny_model(name), processor_of_users(), Accelerator(cpu=True)
    flags = JointTrainingArguments(dataset="x", output_dir="y", system=name, num_images=2)
    found = []
    for photos in (lambda own: own, lambda own: [png(255)] * len(own)):
        rows = [user(number) for number in range(4)]
        rows = [row | {"reviews": [r | {"images": photos(r["images"])} for r in row["reviews"]]} for row in rows]
        split = undecoded(Dataset.from_list(rows, features=features()))
        loaders = [accelerator.prepare(evaluation_loader(split, processor, flags)) for _ in range(2)]
        evaluation = evaluate_model(model, loaders[0], processor, accelerator, 1, "test", True)
        found.append((evaluation, evaluate_probabilities(model, loaders[1], processor, accelerator, "test")))
    assert found[0] == found[1]
    assert len(found[0][0].predictions) == 4 and all(row["problem"] is None for row in found[0][1])
