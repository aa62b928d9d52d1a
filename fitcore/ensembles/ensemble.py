"""Independent copies of one module, trained at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fitcore.seeding import seeded


class Ensemble:
    """S independently initialised copies of an ordinary module, evaluated in one vectorised call.

    Copy s is what ``torch.manual_seed(seeds[s]); make_model()`` builds. All parameters form one leaf matrix, a row a
    copy, which an ordinary elementwise optimizer (SGD, Adam, ...) moves exactly as S optimizers would move S modules:

        ensemble = Ensemble(lambda: MLP([1, 16, 1]), seeds=range(100))
        adam = torch.optim.Adam([ensemble.parameters])
        step = optimizer_step(lambda params: mean_squared_errors(ensemble(x, params), y), ensemble.parameters, adam)
        history = train(step, epochs=500)                                # history.losses: (500, 100)

    Attributes:
        parameters: (S, P), each row the parameters of one copy in the order of ``module.named_parameters()``.
    """

    def __init__(self, make_model: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        """Initialise one copy a seed.

        Raises:
            ValueError: no seeds, or the module has buffers, which one call would have to update for all copies.

        """
        if len(seeds) == 0:
            raise ValueError(f"seeds must name at least one copy, got {seeds!r}")
        distinct = {seed: _initialised(make_model, int(seed)) for seed in dict.fromkeys(seeds)}
        copies = [distinct[seed] for seed in seeds]
        stacked, buffers = stack_module_state(copies)
        if buffers:
            raise ValueError(f"make_model must build a module without buffers, got {sorted(buffers)}")
        self._shapes = {name: tensor.shape[1:] for name, tensor in stacked.items()}
        self._module = copies[0]
        rows = torch.cat([tensor.detach().flatten(1) for tensor in stacked.values()], dim=1)
        self.parameters: Tensor = rows.requires_grad_()

    def __len__(self) -> int:
        """S, the number of copies."""
        return len(self.parameters)

    def __call__(self, inputs: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Output of every copy on its own inputs, shape (S, ...) for ``inputs`` of shape (S, ...).

        ``parameters`` (S, P) stand in for the ensemble's own where given; inputs that all copies share are
        ``shared.expand(len(ensemble), *shared.shape)``.
        """
        parameters = self.parameters if parameters is None else parameters
        return vmap(self._evaluate, randomness="different")(self.named_parameters(parameters), inputs)

    def named_parameters(self, parameters: Tensor | None = None) -> dict[str, Tensor]:
        """Views of the rows by the module's parameter names, each (S, *shape)."""
        parameters = self.parameters if parameters is None else parameters
        columns = parameters.split([shape.numel() for shape in self._shapes.values()], dim=1)
        named = zip(self._shapes.items(), columns, strict=True)
        return {name: column.unflatten(1, shape) for (name, shape), column in named}

    def _evaluate(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self._module, parameters, (inputs,))


def mean_squared_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of every copy, (S,), from predictions and targets of the same shape (S, ...).

    Raises:
        ValueError: the shapes differ, which would broadcast.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"targets must have the shape of predictions {tuple(predictions.shape)}, got {tuple(targets.shape)}"
        )
    return (predictions - targets).square().flatten(1).mean(1)


def _initialised(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded(seed):
        return make_model()
