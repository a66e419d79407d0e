//! A request on its way to pods: what it asks for, its body, and its record.

use super::{context::RequestContext, record::RequestRecord};
use crate::forward::outbound::ReplayBody;

pub(in crate::proxy) struct Dispatch<'a> {
    pub(in crate::proxy) ctx: &'a RequestContext<'a>,
    pub(in crate::proxy) body: &'a ReplayBody,
    pub(in crate::proxy) record: &'a mut RequestRecord,
}

impl Dispatch<'_> {
    /// The same request for another pod, or in another's name.
    pub(in crate::proxy) fn with_context<'b>(&'b mut self, ctx: &'b RequestContext<'b>) -> Dispatch<'b> {
        Dispatch { ctx, body: self.body, record: self.record }
    }
}
