"""The tables of the store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = BigInteger().with_variant(Integer(), "sqlite")
"""Numbers of Label Studio's; SQLite counts up by itself only what it knows as an INTEGER, which is as wide there."""


class SortedText(TypeDecorator[str]):
    """Text of any length, sorted by its code points: every database gives the same order, and so the same rounds."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Return the database's type: text, in PostgreSQL with the C collation."""
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return a value as the database takes it."""
        if not value or (value.isascii() and "\0" not in value):
            return value
        # Halves of surrogate pairs, which JSON may hold, are no text; PostgreSQL has no place for the null character.
        value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return value.replace("\0", "\ufffd") if dialect.name == "postgresql" else value


class Base(DeclarativeBase):
    """The tables."""


class ProjectRow(Base):
    """A Label Studio project."""

    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    title: Mapped[str] = mapped_column(SortedText, default="", server_default="")
    label_config: Mapped[str] = mapped_column(SortedText, default="")
    encoder: Mapped[str] = mapped_column(SortedText, default="")
    encoder_name: Mapped[str | None] = mapped_column(SortedText, default=None)
    next_encoder: Mapped[str | None] = mapped_column(SortedText, default=None)
    next_signature: Mapped[str | None] = mapped_column(SortedText, default=None)
    better_encoder: Mapped[str | None] = mapped_column(SortedText, default=None)
    earlier_model: Mapped[str | None] = mapped_column(SortedText, default=None)
    connected: Mapped[bool] = mapped_column(Boolean, default=False)
    problem: Mapped[str | None] = mapped_column(SortedText, default=None)
    reconciled_at: Mapped[float | None] = mapped_column(Float, default=None)
    model_round: Mapped[int | None] = mapped_column(Integer, default=None)
    model_pinned: Mapped[bool] = mapped_column(Boolean, default=False)
    check_tasks: Mapped[str] = mapped_column(Text, default="[]")
    overlap: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    own_overlap: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    embedded_until: Mapped[int | None] = mapped_column(Id, default=None)
    listed_until: Mapped[int | None] = mapped_column(Id, default=None)
    listed_at: Mapped[float | None] = mapped_column(Float, default=None)
    listed_whole_at: Mapped[float | None] = mapped_column(Float, default=None)


class TaskRow(Base):
    """A task, and the row of its crop's embedding."""

    __tablename__ = "tasks"
    # The page counts these every second, and SQLite would read every long text on the way. PostgreSQL keeps
    # those elsewhere, and takes none that is long into an index.
    __table_args__ = (
        Index("tasks_by_state", "project_id", "embedding_row", "problem").ddl_if(dialect="sqlite"),
        Index("tasks_by_digest", "project_id", "digest"),
    )
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    image_url: Mapped[str | None] = mapped_column(SortedText)
    embedding_row: Mapped[int | None] = mapped_column(Id, default=None)
    digest: Mapped[bytes | None] = mapped_column(LargeBinary(16), default=None)
    problem: Mapped[str | None] = mapped_column(SortedText, default=None)


class OtherEmbeddingRow(Base):
    """The row that an encoder which is not in use has made of a task's crop, or why it could not."""

    __tablename__ = "other_embeddings"
    __table_args__ = (
        Index("other_embeddings_by_digest", "project_id", "encoder", "digest"),
        Index("other_embeddings_by_task", "project_id", "task_id"),
        Index("other_embeddings_by_row", "project_id", "encoder", "embedding_row"),
    )
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    encoder: Mapped[str] = mapped_column(SortedText, primary_key=True)
    task_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    embedding_row: Mapped[int | None] = mapped_column(Id, default=None)
    digest: Mapped[bytes | None] = mapped_column(LargeBinary(16), default=None)
    problem: Mapped[str | None] = mapped_column(SortedText, default=None)


class AnnotationRow(Base):
    """An annotation as Label Studio holds it."""

    __tablename__ = "annotations"
    __table_args__ = (Index("annotations_by_task", "project_id", "task_id"),)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    task_id: Mapped[int] = mapped_column(Id)
    annotator: Mapped[int | None] = mapped_column(Id)
    choice: Mapped[str | None] = mapped_column(SortedText)
    cancelled: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[str] = mapped_column(SortedText)
    accepted: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    former: Mapped[str | None] = mapped_column(SortedText, default=None)
    opened_at: Mapped[float | None] = mapped_column(Float, default=None)


