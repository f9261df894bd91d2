"""What the environment of train.py asks of Accelerate: where train.py has a flag for it, the flag decides."""

import pytest
import torch

from tests.training.test_train import corpus, same, train_only  # noqa: F401
from tests.training.test_train_speed import first_gradients

ASKED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "eager",
}
# Gradients that are clipped would not tell whether a loss was divided.
FLAGS = {"save_steps": 1, "max_grad_norm": 1e9}


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp("environment") / "model"
    return train_only(corpus, output, **FLAGS), first_gradients(output)


@pytest.mark.parametrize("name", ASKED)
def test_the_environment_changes_no_gradient_and_is_answered(alone, corpus, tmp_path, monkeypatch, name, capsys):  # noqa: F811
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: (compiled.append(options), model)[1])
    monkeypatch.setenv(name, ASKED[name])
    trained = train_only(corpus, tmp_path / "model", **FLAGS)
    expected, found = alone[1], first_gradients(tmp_path / "model")
    assert expected.keys() == found.keys() and len(expected) > 80
    assert all(torch.equal(gradient, found[number]) for number, gradient in expected.items())
    assert same(trained, alone[0]) and not compiled
    assert f"{name}={ASKED[name]} is not used" in capsys.readouterr().err


def test_an_environment_that_asks_for_what_the_flags_say_is_not_answered(corpus, tmp_path, monkeypatch, capsys):  # noqa: F811
    for name, value in {**ASKED, "ACCELERATE_DYNAMO_BACKEND": "NO"}.items():
        monkeypatch.setenv(name, value)
    train_only(corpus, tmp_path / "model", gradient_accumulation_steps=4, mixed_precision="bf16")
    assert "is not used" not in capsys.readouterr().err
