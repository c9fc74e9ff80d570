"""The model behind FastAPI: `uvicorn fastapi_app:app`."""

from fastapi import FastAPI
from model import Answer, Request, predict

app = FastAPI()


@app.post("/predict")
async def answer(request: Request) -> Answer:
    # a thread for each request costs more than the prediction
    return predict(request)
