"""Draws the photos of the synthetic Yelp: dishes, drinks, rooms, shop fronts and menus.

A photo shows the hour by its light, the budget by table, walls and prices, a happy hour by its board and a take-out
counter by what stands packed; the trade by dish or sign. Everything moves, changes its hue and its size from photo to
photo, and things that mean nothing stand about.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dataset_script.synthetic.dishes import DISHES, SIGNS
from dataset_script.synthetic.reviews import Traits
from dataset_script.synthetic.shapes import (
    BLACK,
    BLUE,
    BROWN,
    CREAM,
    GOLD,
    GREY,
    HAPPY_PINK,
    LEAF,
    ORANGE,
    RED,
    SILVER,
    TO_GO_GREEN,
    WHITE,
    WINE_RED,
    WOOD,
    YELLOW,
    Pen,
    clutter,
    happy_hour_board,
    lamp,
    painting,
    plate,
    table,
    to_go,
    window,
)

SUPERSAMPLING = 2
MARGIN = 1.08  # the camera looks at the middle 1 / MARGIN of what is drawn

MENU_ITEMS = ("Soup", "Salad", "Pasta", "Steak", "Fish", "Wings", "Toast", "Tacos", "Curry", "Tart", "Ravioli")


@dataclass(frozen=True)
class Scene:
    """What a photo shows. `label` is Yelp's kind of photo: food, drink, inside, outside or menu."""

    label: str
    category: str
    traits: Traits


def draw_photo(scene: Scene, rng: random.Random, size: int) -> Image.Image:
    """The scene as an RGB picture of size x size pixels; `rng` places everything that the scene leaves open."""
    if scene.traits.evening:
        exposure = rng.uniform(0.54, 0.7)
        light = (exposure, 0.8 * exposure, 0.6 * exposure)
    else:
        exposure = rng.uniform(0.88, 1.05)
        light = (0.99 * exposure, exposure, exposure)
    pen = Pen(round(size * SUPERSAMPLING * MARGIN), rng, light)
    PAINTERS[scene.label](pen, scene)
    return _develop(pen.image, scene.traits.evening, rng, size)


def _develop(image: Image.Image, evening: bool, rng: random.Random, size: int) -> Image.Image:
    """Point the camera, a little askew; then add the fall-off of light from one spot, shadows, and grain."""
    angle, zoom = rng.gauss(0, 0.03), rng.uniform(0.94, 1.0)
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    middle, view = image.width / 2, size * SUPERSAMPLING
    x0 = middle - (cosine - sine) * view / 2
    y0 = middle - (cosine + sine) * view / 2
    image = image.transform(
        (view, view), Image.Transform.AFFINE, (cosine, -sine, x0, sine, cosine, y0), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)
    generator = np.random.default_rng(rng.getrandbits(64))
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    distance = (axis[None, :] - rng.uniform(-0.4, 0.4)) ** 2 + (axis[:, None] - rng.uniform(-0.4, 0.4)) ** 2
    light = 1.2 * np.exp(-0.3 * distance) if evening else 1.03 - 0.05 * distance
    shadows = Image.fromarray(generator.normal(1, 0.06, (5, 5)).astype(np.float32))
    shadows = np.asarray(shadows.resize((size, size), Image.Resampling.BICUBIC))
    pixels = pixels * (light * shadows)[:, :, None]
    grain = rng.uniform(2, 7) * generator.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def _room(pen: Pen, scene: Scene, floor: float) -> None:
    """Wall, window and hanging lamps down to `floor`."""
    rng = pen.rng
    if scene.traits.upscale:
        pen.box(0, 0, 1, floor, CREAM)
        pen.line([(0, floor - 0.05), (1, floor - 0.05)], GOLD, 0.02)
    else:
        pen.box(0, 0, 1, floor, rng.choice(((250, 235, 170), (190, 225, 215), (245, 205, 165))))
    width, left = rng.uniform(0.26, 0.34), rng.uniform(0.08, 0.16)
    window(pen, left, 0.08, width, floor * 0.6, scene.traits.evening)
    if scene.traits.upscale:
        for x in (left - 0.06, left + width):
            pen.box(x, 0.05, 0.07, floor * 0.75, WINE_RED)
    lamp(pen, rng.uniform(0.46, 0.54), rng.uniform(0.13, 0.18), scene.traits.upscale, scene.traits.evening)


def _on_the_wall(pen: Pen, scene: Scene, x: float, y: float) -> None:
    x, y, width = pen.rng.gauss(x, 0.03), pen.rng.gauss(y, 0.025), pen.rng.uniform(0.32, 0.4)
    (happy_hour_board if scene.traits.happy_hour else painting)(pen, x, y, width)


def _on_the_table(pen: Pen, scene: Scene, x: float, y: float) -> None:
    x, y, width = pen.rng.gauss(x, 0.03), pen.rng.gauss(y, 0.025), pen.rng.uniform(0.22, 0.29)
    (to_go if scene.traits.takeaway else clutter)(pen, x, y, width)


