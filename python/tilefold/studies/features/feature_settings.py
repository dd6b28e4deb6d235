"""Settings of the study of features."""

from __future__ import annotations

from dataclasses import dataclass

from ..subject_settings import SubjectSettings


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(SubjectSettings):
    """Settings of `run_features`.

    Args:
        n_features: numbers of features of an autoencoder; each one is combined with each k.
        k: maximum numbers of features that an embedding has.
        autoencoder_epochs: passes over the embeddings of documents in fitting an autoencoder.
        autoencoder_learning_rate: learning rate of that, for embeddings scaled to variance 1.
        autoencoder_batch_size: embeddings in a step of that.
        top_features: features whose passages are shown, in each of two lists.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or settings do not go together.
    """

    n_features: tuple[int, ...] = (256, 1024)
    k: tuple[int, ...] = (4, 16, 64)
    autoencoder_epochs: int = 100
    autoencoder_learning_rate: float = 1e-3
    autoencoder_batch_size: int = 64
    top_features: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_different("n_features", "k")
        for name in ("n_features", "k"):
            self._check_min(name, 1)
            self._replace(name, tuple(sorted(getattr(self, name))))
        for name in ("autoencoder_epochs", "autoencoder_batch_size", "top_features"):
            self._check_min(name, 1)
        self._check_range("autoencoder_learning_rate", 0, above=True)
        if max(self.k) > min(self.n_features):
            raise ValueError(
                f"{self._named('k')}: expected at most the smallest number of features, "
                f"{min(self.n_features)}, got {max(self.k)}"
            )
