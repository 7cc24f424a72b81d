"""The simulated players' names and passwords, kept so that they come back as who they were."""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import secrets

_ADJECTIVES = (
    "Amber Bold Brave Breezy Bright Calm Clever Cosmic Crafty Curious Daring Dizzy Eager Fearless "
    "Fuzzy Gentle Giddy Golden Happy Humble Jolly Keen Lively Lucky Mellow Mighty Nimble Noble "
    "Plucky Polite Quick Quiet Rapid Rusty Silent Sleepy Sly Snappy Stormy Sunny Swift Tidy Vivid "
    "Wandering Wild Wise Witty Zesty"
).split()
_ANIMALS = (
    "Badger Bear Beaver Bison Cobra Condor Coyote Crane Dingo Dolphin Eagle Falcon Ferret Finch "
    "Fox Gecko Gibbon Hare Hawk Heron Ibex Jackal Jaguar Kiwi Koala Lemur Leopard Lion Llama Lynx "
    "Magpie Marmot Mole Moose Newt Ocelot Octopus Otter Owl Panda Parrot Puffin Puma Raven Robin "
    "Salmon Seal Shark Stork Tapir Tiger Toucan Turtle Walrus Wolf Wombat Yak Zebra"
).split()


@dataclass
class Person:
    """A simulated player."""

    username: str
    password: str
    is_registered: bool = False


class Roster:
    """The players of one data directory, in the file `path`. Raises OSError."""

    def __init__(self, path: Path, *, count: int) -> None:
        self._path = path
        self._people = self._read()
        while len(self._people) < count:
            self._people.append(Person(self.unused_name(), secrets.password()))
        self.people = self._people[:count]
        self.save()

    def unused_name(self) -> str:
        """A name that no one of the roster has: 3 to 20 letters and hyphens."""
        used = {person.username for person in self._people}
        while True:
            name = f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}"
            if name not in used:
                return name

    def save(self) -> None:
        """Keeps what has changed, of those too who do not play this time."""
        people = [asdict(person) for person in self._people]
        secrets.write(self._path, json.dumps(people, indent=2) + "\n")

    def _read(self) -> list[Person]:
        try:
            return [Person(**person) for person in json.loads(self._path.read_text())]
        except (FileNotFoundError, ValueError, TypeError):
            return []
