"""mpv on a playlist that grows: a film of unknown length, or with `--channel` a live channel.

The playlist's address carries the token; its segments are asked for by their names alone.
"""

import subprocess
from importlib.metadata import version

from jellyfin_apiclient_python import JellyfinClient

from mpv_ipc import Mpv
from story import Stalls, expect, first_film, run


def tell(story):
    client = JellyfinClient(allow_multiple_clients=True)
    client.config.app("Story mpv", version("jellyfin-apiclient-python"), "Projector", story.device)
    client.config.data["auth.ssl"] = False
    with story.step("public info"):
        client.auth.connect_to_address(story.url)
    with story.step("log-in"):
        answer = expect(client.auth.login(story.url, story.user, story.password), "the log-in was refused")
        client.authenticate(client.get_credentials(), discover=False)
        client.start(websocket=False)
    with story.step("items"):
        kind = "TvChannel" if story.channel else "Movie"
        found = client.jellyfin.items(params={"Recursive": True, "IncludeItemTypes": kind})["Items"]
        item = first_film([item for item in found if item["Type"] == kind])
    with story.step("PlaybackInfo"):
        path = f"/{item['Id']}/PlaybackInfo"
        info = expect(client.jellyfin.items(path, "POST", json={"AutoOpenLiveStream": True}), "no answer")
        source = info["MediaSources"][0]

    query = {"DeviceId": story.device, "MediaSourceId": source["Id"], "PlaySessionId": info["PlaySessionId"]}
    query["ApiKey"] = answer["AccessToken"]
    if story.channel:
        query["LiveStreamId"] = expect(source.get("LiveStreamId"), "the channel was not opened")
    address = f"{story.url}/Videos/{item['Id']}/live.m3u8?" + "&".join(f"{key}={query[key]}" for key in query)
    player = Mpv()
    try:
        with story.step("live HLS plays"):
            player.play(address)
        if story.holds:
            hold(story, player)
    finally:
        player.quit()


def hold(story, player):
    stalls = Stalls()
    held = story.begin_hold()
    for _ in held.rounds():
        stalls.look(player.position())
    held.facts = {
        "film_ended": [end.get("file_error") or end.get("reason") for end in player.ends],
        **stalls.end(),
    }


if __name__ == "__main__":
    told = subprocess.run(["mpv", "--version"], capture_output=True, text=True, check=True).stdout
    run("mpv live", told.split()[1], tell)
