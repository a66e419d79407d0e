"""mpv: a media player that knows nothing of the API client which hands it an address.

It sends no header of Jellyfin's and no cookie but what it was given for the same file, so the address alone tells whose
film it is: everything in the query of an HLS address, hardly anything in that of a file.
"""

import subprocess
from importlib.metadata import version

from jellyfin_apiclient_python import JellyfinClient

from mpv_ipc import Mpv
from story import HLS_ONLY, expect, first_film, playing, run


def tell(story):
    client = JellyfinClient(allow_multiple_clients=True)
    client.config.app("Story mpv", version("jellyfin-apiclient-python"), "Projector", story.device)
    client.config.data["auth.ssl"] = False
    with story.step("public info"):
        client.auth.connect_to_address(story.url)
    with story.step("log-in"):
        expect(client.auth.login(story.url, story.user, story.password), "the log-in was refused")
        client.authenticate(client.get_credentials(), discover=False)
        client.start(websocket=False)
    with story.step("items"):
        found = client.jellyfin.items(params={"Recursive": True, "IncludeItemTypes": "Movie", "Limit": 5})
        film = first_film(expect(found, "no answer for the items")["Items"])
    with story.step("PlaybackInfo"):
        info = expect(client.jellyfin.get_play_info(film["Id"], HLS_ONLY), "no answer for PlaybackInfo")

    player = Mpv("--loop-file=inf")
    try:
        watch(story, client, player, film, info)
    finally:
        player.quit()
    if not story.stays:
        with story.step("log-out"):
            client.jellyfin.sessions("/Logout", "POST")


def watch(story, client, player, film, info):
    source, play_session = info["MediaSources"][0], info["PlaySessionId"]
    with story.step("a file plays"):
        player.play(client.jellyfin.video_url(film["Id"], source["Id"]))
    for second in (40, 5, 50):
        with story.step(f"a file seeks to {second} s"):
            player.seek(second)
    if story.holds_file:
        hold(story, client, player, lambda second: playing(film, source, play_session, second))
        with story.step("the file plays to its end"):
            player.seek(45)
            expect(player.play_to_the_end() == "eof", f"the film ended: {player.ends[-1]}")
        return
    with story.step("HLS plays"):
        player.play(story.url + expect(source.get("TranscodingUrl"), "no TranscodingUrl"))
        client.jellyfin.session_playing(playing(film, source, play_session, 0, "Transcode"))
    with story.step("HLS seeks to 30 s"):
        player.seek(30)
        client.jellyfin.session_progress(playing(film, source, play_session, 30, "Transcode"))
    if story.holds:
        # mpv 0.35 stands still where HLS begins again, so the hold has nearly the whole film before it.
        with story.step("HLS seeks to 3 s"):
            player.seek(3)
        hold(story, client, player, lambda second: playing(film, source, play_session, second, "Transcode"))
        with story.step("HLS plays to its end"):
            player.seek(45)
            expect(player.play_to_the_end() == "eof", f"the film ended: {player.ends[-1]}")
    with story.step("playback stops"):
        client.jellyfin.session_stop(playing(film, source, play_session, 31, "Transcode"))
        client.jellyfin.close_transcode(story.device, play_session)


def hold(story, client, player, report):
    token = client.config.data["auth.token"]
    ends = len(player.ends)
    stalls = player.watch()
    held = story.begin_hold()
    for number, _ in enumerate(held.rounds()):
        if number % 5 == 4:
            body = report(stalls.position or 0)
            held.call("POST /Sessions/Playing/Progress", client.jellyfin.session_progress, body)
        else:
            held.call("GET /Users/{id}", lambda: expect(client.jellyfin.get_user(), "an empty answer"))
    held.facts = {
        "token_lost": client.config.data["auth.token"] != token,
        "film_ended": [end.get("file_error") or end.get("reason") for end in player.ends[ends:]],
        **stalls.end(),
    }
    player.stalls = None


if __name__ == "__main__":
    told = subprocess.run(["mpv", "--version"], capture_output=True, text=True, check=True).stdout
    run("mpv", told.split()[1], tell)
