"""What lies between the processes, run by an event loop in a thread: TCP proxies that delay, refuse
and cut, and a mail server that keeps everything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from random import Random
from typing import Any

CHUNK = 65_536
UP_WITHIN_S = 5.0


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(UP_WITHIN_S)

    def soon(self, act: Any, *args: Any) -> None:
        self._loop.call_soon_threadsafe(act, *args)

    def close(self) -> None:
        with suppress(TimeoutError):
            self.run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(UP_WITHIN_S)
        self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """A door with one or more servers behind it, which take turns; who does not answer is passed
    over. The weather of the wire may be changed at any time."""

    def __init__(self, loop: Loop, rng: Random, *upstreams: int) -> None:
        self.is_shut = False  # whoever knocks is hung up on
        self.delay_s = 0.0  # on the way there and on the way back
        self.loses_pct = 0.0  # of what comes back: it happened, and the line dies before it is told
        self._loop, self._rng, self._upstreams = loop, rng, upstreams
        self._turn = 0
        self._open: set[asyncio.StreamWriter] = set()
        self.port: int = loop.run(self._listen())

    def cut(self) -> None:
        """Hang up on everybody who is connected."""
        self._loop.soon(self._hang_up)

    def _hang_up(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = None if self.is_shut else await self._reach()
        if there is None:
            writer.transport.abort()
            return
        ends = {writer, there[1]}
        self._open |= ends
        try:
            await asyncio.gather(
                self._pump(reader, there[1], is_answer=False),
                self._pump(there[0], writer, is_answer=True),
            )
        except (OSError, asyncio.CancelledError):
            pass  # hung up on, or the storm is over
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._upstreams:
            self._turn += 1
            port = self._upstreams[self._turn % len(self._upstreams)]
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while chunk := await source.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if is_answer and self.loses_pct and self._rng.random() * 100 < self.loses_pct:
                raise ConnectionAbortedError
            sink.write(chunk)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


@dataclass(frozen=True)
class Mail:
    """One letter as it came in; the same may come twice."""

    at: float
    message_id: str
    to: str
    subject: str


class MailServer:
    """As much of SMTP as a sender needs. It may be shut, or hang up right after it said yes."""

    def __init__(self, loop: Loop) -> None:
        self.mails: list[Mail] = []
        self.is_shut = False
        self.dies_after_yes = False
        self.port: int = loop.run(self._listen())

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if not self.is_shut:
                writer.write(b"220 storm\r\n")
                while (word := await reader.readline()) and await self._answer(
                    word.strip().upper(), reader, writer
                ):
                    await writer.drain()
        writer.transport.abort()

    async def _answer(
        self, word: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Says whether the conversation goes on."""
        if word.startswith(b"QUIT"):
            writer.write(b"221 bye\r\n")
            await writer.drain()
            return False
        if not word.startswith(b"DATA"):
            writer.write(b"250 yes\r\n")
            return True
        writer.write(b"354 go on\r\n")
        await writer.drain()
        letter = (await reader.readuntil(b"\r\n.\r\n")).replace(b"\r\n..", b"\r\n.")
        told = message_from_bytes(letter, policy=default)
        self.mails.append(
            Mail(time.time(), str(told["Message-ID"]), str(told["To"]), str(told["Subject"]))
        )
        writer.write(b"250 kept\r\n")
        await writer.drain()
        return not self.dies_after_yes
