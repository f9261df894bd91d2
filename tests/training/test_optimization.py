"""AdamW's groups, and learning rates as functions of the step."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate.scheduler import AcceleratedScheduler
from accelerate.utils import DistributedType
from transformers import get_scheduler

from mmprofile import OBJECTIVES
from tests.tiny_models import tiny_model
from tests.training.test_train import same
from training.arguments import LR_SCHEDULERS, JointTrainingArguments
from training.joint_step import SharedJointStep
from training.optimization import WeightAverage, check_spreading, make_optimizer, make_scheduler

STEPS = 12


def arguments(**flags):
    return JointTrainingArguments(dataset="x", output_dir="y", **flags)


def joint_model():
    views = {name: views["combined"] for name, views in OBJECTIVES.items()}
    return SharedJointStep(tiny_model(), views, torch.zeros(3))


def descend(joint, optimizer, steps=3):
    """So many steps along gradients that depend on the step alone."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in joint.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def names_of(joint, optimizer, **wanted):
    """The parameters, by name, of the groups that have these values."""
    names = {parameter: name.removeprefix("model.") for name, parameter in joint.named_parameters()}
    groups = [group for group in optimizer.param_groups if all(group[key] == value for key, value in wanted.items())]
    return {names[parameter] for group in groups for parameter in group["params"]}


def test_norms_biases_and_positions_are_not_decayed_and_all_else_is():
    joint = joint_model()
    optimizer = make_optimizer(joint, arguments(weight_decay=0.1))
    decayed, kept = (names_of(joint, optimizer, weight_decay=decay) for decay in (0.1, 0.0))
    assert decayed | kept == {name for name, _ in joint.model.named_parameters()}
    assert {name for name in kept if joint.model.get_parameter(name).dim() > 1} == {
        "text_model.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "text_model.decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "vision_model.embeddings.cls_token",
        "vision_model.embeddings.position_embeddings",
    }
    assert "text_model.encoder.final_layer_norm.weight" in kept
    assert "vision_model.layers.0.attention.q_proj.bias" in kept
    assert decayed >= {"text_model.shared.weight", "visual_projection.weight"}
    assert all(joint.model.get_parameter(name).dim() > 1 for name in decayed)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_groups_of_equal_values_update_as_one_group_does(fused, decay):
    joint = joint_model()
    one = copy.deepcopy(joint)
    flags = arguments(fused_adamw=fused, learning_rate=0.01, weight_decay=decay)
    grouped = make_optimizer(joint, flags)
    for group in grouped.param_groups:
        group["weight_decay"] = decay
    descend(joint, grouped)
    expected = torch.optim.AdamW(one.parameters(), lr=0.01, weight_decay=decay, fused=fused or None)
    descend(one, expected)
    assert len(grouped.param_groups) > 1
    assert all(map(torch.equal, joint.state_dict().values(), one.state_dict().values()))


def test_towers_and_fusion_have_learning_rates_of_their_own():
    joint = joint_model()
    flags = {"learning_rate": 0.1, "text_learning_rate": 0.2, "vision_learning_rate": 0.3, "fusion_learning_rate": 0.4}
    optimizer = make_optimizer(joint, arguments(**flags))
    for rate, parts in ((0.2, {"text_model"}), (0.3, {"vision_model"}), (0.4, {"fusion", "visual_projection"})):
        assert {name.split(".")[0] for name in names_of(joint, optimizer, lr=rate)} == parts
    optimizer = make_optimizer(joint, arguments(learning_rate=0.1, vision_learning_rate=0.3))
    assert {name.split(".")[0] for name in names_of(joint, optimizer, lr=0.1)} == {
        *("text_model", "fusion", "visual_projection")
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"text_learning_rate": 0.0}, "text_learning_rate.*0.0"),
        ({"fusion_learning_rate": float("nan")}, "fusion_learning_rate.*nan"),
        ({"vision_learning_rate": 0.1, "freeze_vision": True}, "not trained.*0.1"),
    ],
)
def test_learning_rates_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        arguments(**flags)


