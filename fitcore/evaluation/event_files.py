"""What TensorBoard's event files hold, read back as numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

_EVERYTHING = dict.fromkeys(("scalars", "tensors", "histograms", "images"), 0)


@dataclass(frozen=True)
class Points:
    """Scalars of one tag in the order of their recording: ``steps`` (n,) int64, ``values`` (n,) float64, and the
    ``times`` (n,) of recording in seconds since 1970.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """One histogram: ``counts`` (n,) of values up to ``right_edges`` (n,), and what of the values is kept exactly."""

    step: int
    size: int
    minimum: float
    maximum: float
    sum: float
    right_edges: NDArray[np.float64]
    counts: NDArray[np.float64]


class EventFiles:
    """All event files that lie directly in one folder, which TensorBoard shows as one run.

        points = EventFiles(log_dir).scalars("Loss/train")

    Nothing is thinned out, as TensorBoard's web page does beyond 1,000 scalars.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read them.

        Raises:
            FileNotFoundError: no event file lies in ``folder``.
        """
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

        self.paths = event_paths(folder)
        if not self.paths:
            raise FileNotFoundError(f"no event file in {folder}")
        self._events = EventAccumulator(str(folder), size_guidance=_EVERYTHING | {"compressedHistograms": 1}).Reload()

    @property
    def tags(self) -> dict[str, list[str]]:
        """Tags by kind: ``scalars``, ``histograms``, ``images``, and ``tensors`` (texts and curves)."""
        found = self._events.Tags()
        return {kind: list(found[kind]) for kind in _EVERYTHING}

    def scalars(self, tag: str) -> Points:
        """What ``add_scalar`` recorded.

        Raises:
            KeyError: no such tag.
        """
        found = self._events.Scalars(tag)
        steps, values, times = ([getattr(point, name) for point in found] for name in ("step", "value", "wall_time"))
        return Points(np.array(steps, np.int64), np.array(values, np.float64), np.array(times, np.float64))

    def histograms(self, tag: str) -> list[Histogram]:
        """What ``add_histogram`` recorded.

        Raises:
            KeyError: no such tag.
        """
        found = ((event.step, event.histogram_value) for event in self._events.Histograms(tag))
        return [
            Histogram(step, int(h.num), h.min, h.max, h.sum, np.array(h.bucket_limit, float), np.array(h.bucket, float))
            for step, h in found
        ]

    def images(self, tag: str) -> list[tuple[int, NDArray[np.uint8]]]:
        """Step and pixels (height, width, channels) of what ``add_image`` and ``add_figure`` recorded.

        Raises:
            KeyError: no such tag.
        """
        from PIL import Image  # noqa: PLC0415

        found = self._events.Images(tag)
        return [(event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))) for event in found]

    def texts(self, tag: str) -> list[tuple[int, str]]:
        """Step and text of what ``add_text`` recorded.

        Raises:
            KeyError: no such tag.
        """
        found = self._events.Tensors(f"{tag}/text_summary")
        return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found]

    @property
    def hparams(self) -> dict[str, float | str | bool]:
        """Hyperparameters that ``add_hparams`` recorded; none where it recorded nothing here."""
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # noqa: PLC0415

        try:
            content = self._events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        except KeyError:
            return {}
        recorded = HParamsPluginData.FromString(content).session_start_info.hparams
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in recorded.items()}

    @property
    def graph(self) -> list[NodeDef]:
        """Nodes of the graph that ``add_graph`` recorded, with their ``name``, ``op``, ``input`` and ``attr``.

        Raises:
            ValueError: it recorded none.
        """
        return list(self._events.Graph().node)


def event_paths(folder: Path | str) -> list[Path]:
    """The event files that lie directly in ``folder``, oldest name first."""
    return sorted(path for path in Path(folder).glob("*tfevents*") if path.is_file())
