"""Properties without deadlines: the machine may be shared, and nothing here is timed. Long tests are begun first."""

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None, max_examples=60)
settings.load_profile("untimed")

LONG = ("test_tutorial.py", "test_scripts.py", "test_readme.py")  # whole commands, one after another


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No process is left with a long test at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)  # stable: the others stay in their order
