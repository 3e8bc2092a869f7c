"""Draw README's moving picture from a recorded conversation: replies that move through the persona space.

    python tools/moving_picture.py [RECORDING] [--out docs/moving.gif]

A recording is a file that the live page saves (`tools/record_conversations.py` made those that come with it):
the places of roles, default and replies in the space, and the position of every token on the axis. Without a
plan and under a cap are drawn side by side, token by token. Nothing in the picture is made up but its words.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "src/personascope/live/assets/recordings/basil.json"
SIZE = (880, 452)
SCALE = 2
"""Factor at which frames are drawn, before they are made smaller and smooth."""

COLOURS = 144
STEP = 4
"""Tokens between two frames."""

TYPED, READ, END = 110, 1300, 3600
"""Milliseconds of a frame while replies are typed, after each turn, and at the end."""

WHITE, PAPER, INK, SOFT, LINE = (
    (255, 255, 255),
    (246, 247, 249),
    (30, 34, 40),
    (105, 112, 122),
    (222, 226, 231),
)
ROLE, MIDDLE, ASSISTANT = (205, 84, 20), (140, 140, 140), (20, 104, 190)
SPACE = (18, 62, 398, 388)
"""Box of the persona space: left, top, right, bottom."""

COLUMNS = ((424, 638), (652, 866))
"""Left and right ends of the two columns of replies."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Turn:
    """One turn: the user's message, and two replies.

    Attributes:
        user: Message.
        tokens: Of each reply its tokens with their positions; None for one without.
        positions: Mean position of each reply.
        places: Coordinates of each reply on the first two components.
    """

    user: str
    tokens: tuple[list[tuple[str, float | None]], ...]
    positions: tuple[float, ...]
    places: tuple[tuple[float, float], ...]


def tint(position: float | None) -> Colour:
    """Return the colour of a position: orange below the roles, grey between, blue at the Assistant."""
    if position is None:
        return INK
    share = max(-1.0, min(1.0, 2 * position - 1))
    end = ASSISTANT if share > 0 else ROLE
    return tuple(round(a + (b - a) * abs(share)) for a, b in zip(MIDDLE, end, strict=True))  # type: ignore[return-value]


def turns_of(conversation: dict[str, Any]) -> list[Turn]:
    """Read the turns of a recorded conversation."""
    return [
        Turn(
            turn["user"],
            tuple(
                list(zip(reply["tokens"]["text"], reply["tokens"]["position"], strict=True))
                for reply in turn["replies"]
            ),
            tuple(reply["answer"]["position"] for reply in turn["replies"]),
            tuple((reply["answer"]["space"][0], reply["answer"]["space"][1]) for reply in turn["replies"]),
        )
        for turn in conversation["turns"]
    ]


