"""For the built reference: shows the "Example:" of our docstrings as code, as Google's "Examples:" is shown."""

import re

import griffe


class ExampleSections(griffe.Extension):
    """Renames the section while the sources are read."""

    def on_instance(self, *, obj: griffe.Object, **options: object) -> None:
        """Change the docstring of one object in memory."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
