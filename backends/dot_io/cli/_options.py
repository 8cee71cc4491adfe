"""The words of a command line told apart: options by a table, as dig and kdig read theirs, and all others.

Every ``+x`` may be written ``--x``, be cut to a prefix that no other option has, and be taken back by ``+nox``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple

from ._errors import UsageError

PADDING: Final = 128
"Octets to whose multiples a query is padded (RFC 8467, section 4.1)."

TIMEOUT: Final = 5.0
"Seconds for connect, handshake and answer together; dig's and kdig's value for one try."

RANDOM_COOKIE: Final = b""
"Stands for a client's part of a cookie that is drawn for each query (RFC 7873, section 4.1)."

MAX_CANDIDATES: Final = 8
"Options that are listed where a prefix fits several."

HELP_COLUMN: Final = 26
"Where the explanations of a help screen begin."

REQUIRED: Final = object()
"What a value option means without a value: nothing."


class Option(NamedTuple):
    """One option: a switch, or with ``read`` one that has a value."""

    names: tuple[str, ...]
    "As they are written: ``-p``, ``+timeout``, and ``--fail`` for one that cannot be written ``+fail``."
    sets: tuple[str, ...] = ()
    "The settings that it sets."
    help: str = ""
    read: str | None = None
    "The function of ``values`` that makes the setting of a value."
    metavar: str = ""
    bare: Any = REQUIRED
    "The setting that it means without a value, where none is required."
    takes: str | None = None
    "The function of ``values`` that says whether the next word is the value, where none is required."
    negated: Any = REQUIRED
    "The setting that ``+no`` means; the default where it says none."
    repeats: bool = False
    "Whether each further value is added to those before."

    @property
    def title(self) -> str:
        """As the help screen shows it."""
        value = "" if self.read is None else f" {self.metavar}"
        return ", ".join(self.names).replace("+", "--") + value

    def value(self, shown: str, text: str) -> Any:
        """The setting that a value makes; ``shown`` is the option as it is told; raises :class:`UsageError`."""
        assert self.read is not None, "a switch has no value"
        return getattr(_values(), self.read)(shown, text)

    def takes_next(self, rest: Sequence[str]) -> bool:
        """Whether the word that comes next, the last of ``rest``, is the value."""
        return bool(rest) and self.takes is not None and getattr(_values(), self.takes)(rest[-1])

    def apply(self, settings: dict[str, Any], value: Any, *, negated: bool = False) -> None:
        """Say it: ``settings`` are by name, and one that is not there has its default."""
        for name in self.sets:
            if self.repeats and not negated:
                settings[name] = (*settings.get(name, ()), value)
            elif negated and self.read is not None and self.negated is REQUIRED:
                settings.pop(name, None)
            else:
                settings[name] = value


class Word(NamedTuple):
    """One word of the command line, with the value that belongs to it."""

    text: str
    "As it was written."
    option: Option | None = None
    "``None``: no option, but a name, a type or a server."
    value: Any = None
    is_negated: bool = False


class Options(NamedTuple):
    """The options of one subcommand, and its help screen."""

    command: str
    words: str
    "The usage, without the command."
    description: str
    groups: Mapping[str, Sequence[Option]]
    "The options under their titles on the help screen."
    epilog: str = ""
    refused: Mapping[str, str] = MappingProxyType({})
    "Options of dig's and kdig's that make no sense here, and why; names without ``+``."

    def all(self) -> list[Option]:
        """The options, in the order of the help screen."""
        return [option for options in self.groups.values() for option in options]

    def names(self) -> dict[str, Option]:
        """Options by each of their names, as they are written."""
        return {name: option for option in self.all() for name in option.names}

    def parse(self, words: Sequence[str]) -> list[Word]:
        """Tell the words apart; raises :class:`UsageError`."""
        names = self.names()
        rest = list(reversed(words))
        parsed: list[Word] = []
        while rest:
            text = rest.pop()
            if text.startswith(("+", "--")):
                parsed.append(self._long(text, rest, names))
            elif text.startswith("-"):
                parsed.append(self._short(text, rest, names))
            else:
                parsed.append(Word(text))
        return parsed

    def _short(self, text: str, rest: list[str], names: Mapping[str, Option]) -> Word:
        """An option of one letter, whose value may be attached."""
        name = text[:2]
        option = names.get(name)
        if option is None:
            if reason := self.refused.get(name):
                raise UsageError(f"{name}: {reason}")
            raise self._unknown(text.partition("=")[0])
        if option.read is None:
            if len(text) > 2:
                raise UsageError(f"{name} takes no value, and is given {text[2:]!r}")
            return Word(text, option, name if "ignored" in option.sets else True)
        return Word(text, option, option.value(name, text[2:] or _next(name, rest)))

    def _long(self, text: str, rest: list[str], names: Mapping[str, Option]) -> Word:
        written, is_given, value = text.partition("=")
        option, negated = self._find(written, names)
        shown = written if written in option.names else _plus(written)
        if negated or option.read is None:
            if is_given and "ignored" not in option.sets:
                raise UsageError(f"{shown} takes no value, and is given {value!r}")
            if option.read is None and "ignored" in option.sets:
                return Word(text, option, shown)
            return Word(text, option, not negated if option.read is None else option.negated, negated)
        if is_given:
            return Word(text, option, option.value(shown, value))
        if option.bare is REQUIRED:
            return Word(text, option, option.value(shown, _next(shown, rest)))
        if option.takes_next(rest):
            return Word(text, option, option.value(shown, rest.pop()))
        return Word(text, option, option.bare)

    def _find(self, written: str, names: Mapping[str, Option]) -> tuple[Option, bool]:
        """The option of a name, of its negation, or of a prefix that is unique; and whether it is negated."""
        if written in names:  # "--fail" is not "+fail"
            return names[written], False
        name = written.lstrip("+-") if written.startswith("--") else written[1:]
        if reason := self.refused.get(name):
            raise UsageError(f"+{name}: {reason}")
        if (option := names.get(f"+{name}")) is not None:
            return option, False
        if (option := names.get(f"+{name.removeprefix('no')}")) is not None:
            return option, True
        found: dict[tuple[Option, bool], str] = {}
        for known, option in names.items():
            if name and known.startswith("+"):
                if known[1:].startswith(name):
                    found.setdefault((option, False), known)
                elif f"no{known[1:]}".startswith(name):
                    found.setdefault((option, True), f"+no{known[1:]}")
            elif name and written.startswith("--") and known.startswith(written):
                found.setdefault((option, False), known)
        if len(found) > 1:
            listed = [*found.values()]
            more = f" and {len(listed) - MAX_CANDIDATES} more" if len(listed) > MAX_CANDIDATES else ""
            shown = ", ".join(listed[:MAX_CANDIDATES])
            raise UsageError(f"+{name} is the beginning of several options: {shown}{more}")
        if not found:
            raise self._unknown(written)
        return next(iter(found))

    def _unknown(self, written: str) -> UsageError:
        """With advice where one name is close; never with an option of the opposite sense."""
        import difflib

        shown = _plus(written)
        negation = "no" if shown.startswith("+no") else ""
        signs = ("--", "+") if written.startswith("--") and not negation else ("+",)
        candidates = {name.lstrip("-+"): name for name in reversed(self.names()) if name.startswith(signs)}
        candidates |= {name[2:]: name for name in self.names() if name.startswith("--") and "--" in signs}
        close = difflib.get_close_matches(shown[1:].removeprefix(negation), candidates, n=1, cutoff=0.75)
        advice = f"'dot-proto {self.command} --help' lists them"
        if close and shown.startswith("+"):
            name = candidates[close[0]]
            advice = f"did you mean {f'+{negation}{name[1:]}' if name.startswith('+') else name}?"
        return UsageError(f"{shown} is no option; {advice}")

    def help_screen(self) -> str:
        """The usage, what the command does, and each option."""
        lines = [f"usage: dot-proto {self.command} {self.words}".rstrip(), "", self.description]
        for title, options in self.groups.items():
            shown = [option for option in options if option.help]
            if shown:
                lines += ["", f"{title}:", *map(_help_line, shown)]
        return "\n".join([*lines, *(["", self.epilog] if self.epilog else [])])


def _help_line(option: Option) -> str:
    title = f"  {option.title}"
    gap = f"\n{'':{HELP_COLUMN}}" if len(title) > HELP_COLUMN - 2 else " " * (HELP_COLUMN - len(title))
    return f"{title}{gap}{option.help}"


def _plus(written: str) -> str:
    """An option as dig writes it."""
    return f"+{written[2:]}" if written.startswith("--") else written


def _next(name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"{name}: expected one argument")
    return rest.pop()


def _values() -> ModuleType:
    """Imported when a value is to be read: a help screen does without."""
    from . import values

    return values
