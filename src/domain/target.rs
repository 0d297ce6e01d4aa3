//! Which addresses a delivery may reach: the public internet, and what the operator allows besides.
//!
//! Responsible for addresses and for the form of an endpoint's URL. Must not resolve names: the sender asks again for
//! every address that a name resolves to. Called by the API for a URL and by the sender before it connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const URL_MAX: usize = 2048;

/// IPv4 without the public internet (IANA special-purpose registry, RFC 6890, and one cloud's platform address).
const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // this network
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // shared by carriers
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure: answers only its own machines
    v4([169, 254, 0, 0], 16),   // link-local, cloud metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarking
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// The only part of IPv6 with public unicast addresses. Loopback, unique local, link-local, site-local, multicast,
/// discard-only 100::/64, local NAT64 64:ff9b:1::/48 and the IPv4-compatible ::/96 all lie outside.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const REFUSED_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);

/// Which addresses may be called. The default allows the public internet alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TargetPolicy {
    allow: Vec<IpNet>,
}

impl FromStr for TargetPolicy {
    type Err = String;

    /// Reads comma-separated networks (`10.1.0.0/16`) or single addresses that may be called although they are not public.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let allow = text
            .split(',')
            .map(|entry| parse_network(entry.trim()))
            .collect::<Result<_, _>>()?;
        Ok(Self { allow })
    }
}

impl TargetPolicy {
    /// Whether this address may be called. An address that carries an IPv4 one (mapped, 6to4, NAT64) is judged by that.
    pub fn allows(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                self.names(ip.into()) || !REFUSED_V4.iter().any(|net| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                self.names(ip.into())
                    || embedded_v4(ip)
                        .map_or_else(|| is_public_v6(ip), |inner| self.allows(inner.into()))
            }
        }
    }

    /// Like `allows`, with the sentence for the caller.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), String> {
        if self.allows(ip) {
            return Ok(());
        }
        Err(format!(
            "address {ip} is not public and must not be called; POSTRIDER_ALLOW_TARGETS can allow it"
        ))
    }

    /// Checks an endpoint's URL: absolute, http or https, with a host and no user name, at most 2048 characters.
    ///
    /// An address as host is checked at once, however it is spelt; a name only when it is resolved. What is returned is
    /// the form to call; the text as given may be kept to show.
    pub fn check_url(&self, url: &str) -> Result<Url, String> {
        if url.chars().count() > URL_MAX {
            return Err(format!("must be at most {URL_MAX} characters"));
        }
        if url
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
        {
            return Err("must not contain spaces or control characters".to_owned());
        }
        let parsed = Url::parse(url)
            .map_err(|error| format!("must be an absolute http or https URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err("must be an absolute http or https URL".to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(
                "must not contain a user name or password; use an own header instead".to_owned(),
            );
        }
        match parsed.host() {
            Some(Host::Ipv4(ip)) => self.check_address(ip.into())?,
            Some(Host::Ipv6(ip)) => self.check_address(ip.into())?,
            Some(Host::Domain(_)) => {}
            None => return Err("must name a host".to_owned()),
        }
        Ok(parsed)
    }

    fn names(&self, ip: IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(&ip))
    }
}

fn parse_network(entry: &str) -> Result<IpNet, String> {
    let net = entry
        .parse()
        .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("'{entry}' in the allowed targets: each must be a network such as 10.1.0.0/16 or an address"))?;
    match net {
        IpNet::V6(mapped) if MAPPED.contains(&mapped) => {
            let [.., a, b, c, d] = mapped.addr().octets();
            Ok(v4([a, b, c, d], mapped.prefix_len() - MAPPED.prefix_len()).into())
        }
        other => Ok(other),
    }
}

fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = ip.octets();
    let at = |place: usize| {
        Ipv4Addr::new(
            bytes[place],
            bytes[place + 1],
            bytes[place + 2],
            bytes[place + 3],
        )
    };
    if SIX_TO_FOUR.contains(&ip) {
        return Some(at(2));
    }
    NAT64.contains(&ip).then(|| at(12))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    PUBLIC_V6.contains(&ip) && !REFUSED_V6.iter().any(|net| net.contains(&ip))
}

const fn v4([a, b, c, d]: [u8; 4], prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix_len)
}

#[cfg(test)]
mod tests;
