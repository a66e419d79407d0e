//! Subtitles and lyrics: files beside the media, or among a pod's own.
//!
//! The media are shared, so a file beside them is there for all. A second upload would get another
//! name (10.11) and stand there twice. The library's options say where such files go.

use std::sync::Arc;

use serde_json::Value;

use super::carrier::Carrier;
use crate::{jellyfin::client::items, pod::Pod};

impl Carrier<'_> {
    /// Whether the files of an item's library stand beside the media. `None` if it cannot be found
    /// out.
    pub(super) async fn is_beside_media(
        &self,
        pod: &Arc<Pod>,
        (item, option): (&str, &str),
        viewer: Option<String>,
    ) -> Option<bool> {
        let viewer = self.viewer(pod, viewer).await?;
        let item = self.call(pod, items::get(item, &viewer, self.key)).await.ok()??;
        let path = item["Path"].as_str()?;
        let libraries = self.libraries(pod).await?;
        let contains = |folder: &String| {
            let folder = folder.trim_end_matches(['/', '\\']);
            path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '\\']))
        };
        let library = libraries.iter().find(|library| library.paths.iter().any(contains))?;
        // Both options have a default: subtitles beside the media, lyrics among the pod's own
        // (`LibraryOptions`).
        let by_default = option == "SaveSubtitlesWithMedia";
        Some(library.options.get(option).and_then(Value::as_bool).unwrap_or(by_default))
    }
}
