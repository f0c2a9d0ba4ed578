//! Where a webhook may lead: the public internet and the networks that were named, whatever name or redirect led there.
//!
//! Addresses are looked at when they are dialled, not when the configuration is read: the connection is made to the very
//! addresses that were looked at, so a name that changes its address in between gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};

const MOST_REDIRECTS: usize = 3;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// IPv4 blocks that are not the public internet.
///
/// # Source
/// IANA IPv4 Special-Purpose Address Registry (RFC 6890 and its successors), multicast (RFC 5771).
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// IPv6 blocks within the global unicast block that are not the public internet, or lead into IPv4 by another way.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
const GLOBAL_UNICAST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Why an address was not dialled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDialled {
    /// It is not public and was not allowed.
    #[error("{host} is at {address}, which is neither public nor in an allowed_networks")]
    Forbidden { host: String, address: IpAddr },
    /// Not an address we speak to.
    #[error("{url} is no http or https address")]
    Scheme { url: Url },
    /// A redirect that drops the encryption, changes the request, or is one too many.
    #[error("the redirect to {url} is not followed: it drops the encryption, the request, or is one too many")]
    Redirect { url: Url },
}

/// A client that dials only what is allowed, and tests each redirect as if it had been written in the configuration.
pub(crate) fn guarded_client(allowed: &[IpNet]) -> reqwest::Result<reqwest::Client> {
    let allowed: Arc<[IpNet]> = allowed.into();
    let own = allowed.clone();
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_WITHIN)
        .dns_resolver(Arc::new(Resolver { allowed }))
        .redirect(Policy::custom(move |attempt| match follow(&attempt, &own) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }))
        .build()
}

/// Whether an address as it is written may be dialled. A name is looked at when it is resolved.
pub(crate) fn admit(url: &Url, allowed: &[IpNet]) -> Result<(), NotDialled> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(NotDialled::Scheme { url: url.clone() });
    }
    // The host as the URL standard reads it: 0x7f.1, 127.1 and [::ffff:127.0.0.1] are addresses, not names.
    let host = url.host_str().unwrap_or("").trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) if !is_allowed(address, allowed) => Err(NotDialled::Forbidden { host: host.to_owned(), address }),
        _ => Ok(()),
    }
}

/// Whether `address` is public, or in one of the networks that were named.
fn is_allowed(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(&address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    let within_v4 = |(network, bits), address| Ipv4Net::new(network, bits).is_ok_and(|net| net.contains(address));
    let within_v6 = |(network, bits), address| Ipv6Net::new(network, bits).is_ok_and(|net| net.contains(address));
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.into_iter().any(|block| within_v4(block, &address)),
        IpAddr::V6(address) => {
            within_v6(GLOBAL_UNICAST_V6, &address) && !SPECIAL_V6.into_iter().any(|block| within_v6(block, &address))
        }
    }
}

fn follow(attempt: &Attempt<'_>, allowed: &[IpNet]) -> Result<(), NotDialled> {
    let refuse = || NotDialled::Redirect { url: attempt.url().clone() };
    // Any other redirect would turn the post into a question.
    let keeps_request = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let was_secret = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
    if !keeps_request || attempt.previous().len() > MOST_REDIRECTS || (was_secret && attempt.url().scheme() != "https")
    {
        return Err(refuse());
    }
    admit(attempt.url(), allowed)
}

struct Resolver {
    allowed: Arc<[IpNet]>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let usable = usable(&host, found, &allowed)?;
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name that may be dialled. One that is forbidden among several condemns them all: no honest name
/// is both inside and outside.
fn usable(host: &str, found: Vec<SocketAddr>, allowed: &[IpNet]) -> Result<Vec<SocketAddr>, NotDialled> {
    match found.iter().find(|at| !is_allowed(at.ip(), allowed)) {
        Some(at) => Err(NotDialled::Forbidden { host: host.to_owned(), address: at.ip() }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &[&str]) -> Vec<IpNet> {
        text.iter().map(|net| net.parse().expect("a network")).collect()
    }

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    #[test]
    fn inner_addresses_are_refused_however_they_are_written() {
        for inner in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://0.0.0.0/",
            "http://10.9.8.7/",
            "http://172.31.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[::]/",
            "http://224.0.0.1/",
        ] {
            assert!(matches!(admit(&url(inner), &[]), Err(NotDialled::Forbidden { .. })), "{inner}");
        }
        assert!(matches!(admit(&url("file:///etc/passwd"), &[]), Err(NotDialled::Scheme { .. })));
        for outer in ["https://93.184.216.34/", "https://[2606:2800:220:1::1]/", "https://hooks.example/x"] {
            assert!(admit(&url(outer), &[]).is_ok(), "{outer}");
        }
    }

    #[test]
    fn a_named_network_is_allowed_and_only_that() {
        let allowed = networks(&["10.2.0.0/16", "fd00:1::/32"]);
        assert!(admit(&url("http://10.2.3.4/"), &allowed).is_ok());
        assert!(admit(&url("http://[::ffff:10.2.3.4]/"), &allowed).is_ok());
        assert!(admit(&url("http://[fd00:1::9]/"), &allowed).is_ok());
        assert!(admit(&url("http://10.3.3.4/"), &allowed).is_err());
    }

    #[test]
    fn a_name_with_one_inner_address_among_outer_ones_is_refused() {
        let at = |text: &str| SocketAddr::new(text.parse().expect("an address"), 0);
        assert!(usable("a.example", vec![at("93.184.216.34")], &[]).is_ok());
        let error = usable("a.example", vec![at("93.184.216.34"), at("127.0.0.1")], &[]).expect_err("refused");
        assert!(error.to_string().contains("a.example is at 127.0.0.1"), "{error}");
    }

    #[tokio::test]
    async fn a_name_is_looked_at_each_time_it_is_resolved() {
        let resolver = Resolver { allowed: Arc::new([]) };
        assert!(resolver.resolve("localhost".parse().expect("a name")).await.is_err());
        let resolver = Resolver { allowed: networks(&["127.0.0.0/8", "::1/128"]).into() };
        assert!(resolver.resolve("localhost".parse().expect("a name")).await.is_ok());
    }
}
