"""A raw folder by its address: on this machine's disk, and on whatever file system fsspec knows."""

from tempfile import gettempdir

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from dataset_script.mmprofile_yelp import build
from dataset_script.raw_files import find_raw_files
from dataset_script.spark_session import SHARED
from tests.dataset_script.test_engines import HASH, fingerprint
from tests.dataset_script.test_parquet_records import typed, write
from tests.raw_corpus import hand_written, plan

ODD_NAME = "a b #1 100%20 {x,y} [z] ?*"


@pytest.fixture
def far(tmp_path):
    """A folder, far://store of fsspec."""

    class Far(DirFileSystem):
        protocol = "far"

        def __init__(self, **_options):
            super().__init__(str(tmp_path / "far"), LocalFileSystem())

        @classmethod
        def _strip_protocol(cls, path):
            return path.removeprefix("far://store").lstrip("/")

    fsspec.register_implementation("far", Far, clobber=True)
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


@pytest.mark.parametrize("name", ["raw", ODD_NAME])
def test_a_file_uri_is_this_machines_folder(tmp_path, name):
    folder = hand_written().write(tmp_path / name)
    assert find_raw_files(folder.as_uri()) == find_raw_files(folder)
    assert find_raw_files(folder.as_uri().replace("file://", "file:")) == find_raw_files(folder)


@pytest.mark.parametrize(
    "written",
    [
        lambda folder: hand_written().write(folder),
        lambda folder: hand_written().write(folder, gz=True),
        lambda folder: write(folder, typed),
        lambda folder: write(folder, typed, parts=3),
    ],
)
def test_a_far_folder_has_the_rows_of_a_near_one(far, tmp_path, written):
    near = build(written(far / ODD_NAME), tmp_path / "near", min_photo_reviews=3)
    there = build(f"far://store/{ODD_NAME}", tmp_path / "there", min_photo_reviews=3)
    shards = sorted((tmp_path / "near" / "data" / "default").iterdir())
    assert len(shards) == 3
    for shard in shards:
        assert (tmp_path / "there" / "data" / "default" / shard.name).read_bytes() == shard.read_bytes()
    assert near["default"].ledger == there["default"].ledger


def test_files_one_folder_deeper_are_found_far_away(far):
    folder = hand_written().write(far / "raw")
    (folder / "dataset").mkdir()
    (folder / "yelp_review.json").rename(folder / "dataset" / "yelp_review.json")
    assert fingerprint(plan("far://store/raw")) == HASH


def test_an_address_that_no_protocol_of_fsspec_has_is_told():
    with pytest.raises(ValueError, match="data_dir must be .* that fsspec reads, got 'nonsense://store': Protocol"):
        find_raw_files("nonsense://store")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-12]), "^yelp_review.parquet is no whole Parquet file: "),
        (lambda path: path.write_text("{}"), "^yelp_review.parquet is no Parquet file$"),
        (lambda path: path.unlink(), "^far://store/raw must hold exactly one file named .*, found none$"),
        (lambda path: (path.unlink(), path.mkdir()), "^far://store/raw/yelp_review.parquet must be a Parquet file"),
        (lambda path: (path.parent / "photos").rename(path.parent / "x"), "^far://store/raw holds no folder 'photos'"),
    ],
)
def test_an_error_of_a_far_file_has_no_path_of_this_machine(far, change, message):
    change(write(far / "raw", typed) / "yelp_review.parquet")
    with pytest.raises(ValueError, match=message) as told:
        plan("far://store/raw")
    assert gettempdir() not in str(told.value)


def test_an_address_that_cannot_be_read_is_told(far):
    with pytest.raises(ValueError, match="data_dir must be a folder with the raw files, got 'far://store/nowhere'"):
        find_raw_files("far://store/nowhere")
    hand_written().write(far / "raw")
    (far / "raw" / "yelp_review.json").unlink()
    with pytest.raises(ValueError, match="far://store/raw must hold exactly one file named .* found none"):
        find_raw_files("far://store/raw")


@pytest.fixture
def far_spark(far):
    """A session whose Hadoop has far://store too, where it copies what the driver writes."""
    sql = pytest.importorskip("pyspark.sql")
    conf = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.hadoop.fs.defaultFS": "hdfs://nowhere.invalid:9000",
        "spark.hadoop.fs.far.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "spark.hadoop.fs.viewfs.overload.scheme.target.file.impl": "org.apache.hadoop.fs.LocalFileSystem",
        "spark.hadoop.fs.viewfs.mounttable.store.linkFallback": far.as_uri(),
        SHARED: "far://store/shared/",
    }
    session = sql.SparkSession.builder.master("local[1]").config(map=conf).getOrCreate()
    (far / "shared").mkdir()
    yield session
    session.stop()


@pytest.mark.slow
def test_spark_reads_an_address_where_it_lies_and_shares_what_the_driver_writes(far, far_spark, monkeypatch):
    write(far / ODD_NAME, typed, parts=2)
    read = []
    parquet = type(far_spark.read).parquet
    monkeypatch.setattr(
        type(far_spark.read), "parquet", lambda reader, *paths: read.extend(paths) or parquet(reader, *paths)
    )
    assert fingerprint(plan(f"far://store/{ODD_NAME}", engine="spark")) == HASH
    assert len(read) > 6 and all(path.startswith("far://store/") for path in read)
    assert list((far / "shared").iterdir()) == []
