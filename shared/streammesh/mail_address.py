"""Mail addresses as they exist: those of the standard, and those that are in use all the same. Pure; nothing is looked up.

Needs the extra `streammesh[mail]`.

- White space around an address is nobody's intention and is left away.
- Mobile carriers of Japan gave out local parts such as `ann..lee` and `ann.`; in quotes they are valid for everybody.
- Hosts within a company end in `.local` or have no dot at all: taken where the operator says so.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from email_validator import EmailNotValidError, validate_email

_ODD_DOTS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
_HOST = re.compile(r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9-]{1,63})*")
_OF_HERE = re.compile(
    r"(^|\.)(local|localdomain|localhost|internal|lan|home|corp|intranet|test)$", re.IGNORECASE
)


def parse(text: str, *, local_domains: bool = False) -> tuple[str, str]:
    """Return (local part, ASCII domain) of one address. Raises ValueError saying what is wrong.

    With `local_domains` a host without a dot, or below `.local` and its like, may follow the `@`.
    """
    if "@" not in text:
        raise ValueError("there is no @ in it")
    local, _, domain = text.strip().rpartition("@")
    if _ODD_DOTS.fullmatch(local) and (".." in local or local[0] == "." or local[-1] == "."):
        local = f'"{local}"'
    here = _HOST.fullmatch(domain) is not None and ("." not in domain or _OF_HERE.search(domain) is not None)
    try:
        if local_domains and here:
            found = validate_email(
                f"{local}@example.com", check_deliverability=False, allow_quoted_local=True
            )
            return found.local_part, domain.lower()
        found = validate_email(f"{local}@{domain}", check_deliverability=False, allow_quoted_local=True)
    except EmailNotValidError as error:
        hint = "; for hosts of your own network set EMAIL_LOCAL_DOMAINS=true" if here else ""
        raise ValueError(f"{error}{hint}") from None
    return found.local_part, found.ascii_domain


def is_allowed(address: str, patterns: list[str]) -> bool:
    """Whether reports may be mailed to an address: it fits one of the patterns (`*@example.com`), or there are none."""
    return not patterns or any(fnmatchcase(address.lower(), pattern.lower()) for pattern in patterns)
