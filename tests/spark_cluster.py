"""spark-submit as a user runs it, on a cluster of two executors, processes of their own with 1 GiB each."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests import ROOT

MASTER = "local-cluster[2,1,1024]"


def submit(work: Path, *arguments: str | Path, conf: dict[str, str], **environment: str) -> Counter[str]:
    """Runs the builder; the tasks of each executor. No executor has a Python, or could find this checkout."""
    import pyspark

    events = work / "events"
    events.mkdir()
    home = Path(pyspark.__file__).parent
    conf = {
        "spark.executor.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.pyspark.python": "/there/is/no/python",
        "spark.pyspark.driver.python": sys.executable,
    } | conf
    told = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    program = ROOT / "dataset_script" / "spark_build.py"
    run = subprocess.run(
        [home / "bin" / "spark-submit", "--master", MASTER, *told, program, *arguments, "--engine", "spark"],
        cwd=work,
        env=os.environ | {"SPARK_HOME": str(home), "SPARK_WORKER_DIR": str(work / "workers")} | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    logs = [path for path in events.rglob("*") if path.is_file() and not path.name.startswith((".", "appstatus"))]
    lines = [json.loads(line) for path in logs for line in path.read_text(encoding="utf-8").splitlines()]
    return Counter(line["Task Info"]["Executor ID"] for line in lines if line["Event"] == "SparkListenerTaskEnd")
