"""The pipeline on whole histories: reviews with photos of their own, and views."""

import numpy as np
import pytest

from mmprofile.user_histories_mmprofile import cut_history, photo_weights
from tests.library.test_pipeline_mmprofile import assert_same, with_model

COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0))
PHOTOS = [np.full((6, 6, 3), color, np.uint8) for color in COLORS]
REVIEWS = ["great pizza", "cold soup", "the staff was kind", "loud music , never again"]


def own(*photos: list) -> list[dict]:
    return [{"text": text, "images": images} for text, images in zip(REVIEWS, photos, strict=True)]


def searched(profiler, views: list[dict]) -> dict:
    """What the model says to views that were cut by hand."""
    processor, model = profiler.processor, profiler.model
    rows = [processor.encode_user(model.config.sees, **view) for view in views]
    (answer,) = model.profile_users(processor.pad_users(rows), processor.tokenizer, views=[len(rows)])
    return answer


def test_a_history_is_read_in_views_of_so_many_reviews_as_the_config_says(profiler):
    hand_cut = [{"reviews": REVIEWS[:1]}, {"reviews": REVIEWS[1:]}]
    assert_same([profiler({"reviews": REVIEWS})], [searched(profiler, hand_cut)])
    pairs = with_model(profiler, view_reviews=2)
    hand_cut = [{"reviews": REVIEWS[:2]}, {"reviews": REVIEWS[2:]}]
    assert_same([pairs({"reviews": REVIEWS})], [searched(pairs, hand_cut)])


def test_reviews_with_photos_of_their_own_are_read_with_them(profiler):
    user = {"reviews": own(PHOTOS[:1], [], PHOTOS[1:3], [])}
    hand_cut = [{"reviews": REVIEWS[:1], "images": PHOTOS[:1]}, {"reviews": REVIEWS[1:], "images": PHOTOS[1:3]}]
    expected = searched(profiler, hand_cut)
    assert_same([profiler(user)], [expected])
    captioned = {"reviews": [*user["reviews"][:1], REVIEWS[1], user["reviews"][2] | {"captions": ["a cake", None]}]}
    short = [{"reviews": REVIEWS[:3], "images": PHOTOS[:3], "captions": ["a cake"]}]
    assert_same([profiler(captioned)], [searched(profiler, short)])
    other = profiler({"reviews": own([], PHOTOS[:1], PHOTOS[1:3], [])})
    assert other["log_probability"] != pytest.approx(expected["log_probability"], abs=1e-4)


def test_views_are_a_number_or_all(profiler):
    user = {"reviews": own(PHOTOS[:1], [], [], PHOTOS[1:2])}
    one = {"reviews": REVIEWS[:3], "images": PHOTOS[:1]}
    answer = profiler(user, views=1)
    assert_same([answer], [searched(profiler, [one]) | {"image_weights": [1.0, 0.0]}])
    assert_same([profiler(user, views="all"), profiler(user, views=2)], [profiler(user)] * 2)
    for wrong in (0, "some", 1.5, True):
        with pytest.raises(ValueError, match='views are a number of at least 1, or "all"'):
            profiler(user, views=wrong)


def test_of_an_endless_history_the_newest_views_are_read_unless_all_are_asked_for(profiler):
    user = {"reviews": REVIEWS * 50}
    newest = profiler({"reviews": (REVIEWS * 50)[: 2 + 63 * 3]})
    assert_same([profiler(user)], [newest])
    assert_same([profiler(user, views=67)], [profiler(user, views="all")])
    assert profiler(user, views="all")["log_probability"] != pytest.approx(newest["log_probability"], abs=1e-6)


def test_drawn_views_are_read_beside_and_their_photos_weights_are_added(profiler):
    user = {"reviews": own(PHOTOS[:1], [], PHOTOS[1:2], [])}
    parts, positions = cut_history(4, 3, draws=2), [[0], [], [1], []]
    views = [
        {"reviews": [REVIEWS[n] for n in part], "images": [PHOTOS[place] for n in part for place in positions[n]]}
        for part in parts
    ]
    expected = searched(profiler, views)
    places = [place for part in parts for n in part for place in positions[n]]
    assert len(parts) == 4 and len(places) > 2
    expected["image_weights"] = photo_weights(places, expected["image_weights"], 2)
    answer = profiler(user, draws=2)
    assert_same([answer], [expected])
    assert sum(answer["image_weights"]) == pytest.approx(1, abs=1e-5)
    assert answer["log_probability"] != pytest.approx(profiler(user)["log_probability"], abs=1e-5)
    for wrong in (-1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="draws are a number of at least 0"):
            profiler(user, draws=wrong)
    with pytest.raises(ValueError, match="draws=2 are of a history in several views"):
        profiler(user, draws=2, views=1)
    with pytest.raises(ValueError, match="with draws=2 several views have it"):
        profiler(user, draws=2, explain=True)


def test_photo_weights_are_in_the_order_given_over_several_views(profiler):
    """Dealt out, the first and third are of the newest view, the second and fourth of the older one."""
    answer = profiler({"reviews": REVIEWS, "images": PHOTOS})
    views = [
        {"reviews": REVIEWS[:1], "images": [PHOTOS[0], PHOTOS[2]]},
        {"reviews": REVIEWS[1:], "images": [PHOTOS[1], PHOTOS[3]]},
    ]
    first, third, second, fourth = searched(profiler, views)["image_weights"]
    assert answer["image_weights"] == pytest.approx([first, second, third, fourth], abs=1e-5)
    assert len({round(weight, 6) for weight in answer["image_weights"]}) > 1
    blank = profiler({"reviews": [{"text": " ", "images": PHOTOS[:1]}, *own([], PHOTOS[1:2], PHOTOS[2:3], [])[1:]]})
    assert blank["image_weights"][0] == 0.0 and sum(blank["image_weights"]) == pytest.approx(1, abs=1e-5)
    assert blank["problems"] == ["a review without words is left out, with its photos"]
    several = profiler({"reviews": ["great pizza", " ", "", " "]})["problems"]
    assert several == ["3 reviews without words are left out, with their photos"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"reviews": [{"text": "good"}], "images": PHOTOS[:1]}, "the user's or the reviews', not both"),
        ({"reviews": [{"text": "good", "photos": []}]}, r"review 1 has text, images, captions, got \['photos'\]"),
        ({"reviews": ["good", {"images": []}]}, "review 2 needs a text"),
        ({"reviews": ["good", {"text": 7}]}, "a review is a text, got int"),
        ({"reviews": [{"text": " "}]}, "a review with words"),
    ],
)
def test_reviews_of_another_form_are_refused(profiler, user, message):
    with pytest.raises(ValueError, match=message):
        profiler(user)
