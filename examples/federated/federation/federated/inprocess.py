"""All hospitals in this process, one after the other: for tests and for comparing many settings in seconds.

Messages, strategies and client app are those of a real federation; only the network is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from federated import client


class InProcessGrid(Grid):
    """A connection to client apps that are called directly.

    Parameters
    ----------
    tables : list of str
        One for each hospital, the coordinator's first.
    """

    def __init__(self, tables: list[str], client_app: ClientApp = client.app) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1  # who sends messages here
        self.client_app = client_app
        self.contexts = {
            number: Context(1, number, {"table": path, "name": client.name(number - 1, path)}, RecordDict(), {})
            for number, path in enumerate(tables, 1)
        }
        self.answers: dict[str, Message] = {}

    @property
    def run(self) -> Any:
        return SimpleNamespace(run_id=TaskIdentity.run_id)

    def set_run(self, run: Any) -> None:
        pass

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = []
        for message in messages:
            identifier = str(uuid4())
            message.metadata.__dict__["_message_id"] = identifier
            try:
                # a copy, as the network makes: nobody changes what another one reads
                answer = self.client_app(deepcopy(message), self.contexts[message.metadata.dst_node_id])
            except Exception as error:  # as a SuperNode answers for a client app that fails
                answer = Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=message)
            self.answers[identifier] = answer
            sent.append(identifier)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.answers.pop(each) for each in list(message_ids) if each in self.answers]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))
