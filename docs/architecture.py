"""Draws ``pictures/architecture.svg``: who imports whom, in the layers that pyproject.toml allows (``make docs``).

What belongs here: how the picture looks. What does not: any name of a room; rooms and their layers are those of the import contracts,
lines are the imports there are.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import grimp

from atc_pipeline.escaping import xml
from atc_pipeline.pictures.drawing import LETTER, svg, text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = Path(__file__).parent / "pictures" / "architecture.svg"

WIDTH, MARGIN, HEAD = 1060, 12, 68
NAME, LINE, GAP, BETWEEN, INSET = 24, 13, 32, 8, 12
"""Heights of a name in a box and of each line beneath it; room between two rows, between the boxes of one, and around those of a folder."""
DOT, LABEL = 5, 26
"""How large the end of a line is; room for the name of a folder above its rows."""

LIGHT = ("#6e7781", "#0969da", "#bc4c00", "#1a7f37")
DARK = ("#8b949e", "#58a6ff", "#e3934c", "#56d364")
"""Colours of lines by the folder they come from: none, and the folders from above."""


@dataclass(frozen=True)
class Folder:
    """Rows of boxes, from above; ``name`` is the folder they are in, or nothing where they are above all folders."""

    name: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Place:
    """Where a box is, and the number of its folder."""

    x: float
    y: float
    width: float
    height: float
    folder: int
    elsewhere: Mapping[str, int]
    """How many imports from each other folder: lines across folders would hide those within."""


def folders() -> list[Folder]:
    """Return what the import contracts say of layers: those above all folders, and each folder with its rows."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    inner = {
        container: [[f"{container}.{name}" for name in _names(layer)] for layer in contract["layers"]]
        for contract in layers
        for container in contract.get("containers", [])
    }
    between = [_names(layer) for contract in layers if "containers" not in contract for layer in contract["layers"]]
    above = [row for row in between if not set(row) & inner.keys()]
    ordered = [name for row in between for name in row if name in inner]
    ordered += [name for name in inner if name not in ordered]  # who is imported by all, and imports none of them
    return [Folder("", above), *(Folder(name, [row for row in inner[name] if row not in above]) for name in ordered)]


def _names(layer: str) -> list[str]:
    return [name.strip() for name in layer.split("|")]


def imports(boxes: Sequence[str]) -> Counter[tuple[str, str]]:
    """Count the imports between modules of different boxes, by who imports and who is imported."""
    graph = grimp.build_graph(*sorted({box.split(".")[0] for box in boxes}), cache_dir=None)
    box_of = {module: box for box in boxes for module in graph.modules if f"{module}.".startswith(f"{box}.")}
    return Counter(
        (box_of[importer], box_of[imported])
        for importer in box_of
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported in box_of and box_of[imported] != box_of[importer]
    )


def picture() -> str:
    """Return the picture."""
    drawn = folders()
    folder_of = {box: folder.name for folder in drawn for row in folder.rows for box in row}
    counted = imports(list(folder_of))
    elsewhere = {box: Counter[str]() for box in folder_of}
    for (importer, imported), count in counted.items():
        if folder_of[imported] != folder_of[importer]:
            elsewhere[importer][folder_of[imported]] += count
    places, frames, height = _laid_out(drawn, elsewhere)
    within = {pair: count for pair, count in counted.items() if folder_of[pair[0]] == folder_of[pair[1]]}
    parts = [
        text(
            MARGIN,
            38,
            "Whoever is above may import whoever is below, in its own folder and in those beneath it; nobody imports upwards.",
            ink="faint",
        ),
        text(
            MARGIN,
            53,
            "Lines are imports within a folder, down to the dot: the wider, the more. A box says how many it has from other folders.",
            ink="faint",
        ),
        *frames,
        *_lines(within, places),
        *(part for box, place in places.items() for part in _box(box, place)),
    ]
    strokes = [f"from{number}" for number in range(len(drawn))]
    light = {"frame": "#d0d7de", "box": "#8c959f"} | dict(zip(strokes, LIGHT, strict=True))
    dark = {"frame": "#30363d", "box": "#6e7681"} | dict(zip(strokes, DARK, strict=True))
    return svg(WIDTH, height, "Who imports whom", parts, light, dark)