def _candle(pen: Pen, x: float, y: float) -> None:
    pen.disc(x, y - 0.05, 0.085, (240, 160, 70), lit=True)
    pen.box(x - 0.022, y - 0.03, 0.044, 0.1, WHITE)
    pen.oval(x, y - 0.05, 0.018, 0.035, (255, 245, 170), lit=True)


def _food(pen: Pen, scene: Scene) -> None:
    """A dish on its table; half of the time with some of the room behind it."""
    rng = pen.rng
    top = rng.uniform(0.38, 0.46) if rng.random() < 0.6 else 0.0
    if top:
        _room(pen, scene, top)
    table(pen, top, scene.traits.upscale)
    if not top and not scene.traits.evening:
        x = rng.uniform(0.1, 0.5)
        pen.shape([(x, 0), (x + 0.16, 0), (x - 0.1, 0.4), (x - 0.26, 0.4)], (255, 250, 215), lit=True)
    x, y, r = rng.uniform(0.34, 0.44), rng.uniform(0.66, 0.72), rng.uniform(0.2, 0.25)
    plate(pen, x, y, r, scene.traits.upscale)
    DISHES[scene.category](pen, x, y, (0.6 if scene.traits.upscale else 0.78) * r)
    if scene.traits.evening:
        _candle(pen, rng.uniform(0.1, 0.2), rng.uniform(0.46, 0.52))
    _on_the_wall(pen, scene, 0.72, 0.27)
    _on_the_table(pen, scene, 0.8, 0.88)


def _drink(pen: Pen, scene: Scene) -> None:
    """A stemmed glass, or a mug of beer, in front of the room."""
    rng = pen.rng
    top = rng.uniform(0.55, 0.62)
    _room(pen, scene, top)
    table(pen, top, scene.traits.upscale)
    x, y = rng.uniform(0.3, 0.42), rng.uniform(0.84, 0.9)
    if scene.traits.upscale:
        pen.oval(x, y, 0.1, 0.03, SILVER)
        pen.box(x - 0.012, y - 0.24, 0.024, 0.24, SILVER)
        pen.oval(x, y - 0.36, 0.11, 0.16, (225, 228, 235))
        pen.oval(x, y - 0.31, 0.1, 0.11, rng.choice((WINE_RED, GOLD)))
    else:
        pen.ring(x + 0.13, y - 0.17, 0.08, WHITE, 0.03)
        pen.box(x - 0.13, y - 0.32, 0.26, 0.32, rng.choice((ORANGE, (230, 170, 50), BROWN)))
        pen.oval(x, y - 0.33, 0.14, 0.05, WHITE)
    if scene.traits.evening:
        _candle(pen, rng.uniform(0.1, 0.16), rng.uniform(0.7, 0.76))
    _on_the_wall(pen, scene, 0.73, 0.28)
    _on_the_table(pen, scene, 0.78, 0.9)


def _inside(pen: Pen, scene: Scene) -> None:
    """A room with two tables; the trade's sign hangs between window and board."""
    rng, upscale = pen.rng, scene.traits.upscale
    floor = rng.uniform(0.54, 0.6)
    _room(pen, scene, floor)
    pen.box(0, floor, 1, 1 - floor, WOOD if upscale else (176, 178, 180))
    for step in range(0 if upscale else 5):
        for row in range(3):
            pen.box(0.2 * step + 0.1 * (row % 2), floor + 0.05 + 0.14 * row, 0.1, 0.14, WHITE)
    chairs = WINE_RED if upscale else rng.choice((RED, ORANGE, YELLOW))
    for x, y in ((rng.uniform(0.2, 0.26), floor + 0.16), (rng.uniform(0.52, 0.6), floor + 0.08)):
        for side in (-1, 1):
            pen.box(x + side * 0.17 - 0.035, y - 0.1, 0.07, 0.22, chairs)
            pen.box(x + side * 0.14 - 0.06, y + 0.06, 0.12, 0.05, chairs)
            pen.line([(x + side * 0.17, y + 0.1), (x + side * 0.17, y + 0.2)], BLACK)
        if upscale:
            pen.shape([(x - 0.13, y), (x + 0.13, y), (x + 0.15, y + 0.22), (x - 0.15, y + 0.22)], (226, 222, 218))
            pen.oval(x, y, 0.135, 0.04, WHITE)
            pen.oval(x, y - 0.01, 0.045, 0.014, GOLD)
        else:
            pen.box(x - 0.02, y, 0.04, 0.22, BLACK)
            pen.oval(x, y, 0.14, 0.04, chairs)
            pen.box(x - 0.02, y - 0.06, 0.04, 0.06, RED)
    SIGNS[scene.category][1](pen, rng.uniform(0.45, 0.5), rng.uniform(0.4, 0.46), 0.075)
    _on_the_wall(pen, scene, 0.73, 0.27)
    _on_the_table(pen, scene, 0.81, 0.9)


