"""README's moving picture: drawn by its script from a recording that comes with the package."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tools.moving_picture import RECORDING, SIZE, STEP, Picture, main, tint, turns_of

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/moving.gif"


def test_it_stands_in_readme_and_is_what_the_script_draws_from_the_recording() -> None:
    from PIL import Image

    assert f"](docs/{FILE.name})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert FILE.stat().st_size < 1_000_000
    turns = turns_of(json.loads(RECORDING.read_text(encoding="utf-8"))["conversations"][0])
    with Image.open(FILE) as image:
        # A frame for every few tokens of the longer reply of a turn, and one when both are told.
        assert image.n_frames == sum(math.ceil(max(map(len, turn.tokens)) / STEP) + 1 for turn in turns)
        assert image.size == SIZE and image.info["loop"] == 0


def test_the_last_frame_shows_where_both_replies_ended() -> None:
    record = json.loads(RECORDING.read_text(encoding="utf-8"))
    picture = Picture(record)
    last = len(picture.turns) - 1
    frame = picture.draw(last, 64, 64)
    for column, value in enumerate((-0.6991, 1.1267)):
        turn = picture.turns[last]
        assert turn.positions[column] == pytest.approx(value)
        x, y = picture.at(turn.places[column])
        seen = frame.getpixel((round(x / 2), round(y / 2)))
        assert isinstance(seen, tuple) and (seen[0] > seen[2]) == (column == 0), (column, seen)
    half = picture.draw(last, 32, 64)
    (before, _), (after, _) = (picture.at(picture.turns[n].places[0]) for n in (last - 1, last))
    (_, up), (_, down) = (picture.at(picture.turns[n].places[0]) for n in (last - 1, last))
    middle = half.getpixel((round((before + after) / 4), round((up + down) / 4)))
    assert isinstance(middle, tuple) and middle[0] > middle[2]


def test_colours_say_on_which_side_a_token_lies() -> None:
    low, between, high = tint(-1.0), tint(0.5), tint(1.5)
    assert low[0] > low[2] and high[2] > high[0] and len(set(between)) == 1
    assert tint(0.0) == low and tint(1.0) == high


def test_another_recording_is_drawn_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = RECORDING.with_name("mirror.json")
    monkeypatch.setattr("sys.argv", ["moving_picture.py", str(other), "--out", str(tmp_path / "x.gif")])
    main()
    assert (tmp_path / "x.gif").read_bytes().startswith(b"GIF89a")
