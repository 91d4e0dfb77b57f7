"""Properties without deadlines: the machine may be shared, and nothing here is timed."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