def _laid_out(drawn: Sequence[Folder], elsewhere: Mapping[str, Mapping[str, int]]) -> tuple[Mapping[str, Place], list[str], float]:
    """Return where each box is, the frames of the folders, and how high all is."""
    places: dict[str, Place] = {}
    frames: list[str] = []
    y: float = HEAD
    for number, folder in enumerate(drawn):
        top = y
        y += LABEL if folder.name else 0
        for row in folder.rows:
            width = (WIDTH - 2 * (MARGIN + INSET) - BETWEEN * (len(row) - 1)) / len(row)
            lines = max(len(_told(elsewhere[box], width)) for box in row)
            height = NAME + (LINE * lines + 4 if lines else 0)
            for at, box in enumerate(row):
                places[box] = Place(MARGIN + INSET + at * (width + BETWEEN), y, width, height, number, elsewhere[box])
            y += height + GAP
        y -= GAP
        if folder.name:
            y += INSET
            frames.append(f'<rect class="frame" x="{MARGIN}" y="{top:g}" width="{WIDTH - 2 * MARGIN}" height="{y - top:g}" rx="8"/>')
            frames.append(text(MARGIN + INSET, top + LABEL / 2, f"{folder.name}/", more=' font-weight="600"'))
        y += INSET
    return places, frames, y


def _lines(counted: Mapping[tuple[str, str], int], places: Mapping[str, Place]) -> list[str]:
    """Draw the imports: from the foot of a box to the head of another, in order of where they lead, so that few cross."""
    lines, dots = [], [""] * len(LIGHT)
    for box, begin in places.items():
        middle = begin.x + begin.width / 2
        targets = [target for importer, target in counted if importer == box]
        targets.sort(key=lambda target: (_nearest(middle, places[target]), target))
        for at, target in enumerate(targets):
            end, count = places[target], counted[box, target]
            x = begin.x + begin.width * (at + 1) / (len(targets) + 1)
            to = _nearest(x, end)
            bend = (end.y - DOT / 2 - begin.y - begin.height) / 2
            path = f"M{x:.1f} {begin.y + begin.height:g}c0 {bend:g} {to - x:.1f} {bend:g} {to - x:.1f} {2 * bend:g}"
            words = xml(f"{box} imports {target}: {count} times")
            width = 0.5 + sqrt(count) * 0.6
            lines.append(
                f'<path class="from{begin.folder}" stroke-width="{width:.1f}" opacity="0.6" d="{path}"><title>{words}</title></path>'
            )
            dots[begin.folder] += f"M{to:.1f} {end.y - DOT / 2:g}h0"
    ends = [(number, ends) for number, ends in enumerate(dots) if ends]
    return lines + [f'<path class="from{number}" stroke-width="{DOT}" stroke-linecap="round" d="{each}"/>' for number, each in ends]


def _nearest(x: float, place: Place) -> float:
    """Return where on a box a line from ``x`` ends: straight below where that is on it, else nearer to its middle."""
    quarter = place.width / 4
    return min(max(x, place.x + quarter), place.x + place.width - quarter) if place.width < WIDTH / 2 else x


def _box(box: str, place: Place) -> list[str]:
    """Draw a box: its name, and how many imports from other folders it has."""
    at = f'x="{place.x:.1f}" y="{place.y:g}" width="{place.width:.1f}" height="{place.height:g}" rx="4"'
    middle, below = place.x + place.width / 2, place.y + NAME + LINE / 2
    name = text(middle, place.y + NAME / 2, box if place.folder == 0 else box.rsplit(".", maxsplit=1)[-1], anchor="middle")
    others = [
        text(middle, below + LINE * number, words, ink="faint", anchor="middle", more=' font-size="10"')
        for number, words in enumerate(_told(place.elsewhere, place.width))
    ]
    return [f'<rect class="paper" {at}/>', f'<rect class="box" {at}/>', name, *others]


def _told(elsewhere: Mapping[str, int], width: float) -> list[str]:
    """Say how many imports there are from other folders: in one line where there is room for it."""
    told = [f"{folder} {count}" for folder, count in sorted(elsewhere.items())]
    in_one = " · ".join(told)
    return told if len(in_one) * LETTER > width else [in_one] if told else []


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
