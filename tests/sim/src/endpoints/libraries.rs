//! Libraries: `/Library/VirtualFolders`, whose definitions are folders on the pod's disk, and the views made of them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::disk::{Files, Library};
use crate::generation::Generation;
use crate::identifiers::{guid_of, plain};

/// `GET /Library/VirtualFolders`: the folders as they are on the disk now.
pub(crate) fn list(call: &Call) -> Answer {
    let files = call.life().shared.disk.files();
    let folders = files.libraries.iter().map(|(name, library)| {
        let paths = library.options["PathInfos"].as_array().cloned().unwrap_or_default();
        let mut folder = json!({
            "Name": name,
            "Locations": paths.iter().map(|path| path["Path"].clone()).collect::<Vec<_>>(),
            "LibraryOptions": library.options,
            "ItemId": library.id,
            "PrimaryImageItemId": library.id,
            "RefreshStatus": "Idle",
        });
        if let Some(kind) = &library.kind {
            folder["CollectionType"] = json!(kind);
        }
        folder
    });
    Answer::json(&folders.collect())
}

/// `POST /Library/VirtualFolders?name=&collectionType=&paths=`: a name that is taken gets a number (`AddVirtualFolder`), so
/// that asking twice makes two libraries.
pub(crate) fn add(call: &Call) -> Answer {
    let wanted = text(call, "name");
    if wanted.is_empty() {
        return Answer::error(StatusCode::BAD_REQUEST);
    }
    let body = call.json();
    let mut options = property(&body, "LibraryOptions").cloned().unwrap_or_else(|| json!({"Enabled": true}));
    let paths: Vec<Value> = call.query.list("paths").into_iter().map(|path| json!({"Path": path})).collect();
    if !paths.is_empty() {
        options["PathInfos"] = json!(paths);
    }
    if options["PathInfos"].is_null() {
        options["PathInfos"] = json!([]);
    }
    if paths.iter().any(|path| path["Path"].as_str().is_none_or(|path| !path.starts_with('/'))) {
        // There is no such folder.
        return Answer::error(StatusCode::NOT_FOUND);
    }
    change(call, |files| {
        let mut name = wanted.clone();
        let mut count = 1;
        while files.libraries.contains_key(&name) {
            count += 1;
            name = format!("{wanted}{count}");
        }
        let kind = call.query.get("collectionType").filter(|kind| !kind.is_empty());
        let library = Library { id: guid_of(&format!("library {name}")), kind, options };
        files.libraries.insert(name, library);
        Ok(())
    })
}

/// `DELETE /Library/VirtualFolders?name=`: the view stays until a scan, unless `refreshLibrary` begins one.
pub(crate) fn remove(call: &Call) -> Answer {
    let name = text(call, "name");
    change_on_disk(call, |files| match files.libraries.remove(&name) {
        Some(_) => Ok(()),
        None => Err(Box::new(match call.settings().generation {
            Generation::V12 => Answer::json_with(StatusCode::BAD_REQUEST, &json!("The media folder does not exist")),
            Generation::V10_11 => Answer::error(StatusCode::NOT_FOUND),
        })),
    })
}

/// `POST /Library/VirtualFolders/Name?name=&newName=`: the view stays as with a removal.
pub(crate) fn rename(call: &Call) -> Answer {
    let (name, new) = (text(call, "name"), text(call, "newName"));
    if name.is_empty() || new.is_empty() {
        return Answer::error(StatusCode::BAD_REQUEST);
    }
    change_on_disk(call, |files| {
        if !files.libraries.contains_key(&name) {
            return Err(Answer::json_with(StatusCode::NOT_FOUND, &json!("The media collection does not exist.")).into());
        }
        if name != new && files.libraries.contains_key(&new) {
            return Err(Answer::json_with(StatusCode::CONFLICT, &json!("The media library already exists.")).into());
        }
        if let Some(library) = files.libraries.remove(&name) {
            files.libraries.insert(new, library);
        }
        Ok(())
    })
}

/// `POST /Library/VirtualFolders/Paths`, `{"Name":, "Path":}` or with `PathInfo`.
pub(crate) fn add_path(call: &Call) -> Answer {
    let body = call.json();
    let info = property(&body, "PathInfo").filter(|info| info.is_object()).cloned();
    let path = property(&body, "Path").and_then(Value::as_str).map(|path| json!({"Path": path}));
    let Some(info) = info.or(path) else {
        return Answer::error(StatusCode::BAD_REQUEST);
    };
    let name = property(&body, "Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    with_paths(call, &name, |paths| {
        if !paths.iter().any(|path| path["Path"] == info["Path"]) {
            paths.push(info);
        }
    })
}

/// `POST /Library/VirtualFolders/Paths/Update`, `{"Name":, "PathInfo":}`.
pub(crate) fn update_path(call: &Call) -> Answer {
    let body = call.json();
    let name = property(&body, "Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let info = property(&body, "PathInfo").cloned().unwrap_or_default();
    with_paths(call, &name, |paths| {
        if let Some(path) = paths.iter_mut().find(|path| path["Path"] == info["Path"]) {
            *path = info;
        }
    })
}

/// `DELETE /Library/VirtualFolders/Paths?name=&path=`.
pub(crate) fn remove_path(call: &Call) -> Answer {
    let gone = text(call, "path");
    with_paths(call, &text(call, "name"), |paths| paths.retain(|path| path["Path"] != gone.as_str()))
}

/// `POST /Library/VirtualFolders/LibraryOptions`, `{"Id":, "LibraryOptions":}`.
pub(crate) fn set_options(call: &Call) -> Answer {
    let body = call.json();
    let id = property(&body, "Id").and_then(|id| plain(id.as_str()?)).unwrap_or_default();
    let options = property(&body, "LibraryOptions").cloned().unwrap_or_default();
    change(call, |files| match files.libraries.values_mut().find(|library| library.id == id) {
        Some(library) => {
            library.options = options;
            Ok(())
        }
        None => Err(Answer::problem(StatusCode::NOT_FOUND).into()),
    })
}

fn with_paths(call: &Call, name: &str, how: impl FnOnce(&mut Vec<Value>)) -> Answer {
    change(call, |files| {
        let Some(library) = files.libraries.get_mut(name) else {
            return Err(Answer::error(StatusCode::NOT_FOUND).into());
        };
        if library.options["PathInfos"].is_null() {
            library.options["PathInfos"] = json!([]);
        }
        if let Some(paths) = library.options["PathInfos"].as_array_mut() {
            how(paths);
        }
        Ok(())
    })
}

/// Changes the disk. This process goes on with the libraries that it knows until it scans
/// (`LibraryManager.RemoveVirtualFolder`).
fn change_on_disk(call: &Call, how: impl FnOnce(&mut Files) -> Result<(), Box<Answer>>) -> Answer {
    if call.query.is_true("refreshLibrary") {
        return change(call, how);
    }
    match how(&mut call.life().shared.disk.files()) {
        Ok(()) => Answer::no_content(),
        Err(refusal) => *refusal,
    }
}

/// Changes the disk; this process knows the libraries of it from then on.
fn change(call: &Call, how: impl FnOnce(&mut Files) -> Result<(), Box<Answer>>) -> Answer {
    let libraries = {
        let mut files = call.life().shared.disk.files();
        if let Err(refusal) = how(&mut files) {
            return *refusal;
        }
        files.libraries.clone()
    };
    call.life().memory().libraries = libraries;
    Answer::no_content()
}

fn text(call: &Call, name: &str) -> String {
    call.query.get(name).unwrap_or_default()
}
