"""From the text of an expression to its tree. What is no expression is refused, with the place of the mistake. Pure.

The grammar is that of https://github.com/google/cel-spec/blob/master/doc/langdef.md, without what is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from streammesh.errors import InvalidExpression

LONGEST = 1_000  # characters
DEEPEST = 24  # parentheses and operators in each other
MOST_PARTS = 200  # of the tree
LARGEST = 2**63  # whole numbers are below it, as in CEL
METHODS = {"startsWith": 1, "endsWith": 1, "contains": 1, "size": 0}
MACROS = ("exists", "all")
FUNCTIONS = ("has", "size")
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_ELSE = {
    "matches": "no regular expressions: use startsWith, endsWith, contains or in",
    **dict.fromkeys(("map", "filter", "exists_one"), "of the macros only exists, all and has"),
    **dict.fromkeys(("timestamp", "duration"), "no times: RFC 3339 texts of one zone compare as texts"),
}
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+)
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>0[xX][0-9a-fA-F]+|[0-9]+)[uU]?(?![A-Za-z0-9_])
    |(?P<text>[rR]?"(?:[^"\\\r\n]|\\.)*"|[rR]?'(?:[^'\\\r\n]|\\.)*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%!<>()\[\].,?:])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))"
)
_ESCAPED = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))


class Lexeme(NamedTuple):
    """A word of an expression, and where it begins."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression: `value`, `name`, `field`, `index`, `call`, `list`, `macro`, or an operator's own sign."""

    kind: str
    at: int
    value: Any = None
    parts: tuple[Node, ...] = ()


def wrong(text: str, at: int, why: str) -> InvalidExpression:
    """What is said of a mistake: why, and where it is, counted from 1."""
    shown = text[max(0, at - 20) : at + 20].replace("\n", " ")
    return InvalidExpression(f"at character {at + 1}, {shown!r}: {why}")


