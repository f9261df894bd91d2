"""What every system keeps, whatever it is made of."""

import pytest
import torch
from transformers import AutoModel

import predict
from baselines.table import SYSTEMS
from files.checkpoint_code import load_model, load_processor
from publishing.hub_folder import save_hub_folder
from systems.system import SystemModel
from tests.baselines.tiny_systems import (
    BLIND,
    OTHERS,
    SEEING,
    batch_of,
    by_kind,
    examples_of,
    processor_of_users,
    tiny_model,
    views_of,
)
from tests.tiny_corpus import SCHEMA
from training.joint_step import SHARED, NaiveJointStep, SharedJointStep, joint_step
from training.model_card import plain_type
from training.objectives import select_views

SEQUENCES = ["llava"]  # to which photos are a sequence
SHARING = [name for name in SYSTEMS if all(hasattr(SYSTEMS[name].model_class, needed) for needed in SHARED)]


def naive_step(name: str, model, paradigm: str | None = None) -> NaiveJointStep:
    return NaiveJointStep(model, views_of(name, paradigm), processor_of_users().black)


def of_views(name: str, model, batch: dict, paradigm: str | None = None) -> list[dict]:
    """Each view's inputs, and the targets beside them."""
    step = naive_step(name, model, paradigm)
    targets = {target: batch[target] for target in ("labels", "classes") if target in batch}
    return [{"inputs": step.inputs_of(view, batch), "targets": targets} for view in step.views.values()]


def row_of(inputs: dict, row: int) -> dict:
    """One user's part of a batch, without padding and without photos where it has none."""
    one = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
    length = int(one["attention_mask"].sum())
    one |= {name: one[name][:, :length] for name in ("input_ids", "attention_mask")}
    if "image_mask" in one:
        photos = int(one.pop("image_mask").sum())
        pixels = one.pop("pixel_values")[:, :photos]
        if photos:
            one |= {"pixel_values": pixels, "image_mask": torch.ones(1, photos, dtype=torch.bool)}
    return one


def padded(inputs: dict, tokens: int, photos: int) -> dict:
    """With more padding of texts and photos."""
    pad, found = torch.nn.functional.pad, dict(inputs)
    for name in ("input_ids", "attention_mask"):
        found[name] = pad(inputs[name], (0, tokens))
    if "image_mask" in inputs:
        found["image_mask"] = pad(inputs["image_mask"], (0, photos))
        found["pixel_values"] = pad(inputs["pixel_values"], (0, 0, 0, 0, 0, 0, 0, photos))
    return found


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_the_naive_step_is_the_sum_of_users_by_themselves(name):
    model, examples = tiny_model(name), examples_of(4, photos=2)
    batch = batch_of(name, examples)
    found = naive_step(name, model)(batch)
    tokens = (batch["labels"] >= 0).sum()
    for loss, view in zip(found.losses.values(), of_views(name, model, batch), strict=True):
        alone = [
            model.target_losses(
                row_of(view["inputs"], row), {key: part[row : row + 1] for key, part in view["targets"].items()}
            )
            for row in range(4)
        ]
        assert loss.item() == pytest.approx((torch.cat(alone).sum() / tokens).item(), rel=2e-5)
    assert found.loss.item() == pytest.approx(sum(found.losses.values()).item() / 4, rel=1e-6)


@pytest.mark.parametrize("name", by_kind(SHARING))
def test_the_shared_step_is_the_naive_one(name):
    model, batch = tiny_model(name), batch_of(name, examples_of(3, photos=2))
    views, black, found = views_of(name), processor_of_users().black, []
    for step in (NaiveJointStep, SharedJointStep):
        model.zero_grad()
        output = step(model, views, black)(batch)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append(({name: loss.item() for name, loss in output.losses.items()}, gradients))
    (naive, slow), (shared, fast) = found
    assert shared == pytest.approx(naive, rel=1e-5)
    assert fast.keys() == slow.keys()
    largest = max(gradient.abs().max() for gradient in slow.values())
    for parameter, gradient in slow.items():
        torch.testing.assert_close(fast[parameter], gradient, rtol=1e-3, atol=1e-5 * largest.item())


