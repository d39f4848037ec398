"""Requests to a dashboard that is being served."""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Dashboard:
    """A running one, and what it serves."""

    url: str
    runs: Path
    address: str

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, _, body = self.request("GET", path)
        assert status == 200, body
        return json.loads(body)

    def study(self, name: str) -> dict[str, Any]:
        [study_id] = [
            study["study_id"]
            for study in self.get("/api/studies")["study_summaries"]
            if study["study_name"] == f"{name}/proxy"
        ]
        return self.get(f"/api/studies/{study_id}") | {"id": study_id}
