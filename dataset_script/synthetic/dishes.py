"""The dishes and trade signs of the synthetic photos, one of each for each of the ten categories."""

import math
from collections.abc import Callable

from dataset_script.synthetic.shapes import (
    BLACK,
    BLUE,
    BROWN,
    CREAM,
    CRUST,
    GREY,
    ORANGE,
    RED,
    SILVER,
    TEAL,
    WHITE,
    YELLOW,
    Pen,
)

# ---------------------------------------------------------------------------------------------------------------------
# Dishes, seen from above: centre and radius.


def pizza(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, CRUST)
    pen.disc(x, y, 0.86 * r, (245, 200, 90))
    turn = pen.rng.random() * math.pi
    for step in range(7):
        angle = turn + step * 0.9
        pen.disc(x + 0.55 * r * math.cos(angle), y + 0.55 * r * math.sin(angle), 0.17 * r, RED)
    for step in range(4):
        dx, dy = r * math.cos(turn + step * math.pi / 4), r * math.sin(turn + step * math.pi / 4)
        pen.line([(x - dx, y - dy), (x + dx, y + dy)], CRUST, 0.05 * r)


def coffee(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, SILVER)
    pen.oval(x + 0.75 * r, y - 0.2 * r, 0.3 * r, 0.16 * r, WHITE)
    pen.disc(x, y, 0.68 * r, WHITE)
    pen.disc(x, y, 0.56 * r, BROWN)
    pen.disc(x - 0.14 * r, y - 0.08 * r, 0.18 * r, CREAM)
    pen.disc(x + 0.14 * r, y - 0.08 * r, 0.18 * r, CREAM)
    pen.shape([(x - 0.3 * r, y), (x + 0.3 * r, y), (x, y + 0.36 * r)], CREAM)


def cake(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, (250, 225, 215))
    pen.disc(x, y, 0.72 * r, WHITE)
    for step in range(10):
        angle = step * math.pi / 5
        pen.disc(x + 0.85 * r * math.cos(angle), y + 0.85 * r * math.sin(angle), 0.12 * r, RED)
    for dx in (-0.3, 0.0, 0.3):
        pen.box(x + (dx - 0.05) * r, y - 0.35 * r, 0.1 * r, 0.6 * r, BLUE)
        pen.disc(x + dx * r, y - 0.42 * r, 0.1 * r, YELLOW, lit=True)


def donut(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, CRUST)
    pen.disc(x, y, 0.88 * r, (110, 200, 215))
    for _ in range(16):
        angle, reach = pen.rng.random() * 6.3, (0.45 + 0.35 * pen.rng.random()) * r
        sprinkle = pen.rng.choice((YELLOW, WHITE, RED))
        pen.disc(x + reach * math.cos(angle), y + reach * math.sin(angle), 0.06 * r, sprinkle)
    pen.disc(x, y, 0.3 * r, WHITE)


def burger(pen: Pen, x: float, y: float, r: float) -> None:
    for step in range(6):
        top, bottom = x + (0.35 + 0.11 * step) * r, x + (0.25 + 0.12 * step) * r
        pen.line([(top, y - 0.9 * r), (bottom, y + 0.1 * r)], YELLOW, 0.09 * r)
    pen.oval(x - 0.15 * r, y + 0.55 * r, 0.8 * r, 0.3 * r, CRUST)
    pen.oval(x - 0.15 * r, y + 0.35 * r, 0.86 * r, 0.26 * r, BROWN)
    pen.oval(x - 0.15 * r, y + 0.2 * r, 0.9 * r, 0.2 * r, (130, 180, 60))
    pen.oval(x - 0.15 * r, y - 0.12 * r, 0.8 * r, 0.5 * r, (215, 150, 75))
    for dx, dy in ((-0.5, -0.2), (-0.2, -0.4), (0.1, -0.2), (0.3, -0.35)):
        pen.oval(x + dx * r, y + dy * r, 0.07 * r, 0.05 * r, CREAM)


def rice_bowl(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, (60, 70, 90))
    turn, parts = pen.rng.random() * 6.3, (ORANGE, (140, 185, 80), (150, 80, 150), WHITE, (235, 110, 95))
    for step, color in enumerate(parts):
        angle = turn + step * 2 * math.pi / len(parts)
        pen.disc(x + 0.48 * r * math.cos(angle), y + 0.48 * r * math.sin(angle), 0.36 * r, color)


def fruit(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, (225, 215, 240))
    for step in range(14):
        angle, reach = step * 2.4, 0.2 * r * math.sqrt(step)
        color = ((150, 50, 160), RED, (250, 235, 120), (90, 70, 170))[step % 4]
        pen.disc(x + reach * math.cos(angle), y + reach * math.sin(angle), 0.2 * r, color)


def soup(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, WHITE)
    pen.disc(x, y, 0.8 * r, (120, 150, 60))
    pen.ring(x, y, 0.5 * r, CREAM, 0.1 * r)
    pen.disc(x + 0.1 * r, y, 0.16 * r, CREAM)


def sandwich(pen: Pen, x: float, y: float, r: float) -> None:
    for side in (-1, 1):
        corner = [(x + side * 0.12 * r, y - 0.7 * r), (x + side * 0.12 * r, y + 0.7 * r), (x + side * r, y + 0.1 * r)]
        pen.shape([(px, py + 0.16 * r) for px, py in corner], RED)
        pen.shape([(px, py + 0.08 * r) for px, py in corner], (140, 185, 80))
        pen.shape(corner, (235, 205, 150))


