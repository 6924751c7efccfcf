"""The JSON API of the simulator, for stories and tests; problems come as application/problem+json (RFC 9457)."""

import ipaddress
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.faults import BadFault
from simulator.handset import Handset, Refused
from simulator.wire import KEPT

if TYPE_CHECKING:
    from simulator.network import Simulator

MESSAGES_MAX = 100_000
REFUSE_S_MAX = 3600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """A request that cannot be done: status and words for the programmer."""

    def __init__(self, status: int, title: str, **more: object) -> None:
        super().__init__(title)
        self.status, self.title, self.more = status, title, more


def problem(status: int, title: str, **more: object) -> web.Response:
    """An error for programs (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status} | more
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json")


def _answered(handler: Handler) -> Handler:
    """Refusals as problem+json."""

    @wraps(handler)
    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as error:
            return problem(error.status, error.title, **error.more)
        except BadFault as error:
            return problem(422, "faults that cannot be set", errors=error.problems)
        except Refused as error:
            return problem(422, str(error))

    return wrapped


async def fields(request: web.Request, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """The JSON object in a request, each field of its kind; raises Problem. Fields may be missing."""
    try:
        data = json.loads(await request.read() or b"{}")
    except ValueError:
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise Problem(400, "the body is not a JSON object")
    errors = {
        name: "unknown field" if name not in kinds else "of the wrong type"
        for name, value in data.items()
        if name not in kinds or not _is_a(value, kinds[name])
    }
    if errors:
        raise Problem(422, "fields that cannot be used", errors=errors)
    return data


def _is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """isinstance, where true is no number."""
    return isinstance(value, kind) and (not isinstance(value, bool) or kind in (bool, object))


def routes(simulator: "Simulator") -> list[web.RouteDef]:
    """All routes under /api but the live events."""
    one = _Api(simulator)
    return [
        web.get("/api/handsets", _answered(one.handsets)),
        web.post("/api/handsets", _answered(one.add_handset)),
        web.get("/api/handsets/{msisdn}", _answered(one.handset)),
        web.post("/api/handsets/{msisdn}/send", _answered(one.send)),
        web.post("/api/handsets/{msisdn}/state", _answered(one.set_state)),
        web.post("/api/handsets/{msisdn}/cards", _answered(one.answer_card)),
        web.put("/api/handsets/{msisdn}/cards", _answered(one.set_cards)),
        web.delete("/api/handsets/{msisdn}/inbox", _answered(one.empty_inbox)),
        web.get("/api/faults", _answered(one.faults)),
        web.put("/api/faults", _answered(one.set_faults)),
        web.delete("/api/faults", _answered(one.reset_faults)),
        web.get("/api/links", _answered(one.links)),
        web.post("/api/link/cut", _answered(one.cut)),
        web.post("/api/link/outbind", _answered(one.outbind)),
        web.get("/api/messages", _answered(one.messages)),
        web.get("/api/wire", _answered(one.wire)),
    ]


class _Api:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    def _phone(self, request: web.Request) -> Handset:
        try:
            return self._simulator.handset(request.match_info["msisdn"])
        except KeyError:
            raise Problem(404, "there is no such phone") from None

    async def handsets(self, _: web.Request) -> web.Response:
        phones = self._simulator.handsets.values()
        return web.json_response({"handsets": [one.as_json() for one in phones]})

    async def add_handset(self, request: web.Request) -> web.Response:
        data = await fields(request, msisdn=str, label=str, profile=str, cards=str)
        if "msisdn" not in data:
            raise Problem(422, "fields that cannot be used", errors={"msisdn": "missing"})
        return web.json_response(self._simulator.add_handset(**data).as_json(), status=201)

    async def handset(self, request: web.Request) -> web.Response:
        return web.json_response(self._phone(request).as_json())

    async def send(self, request: web.Request) -> web.Response:
        phone = self._phone(request)
        data = await fields(request, to=str, text=str)
        sent = self._simulator.send(phone.msisdn, data.get("text", ""), data.get("to"))
        return web.json_response({"segments": len(sent.parts), "alphabet": sent.alphabet.value}, status=202)

    async def set_state(self, request: web.Request) -> web.Response:
        phone = self._phone(request)
        self._simulator.set_state(phone.msisdn, (await fields(request, state=str)).get("state", ""))
        return web.json_response(phone.as_json())

    async def answer_card(self, request: web.Request) -> web.Response:
        phone = self._phone(request)
        data = await fields(request, id=int, save=bool)
        saved = phone.answer_card(data.get("id", 0), save=data.get("save", False))
        return web.json_response({"saved": saved})

    async def set_cards(self, request: web.Request) -> web.Response:
        phone = self._phone(request)
        self._simulator.set_cards(phone.msisdn, (await fields(request, cards=str)).get("cards", ""))
        return web.json_response(phone.as_json())

    async def empty_inbox(self, request: web.Request) -> web.Response:
        self._simulator.empty_inbox(self._phone(request).msisdn)
        return web.Response(status=204)

    async def faults(self, _: web.Request) -> web.Response:
        return web.json_response(self._simulator.faults.as_json())

    async def set_faults(self, request: web.Request) -> web.Response:
        known = self._simulator.faults.as_json()
        data = await fields(request, **dict.fromkeys(known, object))
        self._simulator.set_faults(data)
        return web.json_response(self._simulator.faults.as_json())

    async def reset_faults(self, _: web.Request) -> web.Response:
        self._simulator.reset_faults()
        return web.json_response(self._simulator.faults.as_json())

    async def links(self, _: web.Request) -> web.Response:
        return web.json_response(self._simulator.carrier.as_json())

    async def cut(self, request: web.Request) -> web.Response:
        data = await fields(request, refuse_s=(int, float), answers_lost=bool)
        refuse_s = data.get("refuse_s", 0)
        if not 0 <= refuse_s <= REFUSE_S_MAX:
            raise Problem(422, "fields that cannot be used", errors={"refuse_s": f"must be 0 to {REFUSE_S_MAX:.0f}"})
        self._simulator.carrier.cut(float(refuse_s), answers_lost=data.get("answers_lost", False))
        return web.json_response(self._simulator.carrier.as_json())

    async def outbind(self, request: web.Request) -> web.Response:
        data = await fields(request, host=str, port=int, system_id=str)
        host, port = data.get("host", "127.0.0.1"), data.get("port", 0)
        carrier = self._simulator.carrier
        system_id = data.get("system_id", next(iter(carrier.accounts)))
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback or not 0 < port < 0x10000 or system_id not in carrier.accounts:
            raise Problem(422, "outbind needs a loopback address, a port and a known system_id")
        try:
            await carrier.outbind(host, port, system_id)
        except OSError:
            raise Problem(502, "nobody answers at that address") from None
        return web.Response(status=204)

    async def messages(self, request: web.Request) -> web.Response:
        limit, after = _number(request, "limit", MESSAGES_MAX), _number(request, "after", 0)
        to = request.query.get("to", "").strip().removeprefix("+")
        found = [
            one.as_json()
            for one in self._simulator.carrier.history
            if one.serial > after and (not to or one.destination.digits.removeprefix("+") == to)
        ]
        return web.json_response({"messages": found[:limit]})

    async def wire(self, request: web.Request) -> web.Response:
        newest = self._simulator.wire.newest(_number(request, "limit", KEPT), _number(request, "after", 0))
        return web.json_response({"wire": newest})


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise Problem(422, f"{name} is a whole number")
    return int(text)
