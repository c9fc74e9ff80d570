"""What BentoML's server can do at best: an endpoint that gives back what it gets.

`Echo` is served as BentoML comes, `LeanEcho` with what this project's service leaves out of it.
"""

import bentoml

from mlops.serving.lean import Lean, settle


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Echo:
    @bentoml.api(route="/predict")
    async def echo(self, text: str) -> str:
        return text


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, service_class=Lean)
class LeanEcho:
    def __init__(self) -> None:
        settle()

    @bentoml.api(route="/predict")
    async def echo(self, text: str) -> str:
        return text
