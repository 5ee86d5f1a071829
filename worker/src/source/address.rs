//! Which addresses may be fetched from: the guard against server-side request forgery.
//!
//! Host names are resolved here and only allowed addresses are handed to the connection, so that a
//! name cannot resolve to one address for the check and to another for the connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// An address that must not be fetched from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct AddressRefused {
    /// The host as written.
    pub host: String,
    /// The address it stands for.
    pub address: IpAddr,
    /// What kind of address that is.
    pub kind: &'static str,
    /// Whether `allowPrivate` would let it through.
    pub allowable: bool,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            address,
            kind,
            allowable,
        } = self;
        let way_out = match allowable {
            true => "set `allowPrivate` if this source is meant to be inside",
            false => "such addresses are never fetched",
        };
        write!(
            f,
            "{host} is {address}, a {kind} address, which is refused; {way_out}"
        )
    }
}

/// Lets public addresses through, and private ones when allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) allow_private: bool,
}

impl Guard {
    /// Checks an address that `host` stands for.
    fn check(&self, host: &str, address: IpAddr) -> Result<(), AddressRefused> {
        let refused = |(kind, allowable)| AddressRefused {
            host: host.to_owned(),
            address,
            kind,
            allowable,
        };
        match classify(address) {
            Some((_, true)) if self.allow_private => Ok(()),
            Some(class) => Err(refused(class)),
            None => Ok(()),
        }
    }

    /// Checks a URL whose host is an address; names are checked when they are resolved.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), AddressRefused> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(&address.to_string(), address.into()),
            Some(Host::Ipv6(address)) => self.check(&address.to_string(), address.into()),
            _ => Ok(()),
        }
    }

    fn allowed(
        &self,
        host: &str,
        resolved: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, AddressRefused> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in resolved {
            match self.check(host, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        refused
            .filter(|_| allowed.is_empty())
            .map_or(Ok(allowed), Err)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let host = name.as_str();
            let resolved = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(guard.allowed(host, resolved)?.into_iter()) as Addrs)
        })
    }
}

/// The refused address among an error's causes.
pub(super) fn refused_in(error: &(dyn std::error::Error + 'static)) -> Option<AddressRefused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<AddressRefused>() {
            return Some(refused.clone());
        }
        cause = error.source();
    }
    None
}

/// What keeps an address from being public, and whether it may be allowed.
fn classify(address: IpAddr) -> Option<(&'static str, bool)> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => classify_v4(inner),
            None => classify_v6(address),
        },
    }
}

/// Ranges of RFC 6890 and its registry, and the metadata services of clouds.
fn classify_v4(address: Ipv4Addr) -> Option<(&'static str, bool)> {
    match address.octets() {
        [169, 254, ..] => Some(("link-local", false)),
        [100, 100, 100, 200] | [192, 0, 0, 192] => Some(("cloud metadata", false)),
        [0, ..] => Some(("unspecified", false)),
        [224..=239, ..] => Some(("multicast", false)),
        [240..=255, ..] => Some(("reserved", false)),
        [127, ..] => Some(("loopback", true)),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => {
            Some(("private", true))
        }
        [192, 0, 0, _] | [198, 18..=19, ..] => Some(("special-purpose", true)),
        _ => None,
    }
}

fn classify_v6(address: Ipv6Addr) -> Option<(&'static str, bool)> {
    let segments = address.segments();
    match segments {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Some(("cloud metadata", false)),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(("unspecified", false)),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(("loopback", true)),
        _ => match segments[0] {
            0xfe80..=0xfebf => Some(("link-local", false)),
            0xff00..=0xffff => Some(("multicast", false)),
            0xfc00..=0xfdff | 0xfec0..=0xfeff => Some(("private", true)),
            _ => None,
        },
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64 (RFC 6052, RFC 8215), 6to4, Teredo.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => from(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => from(high, low),
        [0x0064, 0xff9b, 0 | 1, .., high, low] => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        [0x2001, 0, .., high, low] => from(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_refused_in_every_notation() {
        let never = [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[2001::5601:5601]/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://[ff02::1]/",
            "http://100.100.100.200/",
            "http://[fd00:ec2::254]/",
            "http://255.255.255.255/",
        ];
        let inside = [
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://10.0.0.8/",
            "http://172.20.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://[fd12::1]/",
            "http://198.18.0.1/",
        ];
        let outside = [
            "http://93.184.216.34/",
            "http://172.32.0.1/",
            "http://[2606:4700::1111]/",
            "http://example.com/",
        ];
        let passes = |url: &str, allow_private| {
            Guard { allow_private }
                .check_url(&url.parse().unwrap())
                .is_ok()
        };
        for url in never {
            assert!(!passes(url, true), "{url}");
        }
        for url in inside {
            assert!(!passes(url, false) && passes(url, true), "{url}");
        }
        for url in outside {
            assert!(passes(url, false), "{url}");
        }
    }

    #[test]
    fn a_name_keeps_only_its_allowed_addresses() {
        let guard = Guard {
            allow_private: false,
        };
        let resolved = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses
                .iter()
                .map(|address| SocketAddr::new(address.parse().unwrap(), 0))
                .collect()
        };
        let mixed = guard
            .allowed("a.test", resolved(&["10.0.0.1", "93.184.216.34"]))
            .unwrap();
        assert_eq!(mixed, resolved(&["93.184.216.34"]));
        let refused = guard
            .allowed("a.test", resolved(&["169.254.1.1"]))
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("a.test is 169.254.1.1, a link-local address"),
            "{refused}"
        );
    }
}
