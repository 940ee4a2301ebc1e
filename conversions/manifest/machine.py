"""A VirtualMachine as it was read, for those who look for mistakes in it."""

from dataclasses import dataclass

from .reading import Node, Path, named
from .walking import dotted
from .work import DOMAIN, SPEC


@dataclass(frozen=True)
class Mistake:
    """Something in the file that is wrong, or that is to be confirmed (`asks`)."""

    line: int
    path: str
    code: str
    text: str
    asks: bool = False


@dataclass(frozen=True)
class Member:
    """A member of a list: a disk, a volume, a network card, a network."""

    node: Node
    path: Path

    @property
    def name(self) -> str | None:
        found = self.node.get("name")
        return found.value if found is not None and isinstance(found.value, str) else None

    def mistake(self, code: str, text: str, key: str | None = None, *, asks: bool = False) -> Mistake:
        child = self.node.get(key) if key else None
        path = (*self.path, key) if key else self.path
        return Mistake((child or self.node).line, dotted(path), code, text, asks)


@dataclass(frozen=True)
class Machine:
    """A VirtualMachine as it was read."""

    root: Node

    def at(self, *path: str) -> Node | None:
        return self.root.get(*path)

    def value(self, *path: str) -> object:
        node = self.at(*path)
        return None if node is None else node.value

    def members(self, *path: str) -> list[Member]:
        node = self.at(*path)
        if node is None:
            return []
        pairs = zip(named(node.items()), node.items(), strict=True)
        return [Member(child, (*path, key)) for key, child in pairs if isinstance(child.value, dict)]

    @property
    def disks(self) -> list[Member]:
        return self.members(*DOMAIN, "devices", "disks")

    @property
    def volumes(self) -> list[Member]:
        return self.members(*SPEC, "volumes")

    @property
    def interfaces(self) -> list[Member]:
        return self.members(*DOMAIN, "devices", "interfaces")

    @property
    def networks(self) -> list[Member]:
        return self.members(*SPEC, "networks")

    def mistake(self, path: Path, code: str, text: str, *, asks: bool = False) -> Mistake:
        """At the nearest part that is there."""
        node = None
        for length in range(len(path), -1, -1):
            if (node := self.at(*path[:length])) is not None:
                break
        return Mistake((node or self.root).line, dotted(path), code, text, asks)
