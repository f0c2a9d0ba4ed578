//! Who a sender is, as far as quotas go: a name in a header, or else the way it came.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;

use super::refusal::PushRefusal;

/// Tenants with a quota of their own; later ones share one.
const MAX_TENANTS: usize = 1000;

/// Longest name.
const MAX_NAME_BYTES: usize = 150;

/// The share of those beyond [`MAX_TENANTS`].
const OTHERS: &str = "(others)";

/// The tenants seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenants(Arc<Mutex<BTreeSet<String>>>);

impl Tenants {
    /// The source that the samples of a request count for: `kind`, or `kind/tenant` where the request names one.
    pub(super) fn source(&self, kind: &str, header: &str, headers: &HeaderMap) -> Result<String, PushRefusal> {
        let Some(value) = (!header.is_empty()).then(|| headers.get(header)).flatten() else {
            return Ok(kind.to_owned());
        };
        let name = value.to_str().ok().map(str::trim).filter(|name| is_name(name));
        let name = name.ok_or_else(|| PushRefusal::Tenant { header: header.to_owned() })?;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = seen.contains(name) || (seen.len() < MAX_TENANTS && seen.insert(name.to_owned()));
        Ok(format!("{kind}/{}", if own { name } else { OTHERS }))
    }
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(tenants: &Tenants, tenant: &str) -> Result<String, PushRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert("x-scope-orgid", tenant.parse().unwrap());
        tenants.source("remote_write", "X-Scope-OrgID", &headers)
    }

    #[test]
    fn a_tenant_counts_for_itself_and_a_nameless_sender_for_its_kind() {
        let tenants = Tenants::default();
        assert_eq!(source(&tenants, "team-a").unwrap(), "remote_write/team-a");
        assert_eq!(tenants.source("otlp", "X-Scope-OrgID", &HeaderMap::new()).unwrap(), "otlp");
        assert_eq!(tenants.source("otlp", "", &HeaderMap::new()).unwrap(), "otlp");
        assert!(source(&tenants, "a b").is_err() && source(&tenants, "").is_err());
    }

    #[test]
    fn ever_new_tenants_share_one_quota_in_the_end() {
        let tenants = Tenants::default();
        let all: BTreeSet<String> = (0..5000).map(|n| source(&tenants, &format!("t{n}")).unwrap()).collect();
        assert_eq!(all.len(), MAX_TENANTS + 1);
        assert_eq!(source(&tenants, "t7").unwrap(), "remote_write/t7");
    }
}
