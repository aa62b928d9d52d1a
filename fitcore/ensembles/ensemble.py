"""Independent copies of one module, evaluated at once."""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fitcore.seeding import seeded


class Ensemble:
    """S independent copies of an ordinary module; copy s is what ``torch.manual_seed(seeds[s]); make_model()`` builds.

        ensemble = Ensemble(lambda: MLP([1, 16, 1]), seeds=range(100))
        x = ensemble.share(torch.linspace(-1, 1, 50)[:, None])           # (100, 50, 1), in the memory of one
        outputs = ensemble(x)                                            # (100, 50, 1)

    `fitcore.ensembles.fit` trains them.

    Attributes:
        seeds: of the S copies.
        module_like: a module of the kind that the copies are; what it holds itself is not used.
        flat: (S · P,), all parameters of all copies in one leaf, so that one optimizer moves them. The copies of one
            parameter lie together: `stacks` are views of it by name.
        buffers: what the copies carry besides (running statistics, frozen parameters), each (S, *shape), by name.
    """

    def __init__(self, make_model: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        """Initialise one copy a seed.

        Raises:
            ValueError: no seeds; no trainable parameters, or of several dtypes; or copies that differ in more than the
                values of their parameters and buffers.
        """
        if len(seeds) == 0:
            raise ValueError(f"seeds must name at least one copy, got {seeds!r}")
        self.seeds = [int(seed) for seed in seeds]
        distinct = {seed: _initialised(make_model, seed) for seed in dict.fromkeys(self.seeds)}
        self.module_like = distinct[self.seeds[0]]
        parameters = _stacked([distinct[seed] for seed in self.seeds], _trainable, "parameters")
        dtypes = {stack.dtype for stack in parameters.values()}
        if len(dtypes) != 1:
            raise ValueError(f"make_model must build a module with trainable parameters of one dtype, got {dtypes}")
        self.buffers = _stacked([distinct[seed] for seed in self.seeds], _carried, "buffers")
        self._shapes = {name: stack.shape[1:] for name, stack in parameters.items()}
        self.flat = torch.cat([stack.flatten() for stack in parameters.values()]).requires_grad_()

    def __len__(self) -> int:
        """S, the number of copies."""
        return len(self.seeds)

    def __call__(self, inputs: Tensor, flat: Tensor | None = None) -> Tensor:
        """Output of every copy on its own inputs, shape (S, ...) for ``inputs`` of shape (S, ...).

        ``flat`` (S · P,) stands in for the ensemble's own parameters where given. Copies draw their own dropout masks.
        What a module does to its buffers it does here too: in training, batch normalisation moves its statistics.
        """
        parameters = self.stacks(flat)
        if len(self) == 1:
            only = {name: stack[0] for name, stack in (parameters | self.buffers).items()}
            return functional_call(self.module_like, only, (inputs[0],))[None]
        return vmap(self._evaluate, randomness="different")(parameters, self.buffers, inputs)

    def __getitem__(self, copies: slice) -> Self:
        """An ensemble of some of the copies, with parameters and buffers of its own.

        Raises:
            TypeError: an index instead of a slice; `module` makes one copy an ordinary module.
        """
        if not isinstance(copies, slice):
            raise TypeError(f"an ensemble takes slices; its copy {copies!r} is ensemble.module({copies!r})")
        part = copy(self)
        part.seeds = self.seeds[copies]
        part.module_like = deepcopy(self.module_like)
        part.flat = torch.cat([stack[copies].flatten() for stack in self.stacks().values()]).detach().requires_grad_()
        part.buffers = {name: buffer[copies].clone() for name, buffer in self.buffers.items()}
        return part

    def __setitem__(self, copies: slice, part: "Ensemble") -> None:
        """Overwrite parameters and buffers of some copies."""
        with torch.no_grad():
            for stacks, others in ((self.stacks(), part.stacks()), (self.buffers, part.buffers)):
                for name, stack in stacks.items():
                    stack[copies] = others[name]

    def take(self, other: Self, copies: Tensor) -> None:
        """Overwrite parameters and buffers of some copies, a mask (S,), with those of ``other``."""
        with torch.no_grad():
            self.flat.copy_(torch.where(self.per_parameter(copies), other.flat, self.flat))
            for name, buffer in self.buffers.items():
                mask = copies.view(-1, *[1] * (buffer.ndim - 1))
                buffer.copy_(torch.where(mask, other.buffers[name], buffer))

    def stacks(self, flat: Tensor | None = None) -> dict[str, Tensor]:
        """Views of the parameters (or of ``flat``, shaped like them) by the module's names, each (S, *shape)."""
        flat = self.flat if flat is None else flat
        pieces = flat.split([len(self) * shape.numel() for shape in self._shapes.values()])
        named = zip(self._shapes.items(), pieces, strict=True)
        return {name: piece.view(len(self), *shape) for (name, shape), piece in named}

    def rows(self, flat: Tensor | None = None) -> Tensor:
        """All parameters (or ``flat``, shaped like them), a row a copy in the module's order: (S, P)."""
        return torch.cat([stack.flatten(1) for stack in self.stacks(flat).values()], dim=1)

    def per_parameter(self, values: Tensor) -> Tensor:
        """One value a copy, (S,), repeated for each of its parameters: shaped like ``flat``."""
        return torch.cat([values.repeat_interleave(shape.numel()) for shape in self._shapes.values()])

    def module(self, index: int) -> nn.Module:
        """One copy as an ordinary module, with parameters and buffers of its own."""
        module = deepcopy(self.module_like)
        state = {name: stack[index] for name, stack in (self.stacks() | self.buffers).items()}
        with torch.no_grad():
            for name, tensor in _state(module).items():
                tensor.copy_(state[name])
        return module

    def share(self, tensor: Tensor) -> Tensor:
        """The same data for every copy: (S, *shape), in the memory of one."""
        return tensor.expand(len(self), *tensor.shape)

    def train(self, mode: bool = True) -> Self:
        """Switch all copies to training, or to evaluation."""
        self.module_like.train(mode)
        return self

    def eval(self) -> Self:
        """Switch all copies to evaluation."""
        return self.train(False)

    def to(self, device: torch.device | str) -> Self:
        """Move all copies to a device."""
        self.flat = self.flat.detach().to(device).requires_grad_()
        self.buffers = {name: buffer.to(device) for name, buffer in self.buffers.items()}
        self.module_like.to(device)
        return self

    def _evaluate(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.module_like, parameters | buffers, (inputs,))


def _initialised(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded(seed):
        return make_model()


def _state(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _carried(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return frozen | dict(module.named_buffers())


def _stacked(modules: list[nn.Module], state: Callable[[nn.Module], dict[str, Tensor]], kind: str) -> dict[str, Tensor]:
    states = [state(module) for module in modules]
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in states]
    different = next((found for found in shapes if found != shapes[0]), None)
    if different is not None:
        raise ValueError(f"make_model must build the same {kind} for every seed, got {shapes[0]} and {different}")
    return {name: torch.stack([tensors[name].detach() for tensors in states]) for name in states[0]}
