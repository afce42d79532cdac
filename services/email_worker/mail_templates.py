"""The words of each mail: named Jinja2 templates, filled with values. Data is never a template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, Template, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

PARTS = ("subject.txt", "body.txt", "body.html")
SHIPPED = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Words:
    """What one mail says: a one-line subject, the text part and the HTML part."""

    subject: str
    text: str
    html: str


class Templates:
    """The mails of one folder: `<mail>/{subject.txt,body.txt,body.html}`, translations in `<mail>/<language>/`.

    All are read and compiled at once, so a missing part or a syntax error is found when the service starts
    (jinja2.TemplateError) and no value of an event is ever part of a path. Folders that start with `_` are
    layouts. HTML is escaped, an unknown variable is an error, and templates run in Jinja2's sandbox.
    """

    def __init__(self, folder: Path = SHIPPED) -> None:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder),
            autoescape=select_autoescape(("html",), default=False),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._mails: dict[str, dict[str, tuple[Template, ...]]] = {}
        for mail in _folders(folder):
            variants = {"": mail, **{language.name.lower(): language for language in _folders(mail)}}
            self._mails[mail.name] = {
                language: tuple(
                    environment.get_template(f"{place.relative_to(folder).as_posix()}/{part}")
                    for part in PARTS
                )
                for language, place in variants.items()
            }

    @property
    def names(self) -> list[str]:
        """The mails there are."""
        return sorted(self._mails)

    def languages(self, mail: str) -> list[str]:
        """The translations of one mail; the untranslated one has the name `""`."""
        return sorted(self._mails[mail])

    def render(self, mail: str, values: dict[str, object], *, locale: str | None = None) -> Words:
        """The words of one mail, in the nearest language there is: `de-AT`, then `de`, then untranslated.

        Raises KeyError for an unknown mail and jinja2.UndefinedError where a template asks for a value
        that is not given.
        """
        variants = self._mails[mail]
        subject, text, html = variants[_nearest(variants, locale)]
        return Words(subject.render(values).strip(), text.render(values), html.render(values))


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))


def _nearest(variants: dict[str, tuple[Template, ...]], locale: str | None) -> str:
    wanted = (locale or "").lower().replace("_", "-")
    while wanted and wanted not in variants:
        wanted = wanted.rpartition("-")[0]
    return wanted
