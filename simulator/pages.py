"""The page for people: phones, carrier, decoded wire. Rendered here; complete without JavaScript."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from gettext import NullTranslations
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from simulator import words
from simulator.faults import BadFault, Faults
from simulator.handset import CARD_POLICIES, PROFILES, STATES, Handset, Refused

if TYPE_CHECKING:
    from simulator.network import Simulator

WIRE_SHOWN = 25  # the page; all that is kept stands under /api/wire
REFRESH_S_MIN = 2
STATUS_FAULTS = ("throttle_status", "submit_status", "refuse_bind")  # shown in hexadecimal, as the standard does
NONCE = web.RequestKey("nonce", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def environments(catalogues: dict[str, NullTranslations]) -> dict[str, Environment]:
    """A template environment for each language."""
    made = {}
    for language, catalogue in catalogues.items():
        environment = Environment(
            loader=PackageLoader("simulator"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n"],
        )  # fmt: skip
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # added by the i18n extension
            catalogue.gettext, catalogue.ngettext, newstyle=True
        )
        environment.globals.update(language=language, languages=words.LANGUAGES, profiles=PROFILES, states=STATES)
        environment.globals.update(
            card_policies=CARD_POLICIES, profile_labels=words.PROFILE_LABELS, fault_fields=_fault_fields()
        )
        environment.filters.update(clock=_clock, iso=_iso)
        made[language] = environment
    return made


def routes(simulator: "Simulator") -> list[web.RouteDef]:
    """The page, its live parts and its forms."""
    one = _Pages(simulator)
    return [
        web.get("/", one.page),
        web.get("/parts/phones/{msisdn}", one.phone_part),
        web.get("/parts/links", one.links_part),
        web.get("/parts/wire", one.wire_part),
        web.post("/phones", one.form(one.add_phone)),
        web.post("/phones/{msisdn}/send", one.form(one.send)),
        web.post("/phones/{msisdn}/state", one.form(one.set_state)),
        web.post("/phones/{msisdn}/policy", one.form(one.set_policy)),
        web.post("/phones/{msisdn}/card", one.form(one.answer_card)),
        web.post("/phones/{msisdn}/empty", one.form(one.empty_inbox)),
        web.post("/faults", one.form(one.set_faults)),
        web.post("/faults/reset", one.form(one.reset_faults)),
        web.post("/cut", one.form(one.cut)),
    ]


class _Pages:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._catalogues = words.catalogues()
        self._environments = environments(self._catalogues)

    def _language(self, request: web.Request) -> str:
        return words.chosen(request.query.get("lang"), request.headers.get("Accept-Language", ""))

    def _render(self, request: web.Request, name: str, status: int = 200, **values: Any) -> web.Response:
        simulator = self._simulator
        values |= {
            "nonce": request.get(NONCE, ""),
            "short_code": simulator.short_code,
            "carrier": simulator.carrier.as_json(),
            "faults": simulator.faults,
            "defaults": Faults(),
            "wire_shown": WIRE_SHOWN,
        }
        text = self._environments[self._language(request)].get_template(name).render(values)
        return web.Response(text=text, status=status, content_type="text/html")

    def _phone(self, request: web.Request) -> Handset:
        try:
            return self._simulator.handset(request.match_info["msisdn"])
        except KeyError:
            raise web.HTTPNotFound from None

    # -- looking ------------------------------------------------------------------------------------------------

    async def page(self, request: web.Request) -> web.Response:
        """Everything."""
        return self._whole(request)

    def _whole(self, request: web.Request, status: int = 200, errors: list[str] | None = None) -> web.Response:
        refresh = request.query.get("refresh", "")
        wire = self._simulator.wire.newest(WIRE_SHOWN)
        return self._render(
            request, "page.html", status, phones=list(self._simulator.handsets.values()), wire=wire,
            errors=errors or [], refresh=max(REFRESH_S_MIN, int(refresh)) if refresh.isdecimal() else 0,
        )  # fmt: skip

    async def phone_part(self, request: web.Request) -> web.Response:
        """What moves on one phone."""
        return self._render(request, "phone_live.html", phone=self._phone(request))

    async def links_part(self, request: web.Request) -> web.Response:
        """Links and counters."""
        return self._render(request, "links_live.html")

    async def wire_part(self, request: web.Request) -> web.Response:
        """PDUs younger than `after`."""
        after = request.query.get("after", "0")
        newest = self._simulator.wire.newest(WIRE_SHOWN, int(after) if after.isdecimal() else 0)
        return self._render(request, "wire_live.html", wire=newest)

    # -- doing --------------------------------------------------------------------------------------------------

    def form(self, act: Callable[[web.Request, dict[str, str]], None]) -> Handler:
        """A handler for a form: act, then back to the page; a refusal is shown with status 422.

        The page's script asks for JSON and gets 204 or the words alone.
        """

        async def handler(request: web.Request) -> web.StreamResponse:
            posted = await request.post()
            data = {name: value for name, value in posted.items() if isinstance(value, str)}
            live = request.headers.get("Accept") == "application/json"
            try:
                act(request, data)
            except (Refused, BadFault) as error:
                said = self._said(request, error)
                if live:
                    return web.json_response({"errors": said}, status=422)
                return self._whole(request, 422, said)
            if live:
                return web.Response(status=204)
            language = request.query.get("lang", "")
            raise web.HTTPSeeOther("/?lang=" + quote(language) if language else "/")

        return handler

    def _said(self, request: web.Request, error: Refused | BadFault) -> list[str]:
        """A refusal in the reader's language."""
        say = self._catalogues[self._language(request)].gettext
        if isinstance(error, Refused):
            return [say(error.words).format(**error.values)]
        return [f"{say(words.FAULT_LABELS.get(name, name))}: {say(why)}" for name, why in error.problems.items()]

    def add_phone(self, _: web.Request, data: dict[str, str]) -> None:
        """One more phone."""
        self._simulator.add_handset(
            data.get("msisdn", "").strip(), data.get("label", "").strip(), data.get("profile", "s30plus")
        )

    def send(self, request: web.Request, data: dict[str, str]) -> None:
        """The owner's text."""
        # a browser sends line ends as CR LF, a phone as LF
        text = data.get("text", "").replace("\r\n", "\n")
        self._simulator.send(self._phone(request).msisdn, text, data.get("to", "").strip())

    def set_state(self, request: web.Request, data: dict[str, str]) -> None:
        """On, off, out of coverage."""
        self._simulator.set_state(self._phone(request).msisdn, data.get("state", ""))

    def set_policy(self, request: web.Request, data: dict[str, str]) -> None:
        """What the owner does with cards."""
        self._simulator.set_cards(self._phone(request).msisdn, data.get("cards", ""))

    def answer_card(self, request: web.Request, data: dict[str, str]) -> None:
        """Yes or no to "Save business card?"."""
        item = data.get("id", "")
        self._phone(request).answer_card(int(item) if item.isdecimal() else 0, save=data.get("save") == "yes")

    def empty_inbox(self, request: web.Request, _: dict[str, str]) -> None:
        """Delete all messages."""
        self._simulator.empty_inbox(self._phone(request).msisdn)

    def set_faults(self, _: web.Request, data: dict[str, str]) -> None:
        """All faults as the form shows them."""
        changes: dict[str, object] = {}
        for one in fields(Faults):
            if isinstance(one.default, bool):
                changes[one.name] = one.name in data
            elif isinstance(one.default, str):
                changes[one.name] = data.get(one.name, one.default)
            else:
                changes[one.name] = _number(data.get(one.name, ""))
        self._simulator.set_faults(changes)

    def reset_faults(self, _: web.Request, __: dict[str, str]) -> None:
        """No faults."""
        self._simulator.reset_faults()

    def cut(self, _: web.Request, data: dict[str, str]) -> None:
        """The link drops now."""
        seconds = _number(data.get("refuse_s", "0"))
        if isinstance(seconds, str) or not 0 <= seconds <= 3600:
            raise BadFault({"refuse_after_cut_s": "must be a number"})
        self._simulator.carrier.cut(seconds)


def error_page(status: int, reason: str) -> web.Response:
    """A plain page for people who went astray."""
    return web.Response(status=status, text=f"{status} {reason}\n", content_type="text/plain")


def _fault_fields() -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Name, label, kind of control and choices of each fault."""
    controls = []
    for one in fields(Faults):
        kind = {bool: "checkbox", int: "number", float: "number", str: "select"}[type(one.default)]
        kind = "status" if one.name in STATUS_FAULTS else kind
        controls.append((one.name, words.FAULT_LABELS[one.name], kind, one.metadata.get("choices", ())))
    return sorted(controls, key=lambda one: one[2] == "checkbox")


def _number(text: str) -> float | str:
    """A number typed into a form; statuses may be typed in hexadecimal."""
    try:
        return float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except ValueError:
        return text


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
