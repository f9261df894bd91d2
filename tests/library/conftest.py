"""A saved folder and its pipeline, for the files that test pipelines."""

import pytest
from transformers import pipeline

from tests.tiny_folder import save_tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "model"
    save_tiny_folder(folder)
    return folder


@pytest.fixture(scope="module")
def profiler(folder):
    return pipeline("user-profiling", model=str(folder), trust_remote_code=True)
