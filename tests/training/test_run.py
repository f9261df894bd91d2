"""A run's parts."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator

from training.optimization import WeightAverage
from training.run import Run


def test_a_run_that_leaves_the_device_holds_no_gradient_and_no_moments():
    accelerator, joint = Accelerator(cpu=True), torch.nn.Linear(3, 2)
    joint, optimizer = accelerator.prepare(joint, torch.optim.AdamW(joint.parameters()))
    joint(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert optimizer.state and joint.weight.grad is not None
    parts = {"accelerator": accelerator, "joint": joint, "optimizer": optimizer, "average": WeightAverage(joint, 0.9)}
    Run.leave_device(SimpleNamespace(**parts))
    assert not optimizer.state and joint.weight.grad is None
