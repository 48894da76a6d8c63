"""What there is to see of a loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Tuple

if TYPE_CHECKING:
    from . import _core


class Views:
    """What a loader says of itself, its dataset and its model."""

    _options: Dict[str, Any]

    def _started(self) -> "_core.Loader":
        raise NotImplementedError

    def stats(self) -> Dict[str, Any]:
        """What has been done so far: counts, times in seconds, sizes in bytes. `bound` is what the run is
        bound by: `trainer` where data were there in time."""
        return self._started().stats()

    def progress(self) -> str:
        """One line for a terminal: `bar.set_postfix_str(loader.progress())`."""
        return self._started().progress()

    def summary(self) -> str:
        """What the run was bound by, with the evidence, in a few lines."""
        return self._started().summary()

    def report(self) -> Dict[str, Any]:
        """What becomes of every sample: buckets, padding, what is dropped. It adds up to the dataset."""
        return self._started().report()

    def model(self) -> Dict[str, Any]:
        """The model, as its replica describes it: name, fingerprint, latent channels, …"""
        return self._started().model()

    def planned(self, epoch: int, step: int) -> List[int]:
        """Ids of the samples of any step, over all ranks, in order. Nothing is loaded."""
        return self._started().planned(epoch, step)

    @property
    def samples(self) -> int:
        """Samples of the dataset, or of all of them. Their ids count from 0, so `weights` has as many."""
        return self._started().samples()

    def key(self, id: int) -> str:
        """The name of a sample by its id; with several datasets after its source's: `art/0001.jpg`."""
        return self._started().key(id)

    @property
    def sources(self) -> Tuple[str, ...]:
        """What the datasets are called; empty where there is one, without a name."""
        return tuple(name for name in self._started().sources if name)

    @property
    def rank(self) -> int:
        """Which of the ranks this loader feeds."""
        rank: int = self._options["rank"]
        return rank

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        world_size: int = self._options["world_size"]
        return world_size

    @property
    def global_batch(self) -> int:
        """Samples of a step, over all ranks."""
        global_batch: int = self._options["global_batch"]
        return global_batch
