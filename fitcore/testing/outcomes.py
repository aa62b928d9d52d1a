"""What a call comes to, for claims about whether something works."""

from collections.abc import Callable
from typing import Any


def error_of(call: Callable[..., Any], *arguments: Any, **options: Any) -> Exception | None:
    """The exception that ``call(*arguments, **options)`` raises, or None.

    A control under which something stops working is detected by an assertion on this, not by the exception itself,
    which would count as a crash of the claim:

        assert error_of(loss.backward) is None
        assert "a second time" in str(error_of(loss.backward))
    """
    try:
        call(*arguments, **options)
    except Exception as error:
        return error
    return None
