"""caption.py: each photo once and at its place, all else as it was, however often the run is killed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, BertConfig

from dataset_script import caption, mmprofile_yelp
from tests import ROOT
from tests.raw_corpus import hand_written
from tests.tiny_blip2 import captions_of, log_calls, run_caption, save_tiny_blip2, write_photo_corpus
from tests.tiny_corpus import png


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caption") / "blip2"
    save_tiny_blip2(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caption") / "corpus"
    write_photo_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def whole(model, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("caption") / "captioned"
    run_caption(model, corpus, output)
    return output


def test_each_photo_is_given_to_the_model_once(model, corpus, tmp_path, monkeypatch, capsys):
    calls = log_calls(monkeypatch)
    results = run_caption(model, corpus, tmp_path / "out")
    assert sorted(sum(calls, [])) == list(range(0, 240, 20)) and [len(batch) for batch in calls] == [5, 5, 2]
    assert (results["photos"], results["captioned"], results["broken"]) == (12, 12, 0)
    assert results["photos_per_second"] == pytest.approx(12 / results["seconds"])
    assert "12 of 12 photos captioned, 12 of them now in" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_each_photo_has_the_caption_that_the_model_gives_it_alone(model, whole):
    network, processor = AutoModelForImageTextToText.from_pretrained(model), AutoProcessor.from_pretrained(model)
    expected = {}
    for red in range(0, 240, 20):
        inputs = processor(images=[Image.new("RGB", (8, 8), (red, 0, 0))], return_tensors="pt")
        tokens = network.generate(**inputs, num_beams=2, max_new_tokens=6)
        expected[f"red{red}"] = {processor.batch_decode(tokens, skip_special_tokens=True)[0]}
    assert captions_of(whole) == expected
    assert len(set.union(*expected.values())) > 4


def test_the_card_names_the_model_and_the_commit(model, corpus, whole, tmp_path):
    commit, cache = "0123456789" * 4, Path(huggingface_hub.constants.HF_HUB_CACHE) / "models--org--blip2"
    shutil.copytree(model, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    assert run_caption("org/blip2", whole, tmp_path / "out")["revision"] == commit
    with pytest.raises(ValueError, match="there is no model 'org/blip2'"):
        run_caption("org/blip2", whole, tmp_path / "other", revision="v2")
    card = (tmp_path / "out" / "README.md").read_text()
    link = f"[org/blip2](https://huggingface.co/org/blip2/tree/{commit}), revision `{commit}`"
    assert f"{link} (float32, no prompt, 2 beams" in card and "By hand." in card
    assert "model `blip2`, revision `sha256:" in (whole / "README.md").read_text()
    assert card.count("## Captions") == 1  # the earlier section is replaced


def test_peoples_captions_are_those_of_the_builder(tmp_path):
    raw = hand_written().write(tmp_path / "raw")
    mmprofile_yelp.build(raw, tmp_path / "plain")
    mmprofile_yelp.build(raw, tmp_path / "written", captions="photo_captions")
    flags = ["--dataset", str(tmp_path / "plain"), "--output", str(tmp_path / "out"), "--source", "photo_captions"]
    program = f"import sys; from dataset_script.caption import main; main({flags}); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    shards = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.parquet")]
    for shard in shards:
        assert pq.read_table(tmp_path / "out" / shard).equals(pq.read_table(tmp_path / "written" / shard))
    metadata = [huggingface_hub.DatasetCard.load(tmp_path / name / "README.md").data for name in ("out", "written")]
    sizes = [data.dataset_info.pop("download_size") for data in metadata]
    assert metadata[0].to_dict() == metadata[1].to_dict()
    assert sizes[0] == sum((tmp_path / "out" / shard).stat().st_size for shard in shards) and len(shards) == 3


def test_photos_that_cannot_be_read_are_counted_and_have_no_caption(model, tmp_path, capsys):
    contents = {"red40": b"<html>", "red100": png(100)["bytes"][:50], "red220": png(220, size=200)["bytes"]}
    write_photo_corpus(tmp_path / "corpus", contents=contents)
    results = run_caption(model, tmp_path / "corpus", tmp_path / "out", max_photo_pixels=39_999, num_workers=1)
    assert (results["captioned"], results["broken"]) == (9, 3)
    assert {photo for photo, texts in captions_of(tmp_path / "out").items() if texts == {None}} == set(contents)
    assert "3 photos could not be read:\n  red40: the image of 6 bytes" in capsys.readouterr().out
    assert "3 photos that could not be read have none" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="none of 12 photos can be read"):
        run_caption(model, tmp_path / "corpus", tmp_path / "none", max_photo_pixels=10)


@pytest.mark.parametrize("flags", [{"prompt": "a photo of"}, {"num_beams": 1}, {"max_new_tokens": 2}])
def test_a_flag_changes_the_captions(model, corpus, whole, tmp_path, flags):
    run_caption(model, corpus, tmp_path / "out", **flags)
    found, other = captions_of(tmp_path / "out"), captions_of(whole)
    assert found != other and found.keys() == other.keys()
    assert (texts := set.union(*found.values()))
    assert not any(text.startswith("a photo of") for text in texts)


def test_another_batch_size_or_workers_change_nothing(model, corpus, whole, tmp_path):
    run_caption(model, corpus, tmp_path / "out", batch_size=2, num_workers=2)
    assert captions_of(tmp_path / "out") == captions_of(whole)


def test_weights_are_of_the_type_asked_for(model):
    for dtype in ("bfloat16", "float16"):
        arguments = caption.CaptionArguments("corpus", "out", model=str(model), dtype=dtype)
        assert caption.Captioner(arguments, "", torch.device("cpu")).model.language_model.dtype is getattr(
            torch, dtype
        )


def test_weights_in_8_bits_are_asked_of_bitsandbytes(model, monkeypatch):
    asked, load = {}, AutoModelForImageTextToText.from_pretrained
    monkeypatch.setattr(
        AutoModelForImageTextToText, "from_pretrained", lambda name, **options: asked.update(options) or load(name)
    )
    arguments = caption.CaptionArguments("corpus", "out", model=str(model), load_in_8bit=True)
    caption.Captioner(arguments, "", torch.device("cpu"))
    assert asked["quantization_config"].load_in_8bit and asked["device_map"] == {"": torch.device("cpu")}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "nowhere"}, "there is no model 'nowhere'"),
        ({"dataset": "nowhere"}, "dataset must be a folder with a corpus' Parquet files, got 'nowhere'"),
        ({"source": "git"}, r"source must be one of \['blip2', 'photo_captions'\], got 'git'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"num_beams": 0}, "num_beams is at least 1, got 0"),
        ({"load_in_8bit": True}, "--load_in_8bit needs bitsandbytes"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(model, corpus, tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(caption, "find_spec", lambda name: None)  # as where bitsandbytes is not installed
    with pytest.raises(ValueError, match=message):
        run_caption(flags.pop("model", model), flags.pop("dataset", corpus), tmp_path / "out", **flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("corpus/out", "output must be a folder apart from the dataset"),
        ("", "output must be a folder apart from the dataset"),
        ("thesis", "--overwrite_output replaces a corpus, a folder with README.md and Parquet files, not"),
        ("file/out", "output must be a folder that can be written"),
    ],
)
def test_an_output_that_is_something_else_is_left_alone(model, corpus, tmp_path, output, message):
    place = shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=message):
        run_caption(model, place, tmp_path / output, overwrite_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "file", "thesis"]


def test_a_corpus_without_a_card_gets_one_and_a_broken_card_is_refused(model, corpus, tmp_path):
    place = shutil.copytree(corpus, tmp_path / "corpus")
    (place / "README.md").unlink()
    run_caption(model, place, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text().count("## Captions") == 1
    (place / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(ValueError, match="README.md is no dataset card"):
        run_caption(model, place, tmp_path / "other")


def test_another_model_or_an_old_blip2_is_refused(model, corpus, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    old = shutil.copytree(model, tmp_path / "old")
    config = json.loads((old / "config.json").read_text()) | {"image_token_index": None}
    (old / "config.json").write_text(json.dumps(config))
    for name, message in (("bert", "must be a BLIP-2, it is of type 'bert'"), ("old", "without image_token_index")):
        with pytest.raises(ValueError, match=message):
            run_caption(tmp_path / name, corpus, tmp_path / "out")
