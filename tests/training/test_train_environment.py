"""What `accelerate launch` asks for holds where no flag says otherwise, and what no run can do is refused."""

import pytest

from tests.training.test_train import same, train_only
from training.arguments import JointTrainingArguments, unused_settings
from training.launcher import check_launcher, launched

ASKED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("4", "gradient_accumulation_steps", 4),
    "ACCELERATE_MIXED_PRECISION": ("bf16", "mixed_precision", "bf16"),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_launchers_word_is_the_flags_default(corpus, tmp_path, monkeypatch, name):
    asked, flag, value = ASKED[name]
    by_flag = train_only(corpus, tmp_path / "flag", batch_size=2, **{flag: value})
    neither = train_only(corpus, tmp_path / "neither", batch_size=2)
    monkeypatch.setenv(name, asked)
    launched = train_only(corpus, tmp_path / "launched", batch_size=2)
    assert same(launched, by_flag) and not same(launched, neither)


@pytest.mark.parametrize("name", ASKED)
def test_a_flag_wins_over_the_launcher_and_says_so(corpus, tmp_path, monkeypatch, name, capsys):
    asked, flag, _ = ASKED[name]
    given = {"batch_size": 2, flag: {"mixed_precision": "no"}.get(flag, 1)}
    by_flag = train_only(corpus, tmp_path / "flag", **given)
    assert "is not used" not in capsys.readouterr().err
    monkeypatch.setenv(name, asked)
    assert same(train_only(corpus, tmp_path / "launched", **given), by_flag)
    assert f"{name}={asked} is not used, --{flag} {given[flag]} is" in capsys.readouterr().err


@pytest.mark.parametrize(("backend", "compiled"), [("no", False), ("inductor", True), ("INDUCTOR", True)])
def test_the_launchers_backend_decides_whether_layers_are_compiled(monkeypatch, backend, compiled):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    arguments = JointTrainingArguments(dataset="x", output_dir="y")
    assert arguments.compile is compiled and unused_settings(arguments) == []
    other = JointTrainingArguments(dataset="x", output_dir="y", compile=not compiled)
    unused = [f"ACCELERATE_DYNAMO_BACKEND={backend.lower()} is not used, --compile false is"]
    assert unused_settings(other) == (unused if compiled else [])


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "no"}, {"mixed_precision": "bf16"}),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, {"gradient_accumulation_steps": 8}),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, {"compile": True}),
    ],
)
def test_of_what_the_launcher_says_without_being_asked_nothing_is_told(monkeypatch, environment, flags):
    arguments = JointTrainingArguments(dataset="x", output_dir="y", **flags)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert unused_settings(arguments) == []


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 1"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "parallelism_config"),
    ],
)
def test_what_no_run_can_do_is_refused_before_it_is_begun(corpus, tmp_path, monkeypatch, environment, named):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=f"one process, several by DDP.*FSDP with fsdp_version: 2; .*asks for .*{named}"
    ):
        train_only(corpus, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_a_run_can_do_is_not_refused():
    check_launcher({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_USE_DEEPSPEED": "false"})
    check_launcher({})


def test_a_launcher_that_asks_for_nothing_a_flag_can_be_is_answered():
    with pytest.raises(ValueError, match="backend inductor, .* ACCELERATE_DYNAMO_BACKEND=eager"):
        launched("compile", {"ACCELERATE_DYNAMO_BACKEND": "EAGER"})
    with pytest.raises(ValueError, match="whole number, .* ACCELERATE_GRADIENT_ACCUMULATION_STEPS=two"):
        launched("gradient_accumulation_steps", {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "two"})
