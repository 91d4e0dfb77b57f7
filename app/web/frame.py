"""The frame around the pages: title, navigation over the registry, and the one page that is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import streamlit as st

from app.web import session
from app.web.components import error, style
from app.web.pages import PAGES
from hardware_models.errors import FleetcastError

LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="6" fill="#0072B2"/>
<path d="M5 24 L12 14 L18 19 L27 7" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round"/></svg>"""


def main() -> None:
    """Draw the page that the URL names."""
    st.set_page_config("Fleetcast", LOGO, layout="wide")
    found = pages()
    session.keep_pages(found)
    root = st.Page(_go_to_first, title="Fleetcast", default=True, visibility="hidden")
    st.navigation([root, *found.values()], position="top").run()


def pages() -> dict[str, st.Page]:
    """All pages of the registry by path."""
    found = {}
    for path, name in PAGES.items():
        module = importlib.import_module(name)
        found[path] = st.Page(_shown(path, module), title=module.TITLE, icon=module.ICON, url_path=path)
    return found


def _go_to_first() -> None:
    """The root of the app is its first page, which Streamlit would not find by its own path otherwise."""
    session.open_page(next(iter(PAGES)), st.query_params.to_dict())


def _shown(path: str, module: ModuleType) -> Callable[[], None]:
    """A page that turns a user's mistake which it did not expect into the command line's sentence."""

    def show() -> None:
        session.enter(path)
        style()
        try:
            module.render()
        except FleetcastError as mistake:
            error(str(mistake))

    return show
