"""What can go wrong, as people meet it: each error says what was wanted, what came and what to do.

The command line turns these into one sentence and an exit code; a traceback is only ever for a bug of ours.
"""


class MmdfError(Exception):
    """Root of all expected errors. `exit_code` is what the shell sees."""

    exit_code = 1


class UsageError(MmdfError):
    """A name or option that does not exist, or a combination that makes no sense."""

    exit_code = 2


class DataError(MmdfError):
    """A manifest, data set or score table that cannot be used as it is."""

    exit_code = 4


class CacheError(MmdfError):
    """A feature store or detector folder that is damaged, incomplete or of another format."""

    exit_code = 4


class WeightsError(MmdfError):
    """A backbone's weights are not on this machine."""

    exit_code = 5


class MediaError(MmdfError):
    """One media file cannot be used. Data rather than a crash: it becomes a row in the failure table.

    Attributes
    ----------
    stage
        Where it happened: `probe`, `decode`, `view` or `forward`.
    """

    exit_code = 3

    def __init__(self, message: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage

    def __reduce__(self) -> tuple:
        # Errors cross the border of a worker process; the default would lose the stage.
        return (type(self), (self.message, self.stage))