def _outside(pen: Pen, scene: Scene) -> None:
    """A shop front under the sky: stone and columns, or plaster under a striped awning."""
    rng, evening, upscale = pen.rng, scene.traits.evening, scene.traits.upscale
    pen.box(0, 0, 1, 1, (22, 26, 66) if evening else (140, 205, 250), lit=True)
    for _ in range(8 if evening else 2):
        x, y = rng.random(), rng.uniform(0.04, 0.15)
        pen.oval(x, y, 0.008 if evening else 0.1, 0.008 if evening else 0.025, WHITE, lit=True)
    roof = rng.uniform(0.17, 0.22)
    wall = (214, 208, 200) if upscale else rng.choice(((240, 190, 130), (240, 220, 140), (200, 220, 200)))
    pen.box(0.04, roof, 0.92, 1 - roof, wall)
    pen.box(0, 0.89, 1, 0.11, GREY)
    glass = (255, 215, 120) if evening else (170, 205, 225)
    pen.box(0.1, 0.48, 0.33, 0.33, glass, lit=True)
    for x in (0.17, 0.27, 0.36):  # people at the tables behind the glass
        height = rng.uniform(0.1, 0.16)
        pen.box(x - 0.03, 0.81 - height, 0.06, height, (90, 84, 90))
        pen.disc(x, 0.8 - height, 0.028, (90, 84, 90))
    pen.box(0.46, 0.48, 0.15, 0.42, BROWN)
    pen.box(0.485, 0.52, 0.1, 0.18, glass, lit=True)
    _facade(pen, upscale, roof)
    word, sign = SIGNS[scene.category]
    pen.box(0.08, roof + 0.04, 0.5, 0.17, BLACK if upscale else WHITE)
    sign(pen, 0.165, roof + 0.125, 0.07)
    pen.text(0.405, roof + 0.125, word, 0.075, GOLD if upscale else RED, lit=True)
    if scene.traits.happy_hour:
        _on_the_wall(pen, scene, 0.76, roof + 0.2)
    elif rng.random() < 0.5:
        pen.box(0.68, roof + 0.1, rng.uniform(0.18, 0.24), 0.22, glass, lit=True)
    if scene.traits.takeaway:
        _on_the_table(pen, scene, 0.78, 0.93)
    elif rng.random() < 0.6:
        pen.disc(0.78, 0.74, rng.uniform(0.07, 0.1), LEAF)
        pen.box(0.72, 0.78, 0.12, 0.14, ORANGE)


def _facade(pen: Pen, upscale: bool, roof: float) -> None:
    if upscale:
        for x in (0.04, 0.61, 0.91):
            pen.box(x, roof, 0.05, 0.89 - roof, WHITE)
        pen.box(0.02, roof - 0.04, 0.96, 0.06, WHITE)
        pen.box(0.09, 0.43, 0.53, 0.07, WINE_RED)
        pen.line([(0.09, 0.5), (0.62, 0.5)], GOLD, 0.02)
        return
    stripes = pen.rng.choice((RED, RED, ORANGE, BLUE))
    for step in range(9):
        pen.shape(
            [
                (0.08 + 0.06 * step, 0.42),
                (0.14 + 0.06 * step, 0.42),
                (0.135 + 0.065 * step, 0.54),
                (0.07 + 0.065 * step, 0.54),
            ],
            WHITE if step % 2 else stripes,
        )


def _menu(pen: Pen, scene: Scene) -> None:
    """A menu with its prices, lying on the table."""
    rng, upscale = pen.rng, scene.traits.upscale
    table(pen, 0.0, upscale)
    left, top, width = rng.uniform(0.12, 0.18), rng.uniform(0.07, 0.11), 0.66
    pen.box(left, top, width, 0.84, GOLD if upscale else RED)
    pen.box(left + 0.02, top + 0.02, width - 0.04, 0.8, (250, 246, 232) if upscale else (255, 238, 150))
    title, ink = ("LUNCH", "DINNER")[scene.traits.evening], WINE_RED if upscale else RED
    pen.text(left + width / 2, top + 0.1, title if rng.random() < 0.5 else "MENU", 0.12, ink)
    for row, item in enumerate(rng.sample(MENU_ITEMS, 4)):
        y = top + 0.24 + 0.1 * row
        price = f"{rng.randrange(28, 95)}" if upscale else f"{rng.randrange(3, 10)}.{rng.choice((50, 90, 99))}"
        pen.text(left + 0.05, y, item, 0.075, BLACK, anchor="lm")
        pen.text(left + width - 0.05, y, f"${price}", 0.08, ink, anchor="rm")
    if scene.traits.happy_hour:
        pen.box(left + 0.04, top + 0.62, width - 0.08, 0.18, HAPPY_PINK, lit=True)
        pen.text(left + width / 2, top + 0.71, "HAPPY HOUR", 0.078, WHITE, lit=True)
    else:
        pen.text(left + width / 2, top + 0.71, "thank you", 0.08, GREY)
    if scene.traits.takeaway and rng.random() < 0.5:
        pen.disc(left + width, top + 0.12, 0.13, TO_GO_GREEN, lit=True)
        pen.text(left + width, top + 0.12, "TO GO", 0.075, WHITE, lit=True)
    else:
        _on_the_table(pen, scene, 0.82, 0.93)
    if scene.traits.evening:
        _candle(pen, 0.08, rng.uniform(0.3, 0.8))


PAINTERS = {"food": _food, "drink": _drink, "inside": _inside, "outside": _outside, "menu": _menu}
