"""What BLIP-2 is asked, and what is told of its answers: a prompt with room for the photo, nothing, the same twice."""

import json
import shutil

import pytest
from transformers import Blip2ForConditionalGeneration

from dataset_script import caption
from dataset_script.captions.store import CAPTION_SCHEMA, CaptionRun, corpus_files
from tests.tiny_blip2 import captions_of, run_caption, save_tiny_blip2, write_photo_corpus


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a `model` and a `corpus`."""
    folder = tmp_path_factory.mktemp("captioner")
    save_tiny_blip2(folder / "model")
    write_photo_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def prompted(place):
    run_caption(place / "model", place / "corpus", place / "prompted", prompt="a photo of")
    return captions_of(place / "prompted")


def answer(monkeypatch, *texts):
    """Lets the model write these for the photos of each batch, over and over."""
    monkeypatch.setattr(
        caption.Captioner, "__call__", lambda _, pixels: [texts[n % len(texts)] for n in range(len(pixels))]
    )


@pytest.mark.parametrize("number", [None, 3, 7])
def test_a_prompt_has_the_models_own_room_for_the_photo_whatever_the_processor_says(place, prompted, tmp_path, number):
    model = shutil.copytree(place / "model", tmp_path / "model")
    settings = json.loads((model / "processor_config.json").read_text())
    settings.pop("num_query_tokens")
    (model / "processor_config.json").write_text(
        json.dumps(settings | ({"num_query_tokens": number} if number else {}))
    )
    run_caption(model, place / "corpus", tmp_path / "out", prompt="a photo of")
    assert captions_of(tmp_path / "out") == prompted
    assert len(set.union(*prompted.values())) > 1  # the model saw the photos


def test_nothing_is_no_caption_and_counted_apart(place, tmp_path, monkeypatch, capsys):
    answer(monkeypatch, "a dog", "", "a cat", "a dog", "")  # batches of 5, 5 and 2
    results = run_caption(place / "model", place / "corpus", tmp_path / "out")
    assert (results["photos"], results["captioned"], results["empty"], results["broken"]) == (12, 7, 5, 0)
    assert results["equal"] == 7 and results["equal_or_empty_share"] == 1
    assert "The model wrote nothing of 5 photos; 100.0 % of what it wrote is empty or equal" in capsys.readouterr().out
    assert "nor have 5 of which the model wrote nothing. 100.0 %" in (tmp_path / "out" / "README.md").read_text()
    assert sum(texts == {None} for texts in captions_of(tmp_path / "out").values()) == 5


def test_a_model_that_writes_nothing_at_all_is_an_error(place, tmp_path, monkeypatch):
    answer(monkeypatch, "")
    with pytest.raises(ValueError, match="the model wrote nothing of 12 photos, and 0 could not be read; is it"):
        run_caption(place / "model", place / "corpus", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_captions_that_another_photo_has_too_are_a_share_of_what_was_written(tmp_path):
    run = CaptionRun(tmp_path / "out")
    run.take()
    run.begin({"revision": "r"})
    with run.journal(0) as write:
        write({"photo_id": str(n), "caption": text} for n, text in enumerate(["a", "a", "b", "", "c"]))
        write([{"photo_id": "x", "problem": "no photo"}])
    results = caption.summarise(run, run.captions(), 1.0, 0, 1)
    assert run.captions().schema == CAPTION_SCHEMA
    assert (results["captioned"], results["equal"], results["equal_or_empty_share"]) == (4, 2, 0.6)


def test_no_sequence_of_words_comes_twice_where_none_may(place, tmp_path, monkeypatch):
    asked, generate = [], Blip2ForConditionalGeneration.generate

    def noted(self, *inputs, **options):
        asked.append(options["no_repeat_ngram_size"])
        return generate(self, *inputs, **options)

    monkeypatch.setattr(Blip2ForConditionalGeneration, "generate", noted)
    run_caption(place / "model", place / "corpus", tmp_path / "out", no_repeat_ngram_size=1)
    assert set(asked) == {1}
    words = [text.split() for texts in captions_of(tmp_path / "out").values() for text in texts if text]
    assert words and all(len(set(text)) == len(text) for text in words)
    assert "new tokens, no sequence of 1 tokens twice)" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="no_repeat_ngram_size is at least 0, got -1"):
        run_caption(place / "model", place / "corpus", tmp_path / "other", no_repeat_ngram_size=-1)


def test_what_macos_and_git_leave_in_a_folder_is_no_part_of_the_corpus(place, tmp_path):
    corpus = shutil.copytree(place / "corpus", tmp_path / "corpus")
    expected = corpus_files(corpus)
    shard = next(corpus.rglob("*.parquet"))
    for path in (shard.with_name(f"._{shard.name}"), corpus / ".DS_Store", corpus / ".hidden" / "x.parquet"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert corpus_files(corpus) == expected
    for source in ("blip2", "photo_captions"):
        assert run_caption(place / "model", corpus, tmp_path / source, source=source)["photos"] == 12
        assert not [path for path in (tmp_path / source).rglob(".*")]
