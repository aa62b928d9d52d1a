"""Catalogues: what the documents state, one TOML file a document; see ``fitcore.testing.catalogue.statements``."""

from fitcore.testing.catalogue.statements import Catalogue, Document, Statement, load_catalogue, load_document

__all__ = ["Catalogue", "Document", "Statement", "load_catalogue", "load_document"]