def test_a_system_that_shares_nothing_trains_by_the_naive_step():
    kinds = {name: type(joint_step(tiny_model(name), views_of(name), torch.zeros(3))) for name in OTHERS}
    assert {name for name, kind in kinds.items() if kind is SharedJointStep} == set(SHARING) - {"mmprofile"}
    assert {"flan_t5", "bart", "od_tup"} <= set(SHARING)


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_padding_changes_no_loss_and_no_profile(name):
    model, processor = tiny_model(name), processor_of_users()
    views = of_views(name, model, batch_of(name, examples_of(4, photos=2)))
    assert len(views) == 4
    for view in views:
        more = padded(view["inputs"], tokens=7, photos=2)
        with torch.no_grad():
            losses = [model.target_losses(inputs, view["targets"]) for inputs in (view["inputs"], more)]
        torch.testing.assert_close(losses[0], losses[1], rtol=2e-5, atol=1e-5)
        answers = [model.write_profiles(inputs, processor, 2, True) for inputs in (view["inputs"], more)]
        assert answers[0] == answers[1]


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_who_is_in_a_batch_with_whom_changes_no_profile(name):
    model, processor = tiny_model(name), processor_of_users()
    inputs = of_views(name, model, batch_of(name, examples_of(4, photos=2)))[0]["inputs"]
    together = model.write_profiles(inputs, processor, 2, True)
    assert together == [model.write_profiles(row_of(inputs, row), processor, 2, True)[0] for row in range(4)]