def parse(text: str) -> Node:
    """Return the tree of an expression. Raises InvalidExpression."""
    if len(text) > LONGEST:
        raise InvalidExpression(f"it has {len(text):,} characters; {LONGEST:,} are allowed")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._next = text, _tokens(text), 0
        self._depth = self._parts = 0

    def whole(self) -> Node:
        node = self._ternary()
        if (token := self._peek()).kind != "end":
            raise self._wrong(token, f"{token.text!r} is not expected here")
        return node

    def _peek(self) -> Lexeme:
        return self._tokens[self._next]

    def _take(self, *signs: str) -> Lexeme | None:
        token = self._peek()
        if token.kind == "end" or token.kind == "text" or token.text not in signs:
            return None
        self._next += 1
        return token

    def _need(self, sign: str) -> Lexeme:
        if (token := self._take(sign)) is None:
            found = self._peek()
            raise self._wrong(
                found, f"{sign!r} is missing" + (f" before {found.text!r}" if found.text else " at the end")
            )
        return token

    def _wrong(self, token: Lexeme, why: str) -> InvalidExpression:
        return wrong(self._text, token.at, why)

    def _node(self, kind: str, token: Lexeme, value: Any = None, *parts: Node) -> Node:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise self._wrong(token, f"it has more than {MOST_PARTS} parts")
        return Node(kind, token.at, value, parts)

    def _ternary(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(self._peek(), f"it is nested deeper than {DEEPEST}")
        node = self._binary(0)
        if token := self._take("?"):
            yes = self._binary(0)
            self._need(":")
            node = self._node("?", token, None, node, yes, self._ternary())
        self._depth -= 1
        return node

    _LEVELS = (("||",), ("&&",), ("<", "<=", ">", ">=", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))

    def _binary(self, level: int) -> Node:
        under: Callable[[], Node] = (
            self._unary if level == len(self._LEVELS) - 1 else lambda: self._binary(level + 1)
        )
        node = under()
        height = 1
        while token := self._take(*self._LEVELS[level]):
            height += 1
            if height > DEEPEST * 2:  # a tree of this height is walked by recursion
                raise self._wrong(token, f"more than {DEEPEST * 2} operators in a row")
            node = self._node(token.text, token, None, node, under())
        return node

    def _unary(self) -> Node:
        signs = []
        while token := self._take("!", "-"):
            signs.append(token)
        if len(signs) > DEEPEST:
            raise self._wrong(signs[0], f"more than {DEEPEST} signs in a row")
        node = self._member()
        for token in reversed(signs):
            if (
                token.text == "-"
                and node.kind == "value"
                and isinstance(node.value, int | float)
                and not isinstance(node.value, bool)
            ):
                node = Node("value", token.at, -node.value)
            else:
                node = self._node("!" if token.text == "!" else "negative", token, None, node)
        if node.kind == "value" and isinstance(node.value, int) and not -LARGEST <= node.value < 2 * LARGEST:
            raise wrong(self._text, node.at, "a whole number has 64 bits")
        return node

    def _member(self) -> Node:
        node, height = self._primary(), 0
        while token := self._take(".", "["):
            height += 1
            if height > DEEPEST:
                raise self._wrong(token, f"a path has {DEEPEST} parts at most")
            if token.text == "[":
                node = self._node("index", token, None, node, self._ternary())
                self._need("]")
                continue
            name = self._name("a field")
            node = self._method(node, name) if self._take("(") else self._node("field", name, name.text, node)
        return node

    def _name(self, what: str) -> Lexeme:
        token = self._peek()
        if token.kind != "name" or token.text in ("in", "true", "false", "null"):
            raise self._wrong(token, f"{what} has a name of letters, digits and _")
        self._next += 1
        return token

    def _method(self, target: Node, name: Lexeme) -> Node:
        if name.text in MACROS:
            variable = self._name("what the macro counts")
            self._need(",")
            body = self._ternary()
            self._need(")")
            return self._node("macro", name, (name.text, variable.text), target, body)
        if name.text not in METHODS:
            raise self._unknown(name)
        arguments = self._arguments(")")
        if len(arguments) != METHODS[name.text]:
            raise self._wrong(
                name, f"{name.text} takes {METHODS[name.text] or 'no'} value in its parentheses"
            )
        return self._node("call", name, name.text, target, *arguments)

    def _unknown(self, name: Lexeme) -> InvalidExpression:
        known = ", ".join((*FUNCTIONS, *MACROS, *METHODS))
        return self._wrong(
            name, f"{name.text!r} is not supported: {_ELSE.get(name.text, f'there are {known}')}"
        )

    def _arguments(self, end: str) -> list[Node]:
        found: list[Node] = []
        while not self._take(end):
            if found:
                self._need(",")
            found.append(self._ternary())
        return found

    def _primary(self) -> Node:
        token = self._peek()
        self._next += token.kind != "end"
        match token.kind:
            case "int":
                return self._node(
                    "value", token, int(token.text.rstrip("uU"), 0 if token.text[:2] in ("0x", "0X") else 10)
                )
            case "float":
                return self._node("value", token, float(token.text))
            case "text":
                return self._node("value", token, self._unquoted(token))
            case "name" if token.text in ("true", "false", "null"):
                return self._node("value", token, {"true": True, "false": False, "null": None}[token.text])
            case "name" if token.text in _RESERVED or token.text == "in":
                raise self._wrong(token, f"{token.text!r} is a word of the language")
            case "name" if self._take("("):
                return self._function(token)
            case "name":
                return self._node("name", token, token.text)
        if token.text == "(" and token.kind == "sign":
            node = self._ternary()
            self._need(")")
            return node
        if token.text == "[":
            return self._node("list", token, None, *self._arguments("]"))
        raise self._wrong(
            token, f"{token.text!r} is not expected here" if token.text else "it ends too early"
        )

    def _function(self, name: Lexeme) -> Node:
        if name.text not in FUNCTIONS:
            raise self._unknown(name)
        arguments = self._arguments(")")
        if len(arguments) != 1:
            raise self._wrong(name, f"{name.text} takes one value")
        if name.text == "has" and arguments[0].kind != "field":
            raise self._wrong(name, "has takes a path with a dot, such as has(data.country)")
        return self._node("has" if name.text == "has" else "call", name, name.text, *arguments)

    def _unquoted(self, token: Lexeme) -> str:
        if token.text[0] in "rR":
            return token.text[2:-1]

        def escaped(found: re.Match[str]) -> str:
            one, *codes, other = found.groups()
            if one:
                return _ESCAPED[one]
            number = next(
                (int(code, base) for code, base in zip(codes, (16, 16, 16, 8), strict=True) if code), -1
            )
            if other or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise wrong(self._text, token.at + 1 + found.start(), f"{found[0]!r} stands for nothing")
            return chr(number)

        return _ESCAPE.sub(escaped, token.text[1:-1])


def _tokens(text: str) -> list[Lexeme]:
    found, at = [], 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            hint = {"'": "a text ends with the quote that it begins with", '"': "a text ends with the quote that it begins with",
                    "=": "equal is ==", "&": "and is &&", "|": "or is ||"}.get(text[at])  # fmt: skip
            raise wrong(text, at, hint or f"{text[at]!r} is not expected here")
        kind = token.lastgroup or ""
        if kind != "space":
            found.append(Lexeme(kind, token[0] if kind != "int" else token["int"], at))
        at = token.end()
    return [*found, Lexeme("end", "", len(text))]
