"""A session that is there, as in a notebook: a build works beside it, and leaves it as it was."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dataset_script.engines import TEXT, connect, read_lines
from dataset_script.spark_session import SHARED
from tests.dataset_script.test_engines import HASH, fingerprint
from tests.dataset_script.test_parquet_records import as_json_has_them, of_pandas_2, write
from tests.raw_corpus import config, plan


def test_a_spark_master_is_what_is_connected_to(tmp_path):
    folder = write(tmp_path / "raw", as_json_has_them)
    with pytest.raises(ValueError, match="or a Spark master like local.*, got 'nonsense'$"):
        plan(folder, engine="spark", spark_master="nonsense")
    assert config(engine="spark").engine_or_master == "spark"


@pytest.fixture
def notebook(spark):
    """Settings and a table of the user's, in the way of a build's own."""
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "false")
    spark.conf.set("spark.sql.ansi.enabled", "false")
    spark.range(3).createOrReplaceTempView("parquet_review")
    yield spark
    for name in ("session.timeZone", "legacy.parquet.nanosAsLong", "ansi.enabled"):
        spark.conf.unset(f"spark.sql.{name}")


def state(session):
    tables = sorted(table.name for table in session.catalog.listTables())
    return session.conf.getAll, tables, session.table("parquet_review").count()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1])
def test_a_build_leaves_the_session_as_it_was(tmp_path, notebook, threads):
    folder, before = write(tmp_path / "raw", of_pandas_2), state(notebook)
    if threads:  # which have no active session
        with ThreadPoolExecutor(threads) as pool:
            corpus = pool.submit(plan, folder, engine="spark").result()
    else:
        corpus = plan(folder, engine="spark")
    assert fingerprint(corpus) == HASH
    assert state(notebook) == before
    assert type(notebook).getActiveSession() is notebook


def read(table):
    return table.k.to_pyarrow().to_pylist()


@pytest.mark.slow
def test_two_builds_on_one_session_do_not_meet(tmp_path, notebook):
    shared = tmp_path / "shared"
    shared.mkdir()
    notebook.conf.set(SHARED, shared.as_uri())
    (tmp_path / "some.json").write_text('{"k": "1"}')
    (tmp_path / "more.json").write_text('{"k": "2"}')
    with connect("spark", "1GB", 1, tmp_path) as one:
        ours = read_lines(one, tmp_path / "some.json", {"k": TEXT}, "review")
        with connect("spark", "1GB", 1, tmp_path) as other:
            theirs = read_lines(other, tmp_path / "more.json", {"k": TEXT}, "review")
            assert (read(ours), read(theirs)) == (["1"], ["2"])
            assert len(list(shared.iterdir())) == 2
        assert read(ours) == ["1"]
    assert list(shared.iterdir()) == []
    notebook.conf.unset(SHARED)