@pytest.mark.parametrize("schedule", LR_SCHEDULERS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_learning_rate_of_a_step_is_that_which_accelerate_makes_of_any_number_of_processes(
    schedule, processes, monkeypatch
):
    flags = arguments(lr_scheduler=schedule, warmup_ratio=0.25, learning_rate=0.1)
    optimizer = make_optimizer(joint_model(), flags)
    scheduler = make_scheduler(optimizer, STEPS, flags)
    theirs = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    made = get_scheduler(schedule, theirs, num_warmup_steps=3 * processes, num_training_steps=STEPS * processes)
    theirs.step_was_skipped = False  # as Accelerate's has it
    monkeypatch.setattr("accelerate.scheduler.AcceleratorState", lambda: SimpleNamespace(num_processes=processes))
    prepared = AcceleratedScheduler(made, theirs)
    for _ in range(STEPS):
        optimizer.step()
        theirs.step()
        scheduler.step()
        prepared.step()
        expected = pytest.approx(prepared.get_last_lr()[0], rel=1e-12) if processes > 1 else prepared.get_last_lr()[0]
        assert {group["lr"] for group in optimizer.param_groups} == {scheduler.get_last_lr()[0]}
        assert scheduler.get_last_lr()[0] == expected


def test_without_warm_up_the_inverse_square_root_does_not_depend_on_the_processes():
    flags = arguments(lr_scheduler="inverse_sqrt", learning_rate=0.1)
    scheduler = make_scheduler(make_optimizer(joint_model(), flags), STEPS, flags, step=9)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.1 / (1 + 9 / 10_000) ** 0.5)


@pytest.mark.filterwarnings("error:.*lr_scheduler")
def test_a_loaded_optimizer_goes_on_under_the_flags_of_today_whatever_its_state_says():
    before = arguments(learning_rate=0.5, weight_decay=0.0, adam_beta2=0.9, warmup_ratio=0.5)
    today = arguments(learning_rate=0.1, fusion_learning_rate=0.2, weight_decay=0.3, lr_scheduler="cosine")
    joint = joint_model()
    old = make_optimizer(joint, before)
    scheduler = make_scheduler(old, STEPS, before)
    descend(joint, old)
    scheduler.step()

    left_alone = make_optimizer(joint, today)
    expected = make_scheduler(left_alone, 2 * STEPS, today)
    for _ in range(5):
        left_alone.step()
        expected.step()
    optimizer = make_optimizer(joint, today)
    optimizer.load_state_dict(old.state_dict())
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.9)
    scheduler = make_scheduler(optimizer, 2 * STEPS, today, step=5)
    for _ in range(3):
        for group, like in zip(optimizer.param_groups, left_alone.param_groups, strict=True):
            assert {name: group[name] for name in group if name != "params"} == {
                name: like[name] for name in like if name != "params"
            }
        assert scheduler.get_last_lr() == expected.get_last_lr()
        optimizer.step()
        left_alone.step()
        scheduler.step()
        expected.step()
    first = optimizer.param_groups[0]["params"][0]
    assert optimizer.state[first]["step"] == 6  # its means are those of the steps before


def test_the_average_is_that_which_is_computed_by_hand_and_a_checkpoint_keeps_it(tmp_path):
    joint = joint_model()
    joint.model.vision_model.requires_grad_(False)
    flags = arguments(learning_rate=0.01)
    average, optimizer = WeightAverage(joint.model, 0.75), make_optimizer(joint, flags)
    expected = {}
    for step in range(4):
        descend(joint, optimizer, steps=1)
        average.update()
        for name, weight in joint.model.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * weight if step else weight.clone()
    found = average.gathered().state_dict()
    torch.testing.assert_close(found, expected)
    assert found["vision_model.embeddings.cls_token"].equal(joint.model.vision_model.embeddings.cls_token)
    assert not found["text_model.shared.weight"].equal(joint.model.text_model.shared.weight)
    text = average.gathered().text_model
    assert text.shared.weight is text.lm_head.weight or text.shared.weight is text.encoder.embed_tokens.weight

    saved = {name: weight.clone() for name, weight in average.state_dict().items()}
    descend(joint, optimizer, steps=1)
    average.update()
    later = {name: weight.clone() for name, weight in average.gathered().state_dict().items()}
    resumed = WeightAverage(joint_model().model, 0.75)
    resumed.load_state_dict(saved)
    assert not later["fusion.ffn_in.weight"].equal(expected["fusion.ffn_in.weight"])
    resumed._model = joint.model
    resumed.update()
    assert same(resumed.gathered().state_dict(), later)
    resumed.load_state_dict(None)  # of a run that had no average
    assert same(resumed.gathered().state_dict(), joint.model.state_dict())
    descend(joint, optimizer, steps=1)
    resumed.update()
    assert same(resumed.gathered().state_dict(), joint.model.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=f"ema_decay.*{decay}"):
        arguments(ema_decay=decay)


def test_what_needs_the_weights_whole_is_refused_where_fsdp_spreads_them():
    spread = SimpleNamespace(distributed_type=DistributedType.FSDP)
    check_spreading(arguments(), spread)
    check_spreading(arguments(ema_decay=0.9), SimpleNamespace(distributed_type=DistributedType.MULTI_GPU))
    with pytest.raises(ValueError, match="ema_decay=0.9 needs the weights whole"):
        check_spreading(arguments(ema_decay=0.9), spread)
    with pytest.raises(ValueError, match="ema_decay=0.9 and lora_rank=2 needs the weights whole"):
        check_spreading(arguments(ema_decay=0.9, lora_rank=2), spread)
