"""The six apps of the demo, as a user of :mod:`handspan.runtime` would write them.

They talk to each other through the bus alone. One cascade goes through most of them::

    state_changed.person.*  presence.Presence.on_person
      presence.left           presence.Presence.leave_house_alone   (20 minutes later)
        house.mode              lights.Lights.on_mode
          lights.scene            lights.Lights.on_scene
            lights.set.*            lights.Lights.on_set
        house.mode              security.Security.on_mode
          alarm.armed             security.Security.check_doors
            notify.family           flaky.Flaky.deliver
"""

from handspan.demo.apps.climate import Climate
from handspan.demo.apps.energy import Energy
from handspan.demo.apps.flaky import Flaky
from handspan.demo.apps.lights import Lights
from handspan.demo.apps.presence import Presence
from handspan.demo.apps.security import Security
from handspan.runtime import App

__all__ = ["APPS", "Climate", "Energy", "Flaky", "Lights", "Presence", "Security"]

APPS: tuple[type[App], ...] = (Lights, Climate, Presence, Security, Energy, Flaky)
