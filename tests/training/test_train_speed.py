"""Flags of train.py that make a step cheaper, or divide it, and change what is learned by rounding alone."""

import pytest
import torch
from transformers import ViTModel

from cli.flags import parse_flags
from mmprofile import MMProfileForConditionalGeneration
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA
from tests.tiny_models import tiny_model
from tests.training.test_objectives import BLACK, batch_of_views
from tests.training.test_train import run, same, train_only, weights
from tests.training.test_train_resume import untimed
from training.arguments import JointTrainingArguments
from training.data import load_corpus, training_loader
from training.joint_step import JointStep, SharedJointStep
from training.model import compile_layers
from training.objectives import OBJECTIVES, select_views


def first_gradients(output):
    """The clipped gradients of a run's first step, from Adam's first average of them, which starts at 0."""
    states = torch.load(output / "checkpoint-1" / "optimizer.bin", weights_only=True)["state"]
    return {number: state["exp_avg"] / 0.1 for number, state in states.items()}


def assert_gradients_close(ones, others):
    """To a few hundred-thousandths of the largest: the order of 32-bit sums differs."""
    assert ones.keys() == others.keys() and len(ones) > 80
    largest = max(gradient.abs().max().item() for gradient in ones.values())
    for number, gradient in ones.items():
        torch.testing.assert_close(others[number], gradient, rtol=0, atol=3e-5 * largest)


@pytest.mark.parametrize("group_by_length", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batches_accumulated_are_one_batch(corpus, tmp_path, group_by_length):
    runs = []
    for batch_size in (4, 1):
        output, batches = tmp_path / str(batch_size), 4 // batch_size
        flags = {"batch_size": batch_size, "gradient_accumulation_steps": batches, "group_by_length": group_by_length}
        _, history = run(corpus, output, save_steps=1, **flags)
        runs.append((first_gradients(output), history[0]))
    (ones, one), (others, other) = runs
    assert_gradients_close(ones, others)
    assert one["step"] == other["step"] == 2
    for name in ("train_loss", *(f"train_loss_{name}" for name in OBJECTIVES)):
        assert other[name] == pytest.approx(one[name], rel=1e-5)


def test_a_last_step_of_fewer_batches_counts_its_tokens_as_the_others(corpus, tmp_path):
    flags = {"batch_size": 2, "max_train_users": 2, "save_steps": 1}
    whole = train_only(corpus, tmp_path / "whole", **flags)
    part = train_only(corpus, tmp_path / "part", gradient_accumulation_steps=4, **flags)
    assert same(part, whole)


def test_gradient_checkpointing_recomputes_and_changes_no_gradient(corpus, tmp_path, monkeypatch):
    calls = []
    enable = MMProfileForConditionalGeneration.activation_checkpointing_enable
    monkeypatch.setattr(
        MMProfileForConditionalGeneration,
        "activation_checkpointing_enable",
        lambda self, *args, **kwargs: (calls.append(1), enable(self, *args, **kwargs)),
    )
    for checkpointing in (True, False):
        train_only(corpus, tmp_path / str(checkpointing), gradient_checkpointing=checkpointing, save_steps=1)
    assert calls == [1]
    assert_gradients_close(first_gradients(tmp_path / "True"), first_gradients(tmp_path / "False"))


@pytest.mark.slow
def test_a_frozen_vision_tower_keeps_its_weights_and_its_states_save_its_work(corpus, base, tmp_path, monkeypatch):
    computed, forward = [], ViTModel.forward

    def counting(self, *args, **options):
        computed.append(self.training)
        return forward(self, *args, **options)

    monkeypatch.setattr(ViTModel, "forward", counting)
    flags = {"model": base[0], "freeze_vision": True, "paradigm": "multimodal", "objectives": ["fusion", "text"]}
    _, anew = run(corpus, tmp_path / "anew", **flags)
    calls = len(computed)
    assert not any(computed)
    _, kept = run(corpus, tmp_path / "kept", photo_cache=tmp_path / "photos", **flags)
    first, computed[:] = len(computed) - calls, []
    _, again = run(corpus, tmp_path / "again", photo_cache=tmp_path / "photos", **flags)
    assert len(computed) == calls - 2 < first  # in evaluation alone: both batches of training have their states
    assert untimed(again) == untimed(kept) and same(weights(tmp_path / "again"), weights(tmp_path / "kept"))
    for name in ("train_loss", "train_loss_fusion", "train_loss_text", "dev_loss"):
        assert kept[0][name] == pytest.approx(anew[0][name], rel=1e-5)
    before, after = weights(base[0]), weights(tmp_path / "kept")
    vision = {name for name in before if name.startswith("vision_model.")}
    fusion = {name for name in before if "fusion" in name} - vision
    assert vision and all(torch.equal(before[name], after[name]) for name in vision)
    assert fusion and not any(torch.equal(before[name], after[name]) for name in fusion)


def test_matmul_precision_is_for_the_run_that_asks_for_it(corpus, tmp_path, monkeypatch):
    seen, forward = [], JointStep.forward

    def noting(self, batch):
        seen.append(torch.get_float32_matmul_precision())
        return forward(self, batch)

    monkeypatch.setattr(JointStep, "forward", noting)
    train_only(corpus, tmp_path / "asked", matmul_precision="high")
    train_only(corpus, tmp_path / "unasked")
    assert seen == ["high", "high", "highest", "highest"]


def test_training_leaves_no_attention_to_cudnn(corpus, tmp_path, cudnn_attention):
    assert cudnn_attention()
    train_only(corpus, tmp_path / "model")
    assert not cudnn_attention()


def test_a_gpu_gets_batches_from_pinned_memory_and_workers_outlive_an_epoch(corpus, monkeypatch):
    words = ["--dataset", str(corpus), "--output_dir", "x", "--num_workers", "2"]
    arguments = parse_flags(JointTrainingArguments, words)
    split = load_corpus(arguments)["train"]
    processor = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        loader = training_loader(split, processor, arguments)
        assert (loader.pin_memory, loader.persistent_workers) == (there, True)


@pytest.mark.slow
def test_compiled_layers_train_as_they_are_and_are_not_compiled_for_each_size():
    views = select_views("combined", OBJECTIVES)
    batches = [batch_of_views(views, users, photos) for users, photos in ((3, 2), (3, 2), (3, 2))]
    for cut, batch in enumerate(batches):
        batch["texts"] = {
            name: {key: value[:, : value.shape[1] - cut] for key, value in text.items()}
            for name, text in batch["texts"].items()
        }
    results = []
    for compiled in (False, True):
        model = tiny_model(text={"dropout_rate": 0.0}).train()
        if compiled:
            compile_layers(model)
        joint = SharedJointStep(model, views, BLACK)
        torch._dynamo.reset()
        losses = []
        for number, batch in enumerate(batches):
            stance = "fail_on_recompile" if compiled and number else "default"
            with torch.compiler.set_stance(stance):
                loss = joint(batch).loss
                loss.backward()
            losses.append(loss.item())
        results.append((losses, [p.grad for p in model.parameters()], list(model.state_dict())))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    assert results[1][2] == results[0][2]
    for ours, theirs in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
