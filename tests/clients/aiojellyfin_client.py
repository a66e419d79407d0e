"""aiojellyfin: the library of Music Assistant, on aiohttp.

aiohttp keeps no cookie of a host that is an address, so the same client is with and without cookies as its URL says
`localhost` or `127.0.0.1`. It has no socket, and of playback only what its own session object can ask for.
"""

import asyncio
from importlib.metadata import version

import aiohttp
import aiojellyfin

from story import HLS_ONLY, HOLD_PAUSE_S, expect, first_film, playing, run

PACKAGE = "aiojellyfin"


def tell(story):
    asyncio.run(tell_async(story))


async def tell_async(story):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        wire = Wire(story, http)
        with story.step("public info"):
            await wire.ask("GET", "/System/Info/Public")
        with story.step("log-in"):
            await wire.log_in(story.user, story.password)
        with story.step("user"):
            user = await wire.ask("GET", "/Users/Me")
            expect(user["Name"] == story.user, f"the user is {user['Name']}")
        with story.step("items"):
            expect((await wire.connection.get_media_folders())["Items"], "no media folders")
            found = await wire.ask("GET", "/Items?recursive=true&includeItemTypes=Movie&limit=5")
            film = first_film(found["Items"])
        with story.step("image"):
            address = wire.connection.artwork(film["Id"], aiojellyfin.ImageType.Primary)
            async with http.get(address, raise_for_status=True) as image:
                expect(await image.read(), "an empty image")
        source, play_session = await play(story, wire, film)
        if story.holds:
            await hold(story, wire)
        with story.step("playback stops"):
            await wire.ask("POST", "/Sessions/Playing/Stopped", playing(film, source, play_session, 3))
        if not story.stays:
            with story.step("log-out"):
                await wire.ask("POST", "/Sessions/Logout")


async def play(story, wire, film):
    with story.step("PlaybackInfo"):
        info = await wire.ask("POST", f"/Items/{film['Id']}/PlaybackInfo", {"DeviceProfile": HLS_ONLY})
        source = info["MediaSources"][0]
        expect(source.get("TranscodingUrl"), "no TranscodingUrl for a profile that takes HLS only")
    with story.step("playback"):
        play_session = info["PlaySessionId"]
        await wire.ask("POST", "/Sessions/Playing", playing(film, source, play_session, 0))
        for second in (1, 2, 3):
            await wire.ask("POST", "/Sessions/Playing/Progress", playing(film, source, play_session, second))
    return source, play_session


async def hold(story, wire):
    held = story.begin_hold()
    while not held.ended.is_set():
        held.calls += 1
        try:
            await wire.connection.get_media_folders()
        except Exception as error:
            held.fail("GET /Items", error)
        await asyncio.sleep(HOLD_PAUSE_S)
    held.facts = {"token_lost": any("401" in failure["why"] for failure in held.failures)}


class Wire:
    """The library's connection, and the calls that it has no name for, sent with its own session and header."""

    def __init__(self, story, http):
        self.http = http
        self.connection = None
        self.configuration = aiojellyfin.SessionConfiguration(
            session=http,
            url=story.url,
            app_name="Story aio",
            app_version=version(PACKAGE),
            device_name="Kitchen",
            device_id=story.device,
        )

    async def log_in(self, user, password):
        self.connection = await aiojellyfin.authenticate_by_name(self.configuration, user, password)

    async def ask(self, method, path, body=None):
        token = self.connection and self.connection._access_token
        headers = {
            "User-Agent": self.configuration.user_agent,
            "Authorization": self.configuration.authentication_header(token),
        }
        address = self.configuration.url.rstrip("/") + path
        async with self.http.request(method, address, json=body, headers=headers, raise_for_status=True) as answer:
            return await answer.json() if answer.status != 204 else None


if __name__ == "__main__":
    run(PACKAGE, version(PACKAGE), tell)
