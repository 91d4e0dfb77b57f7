"""What all sessions share: settings, files and the worker processes."""

from __future__ import annotations

import streamlit as st

from app.web.runner import Runner
from app.web.settings import Settings
from app.web.store import Store


@st.cache_resource(show_spinner=False)
def settings() -> Settings:
    """As the command left them."""
    return Settings.of_environment()


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The app's files."""
    return Store(settings().runs)


@st.cache_resource(show_spinner=False)
def runner() -> Runner:
    """The worker processes."""
    return Runner(store(), settings())
