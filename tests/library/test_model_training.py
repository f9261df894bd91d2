"""What training relies on: gradients, the scale of the loss, half precision, transformers' Trainer."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.tiny_models import random_batch, tiny_model

VARIANTS = pytest.mark.parametrize(
    "variant", [{"fusion": f, "vision_feature": v} for f in ("gated", "concat") for v in ("cls", "patches")]
)


def test_gradient_checkpointing_gives_the_same_gradients():
    model, batch = tiny_model(text={"dropout_rate": 0.0}).train(), random_batch()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.text_model.encoder.block[0].gradient_checkpointing
            assert model.vision_model.layers[0].gradient_checkpointing
        model.zero_grad()
        model(**batch).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    assert gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
        assert gradient.any(), f"{name} learns nothing"


@VARIANTS
def test_bf16_trains_on_finite_numbers(variant):
    model = tiny_model(**variant).to(torch.bfloat16).train()
    output = model(**random_batch(), output_fusion=True)
    output.loss.backward()
    assert output.logits.dtype == torch.bfloat16 and output.logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autocast_is_near_full_precision():
    model, batch = tiny_model(), random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(**batch)
    torch.testing.assert_close(half.loss.float(), model(**batch).loss, rtol=0.02, atol=0.02)


def test_num_items_in_batch_divides_the_summed_loss():
    model, batch = tiny_model(), random_batch()
    labels = int((batch["labels"] != -100).sum())
    mean, scaled = model(**batch).loss, model(**batch, num_items_in_batch=labels * 5).loss
    torch.testing.assert_close(scaled * 5, mean)
    torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(labels)).loss, mean)


def trained_by_trainer(folder, batch_size, accumulation):
    model = tiny_model(text={"dropout_rate": 0.0})
    columns = random_batch(users=4)
    users = [{name: column[index] for name, column in columns.items()} for index in range(4)]
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.1,
        max_grad_norm=0.0,
        optim="sgd",
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model, arguments, train_dataset=users)
    loss = trainer.train().training_loss
    return loss, model


def test_a_step_of_the_trainer_is_the_same_however_it_accumulates(tmp_path):
    """The users have different numbers of labels: a mean over micro-batches would weight them wrongly."""
    start = tiny_model().state_dict()
    loss, model = trained_by_trainer(tmp_path, batch_size=4, accumulation=1)
    same_loss, same_model = trained_by_trainer(tmp_path, batch_size=1, accumulation=4)
    assert same_loss == pytest.approx(loss, rel=1e-4)
    other = same_model.state_dict()
    for name, tensor in model.state_dict().items():
        assert not torch.equal(tensor, start[name]), f"{name} was not trained"
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
