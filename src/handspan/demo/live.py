"""The live view: the picture, a few times a second, on the terminal's other screen."""

import asyncio
from typing import Final, Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from handspan.demo.view import Scene, picture

__all__ = ["Live"]

REFRESH: Final = 0.125
"""Seconds: eight pictures a second are as many as an eye needs, and leave the loop to the house."""


class Live:
    def __init__(self, scene: Scene, console: Console) -> None:
        self._scene, self._console = scene, console
        self._live = RichLive(console=console, screen=True, auto_refresh=False)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._live.start()
        self._task = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._live.stop()

    def on_event(self) -> None:
        """The picture has its own pace."""

    async def _refresh(self) -> None:
        while True:
            width, height = self._console.size
            self._live.update(Text("\n", no_wrap=True).join(picture(self._scene, width, height)), refresh=True)
            await asyncio.sleep(REFRESH)
