"""The recurrent network for sequences of tokens."""

from torch import Tensor, nn

from fitcore.models.validation import require_positive

State = tuple[Tensor, Tensor]
"""Hidden and cell state of every layer, each (num_layers, n, hidden_size)."""


class RecurrentModel(nn.Module):
    """Embedding, LSTM and an output layer on its last step: which token comes next.

        model = RecurrentModel(vocabulary_size=1000, embedding_size=64, hidden_size=128, num_layers=2)
        scores, state = model(tokens)               # (n, 1000) from (n, T)
        scores, state = model(more, state)          # goes on where ``tokens`` ended

    With vocabulary V, embedding E and H hidden neurons in each of L layers it has
    VE + 4H(E + H + 2) + (L - 1) 4H(2H + 2) + (H + 1)V parameters.

    A state that a later call continues from carries its graph: detach it between two training steps. The last step is
    that of the longest sequence: what pads the others is read like any token.

    Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        """Draw the parameters from the global random state, as torch's layers do.

        Args:
            vocabulary_size: V, number of tokens.
            embedding_size: E, length of the vector that stands for a token.
            hidden_size: H, neurons of each layer of the LSTM.
            num_layers: L, number of layers of the LSTM.
            dropout: probability of dropping an output of a layer that goes to the next layer.

        Raises:
            ValueError: a size below 1, or dropout in a single layer, where there is nothing to drop.
        """
        super().__init__()
        require_positive(
            vocabulary_size=vocabulary_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
        if dropout and num_layers == 1:
            raise ValueError(f"dropout acts between layers: with num_layers=1 it must be 0, got {dropout}")
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.output = nn.Linear(hidden_size, vocabulary_size)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return scores (n, V) of the token after ``tokens`` (n, T), integers below V, and the state after them.

        Without ``state`` it starts from zeros.
        """
        outputs, state = self.lstm(self.embedding(tokens), state)
        return self.output(outputs[:, -1]), state