@pytest.mark.parametrize("name", by_kind([name for name in SEEING if name not in SEQUENCES]))
def test_the_order_of_photos_changes_no_loss(name):
    model = tiny_model(name)
    view = of_views(name, model, batch_of(name, examples_of(5, photos=2)[1:3]))[0]
    turned = dict(view["inputs"]) | {"pixel_values": view["inputs"]["pixel_values"].flip(1)}
    assert view["inputs"]["image_mask"].all() and view["inputs"]["image_mask"].shape[1] > 1
    assert not torch.equal(turned["pixel_values"], view["inputs"]["pixel_values"])
    with torch.no_grad():
        losses = [model.target_losses(inputs, view["targets"]) for inputs in (view["inputs"], turned)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", by_kind(SEEING))
def test_photos_change_what_a_multimodal_system_makes_of_a_user(name):
    model = tiny_model(name)
    view = of_views(name, model, batch_of(name, examples_of(4, photos=2)))[0]
    blind = {key: view["inputs"][key] for key in ("input_ids", "attention_mask")}
    other = dict(view["inputs"]) | {"pixel_values": torch.randn_like(view["inputs"]["pixel_values"])}
    with torch.no_grad():
        own, without, strange = (
            model.target_losses(inputs, view["targets"]) for inputs in (view["inputs"], blind, other)
        )
    has = view["inputs"]["image_mask"].any(dim=1)
    assert has.any() and not has.all()
    for changed in (without, strange):
        assert ((own - changed).abs()[has] > 1e-4 * own[has]).all()
        torch.testing.assert_close(own[~has], changed[~has], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", by_kind(BLIND))
def test_a_unimodal_system_is_shown_no_photo_whatever_the_objective(name):
    batch = batch_of(name, examples_of(3, photos=2))
    assert batch.keys() == {"labels", "texts"}
    for paradigm in ("multimodal", "combined"):
        with pytest.raises(ValueError, match=f"{name} is trained by the paradigms .'unimodal'., got '{paradigm}'"):
            SYSTEMS[name].check_paradigm(paradigm)


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_every_weight_learns(name):
    model = tiny_model(name).train()
    paradigm = SYSTEMS[name].own_paradigm
    NaiveJointStep(model, select_views(paradigm, ["fusion"]), processor_of_users().black)(
        batch_of(name, examples_of(4, photos=2))
    ).loss.backward()
    idle = [key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert idle == []


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_what_was_saved_answers_as_before(name, tmp_path):
    model, processor = tiny_model(name), processor_of_users()
    inputs = of_views(name, model, batch_of(name, examples_of(4, photos=2)))[0]["inputs"]
    save_hub_folder(model, processor, tmp_path)
    loaded, config = load_processor(str(tmp_path), None)
    again = load_model(str(tmp_path), None).eval()
    assert type(again) is SYSTEMS[name].model_class and config.system == name
    assert loaded.profile_schema == SCHEMA and config.paradigm == SYSTEMS[name].own_paradigm
    assert again.write_profiles(inputs, loaded, 2, True) == model.write_profiles(inputs, processor, 2, True)
    one, other = (m.profile_users(inputs, processor.tokenizer, num_return_profiles=3) for m in (model, again))
    assert [answer["text"] for answer in one] == [answer["text"] for answer in other]
    assert [a["log_probability"] for a in one] == pytest.approx([a["log_probability"] for a in other], rel=1e-5)


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_weights_of_16_bits_answer_too(name):
    model, processor = tiny_model(name).to(torch.bfloat16), processor_of_users()
    inputs = dict(of_views(name, model, batch_of(name, examples_of(3)))[0]["inputs"])
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    found = model.profile_users(inputs, processor.tokenizer, num_return_profiles=2)
    assert len(found) == 3 and ["profile" in one for one in found] == [True] * 3


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_auto_classes_make_of_a_folder_what_its_card_says(name, tmp_path):
    save_hub_folder(tiny_model(name), processor_of_users(), tmp_path)
    if said := plain_type(tmp_path):
        made = AutoModel.from_pretrained(tmp_path)
        assert made.config.model_type == said and not isinstance(made, SYSTEMS[name].model_class)
    else:
        with pytest.raises(ValueError, match="does not recognize this architecture"):
            AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", by_kind(OTHERS))
def test_answers_are_profiles_of_the_schema_with_probabilities(name):
    model, processor = tiny_model(name), processor_of_users()
    inputs = of_views(name, model, batch_of(name, examples_of(4, photos=2)))[0]["inputs"]
    written = model.write_profiles(inputs, processor, 2, constrained=True)
    assert len(written) == 4
    for profile in written:
        assert SCHEMA.validate(profile) == profile
    answers = model.profile_users(inputs, processor.tokenizer, num_return_profiles=3)
    assert len(answers) == 4
    for found in answers:
        assert SCHEMA.parse(found["text"]) == found["profile"] and found["log_probability"] <= 0
        assert len(found["runners_up"]) == 2
        for attribute in SCHEMA.attributes:
            values = found["probabilities"][attribute.key]
            assert list(values) == list(attribute.values)
            assert sum(values.values()) == pytest.approx(attribute.count, abs=1e-4)


BOUNDLESS = [name for name in OTHERS if issubclass(SYSTEMS[name].model_class, SystemModel)]


@pytest.mark.parametrize("name", BOUNDLESS)
def test_bounds_of_mmprofiles_search_are_refused_by_what_does_not_make_it(name):
    model, processor = tiny_model(name), processor_of_users()
    inputs = of_views(name, model, batch_of(name, examples_of(1)))[0]["inputs"]
    refused = f"bounds {{'max_calls': 3}} are of mmprofile's search for profiles, which {name} does not make"
    with pytest.raises(ValueError, match=refused):
        model.profile_users(inputs, processor.tokenizer, max_calls=3)


@pytest.mark.parametrize("name", by_kind(BOUNDLESS))
def test_predict_refuses_bounds_before_there_is_an_output_and_without_them_predicts(name, tmp_path):
    save_hub_folder(tiny_model(name), processor_of_users(), tmp_path / "model")
    (tmp_path / "users.jsonl").write_text('{"user_id": "a", "reviews": ["a good place"]}')
    argv = ["--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "users.jsonl"), "--num_workers", "0"]
    output = ["--output", str(tmp_path / "out")]
    for where in (output, ["--show", "1"]):
        with pytest.raises(ValueError, match=f"'min_coverage': 0.5, 'max_calls': 3.*which {name} does not make"):
            predict.main([*argv, *where, "--max_calls", "3", "--min_coverage", "0.5"])
        with pytest.raises(ValueError, match=f"the bounds {{'views': 'all'}} .*which {name} does not make"):
            predict.main([*argv, *where, "--views", "all"])
    with pytest.raises(ValueError, match=f"--vectors true asks for the mean of .* which {name} does not have"):
        predict.main([*argv, *output, "--vectors", "true"])
    assert not (tmp_path / "out").exists()
    assert predict.main([*argv, *output, "--num_return_profiles", "2"])["predicted"] == 1
