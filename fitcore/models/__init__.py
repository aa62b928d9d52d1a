"""Models."""

from fitcore.models.cnn import CNN, CifarCNN
from fitcore.models.convolution import convolution_size, convolve, max_pool
from fitcore.models.counting import number_of_parameters
from fitcore.models.initialisation import initialise_weights
from fitcore.models.layers import GaussianNoise, NoisyLinear, Tanh
from fitcore.models.linear import design_matrix, linear
from fitcore.models.mlp import MLP
from fitcore.models.polynomial import PolynomialModel, legendre_features, power_features
from fitcore.models.recurrent import RecurrentModel
from fitcore.models.residual import ResidualBlock, ResidualNetwork

__all__ = [
    "CNN",
    "MLP",
    "CifarCNN",
    "GaussianNoise",
    "NoisyLinear",
    "PolynomialModel",
    "RecurrentModel",
    "ResidualBlock",
    "ResidualNetwork",
    "Tanh",
    "convolution_size",
    "convolve",
    "design_matrix",
    "initialise_weights",
    "legendre_features",
    "linear",
    "max_pool",
    "number_of_parameters",
    "power_features",
]