class AnnotatorRow(Base):
    """A Label Studio user, by the name people know."""

    __tablename__ = "annotators"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(SortedText, default="")
    email: Mapped[str] = mapped_column(SortedText, default="")


class DeletedRow(Base):
    """A task or an annotation that was deleted: a webhook of its creation may still come."""

    __tablename__ = "deleted"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    deleted_at: Mapped[float] = mapped_column(Float, index=True)


class RoundRow(Base):
    """A finished round."""

    __tablename__ = "rounds"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    finished_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float, default=None)
    record: Mapped[str] = mapped_column(SortedText)


class ResolvedDisagreementRow(Base):
    """The label that the newest round decided on for a task whose annotators disagree."""

    __tablename__ = "resolved_disagreements"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(SortedText)
    votes: Mapped[str] = mapped_column(SortedText)


class CertificateRow(Base):
    """A certificate, or a spot check that may lead to one."""

    __tablename__ = "certificates"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    record: Mapped[str] = mapped_column(SortedText)


class LabelPageRow(Base):
    """A page of crops that one person was given to label at a glance."""

    __tablename__ = "label_pages"
    __table_args__ = (Index("label_pages_by_state", "project_id", "state"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    annotator: Mapped[int] = mapped_column(Id)
    kind: Mapped[str] = mapped_column(String(20))
    class_name: Mapped[str | None] = mapped_column(SortedText)
    tasks: Mapped[str] = mapped_column(Text)
    preset: Mapped[str] = mapped_column(SortedText)
    state: Mapped[str] = mapped_column(String(10))
    reserved_at: Mapped[float] = mapped_column(Float)
    reserved_until: Mapped[float] = mapped_column(Float)
    confirmed_at: Mapped[float | None] = mapped_column(Float, default=None)
    seconds: Mapped[float | None] = mapped_column(Float, default=None)
    too_fast: Mapped[bool] = mapped_column(Boolean, default=False)
    like: Mapped[int | None] = mapped_column("like_task", Id, default=None)


class PageLabelRow(Base):
    """A label of a confirmed page, on its way to Label Studio."""

    __tablename__ = "page_labels"
    __table_args__ = (
        Index("page_labels_by_state", "state", "project_id"),
        Index("page_labels_by_page", "page_id"),
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    page_id: Mapped[str] = mapped_column(String(32))
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    task_id: Mapped[int] = mapped_column(Id)
    annotator: Mapped[int] = mapped_column(Id)
    label: Mapped[str] = mapped_column(SortedText)
    given_at: Mapped[str] = mapped_column(SortedText)
    lead_time: Mapped[float] = mapped_column(Float)
    unique_id: Mapped[str] = mapped_column(String(36))
    state: Mapped[str] = mapped_column(String(10))
    attempted: Mapped[bool] = mapped_column(Boolean, default=False)
    annotation_id: Mapped[int | None] = mapped_column(Id, default=None)
    reason: Mapped[str | None] = mapped_column(SortedText, default=None)
    reviews: Mapped[str | None] = mapped_column(SortedText, default=None)
    replaces: Mapped[int | None] = mapped_column(Id, default=None)
    former: Mapped[str | None] = mapped_column(SortedText, default=None)


class AskedNextRow(Base):
    """A crop that somebody has asked to be asked for next."""

    __tablename__ = "asked_next"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(Integer)
    annotator: Mapped[int] = mapped_column(Id)
    asked_at: Mapped[float] = mapped_column(Float)


class SignInRow(Base):
    """A person who has signed in to label on the page; the cookie is known by its hash alone."""

    __tablename__ = "sign_ins"
    cookie_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    annotator: Mapped[int] = mapped_column(Id)
    name: Mapped[str] = mapped_column(SortedText)
    expires_at: Mapped[float] = mapped_column(Float)


class InboxBase(DeclarativeBase):
    """The table of the inbox, a database of its own."""


class EventRow(InboxBase):
    """A webhook that is not yet handled."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(Id, index=True)
    action: Mapped[str] = mapped_column(SortedText)
    payload: Mapped[str] = mapped_column(SortedText)
    received_at: Mapped[float] = mapped_column(Float)
