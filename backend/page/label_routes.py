"""The routes that people label by: sign in, get a page of crops, confirm it, undo the last."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import NotFound

from everylabel.backend.label_pages.crops import LIKE, NEXT_BATCH, OF_CLASS, SPOT_CHECK
from everylabel.backend.label_pages.keys import class_keys
from everylabel.backend.label_pages.pages import NotLabelledHereError, PageError, UnknownPageError
from everylabel.backend.label_pages.sign_in import SignInError
from everylabel.backend.label_studio.request_bodies import json_object
from everylabel.backend.page.label_bodies import (
    MOST_WORDS,
    AskNextBody,
    ConfirmBody,
    GiveBackBody,
    GiveBody,
    SignInBody,
    UndoBody,
)
from everylabel.backend.page.shown_pages import ShownPages
from everylabel.backend.store import LARGEST_ID
from everylabel.backend.store.sign_ins import SIGNED_IN_SECONDS

if TYPE_CHECKING:
    from flask import Blueprint

    from everylabel.backend.label_pages.parts import LabelPageParts
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Person, Project, Store

COOKIE = "everylabel_sign_in"
PAGE_ID = re.compile("[0-9a-f]{32}")

Answer = Response | tuple[Response, int]


class LabelRoutes:
    """The routes that people label by.

    Args:
        settings: Where Label Studio's own pages are.
        store: Knows projects and tasks.
        parts: The parts that label pages of crops.
        task_address: Returns the address of a task in Label Studio, given the project and the task.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        parts: LabelPageParts,
        task_address: Callable[[int, int], str],
    ) -> None:
        self._settings = settings
        self._store = store
        self._pages = parts.pages
        self._sign_in = parts.sign_in
        self._shown = ShownPages(store, parts.pages, task_address)

    def add_to(self, blueprint: Blueprint) -> None:
        """Add the routes to the page's."""
        base = "/projects/<int:project_id>/label"
        for name, rule, view, method in (
            ("page", "", self.show, "GET"),
            ("state", "/state", self._for_member(self.state), "GET"),
            ("sign_in", "/sign-in", _answered(self.sign_in), "POST"),
            ("sign_out", "/sign-out", _answered(self.sign_out), "POST"),
            ("give", "/pages", self._for_member(self.give), "POST"),
            ("confirm", "/pages/<string:page_id>/confirm", self._for_member(self.confirm), "POST"),
            ("give_back", "/give-back", self._for_member(self.give_back), "POST"),
            ("ask_next", "/ask-next", self._for_member(self.ask_next), "POST"),
            ("undo", "/undo", self._for_member(self.undo), "POST"),
        ):
            blueprint.add_url_rule(base + rule, f"label_{name}", view, methods=[method], strict_slashes=False)

    def show(self, project_id: int) -> Response:
        """Show the page to label on, or the form to sign in."""
        project = self._project(project_id)
        person, refused, hindrance = self._sign_in.person(request.cookies.get(COOKIE)), None, None
        control, keys = None, dict[str, str]()
        try:
            if person is not None:
                self._sign_in.check_member(person, project_id)
        except SignInError as error:
            person, refused = None, str(error)
        try:
            control = self._pages.control(project_id)
            keys = class_keys(project.label_config)
        except NotLabelledHereError as error:
            hindrance = str(error)
        answer = make_response(
            render_template(
                "page/label.html",
                project=project,
                person=person,
                refused=refused,
                hindrance=hindrance,
                keys=keys,
                classes=() if control is None else control.classes,
                several=control is not None and control.multiple,
                searched=person is not None
                and control is not None
                and self._pages.searched_by_words(project_id),
                most_words=MOST_WORDS,
                kinds={"class": OF_CLASS, "next": NEXT_BATCH, "spot": SPOT_CHECK, "like": LIKE},
                settings=self._settings,
            )
        )
        answer.cache_control.no_store = True
        return answer

    def sign_in(self, project_id: int) -> Answer:
        """Sign a person in with their Label Studio token."""
        self._project(project_id)
        body = SignInBody.read(json_object(request.get_data()))
        cookie = self._sign_in.sign_in(project_id, body.token.get_secret_value(), request.remote_addr or "")
        answer = jsonify({"signed_in": True})
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(SIGNED_IN_SECONDS),
            httponly=True,
            samesite="Strict",
            secure=self._is_behind_https(),
            path="/projects",
        )
        return answer

    def sign_out(self, project_id: int) -> Answer:
        """Forget a person's sign-in, and give their pages back."""
        cookie = request.cookies.get(COOKIE)
        person = self._sign_in.person(cookie)
        if cookie and person is not None:
            self._pages.give_back(project_id, person)
            self._sign_in.sign_out(cookie)
        answer = jsonify({"signed_in": False})
        answer.delete_cookie(COOKIE, path="/projects")
        return answer

    def give(self, project_id: int, person: Person) -> Answer:
        """Give a person a page of crops that nobody else has."""
        body = GiveBody.read(json_object(request.get_data()))
        page = None if body.resume is None else self._pages.resume(project_id, person, body.resume)
        if page is None:
            page = self._pages.give(
                project_id, person, body.kind, body.class_name, body.like, body.selected, body.words
            )
        progress = self._pages.progress(project_id)
        return jsonify(
            {
                "page": None if page is None else self._shown.page(page),
                "open": dict(progress.open),
                "spot_check": progress.spot_check,
                "suspects": progress.suspects,
                "second_labels": self._pages.second_labels(project_id, person),
                "has_model": progress.has_model,
                "keys": class_keys(self._project(project_id).label_config),
                "classes": list(progress.classes),
                "several": progress.several,
                **self._shown.sending(project_id, person),
            }
        )

    def give_back(self, project_id: int, person: Person) -> Answer:
        """Take pages back that a person does not label now, such as those of a window that they closed."""
        body = GiveBackBody.read(json_object(request.get_data()))
        self._pages.give_back(project_id, person, body.pages)
        return jsonify({})

    def confirm(self, project_id: int, person: Person, page_id: str) -> Answer:
        """Take in the labels of a page; they are on disk before this is answered."""
        body = ConfirmBody.read(json_object(request.get_data()))
        if not PAGE_ID.fullmatch(page_id):
            raise UnknownPageError("There is no such page of crops. Load the page again.")
        page = self._pages.confirm(project_id, person, page_id, body.labels, body.seconds)
        confirmed = len(self._store.labels_of_page(page.id))
        return jsonify(
            {
                "confirmed": confirmed,
                "left_out": len(page.tasks) - confirmed,
                "too_fast": page.too_fast,
                **self._shown.sending(project_id, person),
            }
        )

    def ask_next(self, project_id: int, person: Person) -> Answer:
        """Put crops at the head of Label Studio's queue, or take them from there; it is on disk before this is answered."""
        body = AskNextBody.read(json_object(request.get_data()))
        if body.withdraw:
            self._pages.withdraw(project_id, body.tasks)
            return jsonify({"asked": 0, "left_out": 0})
        asked = self._pages.ask_next(project_id, person, body.tasks)
        return jsonify({"asked": asked, "left_out": len({*body.tasks}) - asked})

    def undo(self, project_id: int, person: Person) -> Answer:
        """Take the last page of a person back, and give it to them once more."""
        body = UndoBody.read(json_object(request.get_data()))
        page = self._pages.undo(project_id, person, body.page)
        return jsonify(
            {
                "page": None if page is None else self._shown.page(page),
                **self._shown.sending(project_id, person),
            }
        )

    def state(self, project_id: int, person: Person) -> Answer:
        """Tell a person which of their labels are on their way, and which did not become annotations."""
        return jsonify(self._shown.sending(project_id, person))

    def _project(self, project_id: int) -> Project:
        project = self._store.project(project_id) if project_id <= LARGEST_ID else None
        if project is None:
            raise NotFound(
                f"This backend does not know project {project_id}. Run: everylabel connect --project {project_id}"
            )
        return project

    def _is_behind_https(self) -> bool:
        return request.is_secure or urlsplit(self._settings.page_browser_url).scheme == "https"

    def _for_member(self, view: Callable[..., Answer]) -> Callable[..., Answer]:
        """Let only a person who is signed in, and may see the project, reach a view."""

        @wraps(view)
        def checked(project_id: int, **given: Any) -> Answer:
            self._project(project_id)
            person = self._sign_in.person(request.cookies.get(COOKIE))
            if person is None:
                raise SignInError(
                    "You are not signed in any more. Sign in: what you have chosen on this page is kept.", 401
                )
            self._sign_in.check_member(person, project_id)
            return view(project_id, person, **given)

        return _answered(checked)


def _answered(view: Callable[..., Answer]) -> Callable[..., Answer]:
    """Answer errors of labelling with their reason."""

    @wraps(view)
    def answered(**given: Any) -> Answer:
        try:
            answer = view(**given)
        except SignInError as error:
            return jsonify({"error": str(error), "signed_in": False}), error.status
        except UnknownPageError as error:
            return jsonify({"error": str(error)}), 404
        except PageError as error:
            return jsonify({"error": str(error)}), 409
        return answer

    return answered
