"""What is kept of a frozen vision tower is what it makes of the photos."""

import pickle

import numpy as np
import pytest
import torch

from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from systems.presets import tiny_config, tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import JointCollator, UserExamples, undecoded
from training.joint_step import SharedJointStep
from training.objectives import OBJECTIVES, select_views
from training.photo_cache import PhotoCache, Photos
from training.vision_states import VisionStates


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=16)


def model(processor, seed=0, **fields):
    torch.manual_seed(seed)
    config = tiny_config(SCHEMA, len(processor.tokenizer), image_size=16, d_model=32)
    config.vision_config.hidden_dropout_prob = 0.5
    for name, value in fields.items():
        setattr(config, name, value)
    return MMProfileForConditionalGeneration(config).train()


def states(folder, processor, tower, split):
    return VisionStates(PhotoCache(folder, Photos(split), processor), tower, batch_size=4)


@pytest.mark.parametrize(("feature", "shape"), [("cls", (96,)), ("patches", (4, 96))])
def test_states_are_the_towers_without_dropout(tmp_path, processor, feature, shape):
    split, tower = undecoded(tiny_dataset(3)), model(processor, vision_feature=feature)
    kept = states(tmp_path, processor, tower, split)
    assert tower.vision_model.training  # as it was
    photo = next(iter(Photos(split)))
    pixels = processor.encode_images([[photo]])["pixel_values"][0]
    expected = tower.eval().photo_states(pixels)[0].detach()
    assert kept[photo].shape == shape and kept[photo].dtype == np.float32
    torch.testing.assert_close(torch.tensor(kept[photo]), expected, rtol=1e-5, atol=1e-6)
    sent = pickle.dumps(kept)
    assert len(sent) < 7000 and np.array_equal(pickle.loads(sent)[photo], kept[photo])


def test_another_tower_has_a_file_of_its_own_and_the_same_computes_nothing(tmp_path, processor, monkeypatch):
    split = undecoded(tiny_dataset(2))
    states(tmp_path, processor, model(processor), split)
    states(tmp_path, processor, model(processor, seed=1), split)
    states(tmp_path, processor, model(processor, vision_feature="patches"), split)
    assert len(list(tmp_path.iterdir())) == 4  # the pixels' among them
    monkeypatch.setattr(MMProfileForConditionalGeneration, "photo_states", None)
    other_text = model(processor)
    torch.nn.init.zeros_(other_text.text_model.shared.weight)
    states(tmp_path, processor, other_text, split)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("paradigm", ["multimodal", "combined"])
@pytest.mark.parametrize("objectives", [["fusion"], OBJECTIVES])
def test_losses_and_gradients_with_states_are_those_with_the_frozen_tower(tmp_path, processor, paradigm, objectives):
    rows = [*tiny_dataset(2), *tiny_dataset(1, photos=0)]
    split = undecoded(tiny_dataset(1).from_list(rows, features=tiny_dataset(1).features))
    tower = model(processor)
    tower.vision_model.requires_grad_(False).eval()
    collator = JointCollator(processor, select_views(paradigm, objectives), 0.5, 0.5)
    joint = SharedJointStep(tower, collator.views, processor.black)
    results = []
    for kept in (None, states(tmp_path, processor, tower, split)):
        examples = UserExamples(split, SCHEMA, seed=0, states=kept)
        batch = collator([examples[index] for index in range(3)])
        assert ("vision_states" in batch) == (kept is not None)
        assert ("pixel_values" in batch) == (kept is None or "mask_image" in objectives)
        output = joint(batch)
        output.loss.backward()
        results.append((output.losses, [p.grad for p in joint.parameters() if p.grad is not None]))
        joint.zero_grad()
    for name, loss in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], loss, rtol=1e-6, atol=1e-6)
    assert len(results[0][1]) == len(results[1][1]) > 0
    for computed, kept in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(kept, computed, rtol=1e-4, atol=1e-6)
