"""The tables of the store."""

from __future__ import annotations

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables."""


class ProjectRow(Base):
    """A Label Studio project."""

    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(255), default="", server_default="")
    label_config: Mapped[str] = mapped_column(Text, default="")
    encoder: Mapped[str] = mapped_column(String(255), default="")
    connected: Mapped[bool] = mapped_column(Boolean, default=False)
    problem: Mapped[str | None] = mapped_column(Text, default=None)
    reconciled_at: Mapped[float | None] = mapped_column(Float, default=None)
    model_round: Mapped[int | None] = mapped_column(Integer, default=None)
    model_pinned: Mapped[bool] = mapped_column(Boolean, default=False)
    check_tasks: Mapped[str] = mapped_column(Text, default="[]")


class TaskRow(Base):
    """A task, and where its crop's embedding lies."""

    __tablename__ = "tasks"
    # The page counts these every second, and would read every long text on the way.
    __table_args__ = (Index("tasks_by_state", "project_id", "embedding_row", "problem"),)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    image_url: Mapped[str | None] = mapped_column(Text)
    embedding_row: Mapped[int | None] = mapped_column(Integer, default=None)
    problem: Mapped[str | None] = mapped_column(Text, default=None)


class AnnotationRow(Base):
    """An annotation as Label Studio holds it."""

    __tablename__ = "annotations"
    __table_args__ = (Index("annotations_by_task", "project_id", "task_id"),)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[int] = mapped_column(Integer)
    annotator: Mapped[int | None] = mapped_column(Integer)
    choice: Mapped[str | None] = mapped_column(Text)
    cancelled: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[str] = mapped_column(String(40))
    accepted: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class DeletedRow(Base):
    """A task or an annotation that was deleted: a webhook of its making may still come."""

    __tablename__ = "deleted"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    deleted_at: Mapped[float] = mapped_column(Float, index=True)


class RoundRow(Base):
    """A finished round."""

    __tablename__ = "rounds"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    finished_at: Mapped[float] = mapped_column(Float)
    published_at: Mapped[float | None] = mapped_column(Float, default=None)
    record: Mapped[str] = mapped_column(Text)


class InboxBase(DeclarativeBase):
    """The table of the inbox, a database of its own."""


class EventRow(InboxBase):
    """A webhook not yet worked in."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(Integer, index=True)
    action: Mapped[str] = mapped_column(String(40))
    payload: Mapped[str] = mapped_column(Text)
    received_at: Mapped[float] = mapped_column(Float)
