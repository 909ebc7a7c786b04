"""Errors: exit codes as the shell sees them, and the trip across a process border."""

import pickle

import pytest

from mmdf.cache import errors


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.MmdfError, 1),
        (errors.UsageError, 2),
        (errors.MediaError, 3),
        (errors.DataError, 4),
        (errors.CacheError, 4),
        (errors.WeightsError, 5),
    ],
)
def test_every_error_is_expected_and_has_its_exit_code(kind: type[errors.MmdfError], exit_code: int) -> None:
    assert issubclass(kind, errors.MmdfError)
    assert kind("what came").exit_code == exit_code
    assert str(kind("what came")) == "what came"


def test_a_media_error_keeps_message_and_stage_through_pickle() -> None:
    error = pickle.loads(pickle.dumps(errors.MediaError("no audio stream", "probe")))  # noqa: S301 - our own bytes
    assert type(error) is errors.MediaError
    assert (str(error), error.message, error.stage) == ("no audio stream", "no audio stream", "probe")


def test_the_stage_of_a_media_error_is_decode_unless_said() -> None:
    assert errors.MediaError("cut short").stage == "decode"


def test_a_subclass_of_a_media_error_keeps_its_type_through_pickle() -> None:
    again = pickle.loads(pickle.dumps(Timeout("too slow", "view")))  # noqa: S301 - our own bytes
    assert type(again) is Timeout


class Timeout(errors.MediaError):
    pass
