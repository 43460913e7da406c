"""Security: the alarm, locks and doors, and who stands in front of them."""

import hashlib
import json
from typing import Final

from handspan.demo.house import answer, state
from handspan.runtime import App, Event

__all__ = ["Security"]

CODE: Final = "1234"
LOCKS: Final = ("lock.front_door", "lock.kitchen_door", "lock.poorly_installed_door", "lock.openable_lock")
CONTACTS: Final = ("binary_sensor.front_door_contact", "binary_sensor.back_door_contact")


def is_serious(event: Event) -> bool:
    return bool(event.data["level"] == "ERROR")


class Security(App):
    async def on_start(self) -> None:
        self.armed = True
        self.faces: dict[str, int] = {}

        self.bus.on("call_service.alarm_control_panel.*", self.on_alarm_command, priority=100)
        self.bus.on("state_changed.lock.*", self.on_lock)
        self.bus.on("doorbell_pressed", self.on_doorbell, throttle=60)
        self.bus.on("image_processing.detect_face", self.recognise)
        self.bus.on("system_log_event", self.on_log, where=is_serious, throttle=300)
        self.bus.on("house.mode", self.on_mode, priority=50)
        self.bus.on("alarm.armed", self.check_doors)

        self.scheduler.run_cron(self.patrol, "*/30 * * * *")

    async def on_alarm_command(self, event: Event) -> None:
        if event.data["service_data"].get("code", CODE) != CODE:
            raise PermissionError(f"{event.data['service']} with a wrong code")
        await answer(0.03)

    async def on_lock(self, event: Event) -> None:
        """Fails when a lock is removed: ``new_state`` is None then, and this app did not know."""
        if event.data["new_state"]["state"] == "jammed":
            self.bus.publish("notify.family", f"{event.data['entity_id']} is jammed")

    async def on_doorbell(self, event: Event) -> None:
        await answer(0.7)  # the camera wakes up, focuses, and sends its picture
        self.bus.publish("notify.family", f"Somebody is at the {event.data['button']} door")

    def recognise(self, event: Event) -> str:
        """Work for a processor: a plain function, so it runs in a thread and the loop goes on."""
        picture = json.dumps(event.data).encode()
        face = hashlib.pbkdf2_hmac("sha256", picture, b"face", 5_000).hex()
        self.faces[face] = self.faces.get(face, 0) + 1
        return face

    async def on_log(self, event: Event) -> None:
        self.bus.publish("notify.admin", event.data["message"][0])

    async def on_mode(self, event: Event) -> None:
        self.armed = event.data in ("away", "night")
        self.bus.publish("alarm.armed" if self.armed else "alarm.disarmed", event.data)

    async def check_doors(self, event: Event) -> None:
        await answer(0.04)
        doors = [contact for contact in CONTACTS if state(contact) == "on"]
        self.bus.publish("notify.family", f"The alarm is on ({event.data}); open doors: {len(doors)}")

    async def patrol(self) -> None:
        """Every half hour: a lock that does not answer or is stuck needs a look."""
        stuck = [lock for lock in LOCKS if state(lock) == "jammed"]
        if stuck:
            raise RuntimeError(f"{', '.join(stuck)} cannot be locked")
