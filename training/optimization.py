"""Optimizer and learning rate."""

import torch
from transformers import get_scheduler

from training.arguments import JointTrainingArguments


def make_optimizer(joint: torch.nn.Module, arguments: JointTrainingArguments) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in joint.parameters() if parameter.requires_grad],
        lr=arguments.learning_rate,
        betas=(0.9, arguments.adam_beta2),
        weight_decay=arguments.weight_decay,
        fused=arguments.fused_adamw or None,  # False would rule out the loop over many at once
    )


def make_scheduler(optimizer, steps: int, arguments: JointTrainingArguments):
    return get_scheduler(
        arguments.lr_scheduler,
        optimizer,
        num_warmup_steps=round(steps * arguments.warmup_ratio),
        num_training_steps=steps,
    )


def set_schedule(scheduler, optimizer, step: int, arguments: JointTrainingArguments) -> None:
    """Puts the learning rate where it stands after so many steps, whatever a loaded state says."""
    scheduler.last_epoch = step
    for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
        group |= {"weight_decay": arguments.weight_decay, "betas": (0.9, arguments.adam_beta2)}
        group |= {"initial_lr": arguments.learning_rate, "lr": arguments.learning_rate * factor(step)}
