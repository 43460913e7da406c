"""What is said where no live view can be: a line for each tenth of the day."""

from collections.abc import Callable
from typing import Self

from handspan.cli.figures import amount, count
from handspan.demo.day import clock_text, phase_at
from handspan.demo.view import Scene

__all__ = ["Plain"]


class Plain:
    def __init__(self, scene: Scene, say: Callable[[str], None]) -> None:
        self._scene, self._say = scene, say
        self._tenth = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def on_event(self) -> None:
        scene = self._scene
        tenth = int(scene.share * 10)
        if tenth > self._tenth:
            self._tenth = tenth
            now, host = scene.clock.monotonic(), scene.host
            self._say(
                f"{tenth * 10:3} %  {clock_text(now)}  {phase_at(now):<18}"
                f"{amount(host.total, 'run'):>11}"
                f"{count(host.count_of('error')):>6} failed"
                f"{count(host.count_of('cancelled')):>6} cancelled"
            )
