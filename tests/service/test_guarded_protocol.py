"""Connections that are slow on purpose are closed."""

import asyncio

import pytest
import uvicorn

from tilefold.service.guarded_protocol import GuardedProtocol


class QuickProtocol(GuardedProtocol):
    header_seconds = 0.3
    max_header_bytes = 4096


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def exchange(talk):
    """Runs a coroutine with a connection to a server whose headers have 0.3 seconds."""

    async def main():
        config = uvicorn.Config(
            app, http=QuickProtocol, log_config=None, lifespan="off", ws="none", port=0
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await asyncio.wait_for(talk(reader, writer), 20)
            finally:
                writer.close()
        finally:
            server.force_exit = True
            await server.shutdown()

    return asyncio.run(main())


GOOD = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", b"\r\n"])
@pytest.mark.parametrize("later", [False, True], ids=["first request", "later request"])
def test_headers_that_do_not_end_close_the_connection(begin, later):
    """Byte after byte does not buy more time."""
    if later and not begin:
        pytest.skip("an idle connection is closed by uvicorn, after timeout_keep_alive")

    async def talk(reader, writer):
        if later:
            writer.write(GOOD)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)

        async def drip():
            for _ in range(200):
                await asyncio.sleep(0.05)
                writer.write(b"a" if begin.startswith(b"G") else b"\r\n")

        dripping = asyncio.ensure_future(drip() if begin else asyncio.sleep(0))
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            dripping.cancel()

    assert b"200" not in exchange(talk)


def test_a_good_connection_lives_longer_than_its_headers_may_take():
    async def talk(reader, writer):
        for _ in range(4):
            writer.write(GOOD)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.2)
        return True

    assert exchange(talk)


def test_headers_that_are_too_long_are_refused():
    async def talk(reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"a" * 5000)
        return await reader.read()

    assert exchange(talk).startswith(b"HTTP/1.1 400")