def pie(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, CRUST)
    pen.disc(x, y, 0.8 * r, (125, 25, 35))
    for step in (-0.5, -0.17, 0.17, 0.5):
        reach = r * math.sqrt(0.64 - step * step)
        pen.line([(x + step * r, y - reach), (x + step * r, y + reach)], (222, 175, 105), 0.12 * r)
        pen.line([(x - reach, y + step * r), (x + reach, y + step * r)], (222, 175, 105), 0.12 * r)


# ---------------------------------------------------------------------------------------------------------------------
# Trade signs, on shop fronts and walls: centre and radius.


def car(pen: Pen, x: float, y: float, r: float) -> None:
    roof, hood = y - 0.6 * r, y - 0.1 * r
    pen.shape([(x - 0.5 * r, hood), (x - 0.3 * r, roof), (x + 0.35 * r, roof), (x + 0.6 * r, hood)], BLUE)
    pen.box(x - r, y - 0.12 * r, 2 * r, 0.5 * r, BLUE)
    for dx in (-0.55, 0.55):
        pen.disc(x + dx * r, y + 0.4 * r, 0.28 * r, BLACK)
        pen.disc(x + dx * r, y + 0.4 * r, 0.12 * r, SILVER)


def shirt(pen: Pen, x: float, y: float, r: float) -> None:
    pen.shape(
        [
            (x - r, y - 0.5 * r),
            (x - 0.4 * r, y - 0.9 * r),
            (x + 0.4 * r, y - 0.9 * r),
            (x + r, y - 0.5 * r),
            (x + 0.7 * r, y),
            (x + 0.5 * r, y - 0.15 * r),
            (x + 0.5 * r, y + 0.9 * r),
            (x - 0.5 * r, y + 0.9 * r),
            (x - 0.5 * r, y - 0.15 * r),
            (x - 0.7 * r, y),
        ],
        TEAL,
    )
    pen.oval(x, y - 0.88 * r, 0.25 * r, 0.18 * r, WHITE)


def balloons(pen: Pen, x: float, y: float, r: float) -> None:
    for dx, dy, color in ((-0.55, -0.2, RED), (0.55, -0.25, YELLOW), (0.0, -0.55, BLUE)):
        pen.line([(x + dx * r, y + dy * r), (x, y + r)], GREY, 0.05 * r)
        pen.oval(x + dx * r, y + dy * r, 0.38 * r, 0.46 * r, color)


def dumbbell(pen: Pen, x: float, y: float, r: float) -> None:
    pen.box(x - 0.7 * r, y - 0.1 * r, 1.4 * r, 0.2 * r, SILVER)
    for side in (-1, 1):
        pen.box(x + side * 0.75 * r - 0.14 * r, y - 0.6 * r, 0.28 * r, 1.2 * r, BLACK)
        pen.box(x + side * 0.5 * r - 0.1 * r, y - 0.42 * r, 0.2 * r, 0.84 * r, GREY)


def flower(pen: Pen, x: float, y: float, r: float) -> None:
    for step in range(6):
        angle = step * math.pi / 3
        pen.disc(x + 0.55 * r * math.cos(angle), y + 0.55 * r * math.sin(angle), 0.36 * r, (175, 140, 215))
    pen.disc(x, y, 0.3 * r, YELLOW)


def washer(pen: Pen, x: float, y: float, r: float) -> None:
    pen.box(x - 0.8 * r, y - 0.95 * r, 1.6 * r, 1.9 * r, SILVER)
    pen.box(x - 0.8 * r, y - 0.95 * r, 1.6 * r, 0.35 * r, GREY)
    pen.disc(x, y + 0.2 * r, 0.58 * r, BLACK)
    pen.disc(x, y + 0.2 * r, 0.44 * r, (120, 180, 225))


def cross(pen: Pen, x: float, y: float, r: float) -> None:
    pen.disc(x, y, r, WHITE)
    pen.box(x - 0.24 * r, y - 0.75 * r, 0.48 * r, 1.5 * r, RED)
    pen.box(x - 0.75 * r, y - 0.24 * r, 1.5 * r, 0.48 * r, RED)


def house(pen: Pen, x: float, y: float, r: float) -> None:
    pen.box(x - 0.7 * r, y - 0.1 * r, 1.4 * r, r, CREAM)
    pen.shape([(x - r, y - 0.1 * r), (x, y - 0.9 * r), (x + r, y - 0.1 * r)], (165, 75, 50))
    pen.box(x - 0.18 * r, y + 0.3 * r, 0.36 * r, 0.6 * r, BROWN)


DISHES: dict[str, Callable[[Pen, float, float, float], None]] = {
    "Automotive": burger,
    "Shopping": donut,
    "Event Planning & Services": cake,
    "Pizza": pizza,
    "Coffee & Tea": coffee,
    "Active Life": rice_bowl,
    "Beauty & Spas": fruit,
    "Local Services": sandwich,
    "Health & Medical": soup,
    "Home Services": pie,
}
SIGNS: dict[str, tuple[str, Callable[[Pen, float, float, float], None]]] = {
    "Automotive": ("GARAGE", car),
    "Shopping": ("STORE", shirt),
    "Event Planning & Services": ("EVENTS", balloons),
    "Pizza": ("PIZZA", pizza),
    "Coffee & Tea": ("CAFE", coffee),
    "Active Life": ("SPORTS", dumbbell),
    "Beauty & Spas": ("BEAUTY", flower),
    "Local Services": ("LAUNDRY", washer),
    "Health & Medical": ("HEALTH", cross),
    "Home Services": ("HOME", house),
}
