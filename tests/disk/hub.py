"""The Hugging Face hub's paths over HTTP, on loopback, for one model folder: what its client asks for, no more."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving_hub(folder: Path, name: str, refused: str = "") -> Iterator[str]:
    """Serve `folder` as the model `name`; the file `refused` is not given out. Yields the endpoint."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            listing = (
                f"/api/models/{name}",
                f"/api/models/{name}/revision/main",
                f"/api/models/{name}/revision/{REVISION}",
            )
            if path in listing:
                self._send(json.dumps(_listing(folder, name)).encode(), body, "application/json")
            elif refused and path.endswith(refused):
                self._refuse(403, "Forbidden")
            elif path.startswith(f"/{name}/resolve/{REVISION}/") and (folder / Path(path).name).is_file():
                self._send((folder / Path(path).name).read_bytes(), body, "application/octet-stream")
            else:
                self._refuse(404, "RepoNotFound")

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, data: bytes, body: bool, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(folder: Path, name: str) -> dict[str, object]:
    files = [{"rfilename": path.name, "size": path.stat().st_size} for path in sorted(folder.iterdir())]
    return {"id": name, "sha": REVISION, "siblings": files}
