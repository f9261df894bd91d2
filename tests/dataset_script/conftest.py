"""Spark's session takes seconds to start: the tests of a file share one, as cells of a notebook do."""

import pytest

# Nothing runs long enough for Java's second compiler to gain what it costs.
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
}


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[1]").config(map=QUICK).getOrCreate()
    yield session
    session.stop()
