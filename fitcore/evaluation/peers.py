"""What an ensemble's training competes with: a loop over the copies, and JAX."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from fitcore.ensembles import Ensemble


def training_loop(
    ensemble: Ensemble,
    inputs: Tensor,
    targets: Tensor,
    *,
    optimizer: Callable[[list[Tensor]], Optimizer],
    loss: nn.Module,
    copies: int,
    steps: int,
) -> Callable[[], None]:
    """Training of the first ``copies`` by ``steps`` full-batch steps each, one copy after the other, as courses do.

    Inputs and targets are (S, n, ...), the loss is one of ``torch.nn``. Every call goes on where the last one ended.
    """
    models = [ensemble.module(index) for index in range(copies)]
    optimizers = [optimizer(list(model.parameters())) for model in models]

    def train() -> None:
        for model, step, x, y in zip(models, optimizers, inputs, targets, strict=False):
            for _ in range(steps):
                step.zero_grad()
                loss(model(x), y).backward()
                step.step()

    return train


def jax_training(
    ensemble: Ensemble,
    inputs: Tensor,
    targets: Tensor,
    *,
    optimizer: type[Optimizer],
    lr: float,
    steps: int,
) -> Callable[[], Any]:
    """Compile the training of all copies by ``steps`` full-batch steps in JAX, for a call to run.

    ``vmap`` over the copies, ``lax.scan`` over the steps and ``jit`` around both, with optax's optimizer. The loss is
    the mean squared error. Where all copies have the same data (in the memory of one, as of `Ensemble.share`) JAX is
    told so.

    Args:
        ensemble: copies of an ``nn.Sequential`` of linear layers, ReLU and tanh.
        inputs: (S, n, ...).
        targets: (S, n, ...).
        optimizer: ``SGD`` or ``Adam``, without further settings.
        lr: its learning rate.
        steps: in one call, which always begins at the ensemble's own parameters.

    Returns:
        What runs the training, and returns the losses (S, steps) before each update.

    Raises:
        KeyError: a layer or an optimizer that is none of these.
    """
    import jax  # noqa: PLC0415  (an extra)
    import optax  # noqa: PLC0415

    layers = list(ensemble.module_like.children())
    evaluations = [_jax_layer(layer) for layer in layers]
    stacks = ensemble.stacks(ensemble.flat.detach())
    start = [
        {name: jax.numpy.asarray(stacks[f"{index}.{name}"].numpy()) for name, _ in layer.named_parameters()}
        for index, layer in enumerate(layers)
    ]
    transformation = {SGD: optax.sgd, Adam: optax.adam}[optimizer](lr)
    shared = inputs.stride(0) == targets.stride(0) == 0
    x, y = (jax.numpy.asarray((data[0] if shared else data).numpy()) for data in (inputs, targets))

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        for evaluate, of_layer in zip(evaluations, parameters, strict=True):
            x = evaluate(of_layer, x)
        return jax.numpy.square(x - y).mean()

    def step(carried: Any, x: Any, y: Any) -> Any:
        parameters, state = carried
        value, gradient = jax.value_and_grad(loss)(parameters, x, y)
        updates, state = transformation.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state), value

    def scan(parameters: Any, x: Any, y: Any) -> Any:
        first = parameters, transformation.init(parameters)
        return jax.lax.scan(lambda carried, _: step(carried, x, y), first, length=steps)[1]

    over_data = None if shared else 0
    scanned = jax.jit(jax.vmap(scan, in_axes=(0, over_data, over_data))).lower(start, x, y).compile()
    return lambda: jax.block_until_ready(scanned(start, x, y))


def _jax_layer(layer: Any) -> Callable[[Any, Any], Any]:
    """What a torch ``layer`` does to (n, ...), as a function of its parameters by name and of its input."""
    import jax  # noqa: PLC0415

    return {
        nn.Linear: lambda parameters, x: x @ parameters["weight"].T + parameters["bias"],
        nn.ReLU: lambda _, x: jax.nn.relu(x),
        nn.Tanh: lambda _, x: jax.numpy.tanh(x),
    }[type(layer)]
