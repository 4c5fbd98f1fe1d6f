"""A row each op. They import registry, which imports them all: it comes first, whichever of them a test asks for."""

import registry  # noqa: F401
