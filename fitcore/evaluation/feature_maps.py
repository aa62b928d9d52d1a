"""What the layers of a network make of images, recorded by forward hooks, and shown."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


@torch.no_grad()
def feature_maps(model: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Outputs of some layers of a network in one forward pass.

        conv1, conv2 = feature_maps(network, images, ["features.0", "features.3"])

    Args:
        model: any module, left as it was.
        images: what it is called with.
        layers: names of submodules, as ``model.named_modules()`` has them.

    Returns:
        The last output of each layer, cloned, so that an in-place operation after it doesn't show.

    Raises:
        AttributeError: no submodule of such a name.
        ValueError: the forward pass calls one of them never.
    """
    recorded: dict[str, Tensor] = {}

    def record(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            recorded[name] = output.clone()

        return submodules[name].register_forward_hook(hook)

    submodules = {name: model.get_submodule(name) for name in layers}
    handles = [record(name) for name in submodules]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in layers if name not in recorded]:
        raise ValueError(f"the forward pass calls no {', '.join(missing)}")
    return [recorded[name] for name in layers]


def tiled(maps: Tensor, columns: int, side: int) -> Tensor:
    """Pictures side by side, row by row, with grey lines between: maps (n, height, width) clipped to [0, 1].

    Args:
        maps: what is to be shown.
        columns: pictures a row.
        side: height and width of a picture, to which every pixel is enlarged as a square.

    Returns:
        (rows · (side + 2), columns · (side + 2)), from 0, black, to 1; what the last row lacks is grey.

    Raises:
        ValueError: no column.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    enlarged = functional.interpolate(maps.clamp(0, 1)[:, None].float(), size=(side, side))[:, 0]
    framed = functional.pad(enlarged, (1, 1, 1, 1), value=0.5)
    lacking = -len(maps) % columns
    filled = torch.cat([framed, torch.full((lacking, side + 2, side + 2), 0.5)])
    return filled.unflatten(0, (-1, columns)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
