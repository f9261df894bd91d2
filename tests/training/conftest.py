"""Runs of train.py here leave out what takes most of a small one, but where a test asks for it."""

from contextlib import contextmanager
from functools import partial

import pytest
from PIL import Image

import train
from scoring import evaluation
from tests.tiny_corpus import write_corpus
from training import evaluation_only, evaluations, results, resuming
from training.arguments import CONDITIONS

DRAWN = {
    evaluations: ("plot_confusion", "plot_curves"),
    results: ("plot_confusion", "plot_calibration", "plot_curves"),
    resuming: ("plot_curves",),
}
SEARCHED = {evaluation: ("answers_of",)}
MEASURED = {train: ("calibrate", "measure_faithfulness"), evaluation_only: ("measure_faithfulness",)}
SHORTENED = [(module, name) for of in (DRAWN, SEARCHED, MEASURED) for module in of for name in of[module]]
WHOLE = [(module, name, getattr(module, name)) for module, name in SHORTENED]


@pytest.fixture(scope="module", autouse=True)
def short_runs():
    """A figure is a PNG of one pixel: tests/scoring draws them. As of a model that tells no weights, no temperature is
    fitted and no photo or view deleted. A search proves nothing: random weights are sure of nothing."""

    def draw(values, schema, path, *of):
        Image.new("RGB", (1, 1)).save(path, format="png")

    briefly = partial(evaluation.answers_of, max_calls=2)
    with pytest.MonkeyPatch.context() as patch:
        for named, short in ((DRAWN, draw), (SEARCHED, briefly), (MEASURED, lambda *given: {})):
            for module, names in named.items():
                for name in names:
                    patch.setattr(module, name, short)
        yield


@pytest.fixture(scope="session")
def whole_run():
    """A context for a run that leaves nothing out, or not what is named; conditions of the test split are those that
    it asks for."""

    @contextmanager
    def whole(*names):
        with pytest.MonkeyPatch.context() as patch:
            for module, name, function in WHOLE:
                if name in names or not names:
                    patch.setattr(module, name, function)
            yield

    return whole


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def base(corpus, whole_run, tmp_path_factory):
    """A run that leaves nothing out, for all modules to read: its folder, what it returned, and its history."""
    from tests.training.test_train import run

    output = tmp_path_factory.mktemp("base") / "model"
    with whole_run():
        results, history = run(corpus, output, test_conditions=[*CONDITIONS])
    return output, results, history
