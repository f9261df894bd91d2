"""Spark as others have set it up: which session a build takes, and the paths that it is given.

Executors run no Python: the derivation is expressions, which Spark compiles, and photos are decoded by the driver. So
there is nothing to ship to them, neither this checkout nor a package, and they need no Python of their own.

A path without a scheme is of this machine's disk, whatever `fs.defaultFS` is. So is what the driver writes for the
executors to read, rows and unpacked files. Where they do not see that disk, on other machines, all this is copied into
the folder that the session's `SHARED` names, by an address of any file system that Hadoop knows.

A session that is there keeps its settings and the names of its tables: a build has one beside it, over the same Spark.
Several builds may so be at work at once.
"""

# PySpark is there where somebody asks for it.
# pyright: reportMissingImports=false

import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .remote_path import AnyPath, RemotePath

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MASTER = r"yarn|local|local(-cluster)?\[[\d*, ]+\]|(spark|k8s|mesos)://.+"
SHARED = "spark.mmprofile.shared"  # a name of Spark's own form, so that spark-submit passes it on
# Of a folder in `SHARED`, made for a build's session.
_OWN = "spark.mmprofile.sharedOfBuild"
# Whatever spark-submit starts finds the way to its Java here.
SUBMITTED = "PYSPARK_GATEWAY_PORT"


@contextmanager
def spark_session(engine: str, threads: int, scratch: Path) -> Iterator["SparkSession"]:
    """A session, until the context ends: one beside that which is there, or a new one, whose Spark ends as well.

    Args:
        engine: a master, or `spark`: that of spark-submit, or this machine.
        threads: of Spark on this machine; 0 is one a core.
        scratch: a folder for what Spark on this machine has no memory for.

    Raises:
        ValueError: for a master that is none, without PySpark, and for what Spark cannot do on the way.
    """
    if engine != "spark" and not re.fullmatch(MASTER, engine):
        raise ValueError(f"engine must be duckdb, spark, or a Spark master like local[2], got {engine!r}")
    try:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise ValueError(f"engine {engine!r} needs PySpark: pip install -r requirements-spark.txt") from None
    present = _present_session()
    session = None
    try:
        if present is not None:
            session = _beside(present)
        else:
            session = _new_session(SparkSession.builder.appName("mmprofile"), engine, threads, scratch)
        yield session
    except PySparkException as error:
        raise ValueError(f"Spark cannot go on: {error}") from None
    except Py4JJavaError as error:  # what PySpark does not translate, such as a session that cannot be made
        raise ValueError(f"Spark cannot go on: {error.java_exception.toString()}") from None
    finally:
        if session is not None:
            _remove_shared(session)
        if present is None and (started := SparkSession.getActiveSession()) is not None:
            started.stop()


def _present_session() -> "SparkSession | None":
    """That of this thread, or the one that another thread has started."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        session = SparkSession.active()
    except PySparkRuntimeError:
        return None
    return session if session.sparkContext._jsc is not None else None


def _beside(present: "SparkSession") -> "SparkSession":
    """A session over the same Spark, with what has been set in that which is there."""
    session = present.newSession()
    before = session.conf.getAll
    for key, value in present.conf.getAll.items():
        if before.get(key) != value:
            session.conf.set(key, value)
    return session


def _new_session(builder: "SparkSession.Builder", engine: str, threads: int, scratch: Path) -> "SparkSession":
    if engine == "spark" and SUBMITTED in os.environ:
        return builder.getOrCreate()  # all that spark-submit was told is in the Java that it has started
    if engine == "spark" or engine.startswith("local"):
        cores = threads or os.cpu_count() or 1
        builder = builder.master(f"local[{cores}]" if engine == "spark" else engine)
        # On one machine as many partitions as a cluster has cost minutes and give nothing.
        builder = builder.config("spark.sql.shuffle.partitions", 2 * cores).config("spark.local.dir", str(scratch))
        builder = builder.config("spark.ui.enabled", False)
        builder = builder.config("spark.ui.showConsoleProgress", sys.stderr.isatty())
    else:
        builder = builder.master(engine)
    return builder.getOrCreate()


def spark_path(session: "SparkSession", path: AnyPath) -> str:
    """The address that executors read a file by: its own or, of one of this machine, that of its copy in `SHARED`."""
    if isinstance(path, RemotePath):
        return without_patterns(path.address)
    # Not `Path.as_uri()`: Hadoop takes what that writes for a blank as part of the name.
    address = f"file://{path.absolute()}"
    folder = _shared_folder(session)
    if folder is None:
        return without_patterns(address)
    copy = f"{folder}/{secrets.token_hex(4)}-{re.sub('[^A-Za-z0-9._-]', '_', path.name)}"
    files, target = _hadoop(session, copy)
    files.copyFromLocalFile(False, True, _hadoop_path(session, address), target)
    return without_patterns(copy)


def without_patterns(address: str) -> str:
    """Nothing in it is a pattern of names to Hadoop."""
    return re.sub(r"([*?{}\[\]\\])", r"\\\1", address)


def _shared_folder(session: "SparkSession") -> str | None:
    shared = session.conf.get(SHARED, None)
    if not shared:
        return None
    if "://" not in shared:
        raise ValueError(f"{SHARED} must be an address like hdfs://host/folder or s3a://bucket/folder, got {shared!r}")
    own = session.conf.get(_OWN, None)
    if own is None:
        own = f"{shared.rstrip('/')}/mmprofile-{secrets.token_hex(8)}"
        session.conf.set(_OWN, own)
    return own


def _remove_shared(session: "SparkSession") -> None:
    own = None if _context(session)._jsc.sc().isStopped() else session.conf.get(_OWN, None)
    if own is not None:
        files, folder = _hadoop(session, own)
        files.delete(folder, True)
        session.conf.unset(_OWN)


def _hadoop(session: "SparkSession", address: str) -> tuple[Any, Any]:
    """The file system of the address, and the address, as Hadoop has them."""
    path = _hadoop_path(session, address)
    return path.getFileSystem(_context(session)._jsc.hadoopConfiguration()), path


def _hadoop_path(session: "SparkSession", address: str) -> Any:
    return _context(session)._jvm.org.apache.hadoop.fs.Path(address)


def _context(session: "SparkSession") -> Any:
    """With what Java has, which PySpark's types do not tell."""
    return session.sparkContext
