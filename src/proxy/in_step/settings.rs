//! Documents of settings: what changed on the caller's pod goes into each other pod's own document.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{carrier::Carrier, outcome::Outcome};
use crate::{
    jellyfin::{
        client::settings,
        endpoint::DocumentKeys,
        settings::{Changes, DocumentName, KeyPath, shown},
    },
    pod::Pod,
    proxy::in_step_state::PodMemory,
};

/// What the caller's pod has now.
pub(super) struct NewSettings {
    pub(super) document: DocumentName,
    pub(super) after: Value,
    /// What changed, or `None` if only a comparison can tell.
    pub(super) changes: Option<Changes>,
}

impl NewSettings {
    /// `before` is the document before the request, if it was read.
    pub(super) fn new(document: DocumentName, keys: DocumentKeys, before: Option<&Value>, after: Value) -> NewSettings {
        let changes = match keys {
            DocumentKeys::These(keys) => Some(Changes::of_keys(&after, keys)),
            DocumentKeys::Changed => before.map(|before| Changes::between(before, &after)),
        };
        NewSettings { document, after, changes }
    }

    /// What a pod with this document takes over.
    fn for_pod(&self, there: &Value, memory: &PodMemory) -> Changes {
        let changes = match &self.changes {
            Some(changes) => changes.clone(),
            None => Changes::between(there, &self.after).filtered(|path| !memory.is_own(&self.document, path)),
        };
        changes.without_own(self.document.as_document()).0
    }

    /// Whether some of what changed is each pod's own. Says in the log what.
    pub(super) fn has_own(&self) -> bool {
        let Some(changes) = self.changes.clone() else { return false };
        let (_, own) = changes.without_own(self.document.as_document());
        if !own.is_empty() {
            let keys: Vec<String> = own.iter().map(shown).collect();
            tracing::info!(document = %self.document, keys = keys.join(","), "settings that are each pod's own were changed on one pod");
        }
        !own.is_empty()
    }
}

impl Carrier<'_> {
    /// Reads a document; `None` if the pod does not show it.
    pub(super) async fn settings(&self, pod: &Arc<Pod>, document: &DocumentName) -> Option<Value> {
        self.call(pod, settings::read(document.as_document(), self.key)).await.ok().flatten()
    }

    /// Lets the caller's pod save its document once more. Where pods share a folder, the others have
    /// saved theirs over it, with the old values of what is each pod's own.
    pub(super) async fn save_again(&self, pod: &Arc<Pod>, new: &NewSettings) {
        // If it fails, the pod still has the values in memory.
        let _ = self.call(pod, settings::write(new.document.as_document(), &new.after, self.key)).await;
    }

    /// Writes what changed into a pod's document.
    pub(super) async fn follow_settings(&self, pod: &Arc<Pod>, new: &NewSettings, memory: &PodMemory) -> Outcome {
        let mut there = match self.call(pod, settings::read(new.document.as_document(), self.key)).await {
            Ok(Some(there)) => there,
            // A plug-in that this pod does not have.
            Ok(None) => return Outcome::InStep,
            Err(failure) => return Outcome::of(Err(failure)),
        };
        let changes = new.for_pod(&there, memory);
        self.write_settings(pod, &new.document, &mut there, &changes, memory).await
    }

    pub(super) async fn write_settings(
        &self,
        pod: &Arc<Pod>,
        document: &DocumentName,
        there: &mut Value,
        changes: &Changes,
        memory: &PodMemory,
    ) -> Outcome {
        if !changes.apply(there) {
            memory.took_over(document, changes);
            return Outcome::InStep;
        }
        let outcome = Outcome::of(self.call(pod, settings::write(document.as_document(), there, self.key)).await);
        if let Outcome::Done(_) = outcome {
            memory.took_over(document, changes);
        }
        outcome
    }
}

/// The places in which a pod's document differs from the leader's, without those that always do.
pub(super) fn differences(document: &DocumentName, there: &Value, leaders: &Value) -> (Changes, BTreeSet<KeyPath>) {
    let (changes, _) = Changes::between(there, leaders).without_own(document.as_document());
    let paths = changes.paths().cloned().collect();
    (changes, paths)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_to_have_changed_is_compared_and_a_pods_own_stays() {
        let after = json!({"ServerName": "New", "UICulture": "de", "CachePath": "/a"});
        let there = json!({"ServerName": "Old", "UICulture": "en", "CachePath": "/b"});
        let memory = PodMemory::default();
        let own = BTreeSet::from([vec!["UICulture".to_owned()]]);
        memory.set_own(BTreeMap::from([(DocumentName::Server, own)]));
        let taken = |keys, before: Option<&Value>| {
            let new = NewSettings::new(DocumentName::Server, keys, before, after.clone());
            new.for_pod(&there, &memory).paths().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(taken(DocumentKeys::Changed, None), ["ServerName"]);
        assert_eq!(taken(DocumentKeys::Changed, Some(&json!({"ServerName": "New", "UICulture": "en"}))), ["UICulture"]);
        assert_eq!(taken(DocumentKeys::These(&["ServerName", "CachePath"]), None), ["ServerName"]);
    }
}
