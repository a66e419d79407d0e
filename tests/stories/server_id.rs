//! Pods with ids of their own show one id, and no pod shows its own address.

mod address;
mod all_answers;
mod answers;
mod equal_ids;
mod info_probe;
mod persistence;
mod requests;

pub(super) use persistence::id_at;

use super::{
    wire::{self, Answer, HandPod},
    world::{Plan, World},
};

/// The id that a pod played by hand reports.
const OWN: &str = "5a1e0f3d9c7b48268f4d2a6b1c3e5f70";

/// The id that clients see instead. It begins as the other ends and ends as it begins, which is the harder case.
const SHOWN: &str = "0f705a1e0f3d9c7b48268f4d2a6b5a1e";

/// A pod played by hand, with another id to the eye than its own.
fn disguised(pod: &HandPod) -> Plan {
    wire::before(pod).server_id(SHOWN)
}

/// What a client gets when the pod answers with these bytes.
async fn answered(world: &World, pod: &mut HandPod, path: &str, answer: &[u8]) -> Answer {
    let mut end = wire::client(world).await;
    end.send(format!("GET {path} HTTP/1.1\r\nHost: media.example.org\r\nAccept-Encoding: gzip, br\r\n\r\n")).await;
    let mut call = pod.call().await;
    call.wire.send(answer).await;
    // A pod that goes on no further.
    call.wire.finish().await;
    end.answer().await
}

/// A body in chunks.
fn chunked(pieces: &[&str]) -> String {
    let chunk = |piece: &&str| format!("{:x}\r\n{piece}\r\n", piece.len());
    pieces.iter().filter(|piece| !piece.is_empty()).map(chunk).collect::<String>() + "0\r\n\r\n"
}