class Picture:
    """Frames of a conversation, drawn larger and then made smaller."""

    def __init__(self, record: dict[str, Any]) -> None:
        """Read the record and place the space in its box."""
        self.conversation = record["conversations"][0]
        source = record["sources"][self.conversation["source"]]
        self.space, self.layer = source["space"], source["map"]["layer"]
        self.model = record["sources"][0]["model"]
        self.turns = turns_of(self.conversation)
        places = [role["at"][:2] for role in self.space["roles"]]
        places += [self.space["default"][:2], *(place for turn in self.turns for place in turn.places)]
        left, top, right, bottom = SPACE
        ends = [(min(one[axis] for one in places), max(one[axis] for one in places)) for axis in (0, 1)]
        self.middle = [sum(pair) / 2 for pair in ends]
        spans = [pair[1] - pair[0] for pair in ends]
        self.unit = min((right - left - 56) / spans[0], (bottom - top - 44) / spans[1])

    def at(self, place: tuple[float, float] | list[float]) -> tuple[float, float]:
        """Return the point of a place on the first two components."""
        left, top, right, bottom = SPACE
        x = (left + right) / 2 + (place[0] - self.middle[0]) * self.unit
        y = (top + bottom) / 2 - (place[1] - self.middle[1]) * self.unit
        return x * SCALE, y * SCALE

    def frames(self) -> tuple[list[Image.Image], list[int]]:
        """Return the frames, and how long each is shown in milliseconds."""
        shown, times = [], []
        for number, turn in enumerate(self.turns):
            longest = max(map(len, turn.tokens))
            for told in [*range(0, longest, STEP), longest]:
                shown.append(self.draw(number, told, longest))
                times.append(TYPED)
            times[-1] = END if number == len(self.turns) - 1 else READ
        return shown, times

    def draw(self, number: int, told: int, longest: int) -> Image.Image:
        """Draw a turn of which the first tokens are told."""
        image = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), WHITE)
        pen = ImageDraw.Draw(image)
        write(
            pen,
            (18, 12),
            f"The persona space of {self.model}, and a conversation moving through it",
            16,
            bold=True,
        )
        write(pen, (18, 35), "Each token has the colour of its position on the Assistant Axis.", 12, SOFT)
        self._space(pen, number, told / longest)
        self._scale(pen)
        self._chat(pen, number, told)
        return image.resize(SIZE, Image.Resampling.LANCZOS)

    def _space(self, pen: ImageDraw.ImageDraw, number: int, share: float) -> None:
        left, top, right, bottom = (value * SCALE for value in SPACE)
        pen.rounded_rectangle((left, top, right, bottom), 8 * SCALE, fill=PAPER)
        default, axis = self.space["default"][:2], self.space["axis"][:2]
        length = (axis[0] ** 2 + axis[1] ** 2) ** 0.5
        from_, to = (self.at([sign * 12.5 * one / length for one in axis]) for sign in (-1, 1))
        pen.line((*from_, *to), fill=(188, 194, 202), width=2 * SCALE)
        write(pen, (from_[0] / SCALE - 2, from_[1] / SCALE - 16), "Assistant Axis", 10.5, SOFT)
        for role in self.space["roles"]:
            dot(pen, self.at(role["at"][:2]), 3.2, tint(role["position"]))
        ranked = sorted(self.space["roles"], key=lambda role: role["position"])
        for role in (ranked[0], ranked[-1]):
            x, y = self.at(role["at"][:2])
            write(pen, (x / SCALE, y / SCALE - 15), role["name"], 10, SOFT, centre=True)
        star(pen, self.at(default), 9, INK)
        x, y = self.at(default)
        write(pen, (x / SCALE, y / SCALE + 8), "default Assistant", 11, INK, bold=True, centre=True)
        for column, colour in enumerate((ROLE, ASSISTANT)):
            path = [self.at(turn.places[column]) for turn in self.turns[: number + 1]]
            if len(path) > 1:
                (x, y), (to_x, to_y) = path[-2:]
                path[-1] = (x + (to_x - x) * share, y + (to_y - y) * share)
            if len(path) == 1 and not share:
                continue
            if len(path) > 1:
                pen.line(
                    [point for place in path for point in place], fill=colour, width=3 * SCALE, joint="curve"
                )
            for place in path[:-1]:
                dot(pen, place, 4.5, colour, ring=True)
            dot(pen, path[-1], 7.5, colour, ring=True)
        write(
            pen, (30, 70), f"{len(self.space['roles'])} roles at layer {self.layer}, PC1 and PC2", 10.5, SOFT
        )

    def _scale(self, pen: ImageDraw.ImageDraw) -> None:
        left, right, top = 118, 288, 402
        for x in range(left * SCALE, right * SCALE):
            where = (x / SCALE - left) / (right - left)
            pen.line((x, top * SCALE, x, (top + 9) * SCALE), fill=tint(2 * where - 0.5))
        write(pen, (20, top - 3), "away from it", 11.5, ROLE, bold=True)
        write(pen, (right + 8, top - 3), "as the Assistant", 11.5, ASSISTANT, bold=True)
        for value in (0, 1):
            x = left + (right - left) * (value + 0.5) / 2
            write(pen, (x, top + 13), "mean role 0" if value == 0 else "default 1", 10, SOFT, centre=True)

    def _chat(self, pen: ImageDraw.ImageDraw, number: int, told: int) -> None:
        turn = self.turns[number]
        box = (COLUMNS[0][0], 62, COLUMNS[1][1], 104)
        pen.rounded_rectangle([value * SCALE for value in box], 8 * SCALE, fill=(235, 238, 242))
        write(pen, (box[0] + 12, 67), f"user, turn {number + 1} of {len(self.turns)}", 10, SOFT)
        room = box[2] - box[0] - 24
        size = next(size for size in (12.5, 11.5, 10.5, 9.5) if width(turn.user, size, bold=True) <= room)
        write(pen, (box[0] + 12, 81), turn.user, size, INK, bold=True)
        names = ("without a plan", "capped along the axis")
        for column, (left, right) in enumerate(COLUMNS):
            colour = (ROLE, ASSISTANT)[column]
            dot(pen, ((left + 6) * SCALE, 122 * SCALE), 5, colour)
            write(pen, (left + 17, 114), names[column], 12, colour, bold=True)
            self._reply(pen, turn.tokens[column][:told], left, right)
            if told >= len(turn.tokens[column]):
                value = turn.positions[column]
                write(pen, (left, 372), "position of the reply", 11, SOFT)
                write(pen, (left, 388), f"{value:+.2f}".replace("-", "\u2212"), 22, tint(value), bold=True)

    @staticmethod
    def _reply(
        pen: ImageDraw.ImageDraw, tokens: list[tuple[str, float | None]], left: int, right: int
    ) -> None:
        """Write tokens in lines, each in the colour of its position; a word is not broken."""
        words: list[list[tuple[str, float | None]]] = []
        for text, position in tokens:
            for index, part in enumerate(text.split("\n")):
                if index:
                    words.append([("\n", None)])
                if part and (part[0] == " " or not words or words[-1][0][0] == "\n"):
                    words.append([(part, position)])
                elif part:
                    words[-1].append((part, position))
        x, y = float(left), 136.0
        for word in words:
            if word[0][0] == "\n":
                x, y = float(left), y + (17 if x > left else 0)
                continue
            wide = sum(width(text, 12) for text, _ in word)
            if x + wide > right and x > left:
                x, y = float(left), y + 17
            for text, position in word:
                told = text.lstrip() if x == left else text
                write(pen, (x, y), told, 12, tint(position))
                x += width(told, 12)


