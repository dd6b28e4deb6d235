"""Editors that a network computes from gradients: training, edits, files."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...files.done_once import read_checked, write_checked
from ...models import CausalLM
from ...progress import show_progress
from ..neurons.feedforward import NAMES, dense_weight, own_feed_forwards
from ..neurons.path_gradients import frozen
from .checked_delta import checked_delta
from .cloze_batch import ClozeBatch, EditableLM, cloze_batch
from .edit_gradients import (
    LayerGradient,
    Place,
    batches_of,
    edit_gradients,
    places_of,
    weight_name,
)
from .edit_losses import divergence, edit_losses, hidden_subjects
from .editable_model import editable_digest
from .fact_edit import FactEdit, check_edits
from .gradient_network import GradientNetwork
from .weight_delta import Factors, SubLayer, WeightDelta, smallest

_KIND, _MODEL, _LAYERS, _RANK = "editor", "fingerprint of the model", "layers", "rank"


class GradientEditor(nn.Module, abc.ABC):
    """Computes edits from gradients by networks that were trained on other edits of the model.

    Args:
        model: the language model that will be edited.
        layers: which blocks; by default the last three. Both of their sub-layers are edited.
        rank: of the networks.
        required_probability: of `ShiftSearch`.
        names: see `feed_forwards`.

    Raises:
        ValueError: a layer that the model does not have.
    """

    def __init__(
        self,
        model: EditableLM,
        *,
        layers: Sequence[int] | None = None,
        rank: int = 1920,
        required_probability: float | None = None,
        names: Sequence[tuple[str, str]] = NAMES,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        parts = own_feed_forwards(kind, model, names)
        chosen = list(range(len(parts))[-3:]) if layers is None else list(layers)
        unknown = [layer for layer in chosen if not 0 <= layer < len(parts)]
        if unknown or not chosen:
            raise ValueError(f"{kind}: layers must be 0 to {len(parts) - 1}, got {chosen}")
        if rank < 1:
            raise ValueError(f"{kind}: rank must be at least 1, got {rank}")
        self.layers, self.rank = chosen, rank
        self.required_probability = required_probability
        self._names = names
        self._digest = editable_digest(model, names)
        self._fingerprint = model.fingerprint()  # gradients depend on the head as well
        shapes: Any = {
            sub_layer: dense_weight(getattr(parts[chosen[0]], sub_layer)).shape
            for sub_layer in ("intermediate", "output")
        }
        self.networks = nn.ModuleDict(
            {
                name: GradientNetwork(inputs, outputs, len(chosen), rank)
                for name, (outputs, inputs) in shapes.items()
            }
        )

    @abc.abstractmethod
    def factors(self, gradients: Mapping[Place, LayerGradient]) -> dict[Place, Factors]:
        """Computes the changes of weights from gradients; differentiable.

        Args:
            gradients: of `edit_gradients`.
        """

    def fit(
        self,
        model: EditableLM,
        edits: Sequence[FactEdit],
        neighbours: Sequence[FactEdit],
        *,
        shown: int = 1,
        n_edits: int = 8,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        rate_learning_rate: float = 1e-4,
        edit_weight: float = 1.0,
        locality_weight: float = 1.0,
        seed: int = 0,
        progress: bool | str = False,
    ) -> Self:
        """Trains the networks: edits are to hold in all their prompts, and change nothing else.

        The loss is that of the edits, plus the KL divergence on prompts of other facts from before.

        Args:
            model: the one that the editor was made for.
            edits: facts to train on, others than those to edit later.
            neighbours: other facts.
            shown: number of prompts of an edit that it is computed from; the others are paraphrases
                on which it has to hold, too.
            n_edits: number of edits made together; as many neighbours are read.
            steps, learning_rate: of Adam.
            rate_learning_rate: of Adam, for the rates and dampings of layers.
            edit_weight, locality_weight: of the two parts of the loss.
            seed: of the order of edits.
            progress: whether to show progress on stderr; a string labels it.

        Returns:
            This editor.

        Raises:
            ValueError: another model; fewer edits or neighbours than `n_edits`.
        """
        kind = type(self).__name__
        self._check_model(model)
        for name, value in (("shown", shown), ("n_edits", n_edits), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{kind}.fit: {name} must be at least 1, got {value}")
        for name, facts in (("edits", edits), ("neighbours", neighbours)):
            if len(facts) < n_edits:
                raise ValueError(
                    f"{kind}.fit: expected at least n_edits = {n_edits} {name}, got {len(facts)}"
                )
        generator = torch.Generator().manual_seed(seed)
        draws = batches_of(len(edits), n_edits, generator)
        others = batches_of(len(neighbours), n_edits, generator)
        rates = [x for name, x in self.named_parameters() if not name.startswith("networks")]
        groups: list[dict[str, Any]] = [
            {"params": self.networks.parameters()},
            {"params": rates, "lr": rate_learning_rate},
        ]
        optimizer = torch.optim.Adam(groups, lr=learning_rate)
        label = progress if isinstance(progress, str) else f"train {kind}"
        with show_progress(label, steps, show=bool(progress)) as display, frozen(model):
            for _ in range(steps):
                own = [edits[place] for place in next(draws)]
                near = [neighbours[place] for place in next(others)]
                losses = self._losses(model, own, near, shown)
                loss = edit_weight * losses[0] + locality_weight * losses[1]
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.parameters(), 1.0)
                optimizer.step()
                shown_losses = [float(x.detach()) for x in losses]
                display.note("edit {:.2f}, locality {:.2f}".format(*shown_losses))
                display.advance()
        return self

    def delta(self, model: EditableLM, edits: Sequence[FactEdit]) -> WeightDelta:
        """Computes the change of weights that makes edits; the model stays as it is.

        Args:
            model: the one that the editor was trained for.
            edits: facts to add or remove.

        Raises:
            TypeError: another kind of model.
            ValueError: an editor that is not trained, or for a model with other weights; edits that
                contradict each other, or do not reach the required probability; an object that the
                tokenizer does not know.
        """
        kind = type(self).__name__
        check_edits(kind, edits, causal=isinstance(model, CausalLM))
        self._check_model(model)
        if not all(self._network(name).count.all() for name in ("intermediate", "output")):
            raise ValueError(f"{kind}: the editor is not trained; call fit() first")
        batch = cloze_batch(kind, model, edits)
        with torch.no_grad():
            found = self.factors(self._gradients(model, batch, edits))
            factors = {
                place: smallest(Factors(*(x.detach().contiguous() for x in own)))
                for place, own in found.items()
            }
        delta = WeightDelta(self._digest, factors)
        required = self.required_probability
        return checked_delta(kind, model, delta, edits, required, self._names)

    def save(self, path: str | Path) -> None:
        """Writes the trained networks to a safetensors file that `load` reads."""
        arrays: dict[str, Any] = {
            name: np.ascontiguousarray(x.detach().cpu().numpy())
            for name, x in self.state_dict().items()
        }
        arrays |= {
            _KIND: np.frombuffer(type(self).__name__.encode(), np.uint8),
            _MODEL: np.frombuffer(self._fingerprint.encode(), np.uint8),
            _LAYERS: np.array(self.layers),
            _RANK: np.array(self.rank),
        }
        write_checked(Path(path), arrays)

    @classmethod
    def load(cls, path: str | Path, model: EditableLM, **options: Any) -> Self:
        """Reads the file of `save`.

        Args:
            path: the file.
            model: the one that the editor was trained for.
            **options: `required_probability` and `names`.

        Raises:
            FileNotFoundError: no such file.
            CorruptedFolderError: not a whole safetensors file, or not what was written.
            ValueError: an editor of another kind, or for a model with other weights.
        """
        arrays = read_checked(Path(path))
        kind = arrays.pop(_KIND, np.zeros(0, np.uint8)).tobytes().decode()
        if kind != cls.__name__:
            raise ValueError(
                f"{cls.__name__}.load: {path} is the file of {kind or 'something else'}"
            )
        digest = arrays.pop(_MODEL).tobytes().decode()
        layers, rank = arrays.pop(_LAYERS).tolist(), int(arrays.pop(_RANK))
        found = cls(model, layers=layers, rank=rank, **options)
        if found._fingerprint != digest:
            raise ValueError(
                f"{cls.__name__}.load: {path} is an editor for a model with other weights"
            )
        found.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return found

    def _losses(
        self,
        model: EditableLM,
        edits: Sequence[FactEdit],
        neighbours: Sequence[FactEdit],
        shown: int,
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss of edits on all of their prompts, and the divergence elsewhere."""
        op = f"{type(self).__name__}.fit"
        made = cloze_batch(op, model, [_first_prompts(one, shown) for one in edits])
        gradients = self._gradients(model, made, edits)
        for (layer, sub_layer), own in gradients.items():
            self._network(sub_layer).observe(self.layers.index(layer), *own)
        weights = self._weights(model, self.factors(gradients))
        whole, near = cloze_batch(op, model, edits), cloze_batch(op, model, neighbours)
        with torch.no_grad():
            unspecific = hidden_subjects(model, whole).log_probabilities(model)
            before = near.log_probabilities(model)
        after = whole.log_probabilities(model, weights)
        loss = whole.mean_by_edit(edit_losses(whole, after, unspecific, _removed(model, edits)))
        apart = near.mean_over_tokens(divergence(before, near.log_probabilities(model, weights)))
        return loss.mean(), apart.mean()

    def _gradients(
        self, model: EditableLM, batch: ClozeBatch, edits: Sequence[FactEdit]
    ) -> dict[Place, LayerGradient]:
        parts = own_feed_forwards(type(self).__name__, model, self._names)
        with torch.enable_grad():
            places = places_of(parts, self.layers)
            return edit_gradients(model, places, batch, _removed(model, edits))

    def _weights(self, model: EditableLM, factors: Mapping[Place, Factors]) -> dict[str, Tensor]:
        """Returns the changed weights by name, as the model keeps them."""
        parts = own_feed_forwards(type(self).__name__, model, self._names)
        weights = {}
        for (layer, sub_layer), (left, right) in factors.items():
            module = getattr(parts[layer], sub_layer)
            changed = dense_weight(module).detach().float() + left @ right
            changed = changed if isinstance(module, nn.Linear) else changed.T
            weights[weight_name(parts[layer], sub_layer)] = changed.to(module.weight.dtype)
        return weights

    def _network(self, sub_layer: SubLayer) -> GradientNetwork:
        network = self.networks[sub_layer]
        assert isinstance(network, GradientNetwork)
        return network

    def _transformed(self, place: Place, gradient: LayerGradient) -> Sequence[Tensor]:
        """Returns what the network makes of a layer's inputs and output gradients."""
        layer, sub_layer = place
        found: Sequence[Tensor] = self._network(sub_layer)(self.layers.index(layer), *gradient)
        return found

    def _check_model(self, model: EditableLM) -> None:
        if model.fingerprint() != self._fingerprint:
            raise ValueError(
                f"{type(self).__name__}: the editor was made for a model with other weights"
            )


def _first_prompts(edit: FactEdit, n: int) -> FactEdit:
    return FactEdit(edit.subject, edit.prompts[:n], edit.object, edit.remove, edit.original)


def _removed(model: EditableLM, edits: Sequence[FactEdit]) -> Tensor:
    return torch.tensor([one.remove for one in edits], device=model.device)
