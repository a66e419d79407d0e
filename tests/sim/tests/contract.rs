//! The simulated pod keeps the contract: it is asked everything that real pods were asked, and answers alike.
//!
//! The recordings of `tests/recordings` are replayed against two simulated pods of one cluster. Status, headers, body and
//! the order of frames are compared; what may differ is listed, each row with its reason, in `contract/tolerated.rs`.
//! Run with `--nocapture` to see the tables.

#[path = "contract/answer.rs"]
mod answer;
#[path = "contract/client.rs"]
mod client;
#[path = "contract/cut.rs"]
mod cut;
#[path = "contract/difference.rs"]
mod difference;
#[path = "contract/json.rs"]
mod json;
#[path = "contract/names.rs"]
mod names;
#[path = "contract/playlist.rs"]
mod playlist;
#[path = "contract/proof.rs"]
mod proof;
#[path = "contract/recording.rs"]
mod recording;
#[path = "contract/replay.rs"]
mod replay;
#[path = "contract/report.rs"]
mod report;
#[path = "contract/start_up.rs"]
mod start_up;
#[path = "contract/tolerated.rs"]
mod tolerated;
#[path = "contract/url.rs"]
mod url;

use jellyfin_sim::Generation;
use replay::Play;

#[tokio::test]
async fn the_simulated_pod_answers_as_jellyfin_12_0_did() {
    keeps_the_contract(&V12).await;
}

#[tokio::test]
async fn the_simulated_pod_answers_as_jellyfin_10_11_did() {
    keeps_the_contract(&V10_11).await;
}

async fn keeps_the_contract(play: &Play) {
    let report = replay::play(play, &replay::FILES).await;
    println!("{}", report.text());
    assert!(report.is_clean(), "see the table above");
}

#[tokio::test]
async fn a_pod_of_the_other_generation_does_not_pass() {
    let mistaken = Play { generation: Generation::V12, ..V10_11 };
    let text = replay::play(&mistaken, &["01-log-in-and-tokens"]).await.text();
    for difference in [
        "line 3: Extra at header content-language",
        "line 45: Value at status: recorded 200, seen 401",
        "line 58: Value at status: recorded 200, seen 401",
        "line 67: Value at status: recorded 404, seen 400",
        "a row that nothing needs",
    ] {
        assert!(text.contains(difference), "{difference} is not in {text}");
    }
}

const V12: Play = Play {
    generation: Generation::V12,
    label: "12.0",
    folder: "",
    literals: &[
        ("00-76e00b51e09da35484135d722f32d7ce-e19165d9063ea983-00", "<trace>"),
        ("00-3394ec700f9cf556bb24e9104684d963-a97096dff45d7d80-00", "<trace>"),
        ("72a7e9573bd845b9b746bbcfe90d0cf4", "<user:root>"),
        ("33FF759E4E583FC428E0EDCF3ADE70EC932764D8A0CCDD68D1414FD507C91A48", "<secret>"),
        ("97AB58119812EC95D19F8C0F63D75FD4C66464218C1B0A5B1A45AFD5A2320FCD", "<secret>"),
        ("947552", "<code>"),
        ("990387", "<code>"),
        ("822fe8d1854041a9bbb54c051f96824d", "<group>"),
        ("6cd67cdd6416444cb6978960b001ca86", "<playlist-item>"),
        ("fa4b35bbd4054c65bddd2392f8789997", "<play-session>"),
        ("8a3d32d1dc90d45bafefaf9586582457", "<etag:1>"),
        ("e168b2f3f4c5cd52269e8a7491b62a70", "<folder:1>"),
        ("e168b2f3-f4c5-cd52-269e-8a7491b62a70", "<folder:1-dashed>"),
        (r#""Content-Length", "23266684""#, r#""Content-Length", "<size:1>""#),
        (r#"/23266684"]"#, r#"/<size:1>"]"#),
        ("1ee6004c134d74296862b20a8f40b956", "<live-hls>"),
    ],
};

const V10_11: Play = Play {
    generation: Generation::V10_11,
    label: "10.11",
    folder: "10.11/",
    literals: &[
        ("00-fd1cc126df4531b7c81eeea1d80891d2-c4b0996457c62f2a-00", "<trace>"),
        ("00-5bc25d335b46ae05c2013c2b97708ab4-51bf96a32dd1714a-00", "<trace>"),
        ("b42d89b4dc4340ea964210cc789fe941", "<user:root>"),
        ("A646275FD00936752C0E63327D200637A06F0098246F6CA38F34FFFF071EB256", "<secret>"),
        ("12645BF72178B5266641ADD122928E0C267389CB7F889AC03BD5B7A7E66AF33E", "<secret>"),
        ("60B5B81579490110D4594CB6C416C542455DC88B9CE1F6E06EF5A94154F8FF52", "<secret>"),
        ("861849", "<code>"),
        ("313240", "<code>"),
        ("328971", "<code>"),
        ("668dab34d38142c89903b6972f33c0b8", "<group>"),
        ("beb2d7c14cbc4a3392b757f9bfe7ca6f", "<playlist-item>"),
        ("1332ecbf5c3b4387adf3086d26d73ba9", "<play-session>"),
        ("8a3d32d1dc90d45bafefaf9586582457", "<etag:1>"),
        ("e168b2f3f4c5cd52269e8a7491b62a70", "<folder:1>"),
        ("e168b2f3-f4c5-cd52-269e-8a7491b62a70", "<folder:1-dashed>"),
        (r#""Content-Length", "23266684""#, r#""Content-Length", "<size:1>""#),
        (r#"/23266684"]"#, r#"/<size:1>"]"#),
        ("1ee6004c134d74296862b20a8f40b956", "<live-hls>"),
    ],
};