_FONTS: dict[tuple[float, bool], ImageFont.FreeTypeFont] = {}


def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib."""
    if (size, bold) not in _FONTS:
        asked = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
        _FONTS[size, bold] = ImageFont.truetype(font_manager.findfont(asked), round(size * SCALE))
    return _FONTS[size, bold]


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text."""
    return font(size, bold).getlength(text) / SCALE


def write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: float,
    colour: Colour = INK,
    *,
    bold: bool = False,
    centre: bool = False,
) -> None:
    """Write one line, from its upper left or the middle of its top."""
    pen.text(
        (place[0] * SCALE, place[1] * SCALE), text, colour, font(size, bold), anchor="ma" if centre else "la"
    )


def dot(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], radius: float, colour: Colour, *, ring: bool = False
) -> None:
    """Draw a dot, with a white ring around it if it must stand out."""
    x, y = place
    if ring:
        r = (radius + 1.5) * SCALE
        pen.ellipse((x - r, y - r, x + r, y + r), fill=WHITE)
    r = radius * SCALE
    pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def star(pen: ImageDraw.ImageDraw, place: tuple[float, float], radius: float, colour: Colour) -> None:
    """Draw a star with five points."""
    from math import cos, pi, sin

    points = []
    for index in range(10):
        r = radius * SCALE * (1 if index % 2 == 0 else 0.42)
        angle = -pi / 2 + index * pi / 5
        points.append((place[0] + r * cos(angle), place[1] + r * sin(angle)))
    pen.polygon(points, fill=colour)


def save(frames: list[Image.Image], times: list[int], path: Path) -> None:
    """Write an animation that begins again at its end, all frames in the same colours."""
    whole = Image.new("RGB", (SIZE[0], SIZE[1] * 2))
    whole.paste(frames[len(frames) // 2], (0, 0))
    whole.paste(frames[-1], (0, SIZE[1]))
    palette = whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True, disposal=1
    )


def main() -> None:
    """Draw the picture that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, nargs="?", default=RECORDING)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/moving.gif")
    given = parser.parse_args()
    picture = Picture(json.loads(given.recording.read_text(encoding="utf-8")))
    frames, times = picture.frames()
    save(frames, times, given.out)
    print(f"{given.out}: {len(frames)} frames, {sum(times) / 1000:.1f} s, {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
