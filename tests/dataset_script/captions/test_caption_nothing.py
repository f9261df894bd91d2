"""caption.py on a corpus that has no photo: the rows stay as they are."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_blip2 import run_caption, save_tiny_blip2, write_photo_corpus

NO_PHOTOS = {"photo_ids": [], "images": [], "photo_captions": [], "captions": []}


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    write_photo_corpus(folder)
    for shard in folder.rglob("*.parquet"):
        rows = [row | {"reviews": [review | NO_PHOTOS for review in row["reviews"]]} for row in rows_of(shard)]
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(shard)), shard)
    return folder


def rows_of(shard):
    return pq.read_table(shard).to_pylist()


@pytest.mark.parametrize("source", ["blip2", "photo_captions"])
def test_a_corpus_without_photos_is_written_as_it_is(corpus, tmp_path, source, capsys):
    save_tiny_blip2(tmp_path / "model")
    assert run_caption(tmp_path / "model", corpus, tmp_path / "out", source=source)["photos"] == 0
    assert "Written to" in capsys.readouterr().out
    shards = [shard.relative_to(corpus) for shard in corpus.rglob("*.parquet")]
    assert len(shards) == 3
    assert all(rows_of(tmp_path / "out" / shard) == rows_of(corpus / shard) for shard in shards)
