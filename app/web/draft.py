"""The scenario that a session is working on: the example it began with, and where its widgets began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.web.families import SERVING, Family, family_of
from app.web.store import Store
from app.web.url_state import BASE, full_example, opened, query
from hardware_models.errors import FleetcastError


@dataclass
class Draft:
    """Tables as the form last said them, and as the URL last said them."""

    base: str
    start: dict[str, Any]  # what widgets begin with
    current: dict[str, Any]  # what they say now
    generation: int = 0  # of widgets
    url: dict[str, str] = field(default_factory=dict)
    mistake: str = ""  # of the URL it was opened with
    family: Family = SERVING  # whose page it is of
    bare: tuple[str, dict[str, Any]] | None = None  # base and tables that a URL without parameters means; None: default

    @classmethod
    def open(cls, parameters: Mapping[str, str], store: Store, family: Family = SERVING) -> Draft:
        """From a URL; a bad one gives the default example and the mistake."""
        draft = cls.of_example(family.default, store)
        draft.turn_to(parameters, store)
        draft.bare = (draft.base, draft.current)
        return draft

    @classmethod
    def of_example(cls, name: str, store: Store) -> Draft:
        """A shipped scenario as it is; raises UnknownNameError."""
        tables = full_example(name, store)
        return cls(name, tables, tables, family=family_of(tables))

    def come_back(self, parameters: Mapping[str, str], store: Store) -> None:
        """The page is shown again, its widgets' values forgotten: go on with what they said, or as a URL says."""
        self.begin(self.current)
        self.url = {}
        if parameters:
            self.turn_to(parameters, store)
        else:
            self.bare = (self.base, self.current)

    def turn_to(self, parameters: Mapping[str, str], store: Store) -> None:
        """Take over what a URL says; a mistake in it is kept to be shown, and changes nothing."""
        self.url = dict(parameters)
        if not parameters and self.bare is not None:
            self.begin(self.bare[1], self.bare[0])
            return
        try:
            base, tables = opened(parameters, store, self.family)
        except FleetcastError as error:
            self.mistake = str(error)
            return
        self.begin(tables, base)

    def begin(self, tables: dict[str, Any], base: str | None = None) -> None:
        """Begin anew from full tables."""
        self.base = base or self.base
        self.start = self.current = tables
        self.generation += 1
        self.mistake = ""

    def say(self, tables: dict[str, Any]) -> bool:
        """Keep what the widgets say; is it news?"""
        if tables == self.current:
            return False
        self.current = tables
        self.mistake = ""
        return True

    def new_url(self, store: Store) -> dict[str, str] | None:
        """The parameters to show from now on; None where those shown are right, or wrong and to be mended."""
        url = query(self.base, self.current, store)
        if self.mistake or url == self.url or (not self.url and url == {BASE: self.family.default}):
            return None
        self.url = url
        return url
