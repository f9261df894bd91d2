"""What synthetic photos are drawn with, and the things that stand in them: windows, tables, boards, bags.

Coordinates run from 0 to 1, x to the right and y down, whatever the size of the picture in pixels. Colours are RGB,
0 to 255, in plain daylight; the pen dims them to the light of the hour, unless a thing shines by itself.
"""

import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

WHITE, CREAM, BLACK, GREY, SILVER = (248, 248, 244), (240, 230, 208), (30, 28, 30), (128, 128, 132), (190, 194, 200)
GOLD, WOOD, RED, YELLOW, ORANGE = (212, 172, 70), (150, 100, 60), (205, 45, 40), (250, 210, 70), (238, 140, 40)
BROWN, CRUST, LEAF, BLUE, TEAL = (100, 60, 35), (205, 150, 85), (50, 110, 55), (60, 110, 190), (50, 150, 150)
# Reserved for one cue each, so that their hue is worth something even in a thumbnail.
HAPPY_PINK, TO_GO_GREEN, WINE_RED, KRAFT = (238, 30, 145), (40, 200, 75), (110, 25, 45), (204, 164, 112)


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


class Pen:
    """Draws on a square picture in unit coordinates; no two things have quite the same colour."""

    def __init__(self, pixels: int, rng: random.Random, light: tuple[float, float, float]):
        self.image = Image.new("RGB", (pixels, pixels))
        self.rng = rng
        self._draw = ImageDraw.Draw(self.image)
        self._pixels = pixels
        self._light = light

    def _ink(self, color: Color, lit: bool) -> Color:
        change = 20 * self.rng.random() - 10
        light = (1.0, 1.0, 1.0) if lit else self._light
        dimmed = [(channel + change) * part for channel, part in zip(color, light, strict=True)]
        red, green, blue = (max(0, min(255, round(channel))) for channel in dimmed)
        return red, green, blue

    def _points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self._pixels, y * self._pixels) for x, y in points]

    def box(self, x: float, y: float, width: float, height: float, color: Color, lit: bool = False) -> None:
        """A rectangle by its upper left corner."""
        self._draw.rectangle(self._points([(x, y), (x + width, y + height)]), fill=self._ink(color, lit))

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color, lit: bool = False) -> None:
        """An ellipse by its centre."""
        self._draw.ellipse(self._points([(x - rx, y - ry), (x + rx, y + ry)]), fill=self._ink(color, lit))

    def disc(self, x: float, y: float, radius: float, color: Color, lit: bool = False) -> None:
        self.oval(x, y, radius, radius, color, lit)

    def shape(self, points: list[tuple[float, float]], color: Color, lit: bool = False) -> None:
        """A filled polygon."""
        self._draw.polygon(self._points(points), fill=self._ink(color, lit))

    def line(self, points: list[tuple[float, float]], color: Color, width: float = 0.012, lit: bool = False) -> None:
        self._draw.line(self._points(points), fill=self._ink(color, lit), width=max(1, round(width * self._pixels)))

    def ring(self, x: float, y: float, radius: float, color: Color, width: float = 0.02) -> None:
        box = self._points([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(box, outline=self._ink(color, False), width=max(1, round(width * self._pixels)))

    def text(
        self, x: float, y: float, words: str, height: float, color: Color, anchor: str = "mm", lit: bool = False
    ) -> None:
        """Words by the middle of the line, or by another of Pillow's anchors."""
        font = _font(max(1, round(height * self._pixels)))
        self._draw.text((x * self._pixels, y * self._pixels), words, self._ink(color, lit), font, anchor)


# ---------------------------------------------------------------------------------------------------------------------
# Props: what tells the hour, the budget, a happy hour and a take-out counter, and what merely stands about.


def window(pen: Pen, x: float, y: float, width: float, height: float, evening: bool) -> None:
    """A window on the sky: blue with a cloud by day, navy with a moon in the evening."""
    pen.box(x - 0.015, y - 0.015, width + 0.03, height + 0.03, WHITE)
    pen.box(x, y, width, height, (22, 26, 66) if evening else (140, 205, 250), lit=True)
    spot = x + (0.25 + 0.5 * pen.rng.random()) * width
    if evening:
        pen.disc(spot, y + 0.3 * height, 0.12 * min(width, height), (250, 240, 190), lit=True)
    else:
        pen.oval(spot, y + 0.35 * height, 0.25 * width, 0.12 * height, WHITE, lit=True)
    pen.line([(x + width / 2, y), (x + width / 2, y + height)], WHITE, 0.014)


def table(pen: Pen, top: float, upscale: bool) -> None:
    """Everything below `top`: white linen with a wine-red runner, or a gingham cloth or a plastic tray."""
    if upscale:
        pen.box(0, top, 1, 1 - top, (238, 234, 228))
        for _ in range(4):
            x = pen.rng.random()
            pen.line([(x, top), (x + 0.1, 1)], (214, 210, 206), 0.01)
        y = top + (0.15 + 0.2 * pen.rng.random()) * (1 - top)
        pen.box(0, y, 1, 0.42 * (1 - top), WINE_RED)
        pen.line([(0, y), (1, y)], GOLD, 0.02)
        pen.line([(0, y + 0.42 * (1 - top)), (1, y + 0.42 * (1 - top))], GOLD, 0.02)
        return
    color = pen.rng.choice((RED, RED, BLUE, ORANGE))
    if pen.rng.random() < 0.3:
        pen.box(0, top, 1, 1 - top, color)
        pen.box(0.05, top + 0.05, 0.9, 0.9 - top, YELLOW)
        return
    pen.box(0, top, 1, 1 - top, WHITE)
    step = 0.1 + 0.04 * pen.rng.random()
    for row in range(math.ceil((1 - top) / step)):
        for column in range(row % 2, math.ceil(1 / step), 2):
            pen.box(column * step, top + row * step, step, step, color)


def plate(pen: Pen, x: float, y: float, r: float, upscale: bool) -> None:
    """A wide gold-rimmed plate between silver cutlery, or a red plastic basket lined with paper."""
    if upscale:
        for side, tip in ((-1.2, 0.8), (1.2, 0.9)):
            pen.line([(x + side * r, y - tip * r), (x + side * r, y + tip * r)], SILVER, 0.03)
        pen.disc(x, y, r, GOLD)
        pen.disc(x, y, 0.93 * r, WHITE)
        pen.disc(x, y, 0.66 * r, (228, 228, 228))
    else:
        pen.oval(x, y, 1.15 * r, r, (190, 30, 30))
        pen.shape(
            [
                (x - r, y - 0.5 * r),
                (x - 0.3 * r, y - 0.85 * r),
                (x + 0.9 * r, y - 0.6 * r),
                (x + r, y + 0.5 * r),
                (x - 0.1 * r, y + 0.85 * r),
                (x - 0.9 * r, y + 0.5 * r),
            ],
            (245, 238, 215),
        )


def happy_hour_board(pen: Pen, x: float, y: float, width: float) -> None:
    """A shining pink board by its centre, as wide as asked and two thirds as high."""
    height = 0.68 * width
    left, top = x - width / 2, y - height / 2
    pen.box(left, top, width, height, BLACK)
    pen.box(left + 0.04 * width, top + 0.04 * width, 0.92 * width, height - 0.08 * width, HAPPY_PINK, lit=True)
    pen.text(x, top + 0.28 * height, "HAPPY", 0.24 * width, YELLOW, lit=True)
    pen.text(x, top + 0.7 * height, pen.rng.choice(("HOUR", "HOUR", "4 - 6")), 0.24 * width, WHITE, lit=True)


def painting(pen: Pen, x: float, y: float, width: float) -> None:
    """What hangs where there is no board: a landscape, a clock, or nothing."""
    kind = pen.rng.random()
    if kind < 0.4:
        pen.box(x - width / 2, y - width / 3, width, 0.66 * width, WOOD)
        pen.box(x - 0.43 * width, y - 0.27 * width, 0.86 * width, 0.54 * width, (150, 190, 215))
        pen.oval(x, y + 0.2 * width, 0.43 * width, 0.14 * width, (120, 140, 90))
    elif kind < 0.6:
        pen.disc(x, y, 0.3 * width, BLACK)
        pen.disc(x, y, 0.26 * width, WHITE)
        pen.line([(x, y - 0.2 * width), (x, y), (x + 0.14 * width, y)], BLACK, 0.03 * width)


def to_go(pen: Pen, x: float, y: float, width: float) -> None:
    """Packed food standing on its lower middle (x, y): a paper bag, a stack of boxes or catering trays."""
    kind, left = pen.rng.random(), x - width / 2
    if kind < 0.6:
        top, fold = y - 1.2 * width, left + 0.14 * width
        pen.ring(x, top, 0.2 * width, BROWN, 0.05 * width)
        pen.box(left, top, width, 1.2 * width, KRAFT)
        pen.shape([(left, top), (fold, top + 0.14 * width), (fold, y), (left, y)], (168, 130, 84))
        pen.oval(x + 0.07 * width, y - 0.6 * width, 0.4 * width, 0.38 * width, TO_GO_GREEN, lit=True)
        pen.text(x + 0.07 * width, y - 0.6 * width, "TO GO", 0.24 * width, WHITE, lit=True)
        return
    color = KRAFT if kind < 0.8 else SILVER
    for level in range(3):
        bottom = y - 0.36 * level * width
        pen.box(left - 0.1 * width, bottom - 0.34 * width, 1.2 * width, 0.34 * width, color)
        pen.box(left - 0.14 * width, bottom - 0.36 * width, 1.28 * width, 0.14 * width, TO_GO_GREEN, lit=True)
    pen.text(x, y - 0.56 * width, "TO GO", 0.24 * width, BLACK)


def clutter(pen: Pen, x: float, y: float, width: float) -> None:
    """What stands where nothing is packed: a vase, sauce bottles, a napkin box, or nothing."""
    kind = pen.rng.random()
    if kind < 0.3:
        pen.box(x - 0.2 * width, y - 0.6 * width, 0.4 * width, 0.6 * width, (170, 190, 215))
        for dx in (-0.25, 0.0, 0.25):
            pen.line([(x, y - 0.6 * width), (x + dx * width, y - width)], LEAF, 0.05 * width)
            pen.disc(x + dx * width, y - width, 0.14 * width, YELLOW)
    elif kind < 0.55:
        for dx, color in ((-0.2, RED), (0.2, (235, 190, 50))):
            pen.box(x + (dx - 0.13) * width, y - 0.7 * width, 0.26 * width, 0.7 * width, color)
            pen.box(x + (dx - 0.05) * width, y - 0.9 * width, 0.1 * width, 0.2 * width, WHITE)
    elif kind < 0.75:
        pen.box(x - 0.4 * width, y - 0.6 * width, 0.8 * width, 0.6 * width, GREY)
        pen.box(x - 0.25 * width, y - 0.75 * width, 0.5 * width, 0.3 * width, WHITE)


def lamp(pen: Pen, x: float, y: float, upscale: bool, evening: bool) -> None:
    """A chandelier, or a bare bulb, hanging down to (x, y)."""
    shine = (255, 225, 150) if evening else (244, 240, 224)
    pen.line([(x, 0), (x, y)], BLACK, 0.01)
    if not upscale:
        pen.disc(x, y, 0.04, shine, lit=True)
        return
    pen.shape([(x - 0.14, y), (x + 0.14, y), (x + 0.07, y + 0.06), (x - 0.07, y + 0.06)], GOLD)
    for dx in (-0.13, -0.045, 0.045, 0.13):
        pen.disc(x + dx, y - 0.02, 0.025, shine, lit=True)
