"""Takes the README's picture: `make picture` plays the demo's day and keeps one moment of its live view."""

import asyncio
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from handspan.demo import app
from handspan.demo.view import Scene, picture

WIDTH, HEIGHT = 100, 30
MOMENT = 0.86  # share of the day: evening, something of everything has happened
SPEED = 20.0
FONT = "font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace;"


class Photographer:
    """Stands in for the live view: looks all the time, as that does, and keeps one picture."""

    svg = ""

    def __init__(self, scene: Scene, _console: Console) -> None:
        self._scene, self._looked = scene, 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def on_event(self) -> None:
        elapsed = self._scene.clock.elapsed
        if Photographer.svg or elapsed - self._looked < 0.2:
            return
        self._looked = elapsed
        lines = picture(self._scene, WIDTH, HEIGHT)
        if self._scene.share >= MOMENT:
            console = Console(record=True, width=WIDTH, height=HEIGHT, force_terminal=True, file=io.StringIO())
            for line in lines:
                console.print(line, overflow="crop")
            Photographer.svg = console.export_svg(title="handspan demo", theme=DIMMED_MONOKAI)


def main(target: Path) -> None:
    target = target.resolve()
    app.Live = Photographer  # type: ignore[misc,assignment]
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        asyncio.run(app._run("handspan-demo.db", SPEED, Console(), on_screen=True))
    svg = re.sub(
        r"@font-face \{.*?\}", "", Photographer.svg, flags=re.DOTALL
    )  # rich asks a CDN for a font: ours asks nobody
    svg = re.sub(r"font-family: [^;]*;", FONT, svg)
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
