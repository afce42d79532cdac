"""The shipped mails, and that data never becomes a template."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError

from services.email_worker.mail_templates import PARTS, SHIPPED, Templates

WELCOME: dict[str, object] = {
    "product": "streammesh",
    "name": "Ann",
    "address": "ann@example.com",
    "home": "https://mesh.example",
}
REPORT: dict[str, object] = {
    "title": "Sales",
    "pages": 3,
    "rows": 2500,
    "size_bytes": 1_234_567,
    "attached": True,
    "link": "https://mesh.example/v1/reports/r1.pdf",
}


@pytest.fixture(scope="module")
def shipped() -> Templates:
    return Templates()


def write_mail(folder: Path, **parts: str) -> None:
    folder.mkdir(parents=True)
    for part in PARTS:
        (folder / part).write_text(parts.get(part.replace(".", "_"), "x"))


def test_the_shipped_mails_are_these(shipped: Templates) -> None:
    assert shipped.names == ["report_ready", "welcome"]
    assert shipped.languages("welcome") == ["", "de"]


def test_a_welcome_says_the_name_and_the_address(shipped: Templates) -> None:
    words = shipped.render("welcome", WELCOME)
    assert words.subject == "Welcome to streammesh, Ann"
    for part in (words.text, words.html):
        assert "Hello Ann," in part
        assert "ann@example.com" in part
        assert "https://mesh.example" in part


def test_a_welcome_without_a_name_greets_all_the_same(shipped: Templates) -> None:
    words = shipped.render("welcome", WELCOME | {"name": None})
    assert words.subject == "Welcome to streammesh"
    assert "Hello," in words.text and "None" not in words.text + words.html


def test_a_report_that_is_attached_says_so_and_one_that_is_linked_does_not(shipped: Templates) -> None:
    attached, linked = (shipped.render("report_ready", REPORT | {"attached": flag}) for flag in (True, False))
    assert attached.subject == linked.subject == "Your report is ready: Sales"
    assert "3 pages, made of 2,500 rows" in attached.text
    for words, says_attached in ((attached, True), (linked, False)):
        for part in (words.text, words.html):
            assert ("attached to this mail" in part) is says_attached
            assert "https://mesh.example/v1/reports/r1.pdf" in part
            assert "1.2 MB" in part


@pytest.mark.parametrize(
    ("locale", "greeting"),
    [
        ("de", "Hallo Ann"),
        ("de-AT", "Hallo Ann"),
        ("DE_at", "Hallo Ann"),
        ("en", "Hello Ann"),
        (None, "Hello Ann"),
        ("", "Hello Ann"),
        ("xx-YY", "Hello Ann"),
        ("../report_ready", "Hello Ann"),
        ("_layout", "Hello Ann"),
    ],
)
def test_the_nearest_language_is_used(shipped: Templates, locale: str | None, greeting: str) -> None:
    assert greeting in shipped.render("welcome", WELCOME, locale=locale).text


@pytest.mark.parametrize(
    "value", ["{{7*7}}", "{% raw %}", "{{ ''.__class__.__mro__ }}", "${7*7}", "#{7*7}", "{# x"]
)
def test_a_value_is_never_a_template(shipped: Templates, value: str) -> None:
    words = shipped.render("welcome", WELCOME | {"name": value})
    assert value in words.subject and value in words.text
    assert "49" not in words.text + words.html


def test_markup_in_a_value_is_escaped_in_html_and_only_there(shipped: Templates) -> None:
    words = shipped.render("welcome", WELCOME | {"name": '<script>alert("x")</script>'})
    assert "<script>" not in words.html
    assert "&lt;script&gt;" in words.html
    assert '<script>alert("x")</script>' in words.text


def test_a_quote_in_a_link_does_not_end_its_attribute(shipped: Templates) -> None:
    words = shipped.render("report_ready", REPORT | {"link": 'https://x/"onclick="y'})
    assert '"onclick="' not in words.html


def test_a_value_that_a_template_asks_for_and_nobody_gave_is_an_error(shipped: Templates) -> None:
    with pytest.raises(UndefinedError, match="address"):
        shipped.render("welcome", {k: v for k, v in WELCOME.items() if k != "address"})


def test_a_mail_that_does_not_exist_is_an_error(shipped: Templates) -> None:
    for name in ("nothing", "_layout", "../templates/welcome", "welcome/de", ""):
        with pytest.raises(KeyError):
            shipped.render(name, WELCOME)


def test_a_folder_of_a_new_mail_is_all_that_it_takes(tmp_path: Path) -> None:
    write_mail(
        tmp_path / "goodbye",
        subject_txt="Goodbye {{ name }}\n",
        body_txt="Bye",
        body_html="<p>{{ name }}</p>",
    )
    words = Templates(tmp_path).render("goodbye", {"name": "A&B"})
    assert (words.subject, words.text, words.html) == ("Goodbye A&B", "Bye", "<p>A&amp;B</p>")


def test_a_missing_part_is_found_at_the_start(tmp_path: Path) -> None:
    write_mail(tmp_path / "goodbye")
    (tmp_path / "goodbye" / "body.html").unlink()
    with pytest.raises(TemplateNotFound, match=r"goodbye/body\.html"):
        Templates(tmp_path)


def test_a_syntax_error_is_found_at_the_start(tmp_path: Path) -> None:
    write_mail(tmp_path / "goodbye" / "de")
    write_mail(tmp_path / "later", body_txt="{{ name")
    for part in PARTS:
        (tmp_path / "goodbye" / part).write_text("x")
    with pytest.raises(TemplateSyntaxError):
        Templates(tmp_path)


def test_a_template_cannot_reach_out_of_its_values(tmp_path: Path) -> None:
    write_mail(tmp_path / "curious", body_txt="{{ name.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(SecurityError):
        Templates(tmp_path).render("curious", {"name": "Ann"})


def test_the_mail_that_the_page_about_email_adds_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "email.md").read_text()
    parts = dict(re.findall(r"   `([\w.]+)`\n   ```jinja\n(.*?)   ```", page, re.DOTALL))
    assert sorted(parts) == sorted(PARTS)
    shutil.copytree(SHIPPED / "_layout", tmp_path / "_layout")
    (tmp_path / "order_shipped").mkdir()
    for name, text in parts.items():
        (tmp_path / "order_shipped" / name).write_text(textwrap.dedent(text))
    values: dict[str, object] = {"product": "Shop", "order_id": 7, "link": "https://shop.example/7"}
    words = Templates(tmp_path).render("order_shipped", values)
    assert words.subject == "Shop: your order 7 is on its way"
    for part in (words.text, words.html):
        assert "7 left us today" in part and "https://shop.example/7" in part
