//! Lowers the affinity cookie. Refuses a cookie that browsers would silently drop.

use crate::{
    affinity::cookie::{CookieConfig, SameSite, Secure},
    config::{error::Fault, file::Cookie, value::Written},
};

pub(super) fn lower(cookie: Cookie) -> Result<CookieConfig, Fault> {
    let Written(secure) = cookie.secure;
    if secure != Secure::Always {
        refuse_what_needs_secure(&cookie)?;
    }
    let name = &cookie.name.get_ref().0.0;
    if name.to_ascii_lowercase().starts_with("__host-") && (cookie.domain.is_some() || cookie.path.0.0 != "/") {
        let problem = "browsers take a `__Host-` cookie only with `path = \"/\"` and without `domain`";
        return Err(Fault::new(cookie.name.span(), problem));
    }
    Ok(CookieConfig {
        name: cookie.name.into_inner().0.0,
        http_only: cookie.http_only,
        same_site: cookie.same_site.into_inner().0,
        secure,
        path: cookie.path.0.0,
        domain: cookie.domain.map(|domain| domain.0.0),
        max_age: cookie.max_age.map(|age| age.0.0),
        partitioned: cookie.partitioned.into_inner(),
    })
}

fn refuse_what_needs_secure(cookie: &Cookie) -> Result<(), Fault> {
    let name = cookie.name.get_ref().0.0.to_ascii_lowercase();
    let (at, what) = if cookie.same_site.get_ref().0 == SameSite::None {
        (cookie.same_site.span(), "a `SameSite=None` cookie")
    } else if *cookie.partitioned.get_ref() {
        (cookie.partitioned.span(), "a partitioned cookie")
    } else if name.starts_with("__host-") || name.starts_with("__secure-") {
        (cookie.name.span(), "a cookie of this name")
    } else {
        return Ok(());
    };
    Err(Fault::new(at, format!("browsers drop {what} that is not `Secure`; set `secure = \"always\"`")))
}
