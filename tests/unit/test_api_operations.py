"""/live, /ready, /metrics, the OpenAPI document, and what the gateway must not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.errors import StoreError
from tests.fakes.gateway import Gate, png, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home") as gate:
        yield gate


def missing(gate: Gate) -> list[str]:
    response = gate.client.get("/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "not_ready"
    return [one["name"] for one in response.json()["missing"]]


def test_ready_names_what_is_missing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing(gate) == ["infer_worker"]
    gate.stack.producer.down = True
    assert missing(gate) == ["infer_worker", "broker"]
    gate.stack.producer.down = False
    monkeypatch.setattr("api.routes.health.schema_is_current", lambda db: False)
    assert missing(gate) == ["migrations"]

    def away(self: object) -> None:
        raise StoreError("the database does not answer")

    monkeypatch.setattr(type(gate.stack.db), "ping", away)
    assert missing(gate) == ["database"]


@pytest.mark.parametrize("changes", [{"state": "starting"}, {"models": []}, {"role": "media"}])
def test_a_worker_without_loaded_models_is_not_enough(
    gate: Gate, changes: dict[str, object]
) -> None:
    gate.stack.worker(**changes)
    assert missing(gate) == ["infer_worker"]


def test_ready_names_device_precision_and_models(gate: Gate) -> None:
    gate.stack.worker()
    response = gate.client.get("/ready")
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["device"], body["precision"], body["models"]) == ("cpu", "f32", ["fake@1"])


def test_live_needs_nothing(gate: Gate) -> None:
    gate.stack.producer.down = True
    assert gate.client.get("/live").json() == {"status": "live"}


def test_metrics(gate: Gate) -> None:
    gate.post(png())
    gate.client.get("/nothing/at/all")
    response = gate.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    count = 'moderation_http_request_seconds_count{method="POST",route="/v1/images",status="200"} '
    assert count + "1.0" in text
    assert 'route="unmatched",status="404"' in text
    assert 'moderation_jobs{state="done"} 1.0' in text
    assert 'moderation_jobs{state="queued"} 0.0' in text
    assert 'moderation_callbacks{state="dead"} 0.0' in text
    assert 'moderation_chunks{stage="read"} 0.0' in text
    assert "moderation_queue_age_seconds 0.0" in text
    assert "moderation_waits_in_flight 0.0" in text


def test_two_apps_do_not_share_metrics(tmp_path: Path) -> None:
    with running(tmp_path / "a") as one, running(tmp_path / "b") as two:
        one.post(png())
        assert 'route="/v1/images"' not in two.client.get("/metrics").text


def test_every_route_is_documented_with_its_errors(gate: Gate) -> None:
    document = gate.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in schemas
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 16
    for path, method, operation in operations:
        assert operation["summary"], (path, method)
        assert {"405", "500"} <= set(operation["responses"]), (path, method)
        if path not in ("/live", "/ready") and method != "options":
            assert operation["security"] == [{"ApiKey": []}], (path, method)
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if status >= "400":
                assert set(response["content"]) == {"application/problem+json"}, (path, status)
                assert response["content"]["application/problem+json"]["example"]


def test_the_examples_are_of_their_schemas(gate: Gate) -> None:
    import jsonschema_rs

    document = gate.client.get("/openapi.json").json()
    checked = 0
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).values():
                    if "example" in content:
                        schema = {**content["schema"], "components": document["components"]}
                        jsonschema_rs.validator_for(schema).validate(content["example"])
                        checked += 1
                    else:
                        assert status in ("200", "206"), path
    assert checked > 50


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"openvino", "cv2", "torch", "PIL", "pi_heif", "av"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import asyncio
from pathlib import Path
import httpx
from api.app import create_app
from moderation.settings import load_settings
from moderation.store.engine import migrate

home = Path(sys.argv[1])
home.mkdir()
settings = load_settings(home=home, bootstrap_key="k" * 32)
migrate(settings.database)
app = create_app(settings)

async def main():
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": "Bearer " + "k" * 32}
        async with httpx.AsyncClient(transport=transport, base_url="http://g") as client:
            assert (await client.get("/live")).status_code == 200
            body = bytes.fromhex(sys.argv[2])
            answer = await client.post("/v1/images?wait=0", content=body, headers=headers)
            assert answer.status_code == 202, answer.text
            film = b"\\x1aE\\xdf\\xa3 matroska"
            answer = await client.post("/v1/videos", content=film, headers=headers)
            assert answer.status_code == 202, answer.text

asyncio.run(main())
print("served")
"""


def test_the_gateway_works_without_any_model_or_media_library(tmp_path: Path) -> None:
    # The broker's socket does not exist either: the job is accepted all the same.
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path / "home"), png().hex()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "served", done.stderr
