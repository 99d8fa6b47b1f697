"""Messages for the user, and errors of other libraries as such."""

from __future__ import annotations

import pytest

from unsmear.errors import (
    CombinedError,
    ConfigError,
    DeviceMemoryError,
    InputError,
    MissingExtraError,
    Mistakes,
    as_user_error,
    first_line,
)


def test_what_the_system_refuses_is_told_with_its_place():
    assert str(as_user_error(OSError(2, "No such file", "a.mp4"))) == "'a.mp4': No such file"
    assert str(as_user_error(OSError(28, "No space left"))) == "No space left"
    library = OSError("an error of a library")
    with pytest.raises(OSError, match="an error of a library") as raised:
        as_user_error(library)
    assert raised.value is library


def test_the_first_line_of_an_error_or_its_kind():
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"


def test_mistakes_are_told_together():
    mistakes, one = Mistakes(), InputError("one")
    mistakes.tell()
    assert mistakes.attempt(lambda: 3) == 3
    mistakes.add(one)
    with pytest.raises(InputError) as raised:
        mistakes.tell()
    assert raised.value is one
    mistakes.add(CombinedError((InputError("two"), ConfigError("three"))))
    with pytest.raises(CombinedError, match=r"^3 mistakes: \(1\) one; \(2\) two; \(3\) three$"):
        mistakes.tell()
    many = CombinedError(tuple(InputError(str(number)) for number in range(12)))
    assert str(many).endswith("(10) 9; and 2 more")


def test_errors_are_what_callers_in_python_expect():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(DeviceMemoryError, ConfigError)
    assert issubclass(MissingExtraError, ImportError)
