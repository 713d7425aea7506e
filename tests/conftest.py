"""For all tests: hypothesis times no example, for machines are shared and first calls compile."""

from hypothesis import settings

settings.register_profile("s4aug", deadline=None)
settings.load_profile("s4aug")
