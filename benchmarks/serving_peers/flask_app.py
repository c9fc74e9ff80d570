"""The model behind Flask: `gunicorn flask_app:app`."""

from flask import Flask, Response, request
from model import Request, predict
from pydantic import ValidationError

app = Flask(__name__)


@app.post("/predict")
def answer() -> Response:
    try:
        asked = Request.model_validate_json(request.get_data())
    except ValidationError as error:
        return Response(error.json(), 422, mimetype="application/json")
    return Response(predict(asked).model_dump_json(), mimetype="application/json")
