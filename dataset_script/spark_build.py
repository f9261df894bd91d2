"""The corpus builder for spark-submit, which runs files, where `mmprofile_yelp.py` is a module of a package.

    spark-submit --master yarn dataset_script/spark_build.py --data_dir RAW --output FOLDER --engine spark

Takes what `python -m dataset_script.mmprofile_yelp` takes.
"""

import runpy
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    sys.path[0] = ROOT  # in place of this file's folder
    runpy.run_module("dataset_script.mmprofile_yelp", run_name="__main__", alter_sys=True)
