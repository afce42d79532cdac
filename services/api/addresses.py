"""Mail addresses in requests: one each, and reports go to those alone that the operator allows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo
from streammesh.mail_address import is_allowed, parse

from services.api.settings import ApiSettings


def rules_of(settings: ApiSettings) -> dict[str, Any]:
    """Return the context that models with an `MailAddress` are validated in."""
    return {"local_domains": settings.local_domains, "recipients": settings.recipients}


def _address(value: str, info: ValidationInfo) -> str:
    rules = info.context or {}
    try:
        local, domain = parse(value, local_domains=rules.get("local_domains", False))
    except ValueError as error:
        raise ValueError(f"should be one e-mail address: {error}") from None
    if info.field_name == "recipient" and not is_allowed(f"{local}@{domain}", rules.get("recipients", [])):
        raise ValueError("reports may not be mailed to this address; see EMAIL_RECIPIENTS")
    return value.strip()


MailAddress = Annotated[str, AfterValidator(_address)]
