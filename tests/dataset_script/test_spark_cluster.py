"""A cluster as users have one: spark-submit, executors that are other processes, another default file system."""

from hashlib import sha256

import pytest

from dataset_script.mmprofile_yelp import build
from tests.raw_corpus import hand_written
from tests.spark_cluster import submit

pytestmark = pytest.mark.slow


def digests(corpus):
    """Of each shard; none is another where a row is."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in (corpus / "data").rglob("*.parquet")}


def test_two_executors_without_python_give_duckdbs_shards(tmp_path):
    pytest.importorskip("pyspark")
    raw = hand_written().write(tmp_path / "a b #1 100%20 {x,y} [z]*")
    build(raw, tmp_path / "ducks")
    conf = {"spark.hadoop.fs.defaultFS": "hdfs://nowhere.invalid:9000"}
    tasks = submit(tmp_path, "--data_dir", raw, "--output", tmp_path / "sparks", conf=conf)
    assert set(tasks) == {"0", "1"}
    shards = digests(tmp_path / "ducks")
    assert len(shards) == 3 and digests(tmp_path / "sparks") == shards
