"""The server of a live view: the page, the state of a run, its changes as they come, its previews, and its requests."""

import mimetypes
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from ..run_folder.control_files import WISHES, ask
from .access import Access, Guard
from .feed import Feed
from .follow import Follower

PAGE = Path(__file__).parent / "page"
MOST_POINTS = 4000
"""Of a stretch of a curve that is looked at closely."""
MOST_LISTENERS = 32
REASON = "asked in the live view"
LAST_STEP = 2**62


def app_of(follower: Follower, feed: Feed, access: Access) -> ASGIApp:
    """The application, guarded."""
    server = Server(follower, feed, access)
    routes = [
        Route("/", server.page),
        Route("/page/{file:path}", server.page),
        Route("/api/state", server.state),
        Route("/api/events", server.events),
        Route("/api/curve", server.curve),
        Route("/api/enter", server.enter, methods=["POST"]),
        Route("/api/ask/{wish}", server.ask, methods=["POST"]),
        Route("/previews/{step:int}/{file}", server.preview),
    ]
    return Guard(Starlette(routes=routes), access)


class Server:
    """Answers for one run."""

    def __init__(self, follower: Follower, feed: Feed, access: Access) -> None:
        self._follower = follower
        self._feed = feed
        self._access = access
        self._files = {
            path.relative_to(PAGE).as_posix(): path.read_bytes() for path in PAGE.rglob("*") if path.is_file()
        }

    async def page(self, request: Request) -> Response:
        """A file of the page, by the name that it has in the folder; nothing else is there."""
        name = request.path_params.get("file", "index.html")
        if name not in self._files:
            return _refused(HTTPStatus.NOT_FOUND, f"the page has no {name}")
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        return Response(self._files[name], media_type=kind, headers={"cache-control": "no-cache"})

    async def state(self, request: Request) -> Response:
        """All that is needed to draw, with the cursor from which `/api/events` goes on."""
        return JSONResponse(await self._feed.state())

    async def events(self, request: Request) -> Response:
        """Server-sent events after the one that the browser has had, or else after `?cursor=`."""
        if self._feed.listeners >= MOST_LISTENERS:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_LISTENERS} pages listen already")
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor", "")
        return StreamingResponse(
            self._feed.listen(cursor), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def curve(self, request: Request) -> Response:
        """More points of a stretch: `?name=loss&from=100&to=200`, both steps included."""
        wanted = request.query_params
        try:
            first, last = int(wanted.get("from", 0)), int(wanted.get("to", LAST_STEP))
        except ValueError:
            return _refused(HTTPStatus.BAD_REQUEST, "from and to are steps")
        found = await self._feed.curve(wanted.get("name", ""), first, last, most=MOST_POINTS)
        return JSONResponse(found) if found else _refused(HTTPStatus.NOT_FOUND, "there is no such metric")

    async def enter(self, request: Request) -> Response:
        """Whoever has the token may read, also by requests that cannot carry it."""
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        answer.set_cookie(self._access.pass_name, self._access.pass_value, httponly=True, samesite="strict")
        return answer

    async def ask(self, request: Request) -> Response:
        """Leave a request for the run."""
        wish = next((wish for wish in WISHES if wish == request.path_params["wish"]), None)
        if wish is None:
            return _refused(HTTPStatus.NOT_FOUND, f"what can be asked for: {', '.join(WISHES)}")
        await self._feed.state()
        if (state := self._follower.state) != "running":
            return _refused(HTTPStatus.CONFLICT, f"the run is not running: {state}")
        try:
            ask(self._follower.folder, wish, reason=REASON)
        except OSError as error:
            return _refused(HTTPStatus.INSUFFICIENT_STORAGE, f"the request cannot be written: {error.strerror}")
        return JSONResponse({"asked": wish}, HTTPStatus.ACCEPTED)

    async def preview(self, request: Request) -> Response:
        """A picture that a round lists. Its address has the round's version, so it may be kept for good."""
        path = self._follower.rounds.picture(request.path_params["step"], request.path_params["file"])
        if path is None:
            return _refused(HTTPStatus.NOT_FOUND, "no round lists this picture")
        return FileResponse(path, headers={"cache-control": "private, max-age=31536000, immutable"})


def _refused(status: HTTPStatus, problem: str) -> Response:
    return JSONResponse({"problem": problem}, status)
