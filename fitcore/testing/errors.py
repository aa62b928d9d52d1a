"""The one exception of the claim machinery."""


class ClaimError(Exception):
    """A claim, its catalogue or its evidence is ill-formed.

    Deliberately no ``AssertionError``: a mistake of the author neither violates a claim nor detects a control.
    """
