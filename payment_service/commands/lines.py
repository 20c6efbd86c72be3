"""Lines for people, one thing each. Nothing in them is taken for markup, and nothing is obeyed by a terminal."""

from rich.console import Console
from rich.text import Text


def show_line(console: Console, text: str) -> None:
    """One plain line, whatever is in it."""
    show_text(console, plain(text))


def show_text(console: Console, text: Text) -> None:
    """One line with the styles that it has."""
    # As it is, whatever the width: what is cut or wrapped cannot be searched for.
    console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)


def plain(text: str) -> Text:
    """Some of it is a caller's or a provider's own words: nothing in them may be obeyed by a terminal."""
    return Text("".join(character if character.isprintable() else "�" for character in text))
