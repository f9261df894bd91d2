"""The shards and the journals of caption.py: photos found once, columns exchanged alone, cut lines left out."""

import errno
import fcntl
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dataset_script.captions.store import (
    CAPTION_SCHEMA,
    CaptionRun,
    fill_from,
    fill_from_people,
    find_shards,
    read_photos,
    survey_photos,
    write_shard,
)
from tests.tiny_blip2 import captions_of, write_photo_corpus
from tests.tiny_corpus import png


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "corpus"
    write_photo_corpus(folder)
    return folder


def some_captions(corpus) -> pa.Table:
    ids = survey_photos(corpus, find_shards(corpus)).ids.to_pylist()
    rows = [{"photo_id": photo, "caption": f"about {photo}"} for photo in ids[:-1]]
    return pa.Table.from_pylist([*rows, {"photo_id": ids[-1], "caption": ""}], schema=CAPTION_SCHEMA)


def test_the_survey_has_each_photo_where_it_first_occurs(corpus):
    shards = find_shards(corpus)
    assert [shard.as_posix() for shard in shards] == [
        "data/default/train-00000-of-00002.parquet",
        "data/default/train-00001-of-00002.parquet",
        "data/full/train-00000-of-00001.parquet",
    ]
    survey = survey_photos(corpus, shards)
    # The first shard has the users 0, 2 and 4, in row groups of two.
    assert survey.ids.to_pylist() == [f"red{red}" for red in range(0, 240, 20)]
    assert survey.places.tolist() == [[0, 0, number] for number in range(8)] + [[0, 1, number] for number in range(4)]
    photos = read_photos(corpus / shards[0], 1).to_pylist()
    assert photos[:4] == [png(red)["bytes"] for red in (160, 180, 200, 220)]


def test_all_but_the_captions_stays_byte_for_byte(corpus, tmp_path):
    fill = fill_from(some_captions(corpus))
    assert (shards := find_shards(corpus))
    for shard in shards:
        write_shard(corpus / shard, tmp_path / "out" / shard, tmp_path / "scratch", fill)
        old, new = pq.ParquetFile(corpus / shard), pq.ParquetFile(tmp_path / "out" / shard)
        assert new.schema_arrow.equals(old.schema_arrow, check_metadata=True)
        assert new.metadata.num_row_groups == old.metadata.num_row_groups
        for group, column in ((g, c) for g in range(old.num_row_groups) for c in range(old.metadata.num_columns)):
            before, after = (file.metadata.row_group(group).column(column) for file in (old, new))
            assert (before.compression, before.encodings) == (after.compression, after.encodings)
            assert before.has_column_index == after.has_column_index
        rows, filled = old.read().to_pylist(), new.read().to_pylist()
        for review in (review for row in [*rows, *filled] for review in row["reviews"]):
            del review["captions"]
        assert rows == filled
    files = {"train": "data/full/*.parquet"}
    before, after = (
        load_dataset(str(folder), data_files=files, split="train", cache_dir=str(tmp_path / "hf"))
        for folder in (corpus, tmp_path / "out")
    )
    assert before.features == after.features and len(after) == 6
    found = captions_of(tmp_path / "out")
    assert found.pop("red220") == {None}
    assert found == {f"red{red}": {f"about red{red}"} for red in range(0, 220, 20)}


def test_rows_without_reviews_or_photos_stay_as_they_are(corpus, tmp_path):
    shard = corpus / find_shards(corpus)[2]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[1]["reviews"], rows[3]["reviews"] = None, []
    rows[4]["reviews"][0] |= {"photo_ids": [], "images": [], "photo_captions": [], "captions": []}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "in.parquet", row_group_size=4)
    write_shard(tmp_path / "in.parquet", tmp_path / "out.parquet", tmp_path / "scratch", fill_from_people)
    for review in (review for row in rows for review in row["reviews"] or []):
        review["captions"] = [text or None for text in review["photo_captions"]]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows


def test_a_shard_without_rows_is_copied(corpus, tmp_path):
    pq.write_table(pq.read_table(corpus / find_shards(corpus)[0])[:0], tmp_path / "in.parquet")
    write_shard(tmp_path / "in.parquet", tmp_path / "out.parquet", tmp_path / "scratch", fill_from_people)
    assert (tmp_path / "in.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo_ids": ["red0"]}, "every photo of a review must have an entry in photo_ids"),
        ({"photo_ids": ["red0", None]}, "every photo of a review must have an entry in photo_ids"),
        ({"photo_captions": []}, "every photo of a review must have an entry in photo_ids and photo_captions"),
        (None, r"it lacks \['photo_ids', 'images.path', 'photo_captions', 'captions'\]"),
    ],
)
def test_a_corpus_with_other_columns_is_refused(corpus, tmp_path, change, message):
    table = pq.read_table(corpus / find_shards(corpus)[0])
    rows = table.to_pylist()
    rows[1]["reviews"][1] |= change or {}
    table = pa.Table.from_pylist(rows, schema=table.schema) if change else table.drop_columns("reviews")
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"a.parquet: .*{message}"):
        survey_photos(tmp_path, find_shards(tmp_path))


def test_a_shard_that_is_cut_short_is_refused(corpus, tmp_path):
    shard = find_shards(corpus)[0]
    (tmp_path / "a.parquet").write_bytes((corpus / shard).read_bytes()[:-100])
    with pytest.raises(ValueError, match="a.parquet is no whole Parquet file"):
        survey_photos(tmp_path, find_shards(tmp_path))


def test_what_a_journal_has_on_the_disk_is_found_by_the_next_start_without_the_line_that_was_cut(tmp_path):
    run = CaptionRun(tmp_path / "out")
    run.take()
    run.begin({"model": "a"})
    with run.journal(0) as write:
        write([{"photo_id": "p", "caption": "caf\u00e9"}, {"photo_id": "q", "problem": "broken"}])
    with run.journal(0) as write:
        write([{"photo_id": "r", "caption": "x"}])
        write([{"photo_id": "s", "caption": "y"}])
    (last,) = (path for path in run.folder.glob("journal/*") if b'"s"' in path.read_bytes())
    last.write_bytes(last.read_bytes()[:-1])
    again = CaptionRun(tmp_path / "out")
    again.begin({"model": "a"})
    rows = sorted(again.captions().to_pylist(), key=lambda row: row["photo_id"])
    assert [tuple(row.values()) for row in rows] == [("p", "caf\u00e9", None), ("q", None, "broken"), ("r", "x", None)]


def test_journals_without_the_settings_of_their_run_are_forgotten(tmp_path):
    run = CaptionRun(tmp_path / "out")
    run.take()
    run.begin({"model": "a"})
    with run.journal(0) as write:
        write([{"photo_id": "p", "caption": "x"}])
    (run.folder / "run.json").unlink()
    run.begin({"model": "a"})
    assert len(run.captions()) == 0 and json.loads((run.folder / "run.json").read_text()) == {"model": "a"}


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    CaptionRun(tmp_path / "out").take()
    assert "cannot be locked" in capsys.readouterr().err
