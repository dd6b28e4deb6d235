"""Connections that are slow on purpose are closed."""

import asyncio

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="not installed: pip install tilefold[serve]")

from tilefold.service.guarded_protocol import GuardedProtocol


class QuickProtocol(GuardedProtocol):
    header_seconds = 0.3
    sending_seconds = 0.3
    max_header_bytes = 4096


LARGE = 64 << 20  # more than buffers of sockets hold


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = b"x" * LARGE if scope["path"] == "/large" else b""
    if scope["path"] == "/names":
        while (await receive()).get("more_body"):
            pass
        body = b" ".join(name for name, _ in scope["headers"])
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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


PART = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("later", "begin"),
    [
        *((False, begin) for begin in (b"", b"G", PART, b"\r\n")),
        *((True, begin) for begin in (b"G", PART, b"\r\n")),  # idle ones are closed by uvicorn
    ],
)
def test_headers_that_do_not_end_close_the_connection(later, begin):
    """Byte after byte does not buy more time."""

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


@pytest.mark.parametrize("kept", ["keep-alive", "close"])
def test_an_answer_that_is_not_read_ends_the_connection(kept):
    async def talk(reader, writer):
        writer.transport.pause_reading()
        writer.write(f"GET /large HTTP/1.1\r\nhost: x\r\nconnection: {kept}\r\n\r\n".encode())
        await asyncio.sleep(1.5)
        writer.transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(LARGE)

    exchange(talk)


def test_an_answer_that_is_read_slowly_is_read_whole():
    async def talk(reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        size = 0
        while part := await reader.read(LARGE // 8):
            size += len(part)
            if size < LARGE and size % 5 == 0:
                await asyncio.sleep(0.05)
        return size

    assert exchange(talk) > LARGE


def test_headers_that_are_too_long_are_refused():
    async def talk(reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"a" * 5000)
        return await reader.read()

    assert exchange(talk).startswith(b"HTTP/1.1 400")


CHUNKED = (
    b"GET /names HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)


def sent(*parts):
    async def talk(reader, writer):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)  # so that they arrive one by one
        return await reader.read()

    return exchange(talk)


@pytest.mark.parametrize("size", [1, 3000])
def test_a_body_in_chunks_may_be_longer_than_headers(size):
    chunk = f"{size:x}\r\n".encode() + b"a" * size + b"\r\n"
    answer = sent(CHUNKED + chunk * 20 + b"0\r\ncolour: blue\r\n\r\n")
    assert b"200 OK" in answer
    assert b"transfer-encoding" in answer
    assert b"colour" not in answer  # of a trailer, which is dropped


def test_trailers_that_are_too_long_are_refused():
    assert sent(CHUNKED, b"0\r\ncolour: ", b"b" * 5000).startswith(b"HTTP/1.1 400")
