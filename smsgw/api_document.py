"""The OpenAPI document of the gateway's API, made from the models that check the requests (OpenAPI 3.1)."""

from typing import Any

from pydantic.json_schema import models_json_schema

from smsgw.api_models import BatchIn, MessageIn

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}
_STATES = ["queued", "claimed", "sent", "delivered", "failed", "expired", "cancelled", "unknown"]
_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_TIME = {"type": ["string", "null"], "format": "date-time"}
_SEGMENT = {
    "type": "object",
    "required": ["number", "of", "state", "submitted_at"],
    "properties": {
        "number": {"type": "integer"},
        "of": {"type": "integer"},
        "state": {"enum": _STATES},
        "error": _NULLABLE_TEXT,
        "submitted_at": {"type": "string", "format": "date-time"},
        "done_at": _NULLABLE_TIME,
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["id", "state", "kind", "created_at", "segments"],
    "properties": {
        "id": {"type": "string"},
        "state": {"enum": _STATES},
        "kind": {"type": "string"},
        "client_ref": _NULLABLE_TEXT,
        "error": _NULLABLE_TEXT,
        "created_at": {"type": "string", "format": "date-time"},
        "finished_at": _NULLABLE_TIME,
        "attempts": {"type": "integer"},
        "segments": {"type": "array", "items": _SEGMENT},
    },
}
_ONE_ID = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
_IDS = {"type": "object", "required": ["ids"], "properties": {"ids": {"type": "array", "items": {"type": "string"}}}}


def _problem(words: str) -> dict[str, Any]:
    return {
        "description": words,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_REFUSALS = {
    "401": _problem("No token, or an unknown one"),
    "403": _problem("The token lacks the scope"),
    "500": _problem("A fault of ours; nothing was accepted"),
    "503": _problem("Nothing was accepted; try again after Retry-After seconds"),
}


def document() -> dict[str, Any]:
    """The document, as plain data."""
    _, models = models_json_schema(
        [(MessageIn, "validation"), (BatchIn, "validation")], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "SMS gateway", "version": "1", "description": "Send texts; see what became of them."},
        "security": [{"token": []}],
        "paths": {
            "/v1/messages": {
                "post": {
                    "operationId": "send",
                    "summary": "Owe one text or a batch; 202 means committed",
                    "parameters": [
                        {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 128}}
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "oneOf": [
                                        {"$ref": "#/components/schemas/MessageIn"},
                                        {"$ref": "#/components/schemas/BatchIn"},
                                    ]
                                }
                            }
                        },
                    },
                    "responses": {
                        "202": {
                            "description": "Accepted: the id, or the ids in the order of the batch",
                            "content": {"application/json": {"schema": {"oneOf": [_ONE_ID, _IDS]}}},
                        },
                        "400": _problem("Not JSON, or an Idempotency-Key that is none"),
                        "413": _problem("The body is too large"),
                        "422": _problem("A field or a number is wrong; nothing was accepted"),
                        **_REFUSALS,
                    },
                }
            },
            "/v1/messages/{id}": {
                "get": {
                    "operationId": "read",
                    "summary": "What became of a message of this token",
                    "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {
                            "description": "The message",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Message"}}},
                        },
                        "404": _problem("No message of this token has that id"),
                        **_REFUSALS,
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**models["$defs"], "Message": _MESSAGE, "Problem": _PROBLEM},
        },
    }
