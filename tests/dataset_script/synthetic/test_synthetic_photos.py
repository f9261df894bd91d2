"""The synthetic photos show what they should: the hour by light, each other trait by colours of its own."""

import random
from itertools import product

import numpy as np
import pytest

from dataset_script.synthetic.dishes import DISHES, SIGNS
from dataset_script.synthetic.photos import PAINTERS, Scene, draw_photo
from dataset_script.synthetic.reviews import Traits
from dataset_script.synthetic.words import CATEGORIES

LABELS = tuple(PAINTERS)
NOTHING = Traits(evening=False, upscale=False, happy_hour=False, takeaway=False)


def pixels(label, traits, luck=0, category="Pizza"):
    return np.asarray(draw_photo(Scene(label, category, traits), random.Random(luck), 64), dtype=float)


def share(picture, mask):
    red, green, blue = np.moveaxis(picture, 2, 0)
    return {"pink": (red > 150) & (blue > 80) & (green < 90), "green": (green > 130) & (red < 100) & (blue < 130)}[
        mask
    ].mean()


def test_every_label_of_yelp_and_every_category_of_the_profile_can_be_drawn():
    assert set(LABELS) == {"food", "drink", "inside", "outside", "menu"}
    assert set(DISHES) == set(SIGNS) == set(CATEGORIES)
    for label, category, traits in product(LABELS, CATEGORIES, product((False, True), repeat=4)):
        assert draw_photo(Scene(label, category, Traits(*traits)), random.Random(1), 16).size == (16, 16)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("luck", range(5))
def test_evenings_are_darker_than_days(label, luck):
    day, evening = (pixels(label, NOTHING._replace(evening=evening), luck) for evening in (False, True))
    assert evening.mean() < 0.8 * day.mean()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("luck", range(5))
@pytest.mark.parametrize("evening", [False, True])
def test_only_a_happy_hour_is_pink_and_only_packed_food_is_bright_green(label, luck, evening):
    plain = NOTHING._replace(evening=evening)
    assert share(pixels(label, plain._replace(happy_hour=True), luck), "pink") > 0.03
    assert share(pixels(label, plain._replace(takeaway=True), luck), "pink") < 0.01
    assert share(pixels(label, plain._replace(takeaway=True), luck), "green") > 0.008
    assert share(pixels(label, plain._replace(happy_hour=True), luck), "green") < 0.004


@pytest.mark.parametrize("label", LABELS)
def test_the_budget_changes_much_of_the_picture(label):
    cheap, dear = (pixels(label, NOTHING._replace(upscale=upscale)) for upscale in (False, True))
    assert (np.abs(cheap - dear).max(axis=2) > 60).mean() > 0.25


@pytest.mark.parametrize("label", ["food", "inside", "outside"])
def test_trades_differ_in_dish_or_sign(label):
    pictures = [pixels(label, NOTHING, category=category).tobytes() for category in CATEGORIES]
    assert len(set(pictures)) == len(CATEGORIES)


def test_the_same_luck_draws_the_same_photo_and_other_luck_another():
    one, again, other = (pixels("food", NOTHING, luck) for luck in (7, 7, 8))
    assert (one == again).all() and not (one == other).all()
