"""What models ask of their arguments."""


def require_positive(**sizes: int) -> None:
    """Raise ValueError, naming it, if one of these is below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
