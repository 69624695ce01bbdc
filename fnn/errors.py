"""The one error for bad input: a single sentence that names the thing, its value and what is allowed."""


class InputError(ValueError):
    """Input a person can mend. The command line prints its sentence and ends with exit code 2."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds.

    Call it before work starts, on values that are known without tracing.
    """
    if not condition:
        raise InputError(sentence)
