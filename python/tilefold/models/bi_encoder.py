"""Encodes queries and documents by two encoders, which may share their weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..arrays import check_dim
from ..data.prompts import TITLE_FORMAT, check_title_format, document_texts, query_texts
from ..files.published_folder import written_aside
from .adapters import Lora
from .checkpoints import encoder_settings
from .encoder import Encoder
from .encoder_folder import write_encoder, write_sentence_transformers
from .towers import Towers, load_one, load_two, two_towers, with_overrides

Document = str | Mapping[str, Any]  # a text, or an object with "text" and perhaps "title"


class BiEncoder(nn.Module):
    """Encodes queries and documents so that the inner product of two embeddings is their score.

    Args:
        query_encoder: encodes queries.
        document_encoder: encodes documents; None for the same encoder. Towers are tied where they
            have the same weights, though prefixes and lengths may differ: `Encoder.with_options`.
        title_format: joins the title and the text of a document that has both; "{text}" leaves
            titles out.

    Raises:
        ValueError: the towers differ in dimension, or the format has other fields.

    >>> from tilefold.models import minilm
    >>> model = BiEncoder(minilm())
    >>> queries = model.encode_queries(["what do cats do?"])
    >>> documents = model.encode_corpus(["Invoices are due.", {"title": "Cats", "text": "sleep."}])
    >>> (queries @ documents.T).argmax()
    np.int64(1)
    """

    def __init__(
        self,
        query_encoder: Encoder,
        document_encoder: Encoder | None = None,
        *,
        title_format: str = TITLE_FORMAT,
    ) -> None:
        super().__init__()
        self.query_encoder = query_encoder
        self.document_encoder = query_encoder if document_encoder is None else document_encoder
        dims = self.query_encoder.dim, self.document_encoder.dim
        check_dim("BiEncoder", "queries", dims[0], "documents have", dims[1])
        check_title_format(title_format, "BiEncoder")
        self.title_format = title_format
        self.dim = dims[0]
        self.train(self.query_encoder.training)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        document: str | Path | None = None,
        tied: bool | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        query_max_length: int | None = None,
        document_max_length: int | None = None,
        title_format: str | None = None,
        lora: Lora | None = None,
        **options: Any,
    ) -> Self:
        """Loads what `save_pretrained`, sentence-transformers or transformers wrote, in float32.

        Arguments that are not given have the values of the folder, or else the defaults of
        `Encoder`.

        Args:
            name: folder or hub name; of the encoder of queries where `document` is given.
            document: folder or hub name of an encoder of documents, as DPR has it.
            tied: one set of weights for both; False gives documents a copy of their own. None takes
                the value of the folder, or else True.
            query_prefix, document_prefix: put before each text.
            query_max_length, document_max_length: tokens of a text that are read.
            title_format: of `BiEncoder`.
            lora: adds an adapter to the model, which is frozen, and with tied=False one for queries
                and one for documents over the same model.
            **options: of `Encoder`, for both.

        Raises:
            OSError: there is no such model.
            ValueError: weights are missing; a module of sentence-transformers has no counterpart
                here; an argument contradicts the folder, which has two encoders or an adapter.
        """
        query = with_overrides(options, prefix=query_prefix, max_length=query_max_length)
        documents = with_overrides(options, prefix=document_prefix, max_length=document_max_length)
        folder = two_towers(name) if document is None else None
        if tied and (document is not None or folder is not None):
            raise ValueError(
                f"BiEncoder.from_pretrained: tied=True, but {document or folder} has an encoder "
                f"of its own for documents"
            )
        if document is not None:
            first = Encoder.from_pretrained(name, **query)
            towers = Towers(first, Encoder.from_pretrained(document, **documents))
        elif folder is not None:
            towers = load_two(folder, query, documents)
        else:
            towers = load_one(name, query, documents)
            if tied is False:
                towers = towers.apart(share_model=lora is not None)
        if lora is not None:
            towers.add(lora, apart=tied is False)
        return cls(*towers[:2], title_format=title_format or towers.title_format or TITLE_FORMAT)

    @property
    def tied(self) -> bool:
        """Whether queries and documents are encoded with the same weights."""
        q, d = self.query_encoder, self.document_encoder
        return q.model is d.model and q.projection is d.projection and q.adapter == d.adapter

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.query_encoder.device

    def encode_queries(
        self,
        texts: Sequence[str],
        prompts: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = True,
        dtype: torch.dtype | None = None,
    ) -> NDArray[np.float32]:
        """Computes embeddings of queries, float32 [len(texts), dim].

        Args:
            texts: n strings.
            prompts: n instructions, put before the queries that have one; None for none at all.
            batch_size, batch_tokens, progress, dtype: of `Encoder.encode`.

        Raises:
            ValueError: another number of prompts than of texts.
        """
        bar = "queries" if progress is True else progress
        return self.query_encoder.encode(
            self.query_texts(texts, prompts),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            progress=bar,
            dtype=dtype,
        )

    def encode_documents(
        self,
        texts: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = True,
        dtype: torch.dtype | None = None,
    ) -> NDArray[np.float32]:
        """Computes embeddings of documents with a column of titles, float32 [len(texts), dim].

        Args:
            texts: n strings.
            titles: n titles, joined with the texts by `title_format`; "" for a document without a
                title, which is its text alone; None for no titles at all.
            batch_size, batch_tokens, progress, dtype: of `Encoder.encode`.

        Raises:
            ValueError: another number of titles than of texts.

        >>> from tilefold.models import minilm
        >>> model = BiEncoder(minilm())
        >>> columns = model.encode_documents(["sleep."], ["Cats"], progress=False)
        >>> bool((columns == model.encode_documents(["Cats sleep."], progress=False)).all())
        True
        """
        bar = "documents" if progress is True else progress
        return self.document_encoder.encode(
            self.document_texts(texts, titles),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            progress=bar,
            dtype=dtype,
        )

    def query_texts(
        self, queries: Sequence[str], prompts: Sequence[str] | None = None
    ) -> Sequence[str]:
        """Joins prompts and queries as `encode_queries` reads them."""
        return queries if prompts is None else query_texts(queries, prompts)

    def document_texts(
        self, texts: Sequence[str], titles: Sequence[str] | None = None
    ) -> Sequence[str]:
        """Joins titles and texts by `title_format`, as `encode_documents` reads them."""
        return texts if titles is None else document_texts(texts, titles, self.title_format)

    def encode_corpus(
        self,
        texts: Sequence[Document],
        *,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        progress: bool | str = True,
        dtype: torch.dtype | None = None,
    ) -> NDArray[np.float32]:
        """Computes embeddings of strings, or of objects as BEIR has them: see `encode_documents`.

        Args:
            texts: strings, or objects with "text" and perhaps "title".
            batch_size, batch_tokens, progress, dtype: of `Encoder.encode`.
        """
        if isinstance(texts, str):
            raise TypeError("BiEncoder.encode_corpus: texts is one string; pass a list")
        rows = [_title_and_text(row, document) for row, document in enumerate(texts)]
        titles, bodies = [title for title, _ in rows], [text for _, text in rows]
        return self.encode_documents(
            bodies,
            titles,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            progress=progress,
            dtype=dtype,
        )

    encode_query = encode_queries
    encode_document = encode_corpus

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder for `from_pretrained`, whole or not at all.

        Tied, it is a folder that AutoModel and AutoTokenizer load as well; otherwise it holds two
        of them, `query` and `document`.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: a projection, or a model, that could not be loaded again.
        """
        towers = {"query": self.query_encoder, "document": self.document_encoder}
        record: dict[str, Any] = {"title_format": self.title_format}
        with written_aside(folder, encoder_settings.FILE) as partial:
            if self.tied:
                record |= {tower: encoder.settings() for tower, encoder in towers.items()}
                record |= write_encoder(self.query_encoder, partial)
            else:
                for tower, encoder in towers.items():
                    encoder.save_pretrained(partial / tower)
            encoder_settings.write(partial, "tied" if self.tied else "untied", record)

    def export_sentence_transformers(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder from which SentenceTransformer encodes queries and documents as here.

        Raises:
            FileExistsError: the folder is neither empty nor one that was saved before.
            ValueError: the towers are untied or pool differently; there is an adapter (merge it
                first); sentence-transformers lacks the pooling or the projection.
        """
        query, document = self.query_encoder, self.document_encoder
        alike = (query.pooling, query.normalize) == (document.pooling, document.normalize)
        if not (self.tied and alike):
            raise ValueError(
                "export_sentence_transformers: queries and documents need the same weights and "
                "pooling; export query_encoder and document_encoder each"
            )
        with written_aside(folder, encoder_settings.FILE) as partial:
            record = write_sentence_transformers(query, partial, document)
            towers = {"query": query.settings(), "document": document.settings()}
            record |= {**towers, "title_format": self.title_format}
            encoder_settings.write(partial, "tied", record)

    def merge(self) -> BiEncoder:
        """Returns a bi-encoder whose adapters are added to a copy of the model's weights.

        Raises:
            ValueError: there is no adapter.
        """
        query = self.query_encoder.merge()
        document = self.document_encoder
        merged = query.with_options(**document.settings()) if self.tied else document.merge()
        return BiEncoder(query, merged, title_format=self.title_format)

    def checkpoint_activations(self) -> None:
        """Trades time for memory in training; see `Encoder.checkpoint_activations`."""
        self.query_encoder.checkpoint_activations()
        if self.document_encoder.model is not self.query_encoder.model:
            self.document_encoder.checkpoint_activations()


def _title_and_text(row: int, document: Document) -> tuple[str, str]:
    """Returns the title, "" where there is none, and the text of a document."""
    if isinstance(document, str):
        return "", document
    where = f"BiEncoder.encode_corpus: document {row}"
    if not isinstance(document, Mapping):
        kind = type(document).__name__
        raise TypeError(f"{where} must be a string or have 'title' and 'text', got {kind}")
    title, text = document.get("title") or "", document.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        raise TypeError(f"{where}: 'title' and 'text' must be strings, got {document!r:.80}")
    return title, text
