//! Lowers who may use a route.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::{
        error::Fault,
        file::{BasicAuth, ForwardAuth, User},
        value::{FromText, Table},
    },
    passwords::PasswordHash,
    route::auth::{self, Auth},
};

/// `is_plain`: the route leads to pods that are not Jellyfin's.
pub(super) fn lower(
    basic: Option<Table<BasicAuth>>,
    forward: Option<Table<ForwardAuth>>,
    is_plain: bool,
    folder: &Path,
) -> Result<Option<Auth>, Fault> {
    let at = basic.as_ref().map(|table| (&table.at, "basic_auth"));
    let at = at.or(forward.as_ref().map(|table| (&table.at, "forward_auth")));
    if let Some((at, key)) = at.filter(|_| !is_plain) {
        let problem = format!(
            "`{key}` is for a route to a pool of `kind = \"http\"`: Jellyfin's apps cannot answer it, and Jellyfin asks by itself"
        );
        return Err(Fault::new(at.clone(), problem));
    }
    match (basic, forward) {
        (None, None) => Ok(None),
        (Some(_), Some(forward)) => {
            Err(Fault::new(forward.at, "`basic_auth` decides already; a route has one of the two"))
        }
        (Some(basic), None) => users(basic, folder).map(|users| Some(Auth::Basic(users))),
        (None, Some(Table { inner, .. })) => Ok(Some(Auth::Forward(auth::ForwardAuth {
            address: inner.address.0.0,
            copy_headers: inner.copy_headers.0.into_iter().map(|name| name.into_inner().0.0).collect(),
        }))),
    }
}

fn users(Table { at, inner: basic }: Table<BasicAuth>, folder: &Path) -> Result<BTreeMap<String, PasswordHash>, Fault> {
    let mut users = BTreeMap::new();
    for user in basic.users.0 {
        let (at, User { name, hash }) = (user.span(), user.into_inner().0);
        if users.insert(name.clone(), hash).is_some() {
            return Err(Fault::new(at, format!("the user {name:?} stands here twice")));
        }
    }
    if let Some(file) = basic.file {
        let path = folder.join(&file.get_ref().0.0);
        let failed = |why: String| Fault::new(file.span(), format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let User { name, hash } = User::from_text(line).map_err(|why| failed(format!("line {number}: {why}")))?;
            if users.insert(name.clone(), hash).is_some() {
                return Err(failed(format!("line {number}: the user {name:?} stands twice")));
            }
        }
    }
    if users.is_empty() {
        return Err(Fault::new(at, "nobody could come in; give `users` or a `file` of them"));
    }
    Ok(users)
}
